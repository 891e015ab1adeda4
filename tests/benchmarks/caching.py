"""Prints what a look-up and a change of our caches cost, beside those that a program has already.

Each row is run by turns, a round of each, and is held against the one that does the most like ours:
cachetools with a lock, which its documentation asks for. Memory is what tracemalloc counts.
"""

from __future__ import annotations

import gc
import math
import sys
import threading
import time
import tracemalloc
from functools import lru_cache
from statistics import median
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import cachetools

from stratatrace import BoundedCache, WeakCache, cached
from stratatrace.deep_sizes import deep_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_ENTRIES = 1_000
_ROUNDS = 25
_KEYS = [f"key {number}" for number in range(_ENTRIES)]


def by_turns(candidates: dict[str, Callable[[], object]], count: int, base: str) -> None:
    """Print microseconds of one of each, and their ratios to *base*."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    gc.collect()
    gc.disable()
    for _ in range(_ROUNDS):
        for name, run in candidates.items():
            began = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - began) / count)
    gc.enable()
    for name, taken in times.items():
        ratio = median(one / other for one, other in zip(taken, times[base], strict=True))
        print(f"  {name:44} {median(taken) * 1e6:7.3f} us {ratio:6.2f}x")


def reads(cache: Any, lock: Any = None) -> Callable[[], object]:
    """Return a loop of look-ups that all hit."""
    for key in _KEYS:
        cache[key] = key

    def plain() -> None:
        for key in _KEYS:
            cache[key]

    def locked() -> None:
        for key in _KEYS:
            with lock:
                cache[key]

    return plain if lock is None else locked


def writes(cache: Any, lock: Any = None) -> Callable[[], object]:
    """Return a loop of new keys, each of which evicts an old one."""
    numbers = iter(range(10**9))

    def plain() -> None:
        for _ in range(_ENTRIES):
            number = next(numbers)
            cache[number] = number

    def locked() -> None:
        for _ in range(_ENTRIES):
            number = next(numbers)
            with lock:
                cache[number] = number

    plain()
    return plain if lock is None else locked


def calls(function: Callable[[str], object]) -> Callable[[], object]:
    """Return a loop of calls that all hit."""

    def run() -> None:
        for key in _KEYS:
            function(key)

    run()
    return run


def bounded(**options: Any) -> BoundedCache[Any, Any]:
    """Return a cache without a thread beside it."""
    return BoundedCache(shrink_under_pressure=False, **options)


def mappings(make: Callable[..., Callable[[], object]]) -> None:
    """Print one kind of use of all mappings."""
    lru, ttl = cachetools.LRUCache, cachetools.TTLCache
    by_turns(
        {
            "dict, without a bound": make({}),
            "cachetools.LRUCache": make(lru(_ENTRIES)),
            "cachetools.LRUCache with a lock": make(lru(_ENTRIES), threading.RLock()),
            "BoundedCache(max_entries=)": make(bounded(max_entries=_ENTRIES)),
            "BoundedCache(max_bytes=, size_of=)": make(
                bounded(max_bytes=_ENTRIES, size_of=lambda _: 1)
            ),
            "BoundedCache(max_bytes=)": make(bounded(max_bytes=_ENTRIES * 400)),
        },
        _ENTRIES,
        "cachetools.LRUCache with a lock",
    )
    by_turns(
        {
            "cachetools.TTLCache": make(ttl(_ENTRIES, 600)),
            "cachetools.TTLCache with a lock": make(ttl(_ENTRIES, 600), threading.RLock()),
            "BoundedCache(max_entries=, ttl=)": make(bounded(max_entries=_ENTRIES, ttl=600)),
        },
        _ENTRIES,
        "cachetools.TTLCache with a lock",
    )


def decorators() -> None:
    """Print a call that hits."""

    def function(key: str) -> str:
        return key

    locked = cachetools.cached(cachetools.LRUCache(_ENTRIES), lock=threading.RLock(), info=True)
    ours = cached(max_entries=_ENTRIES, shrink_under_pressure=False)
    by_turns(
        {
            "functools.lru_cache": calls(lru_cache(_ENTRIES)(function)),
            "cachetools.cached with a lock": calls(locked(function)),
            "cached(max_entries=)": calls(ours(function)),
        },
        _ENTRIES,
        "cachetools.cached with a lock",
    )


class Value:
    """What can be weakly referenced."""


def weak() -> None:
    """Print a look-up that hits, and a value that is made and dies."""
    held = [Value() for _ in _KEYS]
    theirs: WeakValueDictionary[str, Value] = WeakValueDictionary(zip(_KEYS, held, strict=True))
    ours: WeakCache[str, Value] = WeakCache()
    for key, value in zip(_KEYS, held, strict=True):
        ours[key] = value
    lock = threading.Lock()

    def by_hand(values: WeakValueDictionary[str, Value], keys: Iterable[str]) -> None:
        for key in keys:
            with lock:
                value = values.get(key)
                if value is None:
                    values[key] = value = Value()

    def with_ours(cache: WeakCache[str, Value], keys: Iterable[str]) -> None:
        for key in keys:
            cache.get(key, Value)

    base = "WeakValueDictionary and one lock for all"
    for title, others in (("a hit", _KEYS), ("a miss", [f"other {key}" for key in _KEYS])):
        print(title)
        by_turns(
            {
                base: lambda keys=others: by_hand(theirs, keys),  # type: ignore[misc]
                "WeakCache.get(key, factory)": lambda keys=others: with_ours(ours, keys),  # type: ignore[misc]
            },
            _ENTRIES,
            base,
        )


def crowd() -> None:
    """Print how often something slow is computed by threads that ask at once."""
    for name, make in (
        ("functools.lru_cache", lru_cache(10)),
        ("cached(max_entries=)", cached(max_entries=10, shrink_under_pressure=False)),
    ):
        runs: list[int] = []

        def slow(_key: int, runs: list[int] = runs) -> bytes:
            runs.append(1)
            time.sleep(0.05)
            return bytes(1)

        function: Any = make(slow)
        threads = [threading.Thread(target=function, args=(1,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(f"  {name:44} {len(runs)} computed")


def page(number: int) -> list[dict[str, Any]]:
    """Return rows of a size that varies, as results do."""
    rows = 2 + (number * 7919 % 100) ** 2 // 60
    return [{"id": number * row, "name": f"row {row} of {number}"} for row in range(rows)]


def memory() -> None:
    """Print what caches hold that are given 2,000 pages, some of them large."""

    def fill(cache: Any) -> None:
        for number in range(2_000):
            cache[number] = page(number)

    own = sys.getsizeof
    for name, make in (
        ("dict", dict),
        ("cachetools.LRUCache(500)", lambda: cachetools.LRUCache(500)),
        ("cachetools.LRUCache(8 MB, sys.getsizeof)", lambda: cachetools.LRUCache(8e6, own)),
        ("cachetools.LRUCache(8 MB, deep_size)", lambda: cachetools.LRUCache(8e6, deep_size)),
        ("BoundedCache(max_bytes='8MB')", lambda: bounded(max_bytes="8MB")),
    ):
        gc.collect()
        tracemalloc.start()
        cache: Any = make()
        fill(cache)
        gc.collect()
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        print(f"  {name:44} {held / 1e6:7.1f} MB {len(cache):6} pages")


def sizes() -> None:
    """Print what deep_size says, beside what tracemalloc counts."""
    makes: dict[str, Callable[[], object]] = {
        "a page of 30 rows": lambda: [{"id": n * 999, "name": f"row {n}"} for n in range(30)],
        "100,000 rows": lambda: [{"id": n * 999, "name": f"row {n}"} for n in range(100_000)],
        "60 x 60 x 60 texts": lambda: [
            [[f"{a}{b}{c}" for a in range(60)] for b in range(60)] for c in range(60)
        ],
        "a dict of 100,000 texts": lambda: {f"key {n}": "v" * (n % 90) for n in range(100_000)},
        "50,000 blobs, a few of them large": lambda: [
            bytes(min(200_000, int(50 / (1 - n * 0.6180339 % 1) ** 0.8))) for n in range(50_000)
        ],
        "a chain of 20,000 links": lambda: _chain(20_000),
    }
    for name, make in makes.items():
        gc.collect()
        tracemalloc.start()
        item = make()
        gc.collect()
        truth = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        began = time.perf_counter()
        told = deep_size(item)
        took = time.perf_counter() - began
        print(f"  {name:44} {told / truth - 1:+7.1%} of {truth:12,} B {took * 1e3:8.2f} ms")


def _chain(count: int) -> object:
    chain: object = None
    for number in range(count):
        chain = (chain, math.sqrt(number))
    return chain


def main() -> None:
    """Print all tables."""
    tables: list[tuple[str, Callable[[], object]]] = [
        ("A look-up that hits", lambda: mappings(reads)),
        ("A new key that evicts an old one", lambda: mappings(writes)),
        ("A call that hits", decorators),
        ("Weakly held values", weak),
        ("Eight threads that ask at once", crowd),
        ("What 2,000 pages take", memory),
        ("What deep_size says", sizes),
    ]
    for title, show in tables:
        print(f"\n{title}")
        show()


if __name__ == "__main__":
    main()
