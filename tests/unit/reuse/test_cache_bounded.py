"""Bounded by entries, bytes and age; whole whatever happens in the midst of a change."""

from __future__ import annotations

import asyncio
import gc
import logging
import pickle
import random
import signal
import threading
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from tracing import untraced

from stratatrace import BoundedCache
from stratatrace.config import Config
from stratatrace.deep_sizes import deep_size
from stratatrace.errors import InvalidTypeError, InvalidValueError, ValueTooLargeError
from stratatrace.pressure.sources import readings
from stratatrace.pressure.watching import watcher
from stratatrace.testing import recording, under_pressure

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def many(function: Any, count: int) -> list[Any]:
    """Run in so many threads, and return what they return, or raise."""
    results: list[Any] = []
    barrier = threading.Barrier(count)

    def run() -> None:
        barrier.wait(10)
        try:
            results.append(function())
        except BaseException as error:
            results.append(error)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(results) == count, "a thread hangs"
    return results


# Bounds.


def test_the_least_recently_used_goes() -> None:
    """Reading is a use; looking whether it is there, and looking at all, is none."""
    cache: BoundedCache[str, int] = BoundedCache(max_entries=3)
    cache.update(a=1, b=2, c=3)
    assert cache["a"] == 1
    assert "b" in cache
    assert list(cache.values()) == [1, 2, 3]
    cache["d"] = 4
    assert sorted(cache) == ["a", "c", "d"]
    assert cache.stats().evictions == {"entries": 1}


def test_bytes_are_a_bound() -> None:
    """Of the sizes that size_of tells, to the byte."""
    cache: BoundedCache[int, bytes] = BoundedCache(max_bytes=100, size_of=len)
    for number, size in enumerate([40, 40, 20]):
        cache[number] = bytes(size)
    assert cache.stats().size_bytes == 100
    cache[3] = bytes(1)
    assert sorted(cache) == [1, 2, 3]
    cache[1] = bytes(79)  # Together with those two it is a hundred.
    assert sorted(cache) == [1, 2, 3]
    cache[1] = bytes(80)
    assert sorted(cache) == [1, 3]
    assert cache.stats().size_bytes == 81
    assert cache.stats().evictions == {"bytes": 2}


def test_bytes_are_those_that_are_taken() -> None:
    """What it says that it holds is what tracemalloc counts, keys and places included."""
    cache: BoundedCache[str, Any] = BoundedCache(max_bytes="2MB", shrink_under_pressure=False)
    made = random.Random(1)
    gc.collect()
    tracemalloc.start()
    for number in range(3_000):
        tags = [f"tag {made.random()}" for _ in range(made.randrange(20))]
        cache[f"key {number}"] = {"name": f"user {number}", "tags": tags, "at": made.random()}
    gc.collect()
    truth = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    size = cache.stats().size_bytes
    assert size is not None
    assert 1_950_000 < size <= 2_000_000
    # The names of the fields are the same objects in all of them, and count for each.
    assert size == pytest.approx(truth, rel=0.15)
    assert cache.stats().evictions["bytes"] > 100


def test_keys_take_bytes_too() -> None:
    """Unless size_of tells what counts."""
    key = "x" * 10_000
    for size_of, expected in ((None, range(10_000, 11_000)), (len, range(3, 4))):
        cache: BoundedCache[str, str] = BoundedCache(max_bytes="1MB", size_of=size_of)
        cache[key] = "abc"
        assert cache.stats().size_bytes in expected


def test_values_grow_old() -> None:
    """They are not found any more, and not held any longer than until the next use."""
    clock = Clock()
    told: list[Any] = []
    cache: BoundedCache[str, int] = BoundedCache(
        max_entries=9, ttl=10, clock=clock, on_evict=lambda *each: told.append(each)
    )
    cache["a"] = 1
    clock.now += 6
    cache["b"] = 2
    assert (len(cache), cache["a"]) == (2, 1)
    clock.now += 4
    assert "a" not in cache
    assert cache.get("a") is None
    assert told == [("a", 1, "expired")]
    assert list(cache.items()) == [("b", 2)]
    clock.now += 20
    assert cache.observed().entries == 1
    cache.expire()
    assert cache.observed().entries == 0
    with pytest.raises(KeyError):
        del cache["b"]
    assert cache.stats().evictions == {"expired": 2}


def test_a_clock_that_goes_back_makes_nothing_younger() -> None:
    """What is held would not be in order any more."""
    clock = Clock()
    cache: BoundedCache[str, int] = BoundedCache(max_entries=9, ttl=10, clock=clock)
    cache["a"] = 1
    clock.now -= 50
    cache["b"] = 2
    clock.now += 55
    assert sorted(cache) == ["a", "b"]
    clock.now += 5
    assert len(cache) == 0


