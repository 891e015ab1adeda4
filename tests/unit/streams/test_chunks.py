"""Chunks of streams: how large they are, how they end, and what is told of them."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tracing import untraced

from stratatrace import adaptive_chunks, adaptive_chunks_async
from stratatrace.config import Config
from stratatrace.errors import (
    InvalidTypeError,
    InvalidValueError,
    ItemTooLargeError,
    NotReadyError,
    StratatraceError,
)
from stratatrace.testing import recording, under_pressure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from stratatrace.testing import ListSink

MB = 1_000_000


@pytest.fixture(autouse=True)
def measured() -> Iterator[ListSink]:
    with recording(Config(probe="rss")) as sink:
        yield sink


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """Measure every heap into spans."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with recording(tracer_provider=provider):
        yield exporter


def lengths(chunks: Any) -> list[int]:
    return [len(chunk) for chunk in chunks]


async def counted(count: int) -> AsyncIterator[int]:
    for number in range(count):
        await asyncio.sleep(0)
        yield number


class Closed:
    """Tells that a generator was closed, and whether its own code saw it."""

    def __init__(self) -> None:
        self.closed = False

    def numbers(self, count: int = 10**9) -> Iterator[int]:
        try:
            yield from range(count)
        finally:
            self.closed = True

    async def numbers_async(self, count: int = 10**9) -> AsyncIterator[int]:
        try:
            for number in range(count):
                await asyncio.sleep(0)
                yield number
        finally:
            self.closed = True


def test_small_items_come_in_the_base_size() -> None:
    """The last chunk has what is left; a stream without items has no chunks."""
    assert lengths(adaptive_chunks(range(2_500))) == [1_000, 1_000, 500]
    assert lengths(adaptive_chunks(range(2_000))) == [1_000, 1_000]
    assert lengths(adaptive_chunks([], 3)) == []
    assert list(adaptive_chunks("abcde", 2)) == [["a", "b"], ["c", "d"], ["e"]]


@pytest.mark.parametrize("probe", ["rss", "tracemalloc", "auto"])
def test_large_items_come_in_fewer(probe: str) -> None:
    """Whatever weighs them; and sizes follow those of the items."""
    sizes = [MB] * 50 + [100] * 500 + [3 * MB] * 20
    with recording(Config(probe=probe)):
        chunks = adaptive_chunks((bytes(size) for size in sizes), 100, 10 * MB)
        seen: list[int] = []
        for chunk in chunks:
            assert 0 < sum(map(len, chunk)) <= 11 * MB
            seen.extend(map(len, chunk))
            assert len(chunk) <= 100
        assert chunks.weighed_by == (probe if probe == "tracemalloc" else chunks.weighed_by)
    assert seen == sizes


def test_an_enormous_item_is_the_last_of_its_chunk() -> None:
    """And the next chunk is as large as ever."""
    sizes = [10] * 5 + [50 * MB] + [10] * 20
    chunks = adaptive_chunks((bytes(size) for size in sizes), 10, 10 * MB)
    assert [list(map(len, chunk)) for chunk in chunks] == [
        [10] * 5 + [50 * MB],
        [10] * 10,
        [10] * 10,
    ]
    alone = adaptive_chunks((bytes(50 * MB) for _ in range(3)), 10, 10 * MB)
    assert lengths(alone) == [1, 1, 1]


def test_pressure_makes_chunks_smaller() -> None:
    """By items and by bytes; when it is gone they are as before."""
    chunks = adaptive_chunks((bytes(10_000) for _ in range(10**9)), 100, MB)
    seen = []
    for level in ("normal", "warning", "critical", "normal"):
        with under_pressure(level):
            seen.append(len(next(chunks)))
    assert seen == pytest.approx([99, 49, 24, 99], abs=1)
    few = adaptive_chunks(range(10), 2)
    with under_pressure("critical"):
        assert next(few) == [0]
    assert few.most_items == 1


def test_chunks_that_are_put_back_come_in_halves_and_grow_again() -> None:
    """More slowly, the more often it happens."""
    chunks = adaptive_chunks(range(10**9), 16)
    first = next(chunks)
    chunks.put_back(first)
    assert [next(chunks), next(chunks)] == [first[:8], first[8:]]
    sizes = [len(next(chunks)) for _ in range(3)]
    assert sizes == [16, 16, 16]
    for size in (16, 8, 4, 2):
        chunk = next(chunks)
        assert len(chunk) == size
        chunks.put_back(chunk)
    assert len(next(chunks)) == 1
    after = [len(next(chunks)) for _ in range(200)]
    assert after[0] == 1
    assert after[-1] == 16
    assert after == sorted(after)


