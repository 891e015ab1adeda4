"""Texts that are made piece by piece: of packed pairs, into a template, and into a file."""

from __future__ import annotations

import string
from itertools import chain
from typing import TYPE_CHECKING, Any

from stratatrace.instrumentation.strataregula.optimize_pairs import PackedPairs
from stratatrace.reuse.store import CompressedStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import TracebackType
    from typing import Self

__all__ = ["KeptText", "PieceText", "PieceWriter", "context_of", "kept", "put_together", "rendered"]

_OPEN, _CLOSE, _BETWEEN = "{\n", "\n}", ",\n"
_SLICE = 1 << 16
# Every part makes the allocator move the whole, or its pages.
_PART = 1 << 21


def context_of(
    create_context: Callable[..., Any], compiler: Any, whole: dict[str, Any], provenance: Any
) -> Any:
    """Return the context of a template, with texts in it that are still to be made."""
    texts: dict[str, PieceText] = {}
    emptied = dict(whole)
    for name, pairs in whole.items():
        if type(pairs) is not PackedPairs:
            continue
        emptied[name] = {}
        if not pairs:
            continue

        def formatted(part: dict[Any, Any], name: str = name) -> Any:
            return create_context(compiler, {name: part, "metadata": {}}, provenance)

        try:
            field = _field_of(formatted, pairs)
        except Exception:  # What is theirs is raised again when the whole is formatted.
            emptied[name] = dict(pairs.pairs())
        else:
            texts[field] = PieceText(pairs, formatted, field)
    context = create_context(compiler, emptied, provenance)
    context.update(texts)
    return context


def _field_of(formatted: Callable[[dict[Any, Any]], Any], pairs: PackedPairs) -> str:
    """Return where in the context a mapping is; raise where its parts do not make the whole."""
    some = dict(pair for pair, _ in zip(pairs.pairs(), range(2), strict=False))
    whole, nothing = formatted(some), formatted({})
    changed: list[str] = [name for name in whole if whole[name] != nothing[name]]
    (field,) = changed
    parts = [_inner(formatted({key: value})[field]) for key, value in some.items()]
    if whole[field] != _OPEN + _BETWEEN.join(parts) + _CLOSE:
        raise ValueError(field)
    return field


def _inner(text: Any) -> str:
    if not (text.startswith(_OPEN) and text.endswith(_CLOSE)):
        raise ValueError(text)
    return str(text[len(_OPEN) : -len(_CLOSE)])


class PieceText:
    """The text of a mapping, made when it is asked for, in pieces."""

    def __init__(
        self, pairs: PackedPairs, formatted: Callable[[dict[Any, Any]], Any], field: str
    ) -> None:
        self._pairs = pairs
        self._formatted = formatted
        self._field = field

    def __iter__(self) -> Iterator[str]:
        before = _OPEN
        for chunk in self._pairs.chunks():
            yield before
            yield _inner(self._formatted(chunk)[self._field])
            before = _BETWEEN
        yield _CLOSE

    def __str__(self) -> str:
        return put_together(self)

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


def rendered(template: str, context: Mapping[str, Any]) -> Iterator[str]:
    """Yield what `template.format(**context)` is made of."""
    for literal, field, spec, conversion in string.Formatter().parse(template):
        yield literal
        if field is None:
            continue
        if not spec and not conversion and type(context.get(field)) is PieceText:
            yield from context[field]
        else:
            converted = f"!{conversion}" if conversion else ""
            yield f"{{{field}{converted}:{spec}}}".format(**context)


def put_together(pieces: Iterable[str]) -> str:
    """Return the whole of some pieces, which are not all there at once."""
    text = ""
    for part in _joined(pieces, _PART):
        text += part  # In place, as nobody else has it: a join would have all pieces beside it.
    return text


def _joined(pieces: Iterable[str], size: int) -> Iterator[str]:
    """Yield the same text in larger parts."""
    part: list[str] = []
    length = 0
    for piece in pieces:
        part.append(piece)
        length += len(piece)
        if length >= size:
            yield "".join(part)
            part.clear()
            length = 0
    yield "".join(part)


def _can_be_encoded(text: str, encoding: str = "utf-8") -> bool:
    try:
        return text.isascii() or bool(text.encode(encoding))
    except UnicodeEncodeError:
        return False


class KeptText(str):  # noqa: SLOT000 -- a subclass of str has none that are not empty
    """Stands for a text that is only written."""

    pieces: CompressedStore[int, str]


def kept(pieces: Iterable[str]) -> str:
    """Make all pieces before the first is written, as any of them may fail."""
    store: CompressedStore[int, str] = CompressedStore(level=1, name="generated output")
    remaining = iter(pieces)
    for slice_ in _joined(remaining, _SLICE):
        if not _can_be_encoded(slice_):
            return put_together(chain(store.values(), [slice_], remaining))
        store[len(store)] = slice_
    text = KeptText()
    text.pieces = store
    return text


class PieceWriter:
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
        if isinstance(text, KeptText):
            return sum(map(self._stream.write, text.pieces.values()))
        write, encoding = self._stream.write, self._stream.encoding
        starts = range(0, len(text), _SLICE)
        if text.isascii() or all(
            _can_be_encoded(text[start : start + _SLICE], encoding) for start in starts
        ):
            return sum(write(text[start : start + _SLICE]) for start in starts)
        return int(write(text))  # What it raises says where in the whole.