def test_a_value_that_is_too_large_is_refused() -> None:
    """And counted; what is there stays."""
    cache: BoundedCache[str, bytes] = BoundedCache(max_bytes=1_000)
    cache["a"] = b"a"
    for change in (lambda: cache.update(a=bytes(2_000)), lambda: cache.setdefault("b", bytes(999))):
        with pytest.raises(
            ValueTooLargeError, match=r"the bytes takes [12]\.\d KiB, and the whole"
        ):
            change()
    assert list(cache.items()) == [("a", b"a")]
    assert cache.stats().refused == 2


def test_one_that_is_too_large_may_be_skipped() -> None:
    """With the value that it would replace, which is the old one."""
    cache: BoundedCache[str, bytes] = BoundedCache(max_bytes=1_000, on_too_large="skip")
    cache.update(a=b"a", b=b"b")
    cache["a"] = bytes(2_000)
    assert cache.setdefault("c", large := bytes(2_000)) is large
    assert list(cache) == ["b"]
    assert (cache.stats().refused, cache.stats().evictions) == (2, {})


# A mapping.


def test_it_is_a_mapping() -> None:
    """With all that one does."""
    cache: BoundedCache[Any, Any] = BoundedCache(max_entries=9)
    cache.update({1: "a", 2: "b", "c": None})
    assert cache == {1: "a", 2: "b", "c": None}
    assert cache.get("c", 5) is None
    assert cache.get("x", 5) == 5
    assert (cache.pop(1), cache.pop(1, "none")) == ("a", "none")
    assert cache.popitem() == (2, "b")
    assert (cache.setdefault("c", 1), cache.setdefault("d", 1)) == (None, 1)
    assert (set(cache.keys()), ("d", 1) in cache.items(), 1 in cache.values()) == (
        {"c", "d"},
        True,
        True,
    )
    del cache["c"]
    cache.clear()
    for missing in (lambda: cache["c"], lambda: cache.pop("c"), cache.popitem):
        with pytest.raises(KeyError):
            missing()
    assert not cache


def test_it_can_change_while_it_is_iterated() -> None:
    """What is iterated is what was there."""
    cache: BoundedCache[int, int] = BoundedCache(max_entries=5)
    cache.update({number: number for number in range(5)})
    for key, value in cache.items():
        cache[key + 100] = value
    assert sorted(cache) == [100, 101, 102, 103, 104]


def test_statistics() -> None:
    """For people and for machines; None before anything was looked up, and measured."""
    cache: BoundedCache[str, int] = BoundedCache(max_entries=2)
    assert (cache.stats().hit_ratio, cache.stats().size_bytes) == (None, None)
    cache.update(a=1, b=2, c=3)
    for key in "abca":
        cache.get(key)
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.entries, stats.hit_ratio) == (2, 2, 2, 0.5)
    assert str(stats) == "2 entries; 2 hits (50%), 2 misses; evicted: 1 entries; refused: 0"
    assert stats.to_dict()["evictions"] == {"entries": 1}
    assert "2 entries" in repr(cache)


def test_its_name_is_where_it_was_made() -> None:
    """Or the one that is given."""
    assert BoundedCache(max_entries=1).name.endswith("test_its_name_is_where_it_was_made")
    assert BoundedCache(max_entries=1, name="rows").name == "rows"


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({}, InvalidTypeError, "a cache without a bound grows for ever"),
        ({"ttl": 5}, InvalidTypeError, "without a bound"),
        ({"max_entries": 0}, InvalidValueError, "at least 1"),
        ({"max_entries": -3}, InvalidValueError, "-3"),
        ({"max_entries": 1.5}, InvalidTypeError, "1.5"),
        ({"max_entries": True}, InvalidTypeError, "True"),
        ({"max_bytes": 0}, InvalidValueError, "greater than zero"),
        ({"max_bytes": "much"}, InvalidValueError, "'much' is not a size"),
        ({"max_entries": 1, "ttl": 0}, InvalidValueError, "more than 0 seconds"),
        ({"max_entries": 1, "ttl": float("nan")}, InvalidValueError, "nan"),
        ({"max_entries": 1, "ttl": "1s"}, InvalidTypeError, "'1s'"),
        ({"max_entries": 1, "size_of": 5}, InvalidTypeError, "size_of is a function"),
        ({"max_entries": 1, "on_evict": 5}, InvalidTypeError, "on_evict is a function"),
        ({"max_entries": 1, "clock": 5}, InvalidTypeError, "clock is a function"),
        ({"max_entries": 1, "on_too_large": "drop"}, InvalidValueError, "'drop' is neither"),
        ({"max_entries": 1, "name": 5}, InvalidTypeError, "a name is text"),
        ({"max_entries": 1, "name": ""}, InvalidValueError, "must not be empty"),
    ],
)
def test_misuse(options: dict[str, Any], error: type[Exception], words: str) -> None:
    """Says what was given, and what was expected."""
    with pytest.raises(error, match=words):
        BoundedCache(**options)