def test_the_rest_of_a_chunk_can_be_put_back() -> None:
    """Also of the last one, and also none of it."""
    chunks = adaptive_chunks(range(10), 6)
    next(chunks)
    chunks.put_back([])
    chunks.put_back([4, 5])
    assert next(chunks) == [4]
    assert next(chunks) == [5]
    last = list(chunks)
    assert last[-1][-1] == 9
    with pytest.raises(NotReadyError, match="the stream is over"):
        chunks.put_back([9])


def test_a_single_item_cannot_be_put_back() -> None:
    """There is nothing smaller; the error is one of memory."""
    chunks = adaptive_chunks(range(3), 1)
    item = next(chunks)
    with pytest.raises(ItemTooLargeError, match="a single item"):
        chunks.put_back(item)
    assert issubclass(ItemTooLargeError, MemoryError)
    assert issubclass(ItemTooLargeError, StratatraceError)


def test_what_was_pulled_is_delivered_before_the_error() -> None:
    """The error is the source's own, as it was raised, and ends the stream."""
    error = ValueError("broken")

    def source() -> Iterator[int]:
        yield from range(5)
        raise error

    chunks = adaptive_chunks(source(), 3)
    assert [next(chunks), next(chunks)] == [[0, 1, 2], [3, 4]]
    with pytest.raises(ValueError, match="broken") as caught:
        next(chunks)
    assert caught.value is error
    assert caught.traceback[-1].name == "source"
    assert list(chunks) == []
    collector = weakref.ref(chunks)
    del chunks, caught
    error.__traceback__ = None
    assert collector() is None


def test_a_generator_without_memory_is_at_its_end() -> None:
    """Which is told, also where it was to be asked again: the rest is gone."""

    def source() -> Iterator[int]:
        yield from range(5)
        raise MemoryError

    for retry in (False, True):
        chunks = adaptive_chunks(source(), 3, retry_source=retry)
        assert [next(chunks), next(chunks)] == [[0, 1, 2], [3, 4]]
        with pytest.raises(MemoryError):
            next(chunks)


@untraced
@pytest.mark.parametrize("probe", [None, "rss", "tracemalloc"])
@pytest.mark.parametrize("put_back", [False, True])
def test_memory_that_ends_at_any_moment_loses_nothing(probe: str | None, put_back: bool) -> None:
    """Each allocation of a pull fails once: there is a chunk, or an error and then the chunk."""
    testcapi: Any = pytest.importorskip("_testcapi")
    items = [str(number) for number in range(40)]
    with recording(Config(probe=probe or "rss", disabled=probe is None), strict=False):
        failures = 0
        for allocation in range(400):
            chunks = adaptive_chunks(items, 7)
            chunk = next(chunks)
            seen = []
            if put_back:
                chunks.put_back(chunk)
            else:
                seen += chunk
            chunk = []
            testcapi.set_nomemory(allocation, allocation + 1)
            try:
                chunk = next(chunks)
            except (MemoryError, SystemError):  # CPython forgets to set it, here and there.
                failures += 1
            finally:
                testcapi.remove_mem_hooks()
            seen += chunk
            for chunk in chunks:
                seen += chunk
            assert seen == items, allocation
        assert failures


@pytest.mark.parametrize("chunk_spans", [False, True])
def test_an_interrupt_loses_nothing(chunk_spans: bool) -> None:
    """It goes through at once, and the next pull goes on; of a generator the rest is not known."""

    class Source:
        place = 0

        def __iter__(self) -> Iterator[int]:
            return self

        def __next__(self) -> int:
            self.place += 1
            if self.place == 3:
                raise KeyboardInterrupt
            return self.place

    chunks = adaptive_chunks(Source(), 4, chunk_spans=chunk_spans)
    with pytest.raises(KeyboardInterrupt):
        next(chunks)
    assert next(chunks) == [1, 2, 4, 5]
    generated = adaptive_chunks((number for number in Source()), 4)
    with pytest.raises(KeyboardInterrupt):
        next(generated)
    assert next(generated) == [1, 2]
    with pytest.raises(NotReadyError, match="the source was ended by KeyboardInterrupt"):
        next(generated)


@pytest.mark.parametrize("how", ["drop", "close", "with"])
def test_a_consumer_that_stops_closes_the_generator(how: str) -> None:
    """At once; what it did not close, such as a file, is its own."""
    source = Closed()
    chunks = adaptive_chunks(source.numbers(), 10)
    if how == "with":
        with chunks:
            next(chunks)
    else:
        next(chunks)
        if how == "close":
            chunks.close()
            chunks.close()
        else:
            del chunks
    assert source.closed
    if how != "drop":
        assert list(chunks) == []
    numbers = iter(range(10))
    next(adaptive_chunks(numbers, 4))
    assert list(numbers) == [4, 5, 6, 7, 8, 9]


