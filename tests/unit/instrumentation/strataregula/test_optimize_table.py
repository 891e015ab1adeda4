"""The table of optimizers: names, what is replaced, and that it is put back."""

from __future__ import annotations

import importlib
import logging
import sys
from typing import TYPE_CHECKING, Any

import pytest
from strataregula_compilers import CORE, LIBRARIES, library, switched_on

from stratatrace.errors import InvalidTypeError, InvalidValueError, MissingExtraError
from stratatrace.instrumentation.strataregula import optimizers
from stratatrace.instrumentation.strataregula.optimizers import OPTIMIZERS, parse_names
from stratatrace.patching import PatchTable

if TYPE_CHECKING:
    from collections.abc import Iterator

MODULES = {patch.module for each in OPTIMIZERS.values() for patch in each.patches}


@pytest.fixture(params=LIBRARIES)
def strataregula(request: pytest.FixtureRequest) -> Iterator[str]:
    with library(request.param):
        yield request.param


def everything() -> dict[tuple[str, ...], Any]:
    """Return every attribute of every module and class of the library."""
    found: dict[tuple[str, ...], Any] = {}
    for name, module in sys.modules.items():
        if name.partition(".")[0] == "strataregula":
            for key, each in vars(module).items():
                found[name, key] = each
                if isinstance(each, type) and each.__module__ == name:
                    found |= {(name, key, part): of for part, of in vars(each).items()}
    return found


def import_all() -> None:
    for name in MODULES:
        try:
            importlib.import_module(name)
        except ImportError:  # The stand-in has not all of them.
            continue


@pytest.mark.parametrize("switch", [*OPTIMIZERS, "all"])
def test_all_is_put_back(strataregula: str, switch: str) -> None:
    """Something is replaced, and afterwards every attribute is the very object that it was."""
    import_all()
    before = everything()
    with switched_on(switch):
        during = everything()
        assert any(during[key] is not before.get(key) for key in during)
    after = everything()
    assert after.keys() == before.keys()
    assert all(after[key] is before[key] for key in before)


def test_the_order_of_imports_does_not_matter(strataregula: str) -> None:
    """What is imported later is replaced when it is, and put back, too."""
    table = PatchTable()
    optimizers.apply(parse_names("all"), table)
    import_all()
    late = everything()
    table.undo()
    before = everything()
    changed = {key for key in late if late[key] is not before.get(key)}
    with switched_on("all"):
        now = everything()
        assert {key for key in now if now[key] is not before.get(key)} == changed
    assert changed


def test_what_is_imported_after_the_end_is_left_alone(strataregula: str) -> None:
    """An optimizer that was taken out does not come back with an import."""
    table = PatchTable()
    optimizers.apply(parse_names("all"), table)
    table.undo()
    import_all()
    module = importlib.import_module(CORE)
    assert module.yaml is importlib.import_module("yaml")


def broken_yaml(module: Any) -> None:
    del module.yaml


def no_c_parser(module: Any) -> None:
    module.yaml = importlib.import_module("types").SimpleNamespace(safe_load=print)


def no_render(module: Any) -> None:
    del module.TemplateEngine.render


def no_engine(module: Any) -> None:
    del module.TemplateEngine


def other_total(module: Any) -> None:
    bare = module.EnhancedPatternExpander.compile_to_static_mapping

    def compile_to_static_mapping(self: Any, patterns: Any) -> Any:
        return {**bare(self, patterns), "metadata": {"total_patterns": 7}}

    module.EnhancedPatternExpander.compile_to_static_mapping = compile_to_static_mapping


def other_large(module: Any) -> None:
    def compile_large_config(self: Any, *files: Any) -> None:
        self._create_output_context(self.unheard_of(files), None)

    module.ConfigCompiler.compile_large_config = compile_large_config


def other_hooks(module: Any) -> None:
    def _safe_trigger_hook(manager: Any, name: str, **kwargs: Any) -> None:
        manager.hooks.trigger(name, **kwargs)

    module._safe_trigger_hook = _safe_trigger_hook


@pytest.mark.parametrize(
    ("switch", "change"),
    [
        ("yaml", broken_yaml),
        ("yaml", no_c_parser),
        ("output", no_render),
        ("output", no_engine),
        ("output", other_total),
        ("output", other_large),
        ("hooks", other_hooks),
    ],
)
def test_what_is_not_as_known_is_left_alone(
    strataregula: str, switch: str, change: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A name that is missing, or does something else, has nothing replaced, and a debug message."""
    module = importlib.import_module(CORE)
    change(module)
    before = everything()
    caplog.set_level(logging.DEBUG)
    with switched_on(switch):
        during = everything()
        changed = {key for key in during if during[key] is not before.get(key)}
        assert {key for key in changed if key[0] == CORE} == set()
    (message,) = (
        record.getMessage()
        for record in caplog.records
        if record.name == "stratatrace" and CORE in record.getMessage()
    )
    assert message.startswith(f"optimizer {switch}: ")
    assert {record.levelname for record in caplog.records} == {"DEBUG"}


def test_names() -> None:
    """They are given as a text with commas or as names, and come in the order of the table."""
    assert parse_names(" cache , yaml,") == ("yaml", "cache")
    assert parse_names(["output", "hooks", "output"]) == ("hooks", "output")
    assert parse_names("") == parse_names(()) == ()
    assert parse_names("all") == parse_names(("yaml", "all")) == tuple(OPTIMIZERS)


def test_a_name_that_is_none() -> None:
    """The error lists those that there are."""
    with pytest.raises(InvalidValueError, match=r"no optimizer 'yml' .* choose of 'yaml', 'hooks'"):
        parse_names("yml")
    for other in (3, [3], None):
        with pytest.raises(InvalidTypeError, match="'yaml,cache'"):
            parse_names(other)  # type: ignore[arg-type]


def test_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who names an optimizer is told what it needs; who wants all gets those that can be had."""
    monkeypatch.setattr(optimizers, "find_spec", lambda name: None if name == "ijson" else name)
    with pytest.raises(MissingExtraError, match=r"stratatrace\[strataregula\]"):
        parse_names("json")
    assert parse_names("all") == tuple(name for name in OPTIMIZERS if name != "json")


def test_each_is_described() -> None:
    """Every optimizer has a sentence, and the name by which it is listed."""
    assert all(each.name == name and each.summary for name, each in OPTIMIZERS.items())
