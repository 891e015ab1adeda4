"""`adaptive_chunks` and its async twin: a stream in chunks that fit in memory."""

from __future__ import annotations

import operator
import sys
from collections.abc import AsyncIterable, Iterable
from typing import TYPE_CHECKING, TypeVar

from stratatrace.callsites import Options, describe_block
from stratatrace.errors import InvalidTypeError
from stratatrace.streams.chunks import AdaptiveChunks, AsyncAdaptiveChunks
from stratatrace.streams.progress import Bar
from stratatrace.streams.sizing import ChunkPlan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from stratatrace.measurement import Callsite

__all__ = ["adaptive_chunks", "adaptive_chunks_async", "bar_of", "caller", "iterator_of"]

T = TypeVar("T")


def adaptive_chunks(
    iterable: Iterable[T],
    base_size: int = 1000,
    max_bytes: int | str = "100MB",
    *,
    name: str | None = None,
    chunk_spans: bool = False,
    progress: bool | str = False,
    retry_source: bool = False,
) -> AdaptiveChunks[T]:
    """Give the items of a stream in lists that fit in memory: each item once, in its order.

    A chunk has *base_size* items, and fewer where they would take more than *max_bytes*, or where
    memory is short: half of both while `memory_pressure()` is ``warning``, a quarter while it is
    ``critical``. A chunk that its consumer had no memory for can be put back, and comes again in
    halves, down to single items; then chunks grow again::

        chunks = adaptive_chunks(rows)
        for chunk in chunks:
            try:
                load(chunk)
            except MemoryError:
                chunks.put_back(chunk)

    The stream is a span, which covers the pulling of the items and not what is done with them. A
    generator as a source is closed with the stream, which is when its last reference goes.

    Args:
        iterable: Where the items come from. What was pulled when it raises is delivered before the
            error.
        base_size: Items of a chunk, at most.
        max_bytes: What the items of a chunk may take: bytes, or text such as ``"100MB"``. It is
            exceeded by one item at most, the last, where it is larger than those before.
        name: Name of the span; ``adaptive_chunks`` by default.
        chunk_spans: Whether the pulling of each chunk is a span, too.
        progress: Whether to draw a progress bar on stderr, or what to write before it.
        retry_source: Whether to pull again from a source that has raised MemoryError, when what was
            pulled before is delivered. Only for a source of your own that keeps its place when it
            raises: a generator is at its end then, and others, such as `map`, have lost an item.

    Raises:
        InvalidTypeError: It is not iterable, or an argument is of the wrong type.
        InvalidValueError: A size makes no sense.
        MissingExtraError: There is no rich for the progress bar.
    """
    plan = ChunkPlan(base_size, max_bytes)
    source = iterator_of(iterable, "adaptive_chunks")
    callsite = caller(sys._getframe(1), name, "adaptive_chunks")  # noqa: SLF001 -- documented
    bar = bar_of(progress, iterable, callsite)
    return AdaptiveChunks(
        source, plan, callsite, bar, chunk_spans=chunk_spans, retry_source=retry_source
    )


def adaptive_chunks_async(
    iterable: AsyncIterable[T],
    base_size: int = 1000,
    max_bytes: int | str = "100MB",
    *,
    name: str | None = None,
    chunk_spans: bool = False,
    progress: bool | str = False,
    retry_source: bool = False,
) -> AsyncAdaptiveChunks[T]:
    """Give the items of an async stream in lists that fit in memory; see `adaptive_chunks`.

    Where pulling is cancelled, what was pulled is kept, and the next pull goes on with it, as far
    as the source does: an async generator is at its end then, which is told by `NotReadyError` when
    all is delivered. ``aclose()`` closes an async generator, too; one that is left alone is closed
    by the event loop.

    Args:
        iterable: Where the items come from.
        base_size: Items of a chunk, at most.
        max_bytes: What the items of a chunk may take: bytes, or text such as ``"100MB"``.
        name: Name of the span; ``adaptive_chunks_async`` by default.
        chunk_spans: Whether the pulling of each chunk is a span, too.
        progress: Whether to draw a progress bar on stderr, or what to write before it.
        retry_source: As for `adaptive_chunks`.

    Raises:
        InvalidTypeError: It is not an async iterable, or an argument is of the wrong type.
        InvalidValueError: A size makes no sense.
        MissingExtraError: There is no rich for the progress bar.
    """
    plan = ChunkPlan(base_size, max_bytes)
    if not isinstance(iterable, AsyncIterable):
        advice = ": use adaptive_chunks" if isinstance(iterable, Iterable) else ""
        msg = f"adaptive_chunks_async() takes an async iterable, not {iterable!r}{advice}"
        raise InvalidTypeError(msg)
    callsite = caller(sys._getframe(1), name, "adaptive_chunks_async")  # noqa: SLF001 -- documented
    bar = bar_of(progress, iterable, callsite)
    return AsyncAdaptiveChunks(
        aiter(iterable), plan, callsite, bar, chunk_spans=chunk_spans, retry_source=retry_source
    )


def iterator_of(iterable: Iterable[T], taker: str) -> Iterator[T]:
    """Return an iterator.

    Raises:
        InvalidTypeError: It is not iterable.
    """
    if isinstance(iterable, Iterable):
        return iter(iterable)
    try:
        return iter(iterable)  # By its __getitem__.
    except TypeError:
        advice = ": use adaptive_chunks_async" if isinstance(iterable, AsyncIterable) else ""
        msg = f"{taker}() takes an iterable, not {iterable!r}{advice}"
        raise InvalidTypeError(msg) from None


def caller(frame: FrameType, name: str | None, default: str) -> Callsite:
    """Return the callsite of a stream: the place where it is made.

    Raises:
        InvalidTypeError: The name is not text.
        InvalidValueError: The name is empty.
    """
    options = Options(name=name)
    module = frame.f_globals.get("__name__", "__main__")
    return describe_block(module, frame.f_code, frame.f_lineno, options.name or default, None, None)


def bar_of(progress: object, iterable: object, callsite: Callsite) -> Bar | None:
    """Return a progress bar where one is asked for.

    Raises:
        InvalidTypeError: What is asked for is neither yes, no nor a label.
        MissingExtraError: rich is not installed.
    """
    if not isinstance(progress, bool | str):
        msg = f"progress is True, False or what to write before the bar, not {progress!r}"
        raise InvalidTypeError(msg)
    if progress is False:
        return None
    label = callsite.name if progress is True else progress
    return Bar(label, operator.length_hint(iterable) or None, callsite)