def test_keys_that_are_no_keys() -> None:
    """Are told, in whatever way they come, and nothing changes."""
    cache: BoundedCache[Any, int] = BoundedCache(max_entries=2)
    wrong: Any = [1]
    uses: list[Callable[[], object]] = [
        lambda: cache[wrong],
        lambda: cache.get(wrong),
        lambda: cache.pop(wrong, None),
        lambda: cache.setdefault(wrong, 1),
        lambda: wrong in cache,
        lambda: cache.update([((1, 2), 3), (wrong, 1)]),
        lambda: cache.get_or_create(wrong, lambda: 1),
    ]
    for use in uses:
        with pytest.raises(InvalidTypeError, match="must be hashable: unhashable type: 'list'"):
            use()
    assert cache == {(1, 2): 3}


@pytest.mark.parametrize(
    ("size", "error"), [(-1, InvalidValueError), (1.5, InvalidTypeError), (None, InvalidTypeError)]
)
def test_sizes_that_are_none(size: Any, error: type[Exception]) -> None:
    """Are told where the value is put in, and the value is not kept."""
    cache: BoundedCache[str, int] = BoundedCache(max_bytes=10, size_of=lambda _: size)
    with pytest.raises(error, match=r"size_of (gave|gives)"):
        cache["a"] = 1
    assert not cache
    assert cache.get_or_create("a", lambda: 5) == 5  # What was computed is not lost.


def test_it_is_not_pickled() -> None:
    """Its lock and its subscription are the process's."""
    with pytest.raises(InvalidTypeError, match=r"copy dict\(cache\)"):
        pickle.dumps(BoundedCache(max_entries=1))


# Evictions are told.


def test_evictions_are_told_outside_the_lock() -> None:
    """So that another thread can use the cache meanwhile, and the callback itself."""
    told: list[Any] = []

    def on_evict(key: int, value: str, reason: str) -> None:
        told.append((key, value, reason, *many(lambda: cache.get(9), 2)))
        cache.pop(key, None)

    cache: BoundedCache[int, str] = BoundedCache(max_entries=1, on_evict=on_evict)
    cache[1] = "a"
    cache[1] = "b"  # Replaced by the program, and not evicted.
    cache[9] = "c"
    del cache[9]
    assert told == [(1, "b", "entries", "c", "c")]


