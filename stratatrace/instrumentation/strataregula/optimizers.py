"""The optimizers of Strataregula: one table of what each replaces, and how that is done and undone.

Each is a switch of its own, off by default. What it does is in the module that is named after it.
The instrumentor applies them before it puts spans around anything, so that spans are around what
runs.
"""

from __future__ import annotations

import builtins
import logging
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from stratatrace.config import variable_of
from stratatrace.errors import InvalidTypeError, InvalidValueError, MissingExtraError
from stratatrace.instrumentation.strataregula.optimize_cache import remember_compactly
from stratatrace.instrumentation.strataregula.optimize_chunks import adaptive_patterns
from stratatrace.instrumentation.strataregula.optimize_hooks import quiet_hooks
from stratatrace.instrumentation.strataregula.optimize_index import stored_index
from stratatrace.instrumentation.strataregula.optimize_json import streaming_json
from stratatrace.instrumentation.strataregula.optimize_output import (
    drained_mapping,
    piecewise_output,
)
from stratatrace.instrumentation.strataregula.optimize_plugins import pooled_plugins
from stratatrace.instrumentation.strataregula.optimize_yaml import fast_yaml
from stratatrace.wrapping import when_imported

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import ModuleType

    from stratatrace.patching import PatchTable

__all__ = ["ALL", "OPTIMIZERS", "VARIABLE", "Optimizer", "Patch", "apply", "parse_names"]

#: Stands for every optimizer that can be had.
ALL = "all"
#: The environment variable that names optimizers, with commas between them.
VARIABLE = variable_of("strataregula_optimize")

