"""What type checkers must see of decorated callables; checked by mypy and pyright, never run.

An ignore that is not needed is an error for both: that is how a wrong call is proved to be seen.
"""
# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal, assert_type

from stratatrace import (
    BoundedCache,
    CompressedStore,
    CycleReport,
    GrowthReport,
    LeakReport,
    LeakWatch,
    MappedFile,
    Measurement,
    MemoryMonitor,
    MemoryPool,
    WeakCache,
    adaptive_chunks,
    adaptive_chunks_async,
    cached,
    find_cycles,
    find_leaks,
    find_leaks_async,
    lazy,
    measure,
    memory_pressure,
    pooled,
    process_stream,
    profile_memory,
    propagate,
    track_growth,
    watch_leaks,
)
from stratatrace.pressure import Pressure, subscribe
from stratatrace.reuse.lazy import LazyFunction, LazyProperty
from stratatrace.reuse.pool import Lease, PoolStats
from stratatrace.reuse.pooled import PooledObject
from stratatrace.streams import Chunk, Match

if TYPE_CHECKING:
    from stratatrace.reuse.store_codecs import Codec


@profile_memory
def bare(path: str, *, limit: int = 5) -> list[str]:
    """Be decorated bare."""
    return [path] * limit


@profile_memory(name="called", budget="200MB", attributes={"team": "search"}, sample_ratio=0.5)
def called(path: str, *, limit: int = 5) -> list[str]:
    """Be decorated by a call."""
    return [path] * limit


@profile_memory()
def empty(path: str) -> bytes:
    """Be decorated by a call without options."""
    return path.encode()


@profile_memory
async def fetch(url: str) -> bytes:
    """Be a coroutine function."""
    return url.encode()


@profile_memory(name="fetch")
async def fetch_called(url: str) -> bytes:
    """Be a coroutine function, decorated by a call."""
    return url.encode()


@profile_memory
def talk(first: int) -> Generator[int, str, bool]:
    """Be a generator function."""
    heard = yield first
    return bool(heard)


@profile_memory(budget=1024)
def rows(count: int) -> Iterator[int]:
    """Be a generator function, decorated by a call."""
    yield from range(count)


@profile_memory
async def stream(count: int) -> AsyncIterator[int]:
    """Be an async generator function."""
    for number in range(count):
        yield number


class Store:
    """Has members of every kind."""

    @profile_memory
    def load(self, key: str) -> int:
        """Be a method."""
        return len(key)

    @classmethod
    @profile_memory
    def make(cls, size: int) -> Store:
        """Be a class method."""
        return cls()

    @staticmethod
    @profile_memory(name="check")
    def check(value: int) -> bool:
        """Be a static method."""
        return bool(value)

    @property
    @profile_memory
    def size(self) -> int:
        """Be a property."""
        return 1


@profile_memory
class Whole:
    """Is decorated as a class, bare."""

    def load(self, key: str) -> int:
        """Be a method."""
        return len(key)


@profile_memory(methods=["load"])
class Some:
    """Is decorated as a class, by a call."""

    def load(self, key: str) -> int:
        """Be a method."""
        return len(key)


def signatures() -> None:
    """Decorated functions keep their own signatures."""
    assert_type(bare("a", limit=3), list[str])
    assert_type(called("a", limit=3), list[str])
    assert_type(empty("a"), bytes)
    bare(5)  # type: ignore[arg-type]
    bare("a", 3)  # type: ignore[call-arg]
    called(5)  # type: ignore[arg-type]
    called("a", nonsense=3)  # type: ignore[call-arg]
    accepts: Callable[[str], list[str]] = bare
    accepts = called
    refuses: Callable[[int], list[str]] = bare  # type: ignore[assignment]
    assert_type((accepts, refuses)[0]("a"), list[str])


def members() -> None:
    """Members bind, and keep their own signatures."""
    store = Store.make(3)
    assert_type(store, Store)
    assert_type(store.load("a"), int)
    assert_type(Store.load(store, "a"), int)
    assert_type(Store.check(5), bool)
    assert_type(store.size, int)
    store.load(5)  # type: ignore[arg-type]
    Store.make("a")  # type: ignore[arg-type]


