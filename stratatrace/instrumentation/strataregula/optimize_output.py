"""The switch ``output``: what a compile expands to is packed, and written piece by piece.

Strataregula's own functions still do all the work, on parts of the whole: what is expanded is taken
from under `compile_to_static_mapping` as it comes, and `_create_output_context` formats some
thousand pairs at a time. Whether the parts make the whole is tried in each compile.

What is packed is seen by nobody outside of `compile_traffic_config` and `compile_large_config`, and
only a compiler that is in every part the library's own is dealt with so.
"""

from __future__ import annotations

import builtins
import string
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Any

from stratatrace.instrumentation.strataregula.optimize_pairs import PackedPairs
from stratatrace.reuse.store import CompressedStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import ModuleType, TracebackType
    from typing import Self

__all__ = ["piecewise_output"]

_OPEN, _CLOSE, _BETWEEN = "{\n", "\n}", ",\n"
_DIRECT, _COMPONENT, _TOTAL = "direct_mapping", "component_mapping", "total_patterns"
_SLICE = 1 << 16


class _Scope:
    """A compile that is under way."""

    def __init__(self, compiler: Any) -> None:
        self.compiler = compiler
        #: Whether it returns nothing of what it writes.
        self.only_writes = False
        #: What takes the place of the mappings that are formatted.
        self.instead: dict[str, PackedPairs | dict[Any, Any]] = {}


_current: ContextVar[_Scope | None] = ContextVar("strataregula compile", default=None)


def piecewise_output(module: ModuleType, originals: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the functions of a compile that is lighter; None where they are not as known."""
    compiles = _Compiles(module, dict(originals))
    return compiles.replacements() if compiles.are_known() else None


class _Compiles:
    """The functions that a compile goes through, in their original and their lighter form."""

    def __init__(self, module: ModuleType, originals: dict[str, Any]) -> None:
        self._module = module
        self._expander = module.EnhancedPatternExpander
        self._originals = originals
        self._ours: dict[str, Callable[..., Any]] = {}

    def are_known(self) -> bool:
        """Tell whether the originals do what is relied upon; they are called to see it."""
        return self._knows_mapping() and self._knows_large()

    def _knows_mapping(self) -> bool:
        compile_mapping = self._originals["compile_to_static_mapping"]
        one, none = (compile_mapping(self._expander(), each) for each in ({"a": 1}, {}))
        return bool(
            one[_COMPONENT] == {"a": 1}
            and one["metadata"][_TOTAL] == 1
            and none["metadata"][_TOTAL] == 0
            and all(each[_DIRECT] == {} and set(each) == set(one) for each in (one, none))
        )

    def _knows_large(self) -> bool:
        trial = _LargeTrial()
        try:
            self._originals["compile_large_config"](trial, None, None)
        except _LargeTrial.Formats as reached:
            return bool(reached.mappings == {_DIRECT: {"a": 1}, _COMPONENT: {"a.b": 2}})
        return False

    def replacements(self) -> dict[str, Callable[..., Any]]:
        """Return the lighter functions, by their names."""
        originals = self._originals
        compile_traffic = originals["compile_traffic_config"]
        compile_large = originals["compile_large_config"]
        compile_mapping = originals["compile_to_static_mapping"]
        create_context = originals["_create_output_context"]
        bare_render = originals["render"]

        @wraps(compile_traffic)
        def compile_traffic_config(self: Any, *args: Any, **kwargs: Any) -> Any:
            if not compiles.takes(self):
                return compile_traffic(self, *args, **kwargs)
            token = _current.set(_Scope(self))
            try:
                return compile_traffic(self, *args, **kwargs)
            finally:
                _current.reset(token)

        @wraps(compile_large)
        def compile_large_config(self: Any, *args: Any, **kwargs: Any) -> Any:
            if not compiles.takes(self):
                return compile_large(self, *args, **kwargs)
            scope = _Scope(self)
            scope.only_writes = True
            token = _current.set(scope)
            try:
                return compile_large(_LargeCompiler(scope), *args, **kwargs)
            finally:
                _current.reset(token)

        @wraps(compile_mapping)
        def compile_to_static_mapping(self: Any, patterns: Any) -> Any:
            scope = _current.get()
            if scope is None or scope.compiler.expander is not self:
                return compile_mapping(self, patterns)
            draining = _DrainingExpander(self)
            result = compile_mapping(draining, patterns)
            result[_COMPONENT] = draining.taken.settled()
            result["metadata"][_TOTAL] = len(result[_COMPONENT])
            return result

        @wraps(create_context)
        def _create_output_context(self: Any, compiled_mapping: Any, provenance: Any) -> Any:
            scope = _current.get()
            if scope is None or scope.compiler is not self:
                return create_context(self, compiled_mapping, provenance)
            whole = {**compiled_mapping, **scope.instead}
            return _context(create_context, self, whole, provenance)

        @wraps(bare_render)
        def render(self: Any, template_name: Any, context: Any) -> Any:
            scope = _current.get()
            if (
                scope is None
                or scope.compiler.template_engine is not self
                or template_name not in self.templates
                or not any(type(value) is _Text for value in context.values())
            ):
                return bare_render(self, template_name, context)
            pieces = _rendered(self.templates[template_name], context)
            return _kept(pieces) if scope.only_writes else _put_together(pieces)

        def open(*args: Any, **kwargs: Any) -> Any:  # noqa: A001 -- what it stands for
            stream = builtins.open(*args, **kwargs)  # noqa: SIM115 -- its caller does
            mode = kwargs.get("mode", args[1] if len(args) > 1 else "r")
            return stream if _current.get() is None or mode != "w" else _Writing(stream)

        compiles = self
        self._ours = {
            each.__name__: each
            for each in (
                compile_traffic_config,
                compile_large_config,
                compile_to_static_mapping,
                _create_output_context,
                render,
                open,
            )
        }
        return self._ours

    def takes(self, compiler: Any) -> bool:
        """Tell whether a compiler is in every part the library's own."""
        module, ours = self._module, self._ours
        parts = (
            (compiler, module.ConfigCompiler, ("_create_output_context",)),
            (compiler.expander, self._expander, ("compile_to_static_mapping",)),
            (compiler.template_engine, module.TemplateEngine, ("render",)),
        )
        return all(
            type(part) is kind
            and all(_leads_to(vars(kind)[name], ours[name]) for name in names)
            # A function of its own in an instance, as tests have it.
            and not any(callable(vars(kind).get(name)) for name in vars(part))
            for part, kind, names in parts
        )


def _leads_to(function: Any, ours: Any) -> bool:
    while function is not ours:
        function = getattr(function, "__wrapped__", None)
        if function is None:
            return False
    return True


class _Stand:
    """Stands for an object of the library in one call of one of its functions."""

    def __init__(self, stands_for: Any) -> None:
        self._stands_for = stands_for

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stands_for, name)


