"""What a lazy value costs: reading it, computing it, and keeping it, beside the obvious ways.

Reading is timed in turn with its alternative, in one process; each line is the median of the ratios
pair by pair. The budget is 1.1 times functools.cached_property where instances have a namespace.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import gc
import statistics
import sys
import threading
import time
import tracemalloc
from functools import partial
from typing import TYPE_CHECKING, Any

from stratatrace import lazy
from stratatrace.config import Config
from stratatrace.recorder import Recorder, active
from stratatrace.testing import recording

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

LOOP = "for _ in repeat: instance.value"


class Value:
    """Something that takes weak references."""


VALUE = Value()


class Cached:
    """The standard library's."""

    @functools.cached_property
    def value(self) -> Value:
        """Compute nothing: what it costs besides is all there is."""
        return VALUE


class Lazy:
    """Kept in the namespace."""

    @lazy
    def value(self) -> Value:
        """Compute nothing."""
        return VALUE


class Slotted:
    """Kept beside."""

    __slots__ = ("__weakref__",)

    @lazy
    def value(self) -> Value:
        """Compute nothing."""
        return VALUE


class Weak:
    """Kept beside, weakly."""

    @lazy(weak=True)
    def value(self) -> Value:
        """Compute nothing."""
        return VALUE


class Evictable:
    """Kept beside, to be dropped."""

    @lazy(evict_under_pressure=True)
    def value(self) -> Value:
        """Compute nothing."""
        return VALUE


class ByHand:
    """What is written by hand for slots."""

    __slots__ = ("_value",)

    def __init__(self) -> None:
        self._value: Value | None = None

    @property
    def value(self) -> Value:
        """Compute nothing."""
        if self._value is None:
            self._value = VALUE
        return self._value


class Locked:
    """What threads would need of it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._value: Value | None = None

    @property
    def value(self) -> Value:
        """Compute nothing."""
        with self._lock:
            if self._value is None:
                self._value = VALUE
            return self._value


@lazy
def lazy_function() -> Value:
    """Compute nothing."""
    return VALUE


@functools.cache
def cached_function() -> Value:
    """Compute nothing."""
    return VALUE


@lazy
async def lazy_coroutine() -> Value:
    """Compute nothing."""
    return VALUE


async def plain_coroutine() -> Value:
    """Return what a module's global has."""
    return VALUE


def read_ns(instance: Any, reads: int) -> float:
    """Return the mean time of reading an attribute, in ns, the loop included."""
    # A loop of its own for each class: the interpreter adapts the very place to what it meets.
    space: dict[str, Any] = {}
    exec(f"def loop(repeat, instance):\n    {LOOP}\n", space)
    loop = space["loop"]
    loop([None] * 1000, instance)
    repeat = [None] * reads
    return fastest_ns(lambda: loop(repeat, instance)) / reads


def call_ns(function: Callable[[], object], calls: int) -> float:
    """Return the mean time of a call, in ns."""

    def loop() -> None:
        for _ in range(calls):
            function()

    return fastest_ns(loop) / calls


def fastest_ns(run: Callable[[], object]) -> int:
    """Return the least time of three, in ns: in one of them another process may have run."""
    times = []
    for _ in range(3):
        started = time.perf_counter_ns()
        run()
        times.append(time.perf_counter_ns() - started)
    return min(times)


def first_ns(kind: type[Any], count: int) -> float:
    """Return the mean time of the first reading, in ns."""
    instances = [kind() for _ in range(count)]
    started = time.perf_counter_ns()
    for instance in instances:
        instance.value  # noqa: B018 -- it computes
    return (time.perf_counter_ns() - started) / count


def await_ns(function: Callable[[], Coroutine[Any, Any, object]], calls: int) -> float:
    """Return the mean time of awaiting a call, in ns."""

    async def main() -> float:
        await function()
        started = time.perf_counter_ns()
        for _ in range(calls):
            await function()
        return (time.perf_counter_ns() - started) / calls

    return asyncio.run(main())


def kept_bytes(kind: type[Any], count: int = 10_000) -> float:
    """Return what an instance takes for keeping the same value, in bytes."""
    instances = [kind() for _ in range(count)]
    first = kind()
    first.value  # noqa: B018 -- what is made once for all is not in the numbers
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for instance in instances:
        instance.value  # noqa: B018 -- it computes
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return (after - before) / count


def compare(title: str, ours: Callable[[], float], theirs: Callable[[], float], goal: str) -> None:
    """Print the medians of both, and the median of the ratios pair by pair."""
    pairs = []
    for _ in range(options.rounds):
        theirs_ns = theirs()
        pairs.append((ours(), theirs_ns))
    ours_ns, theirs_ns = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"{title:58} {ours_ns:9,.1f} ns {theirs_ns:9,.1f} ns {ratio:7.2f}x  {goal}", flush=True)


def main() -> None:
    """Print the tables."""
    gc.disable()
    reads, cached, by_hand = options.reads, Cached(), ByHand()
    print(f"CPython {sys.version.split()[0]}; median of {options.rounds} pairs")
    print(f"{'':58} {'ours':>12} {'other':>12} {'ratio':>8}  budget")
    with recording(Config(rss_peak="off")):
        lines: tuple[tuple[str, Any, Any, str], ...] = (
            ("read / cached_property", Lazy(), cached, "1.1x"),
            ("read, __slots__ / property over a slot, by hand", Slotted(), by_hand, ""),
            ("read, weak=True / cached_property", Weak(), cached, ""),
            ("read, evict_under_pressure=True / cached_property", Evictable(), cached, ""),
            ("read, evict_under_pressure=True / property with a lock", Evictable(), Locked(), ""),
        )
        for title, ours, theirs, goal in lines:
            compare(title, partial(read_ns, ours, reads), partial(read_ns, theirs, reads), goal)
        compare(
            "call / functools.cache",
            lambda: call_ns(lazy_function, reads),
            lambda: call_ns(cached_function, reads),
            "",
        )
        compare(
            "await a call / await a coroutine function",
            lambda: await_ns(lazy_coroutine, reads // 10),
            lambda: await_ns(plain_coroutine, reads // 10),
            "",
        )
    for title, config in (
        ("off", Config(disabled=True)),
        ("heap", Config(rss_peak="off")),
        ("heap and exact peak RSS", Config()),
    ):
        with active.replaced(Recorder(config)):
            compare(
                f"first reading, measuring {title} / cached_property",
                lambda: first_ns(Lazy, 2000),
                lambda: first_ns(Cached, 2000),
                "",
            )
    print("\nBytes that an instance takes more for a value that is there already:\n")
    with recording(Config(disabled=True)):
        for kind in (Cached, Lazy, Slotted, Weak, Evictable):
            print(f"{kind.__name__:10} {kept_bytes(kind):6.0f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--reads", type=int, default=50_000)
    options = parser.parse_args()
    main()