def classes() -> None:
    """A decorated class is the class."""
    assert_type(Whole(), Whole)
    assert_type(Some(), Some)
    assert_type(Some().load("a"), int)
    Whole().load(5)  # type: ignore[arg-type]


def generators() -> None:
    """What they yield, take and return is theirs."""
    assert_type(talk(1), Generator[int, str, bool])
    assert_type(rows(3), Iterator[int])
    assert_type(stream(3), AsyncIterator[int])
    assert_type(next(rows(3)), int)


async def coroutines() -> None:
    """What is awaited is what they return."""
    assert_type(await fetch("a"), bytes)
    assert_type(await fetch_called("a"), bytes)
    coroutine: Coroutine[object, object, bytes] = fetch("a")
    assert_type(await coroutine, bytes)
    await fetch(5)  # type: ignore[arg-type]
    assert_type([number async for number in stream(3)], list[int])


def plain(size: int, *, factor: int = 1) -> str:
    """Be measured once."""
    return "x" * size * factor


async def later(size: int) -> str:
    """Be awaited and measured once."""
    return "x" * size


async def measured() -> None:
    """`measure` gives the result of its function beside the numbers, and checks the arguments."""
    assert_type(measure(plain, 3), tuple[str, Measurement])
    assert_type(measure(plain, 3, factor=2), tuple[str, Measurement])
    assert_type(await measure(later, 3), tuple[str, Measurement])
    assert_type(measure(bare, "a"), tuple[list[str], Measurement])
    result, measurement = measure(plain, 3)
    assert_type(result, str)
    assert_type(measurement.heap_net_bytes, int | None)


def propagated() -> None:
    """What a worker calls has the signature of its function."""
    assert_type(propagate(plain)(3), str)
    assert_type(propagate(plain)(3, factor=2), str)
    propagate(plain)("a")  # type: ignore[arg-type]
    propagate(3)  # type: ignore[call-overload]
    assert_type(propagate(ThreadPoolExecutor()), ThreadPoolExecutor)


async def blocks() -> None:
    """A block's numbers are a Measurement, in both kinds of `with`."""
    with profile_memory("merge") as block:
        pass
    assert_type(block.measurement, Measurement)
    async with profile_memory(name="merge", budget="1MB") as awaited:
        pass
    assert_type(awaited.measurement, Measurement)
    assert_type(awaited.measurement.budget_exceeded, bool | None)


def guards() -> None:
    """Levels are known by name, and a number that may be missing is seen to be."""
    pressure = memory_pressure()
    assert_type(pressure.level, Literal["normal", "warning", "critical"])
    assert_type(pressure.reasons, tuple[str, ...])
    assert_type(pressure.ratio, float | None)

    def shrink(pressure: Pressure) -> int:
        return len(pressure.reasons)

    with subscribe(shrink) as subscription:
        assert_type(subscription.failures, int)
    subscribe(len)  # type: ignore[arg-type]
    with MemoryMonitor(interval_seconds=0.1, alert_at=(0.8, "2GB")) as monitor:
        pass
    assert_type(monitor.stop().peak_bytes, int | None)
    MemoryMonitor(interval_seconds="1")  # type: ignore[arg-type]
    MemoryMonitor(on_alert=shrink)  # type: ignore[arg-type]


def misuse() -> None:
    """What raises at run time is an error of types too, where types can tell."""
    profile_memory(nme="x")  # type: ignore[call-overload]
    profile_memory(budget=1.5)  # type: ignore[call-overload]
    profile_memory(attributes={"a": None})  # type: ignore[dict-item]
    profile_memory(5)  # type: ignore[call-overload]


async def chunk_streams(numbers: Iterator[int], later: AsyncIterator[str]) -> None:
    """Have the items' own type."""
    chunks = adaptive_chunks(numbers, 100, "1MB", name="numbers")
    for chunk in chunks:
        assert_type(chunk, list[int])
        chunks.put_back(chunk)
    async for some in adaptive_chunks_async(later):
        assert_type(some, list[str])
    adaptive_chunks(later)  # type: ignore[arg-type]