def test_a_callback_that_raises_is_nobodys_trouble(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged once and counted, and the others are told all the same."""
    told: list[int] = []

    def on_evict(key: int, *_: object) -> None:
        told.append(key)
        raise ZeroDivisionError

    failures = readings.guard.failures
    cache: BoundedCache[int, int] = BoundedCache(max_entries=1, on_evict=on_evict, name=f"{told=}")
    with caplog.at_level(logging.WARNING, "stratatrace"):
        cache.update({number: number for number in range(4)})
    assert told == [0, 1, 2]
    assert cache == {3: 3}
    assert cache.stats().callback_failures == 3
    assert readings.guard.failures == failures + 3
    assert [record.message.count("tell of an eviction") for record in caplog.records] == [1]


# Pressure.


def test_it_shrinks_under_pressure() -> None:
    """To a half, to a tenth, and may grow again when it is over."""
    told: list[Any] = []
    cache: BoundedCache[int, bytes] = BoundedCache(
        max_entries=100, max_bytes=1_000, size_of=len, on_evict=lambda *each: told.append(each[2])
    )
    cache.update({number: bytes(5) for number in range(80)})
    with under_pressure("warning"):
        assert len(cache) == 40
        assert min(cache) == 40  # Those that were used last.
        cache.update({number: bytes(5) for number in range(90)})
        assert len(cache) == 50
        with under_pressure("critical"):
            assert len(cache) == 5
            cache[1_000] = bytes(101)  # More than a tenth of what it may take.
            assert len(cache) == 0
    cache.update({number: bytes(5) for number in range(200)})
    assert len(cache) == 100
    assert cache.stats().evictions == {"pressure": 40 + 80 + 45 + 6, "entries": 100}
    assert set(told) == {"pressure", "entries"}


def test_pressure_that_is_there_already_is_told() -> None:
    """To a cache that begins to grow, and again to one that was cleared."""
    cache: BoundedCache[int, int] = BoundedCache(max_entries=100)
    with under_pressure("critical"):
        for _ in range(2):
            cache.update({number: number for number in range(100)})
            watcher.tell_all(at_once=True)
            assert len(cache) <= 10
            cache.clear()
    cache.update({number: number for number in range(100)})
    assert len(cache) == 100


def test_nobody_watches_for_an_empty_cache_or_against_its_will() -> None:
    """The thread is there while there is something to shrink."""

    def watching() -> bool:
        return any(t.name == "stratatrace-pressure" for t in threading.enumerate())

    cache: BoundedCache[int, int] = BoundedCache(max_entries=3)
    cache.get(1)
    against: BoundedCache[str, int] = BoundedCache(max_entries=3, shrink_under_pressure=False)
    against["a"] = 1
    assert not watching()
    cache[1] = 1
    assert watching()
    cache.clear()
    for thread in threading.enumerate():
        if thread.name == "stratatrace-pressure":
            thread.join(10)
    assert not watching()


# Threads, finalizers, interruptions.


def test_threads_share_it() -> None:
    """The bounds hold, and the sums are right, whatever they do."""
    cache: BoundedCache[int, bytes] = BoundedCache(max_entries=20, max_bytes=2_000, size_of=len)

    def use() -> int:
        made = random.Random(threading.get_ident())
        for _ in range(1_500):
            key = made.randrange(40)
            match made.randrange(6):
                case 0:
                    cache.pop(key, None)
                case 1:
                    list(cache.items())
                case 2:
                    cache.setdefault(key, bytes(made.randrange(300)))
                case 3:
                    cache.get(key)
                case _:
                    cache[key] = bytes(made.randrange(300))
            stats = cache.stats()
            assert stats.entries <= 20
            assert stats.size_bytes is not None
            assert stats.size_bytes <= 2_000
        return 1

    assert many(use, 4) == [1] * 4
    assert cache.stats().size_bytes == sum(map(len, cache.values()))
    assert "interrupted" not in cache.stats().evictions


class Meddler(str):
    """A key that uses the cache while it is compared, as a finalizer or a signal handler may."""

    __slots__ = ("meddle",)
    meddle: Any

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        meddle, self.meddle = getattr(self, "meddle", None), None
        if meddle is not None:
            meddle()
        return str(self) == str(other)


@pytest.mark.parametrize("ttl", [None, 10])
def test_what_is_done_in_the_midst_of_a_change_is_put_off(ttl: float | None) -> None:
    """And done when it is over, so that the cache is whole at every moment."""
    cache: BoundedCache[Any, Any] = BoundedCache(max_entries=3, ttl=ttl)
    seen: list[Any] = []

    def meddle() -> None:
        seen.append((cache.pop("b", None), cache.setdefault("c", 3), dict(cache)))
        with pytest.raises(KeyError, match="empty"):
            cache.popitem()
        cache["d"] = 4
        del cache[Meddler("a")]

    key = Meddler("a")
    cache.update({key: 1, "b": 2})
    key.meddle = meddle
    cache[Meddler("a")] = 5
    assert seen[0][:2] == (2, 3)
    assert dict(cache) == {"c": 3, "d": 4}
    assert len(cache) == 2
    cache.update(e=5, f=6)
    assert len(cache) == 3


def test_a_finalizer_may_use_it() -> None:
    """Also that of a value which is dropped, and while another thread has the lock."""

    class Value:
        def __del__(self) -> None:
            cache[f"left by {id(self)}"] = len(cache)

    cache: BoundedCache[Any, Any] = BoundedCache(max_entries=4)
    for number in range(50):
        cache[number] = Value()
    cache.clear()
    assert many(lambda: cache.update({n: Value() for n in range(50)}), 3) == [None] * 3
    assert len(cache) <= 4
    assert "interrupted" not in cache.stats().evictions


class Interrupting(Meddler):
    """A key that raises while it is compared."""

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        if self.meddle:
            raise KeyboardInterrupt
        return str(self) == str(other)


def test_a_change_that_is_interrupted_leaves_it_empty_and_whole() -> None:
    """Half of a change would stay for good; a cache may forget."""
    key = Interrupting("a")
    key.meddle = False
    cache: BoundedCache[Any, int] = BoundedCache(max_entries=3, max_bytes=10_000)
    cache.update({key: 1, "b": 2})
    key.meddle = True
    other = Interrupting("a")
    other.meddle = True
    with pytest.raises(KeyboardInterrupt):
        cache[other] = 5
    assert cache == {}
    assert cache.stats().evictions == {"interrupted": 2}
    assert cache.stats().size_bytes == 0
    cache.update(a=1, b=2, c=3, d=4)
    assert len(cache) == 3


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers here")
def test_a_signal_handler_may_use_it() -> None:
    """It runs between any two steps of a change; what it does is done, and nothing else is lost."""
    cache: BoundedCache[Any, int] = BoundedCache(max_entries=50, ttl=60)
    came = 0

    def handler(*_: object) -> None:
        nonlocal came
        came += 1
        cache[f"signal {came}"] = came
        cache.pop(came % 60, None)
        len(cache)

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        for number in range(200_000):
            cache[number % 60] = number
            if came >= 100:
                break
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert came
    assert len(list(cache)) == len(cache) <= 50
    assert "interrupted" not in cache.stats().evictions


def test_it_goes_with_its_last_reference() -> None:
    """It is in no cycle, so that its values do not wait for a collection."""
    gc.collect()
    gc.disable()
    try:
        cache: BoundedCache[int, Any] = BoundedCache(max_entries=5, max_bytes="1MB", ttl=5)
        gone: list[int] = []

        class Value:
            def __del__(self) -> None:
                gone.append(1)

        cache[1] = Value()
        cache.get(1)
        list(cache.items())
        del cache
        assert gone == [1]
    finally:
        gc.enable()


@untraced
def test_measuring_a_value_is_not_charged_to_the_call() -> None:
    """Only what it keeps is."""
    from stratatrace import measure  # noqa: PLC0415 -- beside what it is for

    rows = [[str(number) * 5 for number in range(40)] for _ in range(100)]
    cache: BoundedCache[str, Any] = BoundedCache(
        max_bytes="10MB", size_of=None, shrink_under_pressure=False
    )
    with recording(Config(probe="tracemalloc")):
        cache["warm"] = rows
        _, measurement = measure(cache.__setitem__, "rows", rows)
    assert deep_size(rows) > 200_000
    assert measurement.heap_peak_bytes is not None
    assert measurement.heap_peak_bytes < 5_000


# Computing.


def test_a_factory_runs_once_for_all_that_ask() -> None:
    """And all have the same object."""
    cache: BoundedCache[str, object] = BoundedCache(max_entries=3)
    runs: list[int] = []
    go = threading.Event()

    def factory() -> object:
        runs.append(1)
        go.wait(10)
        return object()

    timer = threading.Timer(0.1, go.set)
    timer.start()
    values = many(lambda: cache.get_or_create("a", factory), 8)
    timer.join()
    assert (len(runs), len(set(values))) == (1, 1)
    assert (cache.stats().hits, cache.stats().misses) == (7, 1)


def test_tasks_share_a_computation() -> None:
    """Those that come while it is made wait for it; of different kinds none waits for the other."""
    cache: BoundedCache[str, int] = BoundedCache(max_entries=3)
    runs: list[int] = []

    async def factory() -> int:
        runs.append(1)
        await asyncio.sleep(0.01)
        assert cache.get_or_create("a", lambda: 7) == 7  # Here it would wait for itself.
        return 5

    async def main() -> list[int]:
        return await asyncio.gather(*(cache.get_or_create_async("a", factory) for _ in range(5)))

    assert set(asyncio.run(main())) <= {5, 7}
    assert len(runs) == 1


@pytest.mark.parametrize("change", ["set", "delete", "clear"])
def test_what_was_computed_before_a_change_is_not_kept_after_it(change: str) -> None:
    """It may be of data that is not true any more."""
    cache: BoundedCache[str, int] = BoundedCache(max_entries=3)

    def factory() -> int:
        if change == "set":
            cache["a"] = 2
        elif change == "delete":
            cache.pop("a", None)
        else:
            cache.clear()
        return 1

    assert cache.get_or_create("a", factory) == 1
    assert cache.get("a") == (2 if change == "set" else None)


def test_what_can_be_used_once_is_refused() -> None:
    """A coroutine, or a generator, would be empty for the second who asks."""
    cache: BoundedCache[str, Any] = BoundedCache(max_entries=3)

    async def coroutine() -> None: ...

    for factory in (coroutine, lambda: (number for number in range(3))):
        with pytest.raises(InvalidTypeError, match="can be used only once"):
            cache.get_or_create("a", factory)
    assert not cache
