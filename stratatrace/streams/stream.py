"""What streams have in common: a call that is measured step by step, one turn at a time, an end."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from stratatrace.calls import annotate, prepare
from stratatrace.errors import NotReadyError
from stratatrace.streams.pulling import ChunkBuilder
from stratatrace.telemetry import semconv

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType
    from typing import Self

    from stratatrace.calls import AnyCall
    from stratatrace.measurement import Callsite
    from stratatrace.streams.progress import Bar
    from stratatrace.streams.sizing import ChunkPlan
    from stratatrace.typing import AttributeValue

__all__ = ["END", "NOTHING", "RestartableStream", "Stream", "SyncStream"]

#: What a step returns at the end of a stream.
END: Any = object()
NOTHING: Any = object()


class Stream:
    """What streams have in common: a call that is measured step by step, and an end.

    Args:
        plan: How large chunks are.
        callsite: How the stream is described.
        bar: A progress bar, where there is one.
        chunk_callsite: How its chunks are described, where each is a span.
    """

    def __init__(
        self, plan: ChunkPlan, callsite: Callsite, bar: Bar | None, chunk_callsite: Callsite | None
    ) -> None:
        self._builder: ChunkBuilder[Any] = ChunkBuilder(plan)
        self._callsite = callsite
        self._chunk_callsite = chunk_callsite
        self._bar = bar
        self._call: AnyCall | None = None
        self._over = False
        #: What was made and not delivered yet.
        self._ready: Any = NOTHING
        self._turn: dict[str, object] = {}

    @property
    def weighed_by(self) -> str | None:
        """What told the weight of the last items; None before the first.

        ``native`` or ``tracemalloc``: what the heap grew by while they were pulled, of the calling
        thread or of the process. ``sizes``: their own sizes, and samples of what they refer to.
        """
        return self._builder.weigher.source

    @property
    def most_items(self) -> int:
        """How many items the chunk that was made last could have had at most."""
        return self._builder.plan.most_items

    def _take_turn(self, token: object) -> None:
        # By a dictionary, where a lock would do, too, until somebody is interrupted just when it is
        # acquired: who has the turn is known by the token, which was there before.
        if self._turn.setdefault("token", token) is not token:
            msg = "the stream is being pulled already: one thread or task can do it at a time"
            raise NotReadyError(msg)

    def _leave_turn(self, token: object) -> None:
        if self._turn.get("token") is token:
            self._turn.clear()

    def _resume(self) -> AnyCall:
        if self._call is None:
            self._call = prepare(self._callsite)
        self._call.resume()
        return self._call

    def _advance(self, items: int) -> None:
        if self._bar is not None:
            self._bar.advance(items)

    def _describe_chunk(self, call: AnyCall, items: int) -> None:
        described = {
            semconv.CHUNK_ITEMS.name: items,
            semconv.CHUNK_BYTES.name: self._builder.weigher.weight_bytes,
        }
        annotate(call, described)

    def _end(self, error: BaseException | None = None) -> None:
        """The stream is over: hand its numbers on, once."""
        self._over = True
        builder, call = self._builder, self._call
        self._call = None
        builder.forget()
        if self._bar is not None:
            self._bar.close()
        if call is not None:
            described: dict[str, AttributeValue] = {
                semconv.STREAM_ITEMS.name: builder.items,
                semconv.STREAM_CHUNKS.name: builder.chunks,
                semconv.STREAM_SPLITS.name: builder.plan.splits,
                semconv.STREAM_LARGEST.name: builder.largest_bytes,
            }
            if builder.weigher.source is not None:
                described[semconv.STREAM_SOURCE.name] = builder.weigher.source
            annotate(call, described)
            call.finish(error)


class RestartableStream(Stream):
    """A stream of chunks, which its consumer can put back."""

    def put_back(self, items: Iterable[Any]) -> None:
        """Have items of the last chunk again, before all others, in chunks of half as many at most.

        Args:
            items: The chunk, or, in their order, those of its items that are not done with.

        Raises:
            ItemTooLargeError: The chunk had a single item. It is a MemoryError.
            NotReadyError: The stream is over.
        """
        token = object()
        try:
            self._take_turn(token)
            if self._over:
                msg = "the stream is over: put a chunk back before the next one is asked for"
                raise NotReadyError(msg)
            self._builder.put_back(items)
        finally:
            self._leave_turn(token)


class SyncStream(Stream):
    """A stream that is pulled from an iterator, and iterated."""

    def __init__(
        self,
        source: Iterator[Any],
        plan: ChunkPlan,
        callsite: Callsite,
        bar: Bar | None,
        *,
        chunk_callsite: Callsite | None,
        retry_source: bool,
    ) -> None:
        super().__init__(plan, callsite, bar, chunk_callsite)
        self._source = source
        self._retry_source = retry_source and not isinstance(source, Generator)

    def __iter__(self) -> Self:
        """Return itself."""
        return self

    def __next__(self) -> Any:
        """Return what comes next."""
        token = object()
        try:
            self._take_turn(token)
            if self._over:
                raise StopIteration
            if self._ready is NOTHING:
                self._make_ready()
            result, self._ready = self._ready, NOTHING
            if result is END:
                self._end()
                raise StopIteration
            return result
        finally:
            self._leave_turn(token)

    def _make_ready(self) -> None:
        call = self._resume()
        try:
            self._step()
        except BaseException as error:
            call.suspend()
            if self._builder.ended:
                self._end(error)
                self._close_source()
            raise
        # Nothing is lost where this fails for want of memory: it is ready, for the next time.
        call.suspend()

    def close(self) -> None:
        """End the stream; what it has pulled and not delivered is let go. A generator is closed."""
        token = object()
        call = self._call
        try:
            self._take_turn(token)
            if call is not None:
                call.resume()
            try:
                self._close_source()
            finally:
                if call is not None:
                    call.suspend()
                if not self._over:
                    self._end()
        finally:
            self._leave_turn(token)

    def _close_source(self) -> None:
        if isinstance(self._source, Generator):
            self._source.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Close the stream."""
        self.close()

    def __del__(self) -> None:
        # A misuse in the constructor leaves nothing to close.
        if getattr(self, "_turn", None) is not None and not self._over:
            self.close()

    def _step(self) -> None:
        """Put what comes next, or `END`, into `_ready`, as soon as it is there."""
        raise NotImplementedError

    def _pull(self) -> list[Any] | None:
        """Return the next chunk, or None at the end."""
        builder = self._builder
        try:
            builder.begin()
            self._fill()
        except MemoryError:
            # Ours: for the list, or a number. What was pulled is at hand.
            if not builder.short_of_memory():
                raise
        return builder.take()

    def _fill(self) -> None:
        builder, source = self._builder, self._source
        while builder.wants:
            try:
                builder.slot = next(source)
            except StopIteration:
                builder.end()
                return
            except MemoryError as error:
                if not self._retry_source:
                    builder.fail(error)
                    return
                raise
            except Exception as error:
                builder.fail(error)
                return
            except BaseException as error:
                if isinstance(source, Generator):
                    builder.interrupt(error)
                raise
            builder.accept()