def process_streams(numbers: Iterator[int]) -> None:
    """Have the function's own result."""

    def longest(chunk: Chunk[int]) -> float:
        chunk.done(1)
        return max(chunk) / 2

    for result in process_stream(numbers, longest):
        assert_type(result, float)
    for total in process_stream(numbers, sum):
        assert_type(total, int)


def search_files(file: MappedFile) -> None:
    """Give offsets for one pattern, and matches for several."""
    assert_type(file.find_all(b"x"), Iterator[int])
    assert_type(file.find_all(re.compile(b"x")), Iterator[int])
    assert_type(file.find_all([b"x", re.compile(b"x")]), Iterator[Match])
    file.find_all("x")  # type: ignore[arg-type]


def stores(numbers: Codec[list[int]]) -> None:
    """Have the types of their keys and values."""
    texts = CompressedStore({1: "a"}, compression="zstd", max_bytes="1MB", spill=".")
    assert_type(texts, CompressedStore[int, str])
    assert_type(texts[1], str)
    assert_type(texts.get(1), str | None)
    assert_type(texts.get(1, 2.5), str | float)
    assert_type(texts.pop(1), str)
    for key, value in texts.items():
        assert_type(key, int)
        assert_type(value, str)
    lists = CompressedStore[str, list[int]](codec=numbers)
    assert_type(lists["a"], list[int])
    texts[1] = b"a"  # type: ignore[assignment]
    CompressedStore(compression="lzma")  # type: ignore[arg-type]
    CompressedStore[str, str](codec=numbers)  # type: ignore[arg-type]


async def cached_functions() -> None:
    """Keep the function's own signature, on methods too, and have the controls."""

    @cached(max_entries=5)
    def half(number: int, *, exact: bool = True) -> float:
        return number / 2 if exact else number // 2

    @cached(max_bytes="1MB", ttl=5, key=str)
    async def fetch(url: str) -> bytes:
        return url.encode()

    class Table:
        @cached(max_entries=5)
        def size(self, scale: int) -> int:
            return scale

    assert_type(half(1, exact=False), float)
    assert_type(await fetch("a"), bytes)
    assert_type(Table().size(5), int)
    assert_type(half.cache_info().maxsize, int | None)
    half.cache_clear()
    half("a")  # type: ignore[arg-type]
    Table().size("a")  # type: ignore[arg-type]
    cached(half)  # type: ignore[arg-type]
    cached(max_entires=5)  # type: ignore[arg-type]


def caches(pages: BoundedCache[str, bytes], tables: WeakCache[int, list[int]]) -> None:
    """Are mappings of their own types."""
    assert_type(pages["a"], bytes)
    assert_type(pages.get("a"), bytes | None)
    assert_type(pages.get("a", 5), bytes | int)
    assert_type(pages.get_or_create("a", bytes), bytes)
    assert_type(tables.get(1), list[int] | None)
    assert_type(tables.get(1, list), list[int])
    pages[1] = b""  # type: ignore[index]


class Lazies:
    """Has lazy values of every kind."""

    @lazy
    def rows(self) -> list[int]:
        """Be bare."""
        return [1]

    @lazy(name="index", evict_under_pressure=True)
    def index(self) -> dict[str, int]:
        """Be called."""
        return {}

    @lazy
    async def page(self) -> bytes:
        """Be awaited."""
        return b""

    @lazy(weak=True)
    async def image(self) -> bytes:
        """Be awaited, and called."""
        return b""


@lazy
def settings() -> dict[str, int]:
    """Be a function."""
    return {}


@lazy(name="settings")
def settings_called() -> dict[str, int]:
    """Be a function, decorated by a call."""
    return {}


@lazy
async def token() -> str:
    """Be a coroutine function."""
    return ""


@lazy(evict_under_pressure=True)
async def token_called() -> str:
    """Be a coroutine function, decorated by a call."""
    return ""