class _DrainingExpander(_Stand):
    """An expander that keeps all that it expands to itself."""

    def __init__(self, expander: Any) -> None:
        super().__init__(expander)
        self.taken = PackedPairs()

    def expand_pattern_stream(self, patterns: Any) -> Iterator[Any]:
        """Yield nothing."""
        self.taken.take(self._stands_for.expand_pattern_stream(patterns))
        return iter(())


class _LargeCompiler(_Stand):
    """A compiler whose processor keeps all that it expands, for when it is formatted."""

    def __init__(self, scope: _Scope) -> None:
        super().__init__(scope.compiler)
        self.streaming_processor = _DrainingProcessor(scope)


class _DrainingProcessor(_Stand):
    def __init__(self, scope: _Scope) -> None:
        super().__init__(scope.compiler.streaming_processor)
        self._scope = scope

    def process_large_patterns(self, patterns: Any) -> Iterator[dict[Any, Any]]:
        """Yield as many results, with nothing in them."""
        direct, component = PackedPairs(), PackedPairs()
        for result in self._stands_for.process_large_patterns(patterns):
            component.take(pair for pair in result.items() if "." in pair[0])
            direct.take(pair for pair in result.items() if "." not in pair[0])
            yield {}
        self._scope.instead = {_DIRECT: direct.settled(), _COMPONENT: component.settled()}


class _LargeTrial:
    """Stands for a compiler, to see what a large compile hands over to be formatted."""

    class Formats(BaseException):
        """It has come as far as that; an Exception would be logged as a failure."""

        mappings: Any

    chunk_size = 1
    config = streaming_processor = property(lambda self: self)

    def _load_file(self, _file: Any) -> dict[str, Any]:
        return {}

    def _extract_service_patterns(self, data: Any) -> Any:
        return data

    def process_large_patterns(self, _patterns: Any) -> Iterable[dict[str, int]]:
        return [{"a": 1, "a.b": 2}]

    def _generate_provenance(self, _files: Any, _start: Any) -> None:
        return None

    def _create_output_context(self, mappings: Any, _provenance: Any) -> None:
        reached = self.Formats()
        reached.mappings = mappings
        raise reached


