"""Runs a large generated stream through process_stream, and prints time and highest memory.

The memory of the whole run is held against that of its first tenth: it is flat where they are the
same.
"""

from __future__ import annotations

import argparse
import gc
import time
from itertools import islice
from statistics import median
from typing import TYPE_CHECKING, Any

from stratatrace import adaptive_chunks, process_stream
from stratatrace.config import Config
from stratatrace.probes import HighWaterProbe, LifetimeProbe
from stratatrace.testing import recording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ITEM_BYTES = 4_096
MB = 1_000_000


def rows(total_bytes: int) -> Iterator[dict[str, Any]]:
    """Generate rows of some 4 kB until they are so many bytes."""
    for number in range(total_bytes // ITEM_BYTES):
        yield {"number": number, "body": bytearray(ITEM_BYTES - 300), "name": f"row {number}"}


def size_of(chunk: list[dict[str, Any]]) -> int:
    """Do a little with each row."""
    return sum(len(row["body"]) for row in chunk)


def by_hand(items: Iterable[dict[str, Any]], size: int) -> int:
    """Take the same chunks with nothing but the standard library."""
    items = iter(items)
    total = 0
    while chunk := list(islice(items, size)):
        total += size_of(chunk)
    return total


def print_flatness(probe: str, total_bytes: int, max_bytes: int) -> None:
    """Print the highest memory after a tenth and after all of a stream."""
    resident = LifetimeProbe()
    with recording(Config(probe=probe, rss_peak="lifetime")):
        # With what the stream begins with; the mark of before is that of the first table.
        HighWaterProbe()
        before, began, seen = resident.mark().level_bytes, time.perf_counter(), 0
        after_tenth = 0
        stream = process_stream(rows(total_bytes), size_of, 10**6, max_bytes)
        for part in stream:
            seen += part
            if not after_tenth and seen > total_bytes // 10:
                after_tenth = resident.mark().peak_bytes
        took = time.perf_counter() - began
        highest = resident.mark().peak_bytes
    print(
        f"| {probe} | {stream.weighed_by} | {total_bytes / 1e9:.1f} GB | {took:.0f} s "
        f"| {max_bytes / MB:.0f} MB | +{(after_tenth - before) / MB:.0f} MB "
        f"| +{(highest - before) / MB:.0f} MB |",
        flush=True,
    )


def print_cost(rounds: int) -> None:
    """Print what an item costs beside islice, which weighs nothing and measures nothing."""
    programs: dict[str, Callable[[], object]] = {
        "list(islice(...)) by hand": lambda: by_hand(rows(100 * MB), 1000),
        "adaptive_chunks": lambda: sum(map(size_of, adaptive_chunks(rows(100 * MB)))),
        "process_stream": lambda: sum(process_stream(rows(100 * MB), size_of)),
    }
    for probe in ("rss", "auto"):
        with recording(Config(probe=probe)):
            times: dict[str, list[float]] = {name: [] for name in programs}
            for _ in range(rounds):
                for name, program in programs.items():
                    began = time.perf_counter()
                    program()
                    times[name].append(time.perf_counter() - began)
        (_, first), *others = times.items()
        for name, seconds in others:
            ratio = median(one / other for one, other in zip(seconds, first, strict=True))
            more = median(one - other for one, other in zip(seconds, first, strict=True))
            items = 100 * MB // ITEM_BYTES
            print(f"| {name} | {probe} | {ratio:.2f} | {more / items * 1e9:.0f} ns |", flush=True)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=10.0, help="size of the stream")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    print(f"\nRows of {ITEM_BYTES} bytes, 100 MB of them, against list(islice(rows, 1000)):\n")
    print("| by | probe | time | more for an item |\n|---|---|---|---|")
    print_cost(options.rounds)
    print("\nHighest resident memory above that before, after a tenth of a stream and after all:\n")
    print("| probe | weighed by | stream | time | max_bytes | a tenth | all |")
    print("|---|---|---|---|---|---|---|")
    for probe in ("auto", "rss"):
        gc.collect()
        print_flatness(probe, int(options.gigabytes * 1e9), 50 * MB)


if __name__ == "__main__":
    main()