def test_a_stream_holds_no_chunk() -> None:
    """Those that were delivered are the consumer's alone."""

    class Item:
        pass

    chunks = adaptive_chunks((Item() for _ in range(100)), 10)
    chunk = next(chunks)
    kept = weakref.ref(chunk[0])
    del chunk
    assert kept() is None


def test_one_turn_at_a_time() -> None:
    """Two threads, or a source that pulls from its own stream, would mix."""
    entered, leave = threading.Event(), threading.Event()

    def source() -> Iterator[int]:
        entered.set()
        leave.wait(10)
        yield 1

    chunks = adaptive_chunks(source(), 3)
    seen: list[list[int]] = []
    thread = threading.Thread(target=lambda: seen.append(next(chunks)))
    thread.start()
    entered.wait(10)
    for use in (lambda: next(chunks), chunks.close, lambda: chunks.put_back([1])):
        with pytest.raises(NotReadyError, match="is being pulled already"):
            use()
    leave.set()
    thread.join()
    assert seen == [[1]]


def test_misuse_is_told_at_once() -> None:
    """Before anything is pulled."""
    for size, error in ((0, InvalidValueError), (True, InvalidTypeError), ("9", InvalidTypeError)):
        with pytest.raises(error, match="base_size"):
            adaptive_chunks([], size)  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="is not a size"):
        adaptive_chunks([], 1, "much")
    with pytest.raises(InvalidTypeError, match=r"adaptive_chunks\(\) takes an iterable, not 3"):
        adaptive_chunks(3)  # type: ignore[arg-type]
    with pytest.raises(InvalidTypeError, match="use adaptive_chunks_async"):
        adaptive_chunks(counted(3))  # type: ignore[arg-type]
    with pytest.raises(InvalidTypeError, match=r"use adaptive_chunks$"):
        adaptive_chunks_async([3])  # type: ignore[arg-type]
    with pytest.raises(InvalidTypeError, match="a name is text"):
        adaptive_chunks([], name=3)  # type: ignore[arg-type]
    with pytest.raises(InvalidTypeError, match="progress is True, False or what to write"):
        adaptive_chunks([], progress=3)  # type: ignore[arg-type]


def test_the_old_protocol_of_iteration() -> None:
    """What has only __getitem__ is iterable, too."""

    class Old:
        def __getitem__(self, index: int) -> int:
            if index == 3:
                raise IndexError
            return index

    assert list(adaptive_chunks(Old(), 2)) == [[0, 1], [2]]  # type: ignore[arg-type]


def test_the_stream_is_a_span(spans: InMemorySpanExporter) -> None:
    """Of the place where it is made; it covers the pulling, and not what is done with the items."""
    for _ in adaptive_chunks((bytes(MB) for _ in range(25)), 10, name="rows"):
        kept = bytes(40 * MB)
        del kept
    (span,) = spans.get_finished_spans()
    assert span.name == "rows"
    assert span.attributes is not None
    of_stream = {
        name.removeprefix("stratatrace.stream."): value
        for name, value in span.attributes.items()
        if name.startswith("stratatrace.stream")
    }
    assert 10 * MB < of_stream.pop("largest_chunk") < 10.2 * MB  # type: ignore[operator]
    assert of_stream == {"items": 25, "chunks": 3, "splits": 0, "weighed_by": "tracemalloc"}
    assert span.attributes["code.function.name"] == f"{__name__}.test_the_stream_is_a_span"
    # What a stream has delivered is freed by its consumer.
    assert span.attributes["stratatrace.heap.peak"] == pytest.approx(25 * MB, rel=0.02)


def test_each_chunk_can_be_a_span(spans: InMemorySpanExporter) -> None:
    """Below the stream's; the last one is the look that finds the end."""
    chunks = adaptive_chunks((bytes(MB) for _ in range(25)), 10, chunk_spans=True)
    chunks.put_back(next(chunks)[5:])
    list(chunks)
    *of_chunks, stream = spans.get_finished_spans()
    assert stream.name == "adaptive_chunks"
    assert {span.name for span in of_chunks} == {"adaptive_chunks chunk"}
    assert all(span.parent == stream.get_span_context() for span in of_chunks)
    items: Any = [dict(span.attributes or {})["stratatrace.chunk.items"] for span in of_chunks]
    assert items[:2] == [10, 2]
    assert items[-1] == 0
    assert sum(items) == 25 + 5
    assert stream.attributes is not None
    assert stream.attributes["stratatrace.stream.items"] == 25
    assert stream.attributes["stratatrace.stream.splits"] == 1


