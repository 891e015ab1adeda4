"""The switch ``output``: what a compile expands to is packed, and written piece by piece.

Strataregula's own functions still do all the work, on parts of the whole: what is expanded is taken
from under `compile_to_static_mapping` as it comes, and `_create_output_context` formats some
thousand pairs at a time. Whether the parts make the whole is tried in each compile.

What is packed is seen by nobody outside of `compile_traffic_config` and `compile_large_config`, and
only a compiler that is in every part the library's own is dealt with so.
"""

from __future__ import annotations

import builtins
import inspect
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from stratatrace.instrumentation.strataregula.optimize_pairs import PackedPairs
from stratatrace.instrumentation.strataregula.optimize_texts import (
    PieceText,
    PieceWriter,
    context_of,
    kept,
    put_together,
    rendered,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import ModuleType

__all__ = ["drained_mapping", "piecewise_output"]

_DIRECT, _COMPONENT, _TOTAL = "direct_mapping", "component_mapping", "total_patterns"


class _Scope:
    """A compile that is under way."""

    def __init__(self, compiler: Any) -> None:
        self.compiler = compiler
        #: Whether it returns nothing of what it writes.
        self.only_writes = False
        #: What takes the place of the mappings that are formatted.
        self.instead: dict[str, PackedPairs | dict[Any, Any]] = {}


_current: ContextVar[_Scope | None] = ContextVar("strataregula compile", default=None)
#: The functions of `drained_mapping`.
_draining: WeakSet[Callable[..., Any]] = WeakSet()


def drained_mapping(module: ModuleType, originals: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return a `compile_to_static_mapping` that packs what it expands, within such a compile.

    Args:
        module: Strataregula's ``core.pattern_expander``.
        originals: What is there.

    Returns:
        None where it does not do what is relied upon; it is called to see that.
    """
    original = originals["compile_to_static_mapping"]
    bare, expander_type = inspect.unwrap(original), module.EnhancedPatternExpander
    one, none = (bare(expander_type(), each) for each in ({"a": 1}, {}))
    if not (
        one[_COMPONENT] == {"a": 1}
        and (one["metadata"][_TOTAL], none["metadata"][_TOTAL]) == (1, 0)
        and all(each[_DIRECT] == {} and set(each) == set(one) for each in (one, none))
    ):
        return None

    @wraps(original)
    def compile_to_static_mapping(expander: Any, patterns: Any) -> Any:
        scope = _current.get()
        if scope is None or scope.compiler.expander is not expander:
            return original(expander, patterns)
        draining = _DrainingExpander(expander)
        result = original(draining, patterns)
        result[_COMPONENT] = draining.taken.settled()
        result["metadata"][_TOTAL] = len(result[_COMPONENT])
        return result

    _draining.add(compile_to_static_mapping)
    return {"compile_to_static_mapping": compile_to_static_mapping}


def piecewise_output(module: ModuleType, originals: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the functions of a compile that is lighter; None where they are not as known.

    Args:
        module: Strataregula's ``core.config_compiler``.
        originals: What is there.
    """
    expander = vars(module.EnhancedPatternExpander)
    if not _leads_to(expander.get("compile_to_static_mapping"), {*_draining}):
        return None
    trial = _LargeTrial()
    try:
        inspect.unwrap(originals["compile_large_config"])(trial, None, None)
    except _LargeTrial.Formats as reached:
        if reached.mappings == {_DIRECT: {"a": 1}, _COMPONENT: {"a.b": 2}}:
            return _Compiles(module, originals).replacements()
    return None


class _Compiles:
    """The functions that a compile goes through, in their original and their lighter form."""

    def __init__(self, module: ModuleType, originals: Mapping[str, Any]) -> None:
        self._module = module
        self._originals = originals
        self._ours: dict[str, Callable[..., Any]] = {}

    def replacements(self) -> dict[str, Callable[..., Any]]:
        """Return the lighter functions, by their names."""
        self._ours = {
            "compile_traffic_config": self._traffic(),
            "compile_large_config": self._large(),
            "_create_output_context": self._context(),
            "render": self._render(),
            "open": _open,
        }
        return self._ours

    def _traffic(self) -> Callable[..., Any]:
        original = self._originals["compile_traffic_config"]

        @wraps(original)
        def compile_traffic_config(compiler: Any, *args: Any, **kwargs: Any) -> Any:
            if not self.takes(compiler):
                return original(compiler, *args, **kwargs)
            token = _current.set(_Scope(compiler))
            try:
                return original(compiler, *args, **kwargs)
            finally:
                _current.reset(token)

        return compile_traffic_config

    def _large(self) -> Callable[..., Any]:
        original = self._originals["compile_large_config"]

        @wraps(original)
        def compile_large_config(compiler: Any, *args: Any, **kwargs: Any) -> Any:
            if not self.takes(compiler):
                return original(compiler, *args, **kwargs)
            scope = _Scope(compiler)
            scope.only_writes = True
            token = _current.set(scope)
            try:
                draining = _DrainingProcessor(compiler.streaming_processor, _scope=scope)
                standing = _Stand(compiler, streaming_processor=draining)
                return original(standing, *args, **kwargs)
            finally:
                _current.reset(token)

        return compile_large_config

    def _context(self) -> Callable[..., Any]:
        original = self._originals["_create_output_context"]

        @wraps(original)
        def _create_output_context(compiler: Any, compiled_mapping: Any, provenance: Any) -> Any:
            scope = _current.get()
            if scope is None or scope.compiler is not compiler:
                return original(compiler, compiled_mapping, provenance)
            whole = {**compiled_mapping, **scope.instead}
            return context_of(original, compiler, whole, provenance)

        return _create_output_context

    def _render(self) -> Callable[..., Any]:
        original = self._originals["render"]

        @wraps(original)
        def render(engine: Any, template_name: Any, context: Any) -> Any:
            scope = _current.get()
            if (
                scope is None
                or scope.compiler.template_engine is not engine
                or template_name not in engine.templates
                or not any(type(value) is PieceText for value in context.values())
            ):
                return original(engine, template_name, context)
            pieces = rendered(engine.templates[template_name], context)
            return kept(pieces) if scope.only_writes else put_together(pieces)

        return render

    def takes(self, compiler: Any) -> bool:
        """Tell whether a compiler is in every part the library's own."""
        try:
            return self._is_their_own(compiler)
        except Exception:  # It has not even those parts.
            return False

    def _is_their_own(self, compiler: Any) -> bool:
        module, ours = self._module, self._ours
        parts = (
            (compiler, module.ConfigCompiler, {"_create_output_context", "compile_large_config"}),
            (compiler.template_engine, module.TemplateEngine, {"render"}),
            (compiler.expander, module.EnhancedPatternExpander, {"compile_to_static_mapping"}),
        )
        known = {*_draining, *ours.values()}
        return all(
            type(part) is kind
            and all(_leads_to(vars(kind)[name], known) for name in names)
            # A function of its own in an instance, as tests have it.
            and not any(callable(vars(kind).get(name)) for name in vars(part))
            for part, kind, names in parts
        )


def _open(*args: Any, **kwargs: Any) -> Any:
    # Its caller closes it, and gives what the builtin takes.
    stream = builtins.open(*args, **kwargs)  # noqa: PTH123, SIM115
    mode = kwargs.get("mode", args[1] if len(args) > 1 else "r")
    return stream if _current.get() is None or mode != "w" else PieceWriter(stream)


def _leads_to(function: Any, known: set[Any]) -> bool:
    """Tell whether a function is one of those, or something that was put around it."""
    while function not in known:
        function = getattr(function, "__wrapped__", None)
        if function is None:
            return False
    return True


class _Stand:
    """Stands for an object of the library in one call of one of its functions.

    Args:
        stands_for: The object, which has everything that is not given.
        **given: What there is instead.
    """

    def __init__(self, stands_for: Any, **given: Any) -> None:
        vars(self).update(given, _stands_for=stands_for)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stands_for, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._stands_for, name, value)


class _DrainingExpander(_Stand):
    """An expander that keeps all that it expands to itself."""

    taken: PackedPairs

    def __init__(self, expander: Any) -> None:
        super().__init__(expander, taken=PackedPairs())

    def expand_pattern_stream(self, patterns: Any) -> Iterator[Any]:
        """Yield nothing."""
        self.taken.take(self._stands_for.expand_pattern_stream(patterns))
        return iter(())


class _DrainingProcessor(_Stand):
    """A processor that keeps all that it expands to itself, for when it is formatted."""

    _scope: _Scope

    def process_large_patterns(self, patterns: Any) -> Iterator[dict[Any, Any]]:
        """Yield as many results, with nothing in them."""
        direct, component = PackedPairs(), PackedPairs()
        for result in self._stands_for.process_large_patterns(patterns):
            component.take(pair for pair in result.items() if "." in pair[0])
            direct.take(pair for pair in result.items() if "." not in pair[0])
            yield {}
        self._scope.instead = {_DIRECT: direct.settled(), _COMPONENT: component.settled()}


class _LargeTrial:
    """Stands for a compiler, to see what a large compile hands over to be formatted.

    What it raises are no Exceptions: those would be logged as failures of a compile.
    """

    class Formats(BaseException):
        """It has come as far as that."""

        mappings: Any = None

    chunk_size = 1
    config = streaming_processor = property(lambda self: self)

    def __getattr__(self, name: str) -> Any:
        raise self.Formats(name)  # It needs what is not known.

    def _load_file(self, *_arguments: Any) -> dict[str, Any]:
        return {}

    def _extract_service_patterns(self, data: Any) -> Any:
        return data

    def process_large_patterns(self, *_arguments: Any) -> Iterable[dict[str, int]]:
        return [{"a": 1, "a.b": 2}]

    def _generate_provenance(self, *_arguments: Any) -> None:
        return None

    def _create_output_context(self, mappings: Any, *_arguments: Any) -> None:
        reached = self.Formats()
        reached.mappings = mappings
        raise reached
