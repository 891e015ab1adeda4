"""What an object of a pool costs, against a queue, SQLAlchemy's pool, and making it anew.

Each line is the median of ratios of two loops, timed in turn in one process.
"""

from __future__ import annotations

import argparse
import gc
import queue
import statistics
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy.pool import QueuePool

from stratatrace import MemoryPool, measure
from stratatrace.config import Config
from stratatrace.testing import recording

if TYPE_CHECKING:
    from collections.abc import Callable

BUFFER_BYTES = 1_000_000


class Matcher:
    """Is dear to make: it has a table."""

    def __init__(self) -> None:
        self.table = {number: str(number) for number in range(200)}
        self.found: list[int] = []

    def reset(self) -> None:
        """Forget what was found."""
        self.found.clear()


class Connection:
    """Has what SQLAlchemy's pool wants of a connection."""

    def rollback(self) -> None:
        """Be reset."""

    def close(self) -> None:
        """Be thrown away."""


def from_lifo_queue() -> Callable[[], object]:
    """Return a get and put of the standard library's queue."""
    line: queue.LifoQueue[object] = queue.LifoQueue()
    line.put(Connection())

    def use() -> None:
        line.put(line.get())

    return use


def from_pool(factory: Callable[[], Any] = Connection, **options: Any) -> Callable[[], object]:
    """Return an acquire and release of ours."""
    pool = MemoryPool(factory, **options)

    def use() -> None:
        pool.release(pool.acquire())

    return use


def from_lease() -> Callable[[], object]:
    """Return a lease of ours."""
    pool = MemoryPool(Connection)

    def use() -> None:
        with pool.lease():
            pass

    return use


def from_queue_pool(**options: Any) -> Callable[[], object]:
    """Return a connect and close of SQLAlchemy's pool."""
    pool: Any = QueuePool(Connection, pool_size=10, **options)  # type: ignore[arg-type]

    def use() -> None:
        pool.connect().close()

    return use


def fill_anew() -> None:
    """Make a buffer, and write to it."""
    bytearray(BUFFER_BYTES)[0] = 1


def per_call_ns(function: Callable[[], object], calls: int) -> float:
    """Return the mean time of a call in a loop, in ns."""
    began = time.perf_counter_ns()
    for _ in range(calls):
        function()
    return (time.perf_counter_ns() - began) / calls


def compare(
    title: str,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    rounds: int,
    calls: int,
    goal: str = "",
) -> None:
    """Print the medians of both, and the median of the ratios pair by pair."""
    ours()
    theirs()
    pairs = [(per_call_ns(theirs, calls), per_call_ns(ours, calls)) for _ in range(rounds)]
    theirs_ns, ours_ns = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(mine / other for other, mine in pairs)
    print(f"{title:52} {ours_ns:9,.0f} ns {theirs_ns:9,.0f} ns {ratio:7.2f}x  {goal}", flush=True)


def contended_ns(use: Callable[[], object], threads: int, calls: int) -> float:
    """Return the time for each use where threads compete for one object."""

    def work() -> None:
        for _ in range(calls):
            use()

    workers = [threading.Thread(target=work) for _ in range(threads)]
    began = time.perf_counter_ns()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return (time.perf_counter_ns() - began) / (threads * calls)


def print_before_and_after(count: int) -> None:
    """Print what a loop allocates, and how long it takes, with new matchers and pooled ones."""

    def anew() -> None:
        for number in range(count):
            matcher = Matcher()
            matcher.found.append(number)

    def pooled() -> None:
        pool = MemoryPool(Matcher, max_size=4)
        for number in range(count):
            with pool.lease() as matcher:
                matcher.found.append(number)

    print(f"\n{count} uses of a matcher with a table of 200 entries:\n")
    print("| | allocated | peak | time |\n|---|---|---|---|")
    for name, function in (("anew", anew), ("pooled", pooled)):
        function()
        with recording(Config()):
            _, numbers = measure(function)
        allocated = (numbers.heap_allocated_bytes or 0) / 1e6
        peak = (numbers.heap_peak_bytes or 0) / 1e3
        took = (numbers.duration_ns or 0) / 1e6
        print(f"| {name} | {allocated:.2f} MB | {peak:.0f} kB | {took:.1f} ms |")


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=20_000)
    options = parser.parse_args()
    rounds, calls = options.rounds, options.calls
    gc.disable()
    print(f"CPython {sys.version.split()[0]}; median of {rounds} pairs")
    print(f"{'':52} {'ours':>12} {'other':>12} {'ratio':>8}  budget")
    with recording(Config(disabled=True)):
        compare(
            "acquire+release / LifoQueue get+put",
            from_pool(),
            from_lifo_queue(),
            rounds,
            calls,
            "1.5x",
        )
        compare(
            "with a reset / LifoQueue get+put", from_pool(Matcher), from_lifo_queue(), rounds, calls
        )
        compare("lease / LifoQueue get+put", from_lease(), from_lifo_queue(), rounds, calls)
        validated = from_pool(validate=lambda _: True)
        compare("validated / LifoQueue get+put", validated, from_lifo_queue(), rounds, calls // 4)
        compare(
            "acquire+release / QueuePool", from_pool(), from_queue_pool(), rounds, calls // 10, "1x"
        )
        bare = from_queue_pool(reset_on_return=None)
        compare(
            "acquire+release / QueuePool without reset",
            from_pool(),
            bare,
            rounds,
            calls // 10,
            "1x",
        )
        compare("a matcher, pooled / anew", from_pool(Matcher), Matcher, rounds, calls // 100)
        buffers = from_pool(lambda: bytearray(BUFFER_BYTES), reset=None)
        compare("a buffer of 1 MB, pooled / anew", buffers, fill_anew, rounds, calls // 100)
        compare(
            "an empty object, pooled / anew", from_pool(object, reset=None), object, rounds, calls
        )
        one = from_pool(max_size=1)
        ratios = [
            contended_ns(one, 4, 500) / contended_ns(from_lifo_queue(), 4, 500) for _ in range(5)
        ]
        print(f"{'4 threads, 1 object / LifoQueue':78} {statistics.median(ratios):7.2f}x")
    gc.enable()
    print_before_and_after(2_000)


if __name__ == "__main__":
    main()
