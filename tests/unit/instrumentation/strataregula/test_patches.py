"""What is put in place is taken out again, to the last object."""

from __future__ import annotations

import importlib
import logging
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stratatrace.instrumentation.strataregula import StrataregulaInstrumentor
from stratatrace.instrumentation.strataregula.members import COUNTED, EXECUTORS, MEMBERS
from stratatrace.instrumentation.strataregula.patches import Patches
from stratatrace.instrumentation.strataregula.patches import patches as of_instrumentor
from stratatrace.wrapping import is_measured

if TYPE_CHECKING:
    from .conftest import Library, Told

MODULES = sorted({member.module for member in MEMBERS})
# What the versions that are known do not all have.
OPTIONAL = {"PluginManager.unregister_plugin", "InternPass.run"}


def everything(library: Library) -> dict[tuple[str, str], Any]:
    """Return every attribute of every module and class of the library."""
    found: dict[tuple[str, str], Any] = {}
    for module in MODULES:
        try:
            importlib.import_module(f"strataregula.{module}")
        except ImportError:  # The real one's passes need what is beside its package.
            assert library.name == "real"
    for name, imported in list(sys.modules.items()):
        if name.partition(".")[0] != "strataregula":
            continue
        for key, value in vars(imported).items():
            found[name, key] = value
            if isinstance(value, type) and value.__module__ == name:
                found.update(((f"{name}:{key}", k), v) for k, v in vars(value).items())
    return found


def changed(before: dict[tuple[str, str], Any], after: dict[tuple[str, str], Any]) -> set[str]:
    """Return what is another object than before."""
    assert before.keys() == after.keys()
    # What a class makes anew whenever it is asked, as its weak references, is no object to compare.
    return {
        f"{owner}.{name}"
        for (owner, name), value in before.items()
        if after[owner, name] is not value and not isinstance(value, types.GetSetDescriptorType)
    }


def test_undoing_leaves_the_very_objects(library: Library, patches: Patches) -> None:
    """Every attribute of every class and module is what it was, however often that is done."""
    before = everything(library)
    for _ in range(2):
        patches.apply()
        patches.apply()
        assert len(changed(before, everything(library))) > 50
        patches.undo()
        patches.undo()
        assert changed(before, everything(library)) == set()


@pytest.mark.parametrize("imported_before", [True, False])
def test_all_that_there_is_is_measured(
    library: Library, patches: Patches, *, imported_before: bool
) -> None:
    """Every name of the table is replaced, whenever its module is imported."""
    if imported_before:
        everything(library)
    patches.apply()
    everything(library)
    for member in MEMBERS:
        module = sys.modules.get(f"strataregula.{member.module}")
        owner_name, _, name = member.name.rpartition(".")
        owner: Any = getattr(module, owner_name, None) if owner_name else module
        there = is_measured(vars(owner).get(name)) if owner is not None else False
        assert there or member.name in OPTIONAL, member
    for module_name, name in (*COUNTED, *EXECUTORS):
        found: Any = sys.modules[f"strataregula.{module_name}"]
        for part in name.split("."):
            found = getattr(found, part)
        assert found.__module__ != "concurrent.futures.thread" or "submit" in vars(found)


def test_what_is_imported_after_undoing_is_left_alone(library: Library, patches: Patches) -> None:
    """Also where it was to be measured when it is imported; and it is, when that is asked again."""
    patches.apply()
    patches.undo()
    assert not is_measured(vars(library.kernel.Kernel)["query"])
    patches.apply()
    assert is_measured(vars(library.kernel.Kernel)["query"])


@pytest.mark.parametrize("imported_before", [True, False])
def test_functions_are_replaced_where_they_were_imported_by_name(
    library: Library, patches: Patches, *, imported_before: bool
) -> None:
    """In modules of the library and of the program, before and after; and put back there too."""
    program = types.ModuleType("a_program")
    sys.modules["a_program"] = program
    try:
        if imported_before:
            original = library.index__loader.resolve_provider
            vars(program)["resolve"] = library.index.resolve_provider
        patches.apply()
        vars(program).setdefault("resolve", library.index.resolve_provider)
        measured = library.index__loader.resolve_provider
        assert is_measured(measured)
        assert library.index.resolve_provider is measured
        assert vars(program)["resolve"] is measured
        original = measured.__wrapped__
        patches.undo()
        assert library.index__loader.resolve_provider is original
        assert library.index.resolve_provider is original
        assert vars(program)["resolve"] is original
    finally:
        del sys.modules["a_program"]


def test_what_is_missing_is_a_line_for_debugging(
    library: Library, patches: Patches, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """Another version lacks names, or has something else under them: the rest is measured."""
    compilers, caches = library.core__config_compiler, library.core__compiler
    monkeypatch.delattr(compilers.ConfigCompiler, "compile_large_config")
    monkeypatch.setattr(compilers.ConfigCompiler, "_load_file", "no function")
    monkeypatch.delattr(compilers, "TemplateEngine")

    def get(self: Any, key: str, default: Any = None) -> Any:
        return self._cache.get(key, default)

    monkeypatch.setattr(caches.PatternCache, "get", get)
    with caplog.at_level(logging.DEBUG, "stratatrace"):
        patches.apply()
    told = [record.getMessage() for record in caplog.records]
    assert {record.levelname for record in caplog.records} == {"DEBUG"}
    for name in ("compile_large_config", "_load_file", "TemplateEngine.render", "PatternCache.get"):
        assert any(name in line for line in told), name
    assert is_measured(vars(compilers.ConfigCompiler)["compile_traffic_config"])
    assert compilers.ConfigCompiler._load_file == "no function"
    assert caches.PatternCache.get is get
    patches.undo()


def test_the_instrumentor_applies_them_once(library: Library, told: Told) -> None:
    """It is the one that `opentelemetry-instrument` finds, and takes out what it has put in."""
    del told  # It has patches of its own, which are the first here.
    original = library.kernel.Kernel.query
    instrumentor = StrataregulaInstrumentor()
    try:
        instrumentor.instrument()
        assert of_instrumentor._table is not None
        assert list(instrumentor.instrumentation_dependencies()) == []
    finally:
        instrumentor.uninstrument()
    assert of_instrumentor._table is None
    assert library.kernel.Kernel.query is original


def test_the_instrumentor_is_an_entry_point() -> None:
    """The distribution says where it is."""
    from importlib.metadata import entry_points  # noqa: PLC0415 -- of this test alone

    (found,) = entry_points(group="opentelemetry_instrumentor", name="strataregula")
    assert found.load() is StrataregulaInstrumentor


def test_the_page_tells_all_that_is_measured() -> None:
    """docs/strataregula.md has every member of the table, and nothing else of its look."""
    page = (Path(__file__).parents[4] / "docs" / "strataregula.md").read_text(encoding="utf-8")
    for member in MEMBERS:
        assert f"`{member.name}`" in page, member
