"""Streams of chunks: what `adaptive_chunks` and `adaptive_chunks_async` return."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from stratatrace.calls import begin_kept, prepare
from stratatrace.stepping import Stepwise
from stratatrace.streams.stream import END, NOTHING, RestartableStream, SyncStream

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from stratatrace.measurement import Callsite
    from stratatrace.streams.progress import Bar
    from stratatrace.streams.sizing import ChunkPlan

__all__ = ["AdaptiveChunks", "AsyncAdaptiveChunks"]

T = TypeVar("T")


class AdaptiveChunks(SyncStream, RestartableStream, Iterator[list[T]]):
    """What `adaptive_chunks` returns: an iterator of lists; `close` ends it, and so does `with`."""

    def __init__(
        self,
        source: Iterator[T],
        plan: ChunkPlan,
        callsite: Callsite,
        bar: Bar | None,
        *,
        chunk_spans: bool,
        retry_source: bool,
    ) -> None:
        super().__init__(
            source,
            plan,
            callsite,
            bar,
            chunk_callsite=_of_chunk(callsite) if chunk_spans else None,
            retry_source=retry_source,
        )

    def __next__(self) -> list[T]:
        """Return the next chunk; never an empty one."""
        chunk: list[T] = super().__next__()
        return chunk

    def _step(self) -> None:
        if self._chunk_callsite is None:
            self._pull_ready()
        else:
            call = begin_kept(self._chunk_callsite)
            try:
                self._pull_ready()
            except BaseException as error:
                call.finish(error)
                raise
            self._describe_chunk(call, 0 if self._ready is END else len(self._ready))
            call.finish()
        if self._ready is not END:
            self._advance(len(self._ready))

    def _pull_ready(self) -> None:
        chunk = self._pull()
        self._ready = END if chunk is None else chunk


class AsyncAdaptiveChunks(RestartableStream, AsyncIterator[list[T]]):
    """What `adaptive_chunks_async` returns: an async iterator of lists; `aclose` ends it."""

    def __init__(
        self,
        source: AsyncIterator[T],
        plan: ChunkPlan,
        callsite: Callsite,
        bar: Bar | None,
        *,
        chunk_spans: bool,
        retry_source: bool,
    ) -> None:
        super().__init__(plan, callsite, bar, _of_chunk(callsite) if chunk_spans else None)
        self._source = source
        self._retry_source = retry_source and not isinstance(source, AsyncGenerator)

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> list[T]:
        """Return the next chunk; never an empty one."""
        token = object()
        try:
            self._take_turn(token)
            if self._over:
                raise StopAsyncIteration
            if self._ready is NOTHING:
                await self._make_ready()
            result, self._ready = self._ready, NOTHING
            if result is END:
                self._end()
                raise StopAsyncIteration
            chunk: list[T] = result
            return chunk
        finally:
            self._leave_turn(token)

    async def _make_ready(self) -> None:
        if self._call is None:
            self._call = prepare(self._callsite)
        try:
            await Stepwise(self._step(), self._call)
        except BaseException as error:
            if self._builder.ended:
                self._end(error)
            raise

    async def aclose(self) -> None:
        """End the stream; what it has pulled and not delivered is let go. A generator is closed."""
        token = object()
        try:
            self._take_turn(token)
            if not self._over:
                self._end()
            if isinstance(self._source, AsyncGenerator):
                await self._source.aclose()
        finally:
            self._leave_turn(token)

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Close the stream."""
        await self.aclose()

    def __del__(self) -> None:
        if getattr(self, "_turn", None) is not None and not self._over:
            self._end()

    async def _step(self) -> None:
        if self._chunk_callsite is None:
            await self._pull_ready()
        else:
            call = prepare(self._chunk_callsite)
            try:
                await Stepwise(self._pull_ready(), call)
            except BaseException as error:
                call.finish(error)
                raise
            self._describe_chunk(call, 0 if self._ready is END else len(self._ready))
            call.finish()
        if self._ready is not END:
            self._advance(len(self._ready))

    async def _pull_ready(self) -> None:
        chunk = await self._pull()
        self._ready = END if chunk is None else chunk

    async def _pull(self) -> list[T] | None:
        builder = self._builder
        try:
            builder.begin()
            await self._fill()
        except MemoryError:
            if not builder.short_of_memory():
                raise
        return builder.take()

    async def _fill(self) -> None:
        builder, source = self._builder, self._source
        while builder.wants:
            try:
                builder.slot = await anext(source)
            except StopAsyncIteration:
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
            except BaseException as error:  # A cancellation, for one.
                if isinstance(source, AsyncGenerator):
                    builder.interrupt(error)
                raise
            builder.accept()


def _of_chunk(callsite: Callsite) -> Callsite:
    """Return the callsite of a stream's chunks."""
    return replace(callsite, name=f"{callsite.name} chunk", label=f"{callsite.label} chunk")