_logger = logging.getLogger("stratatrace")
_NOTHING = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """Attributes that are replaced together, or not at all."""

    #: The module whose import is waited for.
    module: str
    #: The attributes, as paths from it; the last name of each is its own.
    targets: tuple[str, ...]
    #: Takes the module and what is there by name; returns what takes its place by name, or None
    #: where that is not as it is known to be.
    make: Callable[[ModuleType, Mapping[str, Any]], Mapping[str, Any] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimizer:
    """A switch."""

    name: str
    #: What it does, in a sentence.
    summary: str
    patches: tuple[Patch, ...]
    #: The package that it needs, of the extra `strataregula`.
    needs: str | None = None


_CORE = "strataregula.core.config_compiler"
_EXPANDER = "strataregula.core.pattern_expander"
_YAML_READERS = (
    _CORE,
    "strataregula.core.compiler",
    "strataregula.hierarchy.processor",
    "strataregula.hierarchy.commands",
    "strataregula.json_processor.converter",
    "strataregula.legacy",
)

OPTIMIZERS: Mapping[str, Optimizer] = {
    each.name: each
    for each in (
        Optimizer(
            name="yaml",
            summary="reads YAML by the parser in C, and makes objects as it goes",
            patches=tuple(
                Patch(module=name, targets=("yaml",), make=fast_yaml) for name in _YAML_READERS
            ),
        ),
        Optimizer(
            name="hooks",
            summary="makes no text of everything for a debug message that is not shown",
            patches=(Patch(module=_CORE, targets=("_safe_trigger_hook",), make=quiet_hooks),),
        ),
        Optimizer(
            name="cache",
            summary="remembers expansions by what they were made of, within a bound of bytes",
            patches=(
                Patch(
                    module="strataregula.core.compiler",
                    targets=("PatternCache.__init__", "PatternCache.set"),
                    make=remember_compactly,
                ),
            ),
        ),
        Optimizer(
            name="output",
            summary="packs what patterns expand to, and writes it piece by piece",
            patches=(
                Patch(
                    module=_EXPANDER,
                    targets=("EnhancedPatternExpander.compile_to_static_mapping",),
                    make=drained_mapping,
                ),
                Patch(
                    module=_CORE,
                    targets=(
                        "ConfigCompiler.compile_traffic_config",
                        "ConfigCompiler.compile_large_config",
                        "ConfigCompiler._create_output_context",
                        "TemplateEngine.render",
                        "open",
                    ),
                    make=piecewise_output,
                ),
            ),
        ),
        Optimizer(
            name="chunks",
            summary="expands large inputs in smaller chunks while memory is short",
            patches=(
                Patch(
                    module=_EXPANDER,
                    targets=("StreamingPatternProcessor.process_large_patterns",),
                    make=adaptive_patterns,
                ),
            ),
        ),
        Optimizer(
            name="json",
            summary="reads large JSON files as a stream",
            needs="ijson",
            patches=tuple(
                Patch(module=name, targets=("json",), make=streaming_json)
                for name in (_CORE, "strataregula.json_processor.validator")
            ),
        ),
        Optimizer(
            name="plugins",
            summary="uses instances of plugins again that have a method reset",
            patches=(
                Patch(
                    module="strataregula.plugins.loader",
                    targets=(
                        "PluginLoader.load_plugin",
                        "PluginLoader.unload_plugin",
                        "PluginEntryPoint.load",
                    ),
                    make=pooled_plugins,
                ),
            ),
        ),
        Optimizer(
            name="index",
            summary="holds the lists of files of the index in memory, compressed",
            patches=(
                Patch(
                    module="strataregula.index.providers.fastindex",
                    targets=("Provider._init_cache",),
                    make=stored_index,
                ),
            ),
        ),
    )
}


def parse_names(names: str | Iterable[str]) -> tuple[str, ...]:
    """Return the optimizers that are meant, in the order of the table.

    Args:
        names: Their names, also as a text with commas between them, as in an environment variable;
            ``"all"`` for every one that can be had.

    Raises:
        InvalidTypeError: It is neither a text nor texts.
        InvalidValueError: There is no optimizer of that name.
        MissingExtraError: One that is named needs a package that is not installed.
    """
    try:
        given = names.split(",") if isinstance(names, str) else list(names)
        wanted = [name.strip() for name in given]
    except (AttributeError, TypeError):
        msg = f"optimizers are a text, such as 'yaml,cache', or a sequence of names, not {names!r}"
        raise InvalidTypeError(msg) from None
    wanted = [name for name in wanted if name]
    for name in wanted:
        if name != ALL and name not in OPTIMIZERS:
            known = ", ".join(map(repr, OPTIMIZERS))
            msg = f"there is no optimizer {name!r} of Strataregula: choose of {known}, or {ALL!r}"
            raise InvalidValueError(msg)
        needs = OPTIMIZERS[name].needs if name != ALL else None
        if needs is not None and find_spec(needs) is None:
            feature = f"the optimizer {name!r} of Strataregula"
            raise MissingExtraError(feature, "strataregula")
    return tuple(
        name
        for name, each in OPTIMIZERS.items()
        if name in wanted
        or (ALL in wanted and (each.needs is None or find_spec(each.needs) is not None))
    )


def apply(names: Iterable[str], table: PatchTable) -> None:
    """Put optimizers in place, in modules that are imported already and those that will be.

    Args:
        names: Of `parse_names`.
        table: Gets what is replaced; its `undo` puts back what was there, and ends the waiting for
            modules that are not imported yet.
    """

    def patch_when_imported(optimizer: Optimizer, patch: Patch) -> None:
        def imported(module: ModuleType) -> None:
            if not table.open:
                return
            try:
                _patch(module, optimizer, patch, table)
            except Exception:  # A program must not fail for what makes it lighter
                _logger.debug("optimizer %s cannot be applied", optimizer.name, exc_info=True)

        when_imported(patch.module, imported)

    for name in names:
        for patch in OPTIMIZERS[name].patches:
            patch_when_imported(OPTIMIZERS[name], patch)


def _patch(module: ModuleType, optimizer: Optimizer, patch: Patch, table: PatchTable) -> None:
    owners: dict[str, Any] = {}
    originals: dict[str, Any] = {}
    for target in patch.targets:
        *path, name = target.split(".")
        owner: Any = module
        for each in path:
            owner = getattr(owner, each, None)
        found = vars(owner).get(name, getattr(builtins, name, _NOTHING)) if owner else _NOTHING
        if found is _NOTHING:
            _logger.debug(
                "optimizer %s: %s has no %s, nothing is replaced",
                *(optimizer.name, module.__name__, target),
            )
            return
        owners[name], originals[name] = owner, found
    replacements = patch.make(module, originals)
    if replacements is None:
        _logger.debug(
            "optimizer %s: %s of %s is not as it is known, nothing is replaced",
            *(optimizer.name, ", ".join(patch.targets), module.__name__),
        )
        return
    for name, replacement in replacements.items():
        table.replace(owners[name], name, replacement)
