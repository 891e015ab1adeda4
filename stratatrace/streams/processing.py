"""`process_stream`: a function over the chunks of a stream, made smaller where memory is short."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from stratatrace.calls import begin_kept
from stratatrace.callsites import Options, describe_function
from stratatrace.errors import InvalidTypeError, InvalidValueError
from stratatrace.recorder import active
from stratatrace.streams.adaptive import bar_of, caller, iterator_of
from stratatrace.streams.sizing import ChunkPlan
from stratatrace.streams.stream import END, NOTHING, SyncStream
from stratatrace.wrapping import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from stratatrace.measurement import Callsite
    from stratatrace.streams.progress import Bar

__all__ = ["Chunk", "ProcessedStream", "process_stream"]

T = TypeVar("T")
R = TypeVar("R")

_logger = logging.getLogger("stratatrace")
_ON_MEMORY_ERROR = ("split", "raise")


class Chunk(list[T]):
    """The items that a function of `process_stream` is given: a list of its own.

    Whatever the function does with the list, what comes again where it fails is what was in it.
    """

    __slots__ = ("finished",)

    def __init__(self, items: Iterable[T] = ()) -> None:
        super().__init__(items)
        #: How many items, from the first, are done with, whatever happens to the others.
        self.finished = 0

    def done(self, count: int) -> None:
        """Say that the first *count* items are done with: they are never given again.

        Raises:
            InvalidValueError: There are not so many, or it was more before.
        """
        if not self.finished <= count:
            msg = f"{self.finished} items were done before, and not {count}"
            raise InvalidValueError(msg)
        self.finished = count


def process_stream(
    source: Iterable[T],
    func: Callable[[Chunk[T]], R],
    base_size: int = 1000,
    max_bytes: int | str = "100MB",
    *,
    on_memory_error: str = "split",
    name: str | None = None,
    chunk_spans: bool = False,
    progress: bool | str = False,
) -> ProcessedStream[R]:
    """Give what *func* returns for each chunk of a stream, as it is asked for.

    Chunks are those of `adaptive_chunks`. Where *func* raises MemoryError, it is called again for
    the first half of the chunk, and then for the other, down to single items; then chunks grow
    again. What it returned for items is given once, but **it is called more than once for them**:
    that is right where a call without a result has changed nothing, or nothing that a second call
    does not set right. Where it has, as where rows are inserted one by one, let it say how far it
    came, by `Chunk.done`, or let the error be raised::

        def store(rows):
            for count, row in enumerate(rows, start=1):
                insert(row)
                rows.done(count)

    The stream is a span, which covers the pulling of items and the calls of *func*.

    Args:
        source: Where the items come from; see `adaptive_chunks`.
        func: Takes a `Chunk`, which is a list.
        base_size: Items of a chunk, at most.
        max_bytes: What the items of a chunk may take: bytes, or text such as ``"100MB"``. What
            *func* takes itself comes on top.
        on_memory_error: ``"split"``, or ``"raise"`` to never call *func* twice for an item.
        name: Name of the span; ``process_stream`` by default.
        chunk_spans: Whether each call of *func* is a span, too.
        progress: Whether to draw a progress bar on stderr, or what to write before it.

    Raises:
        InvalidTypeError: *source* is not iterable, *func* is not a plain function, or an argument
            is of the wrong type.
        InvalidValueError: A size or an option makes no sense.
        MissingExtraError: There is no rich for the progress bar.
        Exception: While iterating: whatever the source or *func* raises, which ends the stream.
    """
    plan = ChunkPlan(base_size, max_bytes)
    items = iterator_of(source, "process_stream")
    _check_function(func)
    if on_memory_error not in _ON_MEMORY_ERROR:
        msg = f"on_memory_error is 'split' or 'raise', not {on_memory_error!r}"
        raise InvalidValueError(msg)
    callsite = caller(sys._getframe(1), name, "process_stream")  # noqa: SLF001 -- documented
    return ProcessedStream(
        items,
        func,
        plan,
        callsite,
        bar_of(progress, source, callsite),
        chunk_callsite=describe_function(func, Options()) if chunk_spans else None,
        split=on_memory_error == "split",
    )


class ProcessedStream(SyncStream, Iterator[R], Generic[R]):
    """What `process_stream` returns: an iterator of results; `close` and `with` end it."""

    def __init__(
        self,
        source: Iterator[Any],
        func: Callable[[Chunk[Any]], R],
        plan: ChunkPlan,
        callsite: Callsite,
        bar: Bar | None,
        *,
        chunk_callsite: Callsite | None,
        split: bool,
    ) -> None:
        super().__init__(
            source, plan, callsite, bar, chunk_callsite=chunk_callsite, retry_source=False
        )
        self._func = func
        self._split = split
        self._told = False

    def __next__(self) -> R:
        """Return what the function returns for the next chunk."""
        result: R = super().__next__()
        return result

    def _step(self) -> None:
        while True:
            items = self._pull()
            if items is None:
                self._ready = END
                return
            count = len(items)
            try:
                self._process(items)
            except BaseException:
                self._builder.ended = True
                raise
            if self._ready is not NOTHING:
                self._advance(count)
                return

    def _process(self, items: list[Any]) -> None:
        """Make a result ready, or have items come again."""
        call = None if self._chunk_callsite is None else begin_kept(self._chunk_callsite)
        failure: BaseException | None = None
        chunk = Chunk[Any]()
        try:
            chunk.extend(items)
            self._ready = self._func(chunk)
        except BaseException as error:
            failure = error
        finished = min(chunk.finished, len(items))
        del chunk
        if call is not None:
            self._describe_chunk(call, len(items))
            call.finish(failure)
        if failure is None:
            return
        try:
            self._check_failure(failure, len(items), finished)
        finally:
            failure = call = None  # And what their tracebacks hold.
        self._builder.put_back(items[finished:])
        self._tell(len(items))
        gc.collect()

    def _check_failure(self, failure: BaseException, count: int, finished: int) -> None:
        """Raise the function's error, unless some of its items may come again."""
        if isinstance(failure, StopIteration):
            msg = "the function raised StopIteration, which would end the stream unseen"
            raise RuntimeError(msg) from failure  # noqa: TRY004 -- as a generator does
        if not isinstance(failure, MemoryError):
            raise failure
        if not self._split:
            failure.add_note(_NOTE.format(count))
        if not self._split or count in {1, finished}:
            raise failure

    def _tell(self, count: int) -> None:
        if self._told:
            return
        self._told = True
        with active.own_work():
            _logger.warning(
                "%s had no memory for %d items of %s: it is called again for half of them, and "
                "this is told once a stream",
                getattr(self._func, "__qualname__", repr(self._func)),
                count,
                self._callsite.function,
            )


_NOTE = (
    "process_stream() was told to raise: the function had {} items, and may have dealt with some "
    "of them"
)


def _check_function(func: object) -> None:
    if not callable(func):
        msg = f"process_stream() takes a function of a list of items, not {func!r}"
        raise InvalidTypeError(msg)
    kind = kind_of(func)
    if kind != "function":
        msg = (
            f"{func!r} is a {kind} function, which has done nothing when it returns: give a plain "
            "function, or iterate adaptive_chunks() or adaptive_chunks_async()"
        )
        raise InvalidTypeError(msg)
