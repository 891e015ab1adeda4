"""A function over a stream: its results, and what happens where it has no memory."""

from __future__ import annotations

import logging
import os
import re
import sys
import weakref
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from stratatrace import process_stream
from stratatrace.config import Config
from stratatrace.errors import InvalidTypeError, InvalidValueError
from stratatrace.streams import Chunk
from stratatrace.testing import recording

if sys.platform != "win32":
    import resource

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

MB = 1_000_000


@pytest.fixture(autouse=True)
def measured() -> Iterator[None]:
    with recording(Config(probe="rss")):
        yield


def limited(room: int, chunk: list[int]) -> list[int]:
    """Have memory for so many items."""
    if len(chunk) > room:
        raise MemoryError
    return list(chunk)


def test_results_are_given_as_they_are_asked_for() -> None:
    """One for each chunk, None too; nothing is pulled before."""
    pulled: list[int] = []

    def source() -> Iterator[int]:
        for number in range(25):
            pulled.append(number)
            yield number

    results = process_stream(source(), sum, 10)
    assert not pulled
    assert next(results) == 45
    assert len(pulled) == 10
    assert list(results) == [145, 110]
    assert list(process_stream(range(3), lambda _: None, 2)) == [None, None]
    assert list(process_stream([], sum)) == []


def test_a_chunk_without_memory_comes_in_halves(caplog: pytest.LogCaptureFixture) -> None:
    """Down to what fits, each result once and in order; the first time is told in the log."""
    results = list(process_stream(range(100), partial(limited, 7), 32))
    assert [number for result in results for number in result] == list(range(100))
    assert max(map(len, results)) <= 7
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "had no memory for 32 items" in record.getMessage()


def test_it_grows_again() -> None:
    """Where memory was short for a while."""
    rooms = iter([100, 3])
    seen: list[int] = []

    def process(chunk: list[int]) -> int:
        if len(chunk) > next(rooms, 100):
            raise MemoryError
        seen.append(len(chunk))
        return len(chunk)

    list(process_stream(range(200), process, 16))
    assert seen[0] == 16
    assert min(seen) == 8
    assert seen[-2] == 16


def test_a_single_item_without_memory_is_the_functions_error() -> None:
    """The very object, after the results of those before."""
    error = MemoryError("too large")

    def process(chunk: list[int]) -> list[int]:
        if 5 in chunk:
            raise error
        return list(chunk)

    seen: list[int] = []
    results = process_stream(range(10), process, 4)
    for _ in range(2):
        seen.extend(next(results))
    with pytest.raises(MemoryError, match="too large") as caught:
        next(results)
    assert caught.value is error
    assert seen == [0, 1, 2, 3, 4]


@pytest.mark.skipif(sys.platform != "linux", reason="sets a limit of Linux")
def test_memory_that_really_ends() -> None:
    """By a limit of the kernel, in a process of its own: all is processed, by halves that fit."""
    child = os.fork()
    if not child:
        status = 1
        try:
            status = _within_limit()
        except BaseException:
            sys.excepthook(*sys.exc_info())
        os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


def _within_limit() -> int:
    """Need 10 MB for each item of a chunk, where there are 400; return an exit status.

    None of it is touched.
    """
    data = re.search(r"VmData:\s*(\d+)", Path("/proc/self/status").read_text(encoding="ascii"))
    assert data is not None
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (int(data[1]) * 1024 + 400 * MB, hard))
    sizes: list[int] = []

    def process(chunk: list[int]) -> list[int]:
        work = bytes(len(chunk) * 10 * MB)
        sizes.append(len(chunk))
        return [number + work[0] for number in chunk]

    results = list(process_stream(range(1_000), process, 128))
    seen = [number for result in results for number in result]
    return 0 if seen == list(range(1_000)) and 1 < max(sizes) < 64 else 2


def test_it_can_be_told_to_raise() -> None:
    """No item is given twice then; the error says what it means."""
    given: list[int] = []

    def process(chunk: list[int]) -> None:
        given.extend(chunk)
        raise MemoryError

    with pytest.raises(MemoryError) as caught:
        list(process_stream(range(10), process, 4, on_memory_error="raise"))
    assert given == [0, 1, 2, 3]
    assert "had 4 items, and may have dealt with some" in caught.value.__notes__[0]


def test_what_is_done_does_not_come_again() -> None:
    """And is taken off what must fit."""
    stored: list[int] = []
    attempts: list[int] = []

    def store(chunk: Chunk[int]) -> None:
        attempts.append(len(chunk))
        for count, item in enumerate(chunk, start=1):
            if len(attempts) == 1 and count > 5:
                raise MemoryError
            stored.append(item)
            chunk.done(count)

    list(process_stream(range(20), store, 8))
    assert stored == list(range(20))
    assert attempts[:2] == [8, 1]


