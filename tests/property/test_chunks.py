"""Whatever runs short, a stream's items are delivered once each, and in their order."""

from __future__ import annotations

import asyncio
from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratatrace import adaptive_chunks, adaptive_chunks_async, process_stream
from stratatrace.config import Config
from stratatrace.errors import ItemTooLargeError
from stratatrace.testing import recording, under_pressure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

#: Sizes in bytes of a stream's items, some of them larger than a chunk may be.
sizes = st.lists(st.integers(0, 400) | st.sampled_from([5_000, 50_000]), max_size=60)
bases = st.integers(1, 20)
limits = st.sampled_from([1, 500, 4_000, 100_000])
levels = st.lists(st.sampled_from(["normal", "warning", "critical"]), min_size=1, max_size=8)
#: How many items there is memory for, from one attempt to the next.
rooms = st.lists(st.integers(1, 25), min_size=1, max_size=12)


@pytest.fixture(autouse=True)
def measured() -> Iterator[None]:
    """Measure the streams, and raise what fails in that."""
    with recording(Config(probe="rss")):
        yield


class Numbered(bytearray):
    """An item that knows its place."""

    number = -1


def items_of(sizes: list[int]) -> list[Numbered]:
    items = [Numbered(size) for size in sizes]
    for number, item in enumerate(items):
        item.number = number
    return items


def numbers(chunks: Any) -> list[int]:
    return [item.number for item in chain.from_iterable(chunks)]


class Forgetful:
    """A source that runs out of memory now and then, and keeps its place."""

    def __init__(self, items: list[Numbered], failing: set[int]) -> None:
        self._items = items
        self._failing = set(failing)
        self._place = 0

    def __iter__(self) -> Iterator[Numbered]:
        return self

    def __next__(self) -> Numbered:
        if self._place in self._failing:
            self._failing.remove(self._place)
            raise MemoryError
        if self._place == len(self._items):
            raise StopIteration
        self._place += 1
        return self._items[self._place - 1]


class ForgetfulAsync(Forgetful):
    """The same, to be awaited."""

    def __aiter__(self) -> AsyncIterator[Numbered]:
        return self

    async def __anext__(self) -> Numbered:
        await asyncio.sleep(0)
        try:
            return next(self)
        except StopIteration:
            raise StopAsyncIteration from None


