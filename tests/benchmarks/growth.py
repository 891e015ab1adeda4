"""What it takes to tell growth by line, against two snapshots of tracemalloc and `compare_to`.

Both look at the same traces, in one process after the other. ``--traces`` says how many there are
at the second mark; a third of them are new.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

from stratatrace import track_growth

if TYPE_CHECKING:
    from collections.abc import Callable

DEPTHS = (1, 32)
TRACES = (100_000, 1_450_000)
#: Lines that allocate, and as many frames below them, more or less.
PLACES = 2000
FRAMES_BELOW = 20


def program() -> list[Callable[[int], list[object]]]:
    """Return functions that make so many texts and lists each, at a line and a stack of its own."""
    lines = []
    for place in range(PLACES):
        lines += [
            f"def make_{place}(count, below={FRAMES_BELOW + place % 10}):",
            f"    if below: return make_{place}(count, below - 1)",
            f"    return [[str(number) * {place % 7 + 1}] for number in range(count)]",
        ]
    made: dict[str, Any] = {}
    exec(compile("\n".join(lines), "program.py", "exec"), made)
    return [made[f"make_{place}"] for place in range(PLACES)]


MAKERS = program()


def held(blocks: int) -> list[list[object]]:
    """Return so many blocks, by all of them."""
    each = blocks // PLACES // 2  # A text, and a list with it.
    return [make(each) for make in MAKERS]


def by_snapshots(depth: int, traces: int) -> tuple[float, int]:
    """Return the processor time of tracemalloc's own way, in seconds, and the largest growth."""
    tracemalloc.start(depth)
    kept = held(traces * 2 // 3)
    began = time.process_time()
    first = tracemalloc.take_snapshot()
    took = time.process_time() - began
    kept += held(traces // 3)
    began = time.process_time()
    growth = tracemalloc.take_snapshot().compare_to(first, "lineno")
    del first  # The traces of a mark are gone by now, too.
    took += time.process_time() - began
    return took, growth[0].size_diff


def by_marks(depth: int, traces: int) -> tuple[float, int]:
    """Return the processor time from marks to the report's text, and the largest growth."""
    tracemalloc.start(depth)
    kept = held(traces * 2 // 3)
    tracker = track_growth(source="tracemalloc").start()
    began = time.process_time()
    tracker.mark("first")
    took = time.process_time() - began
    kept += held(traces // 3)
    began = time.process_time()
    tracker.mark("second")
    report = tracker.between("first", "second")
    str(report)
    took += time.process_time() - began
    return took, report.lines()[0].bytes


def by_samples(traces: int) -> tuple[float, int]:
    """Return the same of a sample."""
    tracker = track_growth(source="native").start()
    kept = held(traces * 2 // 3)
    began = time.process_time()
    tracker.mark("first")
    took = time.process_time() - began
    kept += held(traces // 3)
    began = time.process_time()
    tracker.mark("second")
    report = tracker.between("first", "second")
    str(report)
    took += time.process_time() - began
    return took, report.lines()[0].bytes


def measured(way: str, depth: int, traces: int) -> tuple[float, int]:
    """Measure one way in a process of its own."""
    command = (sys.executable, __file__, "--way", way, "--depth", str(depth))
    ran = subprocess.run(
        [*command, "--traces", str(traces)], check=True, capture_output=True, text=True
    )
    seconds, size_bytes = ran.stdout.split()
    return float(seconds), int(size_bytes)


def main() -> None:
    """Print the table, or measure one way of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", type=int)
    parser.add_argument("--depth", type=int, default=1)
    parser.add_argument("--way", choices=("snapshots", "marks", "samples"))
    options = parser.parse_args()
    if options.way is not None:
        if options.way == "samples":
            print(*by_samples(options.traces))
        else:
            way = by_snapshots if options.way == "snapshots" else by_marks
            print(*way(options.depth, options.traces))
        return
    print(f"{'traces':>9} {'frames':>6} {'snapshots':>10} {'marks':>8} {'ratio':>6} {'sample':>9}")
    for traces in (options.traces,) if options.traces else TRACES:
        for depth in DEPTHS:
            theirs, most = measured("snapshots", depth, traces)
            ours, ours_most = measured("marks", depth, traces)
            sampled, _ = measured("samples", depth, traces)
            assert abs(most - ours_most) < most / 1000, (most, ours_most)
            times = f"{theirs:8.2f} s {ours:6.2f} s {theirs / ours:5.1f}x {sampled * 1000:6.1f} ms"
            print(f"{traces:9,} {depth:6} {times}")


if __name__ == "__main__":
    main()