def test_done_is_counted_forwards() -> None:
    """More than there is counts as all."""
    chunk = Chunk([1, 2, 3])
    chunk.done(2)
    with pytest.raises(InvalidValueError, match="2 items were done before, and not 1"):
        chunk.done(1)

    def process(chunk: Chunk[int]) -> None:
        chunk.done(99)
        raise MemoryError

    with pytest.raises(MemoryError):
        list(process_stream(range(4), process, 2))


def test_the_functions_list_is_its_own() -> None:
    """What it takes out of it before it fails is not lost."""
    failed: list[int] = []

    def process(chunk: list[int]) -> list[int]:
        taken = [chunk.pop() for _ in range(len(chunk))]
        if len(taken) > 3:
            failed.append(len(taken))
            raise MemoryError
        return taken[::-1]

    results = list(process_stream(range(10), process, 8))
    assert [number for result in results for number in result] == list(range(10))
    assert failed


def test_what_failed_is_freed_before_it_is_tried_again() -> None:
    """Its locals, and the error with them: else there would be even less memory."""

    class Large:
        pass

    held: list[weakref.ref[Large]] = []
    alive: list[int] = []

    def process(chunk: list[int]) -> int:
        alive.append(sum(ref() is not None for ref in held))
        large = Large()
        cycle: list[Any] = [large]
        cycle.append(cycle)
        held.append(weakref.ref(large))
        if len(chunk) > 2:
            raise MemoryError
        return 1

    list(process_stream(range(8), process, 8))
    assert alive[:3] == [0, 0, 0]


def test_errors_end_the_stream_and_close_the_source() -> None:
    """The function's own and the source's; StopIteration does not end it unseen."""
    closed: list[bool] = []

    def source(error: Exception | None = None) -> Iterator[int]:
        try:
            yield from range(5)
            if error is not None:
                raise error
            yield from range(10**9)
        finally:
            closed.append(True)

    def process(chunk: list[int]) -> None:
        raise StopIteration

    results = process_stream(source(), process, 3)
    with pytest.raises(RuntimeError, match="raised StopIteration"):
        next(results)
    assert closed == [True]
    assert list(results) == []
    of_broken = process_stream(source(LookupError()), sum, 3)
    assert [next(of_broken), next(of_broken)] == [3, 7]
    with pytest.raises(LookupError):
        next(of_broken)
    left = process_stream(source(), sum, 3)
    next(left)
    closed.clear()
    del left
    assert closed == [True]


def test_what_is_no_function() -> None:
    """Those that have done nothing when they return are not taken."""

    def generator(chunk: list[int]) -> Iterator[int]:
        yield from chunk

    async def coroutine(chunk: list[int]) -> None: ...

    async def async_generator(chunk: list[int]) -> AsyncIterator[int]:
        yield 1

    for func, kind in (
        (generator, "generator"),
        (partial(coroutine), "coroutine"),
        (async_generator, "async generator"),
    ):
        with pytest.raises(InvalidTypeError, match=f"is a {kind} function, which has done nothing"):
            process_stream([], func)
    with pytest.raises(InvalidTypeError, match="takes a function of a list of items, not 3"):
        process_stream([], 3)  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="on_memory_error is 'split' or 'raise', not 'no'"):
        process_stream([], sum, on_memory_error="no")


def test_spans_of_a_stream_and_of_its_calls() -> None:
    """The stream's covers both, in flat memory; those of the calls are the function's."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    def process(chunk: list[bytes]) -> int:
        if len(chunk) == 8:
            raise MemoryError
        return len(b"".join(chunk))

    with recording(tracer_provider=provider):
        results = process_stream((bytes(MB) for _ in range(16)), process, 8, chunk_spans=True)
        assert sum(results) == 16 * MB
    *calls, stream = exporter.get_finished_spans()
    assert stream.name == "process_stream"
    assert {span.name.rpartition(".")[2] for span in calls} == {"process"}
    assert all(span.parent == stream.get_span_context() for span in calls)
    of_calls = [dict(span.attributes or {}) for span in calls]
    assert [each["stratatrace.chunk.items"] for each in of_calls[:3]] == [8, 4, 4]
    assert [each.get("error.type") for each in of_calls[:3]] == ["MemoryError", None, None]
    attributes: Any = stream.attributes
    assert attributes["stratatrace.stream.items"] == 16
    assert attributes["stratatrace.stream.splits"] >= 1
    assert attributes["stratatrace.heap.peak"] < 14 * MB
    assert attributes["stratatrace.heap.net"] < MB