async def lazy_values(owner: Lazies) -> None:
    """Have the types of what computes them."""
    assert_type(owner.rows, list[int])
    assert_type(owner.index, dict[str, int])
    assert_type(owner.page, Awaitable[bytes])
    assert_type(await owner.page, bytes)
    assert_type(await owner.image, bytes)
    assert_type(Lazies.rows, LazyProperty[list[int]])
    assert_type(Lazies.rows.is_computed(owner), bool)
    Lazies.rows.reset(owner)
    owner.rows = [2]
    del owner.rows
    owner.rows = "text"  # type: ignore[assignment]
    assert_type(settings, LazyFunction[dict[str, int]])
    assert_type(settings(), dict[str, int])
    assert_type(settings_called(), dict[str, int])
    assert_type(settings.is_computed(), bool)
    assert_type(settings.measurement, Measurement | None)
    assert_type(await token(), str)
    assert_type(await token_called(), str)
    settings(5)  # type: ignore[call-arg]
    lazy(weak=1)  # type: ignore[call-overload]
    lazy(5)  # type: ignore[call-overload]


@pooled
class Matcher(PooledObject):
    """Is pooled, bare."""

    def match(self, line: str) -> int:
        """Be a method."""
        return len(line)


@pooled(max_size=20, validate=bool)
class Parser:
    """Is pooled, by a call."""


@pooled(max_size=4, reset=bytearray.clear)
def make_buffer() -> bytearray:
    """Be a factory function."""
    return bytearray(10)


async def pools() -> None:
    """Have the factory's own type."""
    pool = MemoryPool(Matcher, 2, 20, timeout=5, reset="close")
    assert_type(pool, MemoryPool[Matcher])
    assert_type(pool.acquire(timeout=None), Matcher)
    assert_type(await pool.acquire_async(), Matcher)
    assert_type(pool.stats(), PoolStats)
    assert_type(pool.stats().efficiency, float)
    with pool.lease() as matcher:
        assert_type(matcher.match("a"), int)
    async with pool.lease(timeout=1) as matcher:
        assert_type(matcher, Matcher)
    assert_type(MemoryPool(lambda: bytearray(5), reset=bytearray.clear), MemoryPool[bytearray])
    pool.release("text")  # type: ignore[arg-type]
    MemoryPool(5)  # type: ignore[arg-type]
    MemoryPool(Matcher, max_size="20")  # type: ignore[arg-type]


def pooled_classes() -> None:
    """A pooled class is the class; a pooled function gives leases."""
    assert_type(Matcher(), Matcher)
    assert_type(Parser(), Parser)
    with Matcher() as matcher:
        assert_type(matcher, Matcher)
    Matcher().match(5)  # type: ignore[arg-type]
    Matcher().close()
    assert_type(make_buffer(), Lease[bytearray])
    with make_buffer() as buffer:
        assert_type(buffer, bytearray)
    assert_type(MemoryPool.of(Matcher), MemoryPool[Matcher])
    assert_type(MemoryPool.of(make_buffer), MemoryPool[bytearray])
    pooled(max_size="20")  # type: ignore[call-overload]


@profile_memory(top=5)
def told_by_line(count: int) -> str:
    """Be told by its lines."""
    return "a" * count


async def finders() -> None:
    """Have reports of their own types, and loops the types of their items."""
    assert_type(told_by_line(5), str)
    assert_type(find_leaks(told_by_line, args=(5,), iterations=30), LeakReport)
    assert_type(await find_leaks_async(fetched), LeakReport)
    with watch_leaks("batch") as leaks:
        for item in leaks.each([1, 2]):
            assert_type(item, int)
    assert_type(leaks.report, LeakReport)
    with find_cycles() as found:
        told_by_line(5)
    assert_type(found, CycleReport)
    with track_growth("import", sample="64 KiB") as tracker:
        assert_type(tracker.mark("read"), str)
    assert_type(tracker.report(), GrowthReport)
    with LeakWatch(name="service"):
        pass
    profile_memory(top="5")  # type: ignore[call-overload]
    find_leaks(5)  # type: ignore[arg-type]
    track_growth(sample=0.5)  # type: ignore[arg-type]


async def fetched() -> None:
    """Be a coroutine function."""