@pytest.mark.parametrize("end", ["error", "close", "drop"])
def test_the_span_ends_with_the_stream(spans: InMemorySpanExporter, end: str) -> None:
    """However that ends; only an error of the source is one."""

    def source() -> Iterator[int]:
        yield from range(10)
        raise LookupError

    chunks = adaptive_chunks(source(), 5)
    next(chunks)
    assert not spans.get_finished_spans()
    if end == "close":
        chunks.close()
    elif end == "error":
        with pytest.raises(LookupError):
            list(chunks)
    del chunks
    (span,) = spans.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes.get("error.type") == ("LookupError" if end == "error" else None)


def test_switched_off_it_is_the_same() -> None:
    """Without spans."""
    with recording(Config(disabled=True)) as sink:
        chunks = adaptive_chunks(range(25), 10, chunk_spans=True)
        assert lengths(chunks) == [10, 10, 5]
    assert not sink.measurements


def test_async_chunks() -> None:
    """As the others, one await a chunk at least."""

    async def main() -> list[list[int]]:
        return [chunk async for chunk in adaptive_chunks_async(counted(7), 3)]

    assert asyncio.run(main()) == [[0, 1, 2], [3, 4, 5], [6]]


def test_async_spans(spans: InMemorySpanExporter) -> None:
    """Measured step by step: what other tasks do meanwhile is not theirs."""

    async def source() -> AsyncIterator[bytes]:
        for _ in range(6):
            await asyncio.sleep(0)
            yield bytes(MB)

    async def other(until: asyncio.Event) -> None:
        while not until.is_set():
            kept = bytes(30 * MB)
            await asyncio.sleep(0)
            del kept

    async def main() -> None:
        until = asyncio.Event()
        busy = asyncio.ensure_future(other(until))
        async for _ in adaptive_chunks_async(source(), 3, chunk_spans=True):
            pass
        until.set()
        await busy

    asyncio.run(main())
    *of_chunks, stream = spans.get_finished_spans()
    assert stream.name == "adaptive_chunks_async"
    assert [dict(span.attributes or {})["stratatrace.chunk.items"] for span in of_chunks] == [
        3,
        3,
        0,
    ]
    assert dict(stream.attributes or {})["stratatrace.heap.peak"] == pytest.approx(6 * MB, rel=0.05)
    for span in of_chunks[:2]:
        assert dict(span.attributes or {})["stratatrace.heap.peak"] == pytest.approx(
            3 * MB, rel=0.05
        )


def test_an_async_consumer_that_stops_closes_the_generator() -> None:
    """By aclose, or by the block; the event loop closes what is left alone."""

    async def main(how: str) -> bool:
        source = Closed()
        chunks = adaptive_chunks_async(source.numbers_async(), 10)
        if how == "with":
            async with chunks:
                await anext(chunks)
        else:
            await anext(chunks)
            if how == "close":
                await chunks.aclose()
            else:
                del chunks
                gc.collect()
                await asyncio.sleep(0)
                await asyncio.sleep(0)
        return source.closed

    for how in ("with", "close", "drop"):
        assert asyncio.run(main(how)), how


@pytest.mark.parametrize("chunk_spans", [False, True])
def test_a_cancelled_pull_loses_nothing(chunk_spans: bool) -> None:
    """The next goes on; an async generator is ended by it, which is told when all is delivered."""

    class Source:
        def __init__(self) -> None:
            self.place = 0
            self.gate = asyncio.Event()

        def __aiter__(self) -> AsyncIterator[int]:
            return self

        async def __anext__(self) -> int:
            if self.place == 2:
                await self.gate.wait()
            self.place += 1
            return self.place

    async def generated(source: Source) -> AsyncIterator[int]:
        async for number in source:
            yield number

    async def main() -> None:
        source = Source()
        chunks = adaptive_chunks_async(source, 4, chunk_spans=chunk_spans)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(chunks), 0.01)
        source.gate.set()
        assert await anext(chunks) == [1, 2, 3, 4]

        chunks = adaptive_chunks_async(generated(Source()), 4)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(chunks), 0.01)
        assert await anext(chunks) == [1, 2]
        with pytest.raises(NotReadyError, match="the source was ended by CancelledError"):
            await anext(chunks)
        with pytest.raises(StopAsyncIteration):
            await anext(chunks)

    asyncio.run(main())


def test_async_errors_and_turns() -> None:
    """What was pulled before an error is delivered; two tasks cannot pull at once."""

    async def source(gate: asyncio.Event) -> AsyncIterator[int]:
        yield 1
        await gate.wait()
        raise LookupError

    async def main() -> None:
        gate = asyncio.Event()
        chunks = adaptive_chunks_async(source(gate), 4)
        pulling = asyncio.ensure_future(anext(chunks))
        await asyncio.sleep(0)
        with pytest.raises(NotReadyError, match="is being pulled already"):
            await anext(chunks)
        gate.set()
        assert await pulling == [1]
        with pytest.raises(LookupError):
            await anext(chunks)

    asyncio.run(main())
