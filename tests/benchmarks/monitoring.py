"""What a monitor beside a program costs: ratios of two loops, timed in turn."""

from __future__ import annotations

import statistics
import sys
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

from stratatrace import MemoryMonitor, memory_pressure

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

ROUNDS = 11
LOOPS = 300


def work() -> None:
    """Make and drop objects, as programs do."""
    rows = [{"number": n, "text": str(n), "list": [n] * 5} for n in range(2000)]
    rows.clear()


def asking() -> None:
    """Do the same, and look at the pressure now and then."""
    work()
    memory_pressure()


def seconds_of(function: Callable[[], None], beside: AbstractContextManager[object]) -> float:
    """Return the processor time of a loop, all threads together."""
    with beside:
        began = time.process_time()
        for _ in range(LOOPS):
            function()
        return time.process_time() - began


def compare(
    title: str, beside: Callable[[], AbstractContextManager[object]], function: Callable[[], None]
) -> None:
    """Print the median of the ratios, pair by pair."""
    ratios = []
    for _ in range(ROUNDS):
        bare = seconds_of(work, nullcontext())
        ratios.append(seconds_of(function, beside()) / bare)
    print(f"{title:58} {statistics.median(ratios):7.3f}x")


def main() -> None:
    """Print the table."""
    kept = bytearray(b"x") * 500_000_000  # So that there are pages to walk.
    print(f"CPython {sys.version.split()[0]}; median of {ROUNDS} pairs, {len(kept):,} B in use")
    compare("nothing beside it / nothing beside it", nullcontext, work)
    compare("memory_pressure() after each loop / nothing", nullcontext, asking)
    for interval_seconds in (0.1, 0.01):
        for children in (False, True):
            compare(
                f"monitor, interval {interval_seconds:g} s, children={children} / nothing",
                lambda i=interval_seconds, c=children: MemoryMonitor(  # type: ignore[misc]
                    interval_seconds=i, children=c, alert_at=()
                ),
                work,
            )


if __name__ == "__main__":
    main()