@settings(deadline=None)
@given(sizes, bases, limits, levels)
def test_under_any_pressure(
    sizes: list[int], base_size: int, max_bytes: int, levels: list[Any]
) -> None:
    """Also where items are larger than a chunk may be; no chunk is empty, or has too many."""
    items = items_of(sizes)
    chunks = adaptive_chunks(iter(items), base_size, max_bytes)
    seen: list[list[Numbered]] = []
    for level in [*levels, *(["normal"] * len(items))]:
        with under_pressure(level):
            chunk = next(chunks, None)
        if chunk is None:
            break
        share = {"normal": 1, "warning": 2, "critical": 4}[level]
        assert 1 <= len(chunk) <= max(1, base_size // share)
        assert len(chunk) == 1 or sum(map(len, chunk[:-1])) <= max_bytes // share
        seen.append(chunk)
    seen.extend(chunks)
    assert numbers(seen) == list(range(len(items)))


@settings(deadline=None)
@given(sizes, bases, rooms)
def test_chunks_that_are_put_back(sizes: list[int], base_size: int, rooms: list[int]) -> None:
    """All of a chunk, or what is left of it, comes again, in half as many at most."""
    items, rooms = items_of(sizes), rooms * len(sizes)
    chunks = adaptive_chunks(items, base_size)
    seen: list[int] = []
    tried = 0
    for chunk in chunks:
        room = rooms.pop() if rooms else 100
        assert not tried or len(chunk) <= max(1, tried // 2)
        tried = 0
        if len(chunk) <= room:
            seen.extend(item.number for item in chunk)
            continue
        done = room // 2
        seen.extend(item.number for item in chunk[:done])
        chunks.put_back(chunk[done:])
        tried = len(chunk) - done
    assert seen == list(range(len(items)))


@settings(deadline=None)
@given(sizes, bases, rooms)
def test_a_function_without_memory(sizes: list[int], base_size: int, rooms: list[int]) -> None:
    """Its results are of each item once; a single item that does not fit ends the stream."""
    items, left = items_of(sizes), rooms * len(sizes)

    def process(chunk: list[Numbered]) -> list[int]:
        room = left.pop() if left else 100
        result = [item.number for item in chunk]
        del chunk[: room // 2]  # It is its own list.
        if len(result) > room:
            raise MemoryError
        return result

    results = list(process_stream(items, process, base_size))
    assert list(chain.from_iterable(results)) == list(range(len(items)))


@settings(deadline=None)
@given(sizes, bases, rooms)
def test_a_function_that_says_how_far_it_came(
    sizes: list[int], base_size: int, rooms: list[int]
) -> None:
    """What it has done with is not given again, so what it did to each was done once."""
    items, left = items_of(sizes), rooms * (len(sizes) + 1)
    stored: list[int] = []

    def store(chunk: Any) -> None:
        room = left.pop() if left else 100
        for count, item in enumerate(chunk, start=1):
            if count > room:
                raise MemoryError
            stored.append(item.number)
            chunk.done(count)

    assert all(result is None for result in process_stream(items, store, base_size))
    assert stored == list(range(len(items)))


@settings(deadline=None)
@given(sizes, bases, st.sets(st.integers(0, 60), max_size=10), st.booleans())
def test_sources_without_memory(
    sizes: list[int], base_size: int, failing: set[int], retry: bool
) -> None:
    """What was pulled before is delivered; then the error, or, where that is asked, the rest."""
    items = items_of(sizes)
    chunks = adaptive_chunks(Forgetful(items, failing), base_size, retry_source=retry)
    seen: list[list[Numbered]] = []
    failures = 0
    while True:
        try:
            chunk = next(chunks, None)
        except MemoryError:
            failures += 1
            assert retry or failures == 1
            continue
        if chunk is None:
            break
        seen.append(chunk)
    reached = [number for number in failing if number <= len(items)]
    count = len(items) if retry or not reached else min(reached)
    assert numbers(seen) == list(range(count))


@settings(deadline=None)
@given(sizes, bases, rooms, st.sets(st.integers(0, 60), max_size=5), st.integers(3, 7))
def test_async_streams(
    sizes: list[int], base_size: int, rooms: list[int], failing: set[int], patience: int
) -> None:
    """With failing sources, chunks that are put back, and pulls that are cancelled, all at once."""
    items = items_of(sizes)

    async def consume() -> list[int]:
        left = rooms * (len(sizes) + 1)
        seen: list[int] = []
        source = ForgetfulAsync(items, failing)
        chunks = adaptive_chunks_async(source, base_size, retry_source=True)
        for turn in range(1000):
            pull = asyncio.ensure_future(anext(chunks))
            for _ in range(1 + turn % patience):
                await asyncio.sleep(0)
            pull.cancel()
            try:
                chunk = await pull
            except (asyncio.CancelledError, MemoryError):
                continue
            except StopAsyncIteration:
                return seen
            if len(chunk) > left.pop(0):
                chunks.put_back(chunk)
                left.append(1)
            else:
                left.append(1)
                seen.extend(item.number for item in chunk)
        pytest.fail("the stream has no end")

    assert asyncio.run(consume()) == list(range(len(items)))


def test_a_single_item_that_never_fits_ends_it() -> None:
    """And not in an endless loop."""
    chunks = adaptive_chunks(range(10), 8)
    tries = 0
    try:
        for chunk in chunks:
            tries += 1
            chunks.put_back(chunk)
    except ItemTooLargeError:
        assert tries == 4
    assert tries == 4
