"""Prints what the native counters' map takes, as a share of the heap whose blocks it remembers."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from five_programs import document, record

from stratatrace.probes.native import NativeProbe, native_obstacle

if TYPE_CHECKING:
    from collections.abc import Callable

HEAP_BYTES = 128 << 20
TEXT = document(1_000)

#: What is kept until the heap is large enough; each takes some hundred kilobytes a time.
HEAPS: dict[str, Callable[[], Any]] = {
    "records of w1": lambda: [record(number) for number in range(500)],
    "documents of w2": lambda: json.loads(TEXT),
    "ints of a list": lambda: list(range(1_000_000, 1_010_000)),
    "blocks of 10 kB": lambda: [bytes(10_000) for _ in range(50)],
}


def fill(kind: str) -> None:
    """Keep objects of a kind, and print the shares when the heap is full and when it was left."""
    from stratatrace.probes import _counters  # noqa: PLC0415 -- not everywhere is there one

    NativeProbe().open()
    before = _counters.mark()[0]
    kept = []
    while (live := _counters.mark()[0] - before) < HEAP_BYTES:
        kept.append(HEAPS[kind]())
    held = _counters.held_bytes()
    del kept
    print(f"| {kind} | {live / 1e6:.0f} MB | {held / 1e6:.1f} MB | {held / live:.1%} |", flush=True)


def main() -> None:
    """Print a table, each line of which is from a process of its own."""
    if len(sys.argv) == 2:
        fill(sys.argv[1])
        return
    obstacle = native_obstacle()
    if obstacle is not None:
        print(f"no native heap probe: {obstacle}")
        return
    print("| heap | its size | the map | share, at most 8% |\n|---|---|---|---|", flush=True)
    for kind in HEAPS:
        subprocess.run([sys.executable, __file__, kind], check=True)


if __name__ == "__main__":
    main()