def _context(
    create_context: Callable[..., Any], compiler: Any, whole: dict[str, Any], provenance: Any
) -> Any:
    """Return the context of a template, with texts in it that are still to be made."""
    texts: dict[str, _Text] = {}
    emptied = dict(whole)
    for name, pairs in whole.items():
        if type(pairs) is not PackedPairs:
            continue
        text = None

        def formatted(part: dict[Any, Any], name: str = name) -> Any:
            return create_context(compiler, {name: part, "metadata": {}}, provenance)

        try:
            if pairs:
                field = _field_of(formatted, pairs)
                text = _Text(pairs, lambda part, f=formatted, field=field: f(part)[field])
        except Exception:  # noqa: BLE001 -- raised again when the whole is formatted, if it is theirs
            emptied[name] = dict(pairs.pairs())
            continue
        emptied[name] = {}
        if text is not None:
            texts[field] = text
    context = create_context(compiler, emptied, provenance)
    context.update(texts)
    return context


def _field_of(formatted: Callable[[dict[Any, Any]], Any], pairs: PackedPairs) -> str:
    """Return where in the context a mapping is; raise where its parts do not make the whole."""
    some = dict(pair for pair, _ in zip(pairs.pairs(), range(2), strict=False))
    whole, nothing = formatted(some), formatted({})
    (field,) = (name for name in whole if whole[name] != nothing[name])
    parts = [_inner(formatted({key: value})[field]) for key, value in some.items()]
    if whole[field] != _OPEN + _BETWEEN.join(parts) + _CLOSE:
        raise ValueError(field)
    return field


def _inner(text: str) -> str:
    if not (text.startswith(_OPEN) and text.endswith(_CLOSE)):
        raise ValueError(text)
    return text[len(_OPEN) : -len(_CLOSE)]


class _Text:
    """The text of a mapping, made when it is asked for, in pieces."""

    def __init__(self, pairs: PackedPairs, text_of: Callable[[dict[Any, Any]], str]) -> None:
        self._pairs = pairs
        self._text_of = text_of

    def __iter__(self) -> Iterator[str]:
        before = _OPEN
        for chunk in self._pairs.chunks():
            yield before
            yield _inner(self._text_of(chunk))
            before = _BETWEEN
        yield _CLOSE

    def __str__(self) -> str:
        return _put_together(self)

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


def _rendered(template: str, context: Mapping[str, Any]) -> Iterator[str]:
    """Yield what `template.format(**context)` is made of."""
    for literal, field, spec, conversion in string.Formatter().parse(template):
        yield literal
        if field is None:
            continue
        if not spec and not conversion and type(context.get(field)) is _Text:
            yield from context[field]
        else:
            conversion = f"!{conversion}" if conversion else ""
            yield f"{{{field}{conversion}:{spec}}}".format(**context)


def _put_together(pieces: Iterable[str]) -> str:
    text = ""
    for piece in pieces:
        text += piece  # In place, as nobody else has it: a join would have all pieces beside it.
    return text


class _Kept(str):
    """Stands for a text that is only written, once."""

    pieces: CompressedStore[int, str]


def _kept(pieces: Iterator[str]) -> str:
    """Make all pieces before the first is written, as any of them may fail."""
    store: CompressedStore[int, str] = CompressedStore(level=1, name="generated output")
    made = ""
    for piece in pieces:
        made += piece
        if len(made) >= _SLICE:
            try:
                store[len(store)] = made
            except UnicodeEncodeError:
                return _put_together([*store.values(), made, *pieces])
            made = ""
    try:
        store[len(store)] = made
    except UnicodeEncodeError:
        return _put_together([*store.values(), made])
    kept = _Kept()
    kept.pieces = store
    return kept


class _Writing:
    """A file that is written to in small parts, whatever size it is asked to write."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __enter__(self) -> Self:
        self._stream.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> Any:
        return self._stream.__exit__(kind, error, traceback)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text; nothing of it where it cannot be encoded."""
        if isinstance(text, _Kept):
            return sum(map(self._stream.write, text.pieces.values()))
        parts = range(0, len(text), _SLICE)
        try:
            if not text.isascii():
                for start in parts:
                    text[start : start + _SLICE].encode(self._stream.encoding)
        except UnicodeEncodeError:
            return int(self._stream.write(text))  # It says where in the whole.
        return sum(self._stream.write(text[start : start + _SLICE]) for start in parts)
