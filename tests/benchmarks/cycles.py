"""Prints what `find_cycles` takes for 200,000 objects of garbage, beside a bare collection of them.

Each row is a shape of garbage, made anew for each round. The columns are held against what
`gc.collect` takes to free it, and against a plain search for the cyclic parts of the same objects,
which is what it takes without types, paths, sizes and advice. Times are the processor's, so that
others on the machine are not in them. Peak memory is the kernel's high-water mark over the look.
"""

from __future__ import annotations

import argparse
import gc
import time
from statistics import median
from typing import TYPE_CHECKING

from stratatrace import find_cycles
from stratatrace.diagnose.cycle_capture import Capture
from stratatrace.diagnose.cycle_graph import cyclic_parts, edges_among
from stratatrace.probes import HighWaterProbe

if TYPE_CHECKING:
    from collections.abc import Callable


class Node:
    """Knows its parent, its children and its neighbour."""

    def __init__(self, parent: Node | None = None) -> None:
        self.parent = parent
        self.children: list[Node] = []
        self.next: Node | None = None


class Slotted:
    """The same in slots."""

    __slots__ = ("other",)

    other: Slotted


def pairs(count: int) -> None:
    """Make pairs of objects: many small cycles."""
    for _ in range(count // 2):
        one, other = Slotted(), Slotted()
        one.other, other.other = other, one


def trees(count: int) -> None:
    """Make trees of ten nodes, each with a list."""
    for _ in range(count // 20):
        root = Node()
        root.children = [Node(root) for _ in range(9)]


def ring(count: int) -> None:
    """Make one cycle of all."""
    first = last = Node()
    for _ in range(count // 2 - 1):
        last.next = Node()
        last = last.next
    last.next = first


def closures(count: int) -> None:
    """Make functions that refer to themselves."""

    def make() -> None:
        def recursive() -> object:
            return recursive

    for _ in range(count // 3):
        make()


def exceptions(count: int) -> None:
    """Make exceptions that are kept in the frames of their tracebacks."""

    def fail() -> None:
        kept = None
        try:
            int("x")
        except ValueError as error:
            kept = error
        del error_of[:]
        error_of.append(kept)

    error_of: list[object] = []
    for _ in range(count // 4):
        fail()


def graphs(count: int) -> None:
    """Make cycles each of another shape."""
    for number in range(count // 14):
        nodes = [Node() for _ in range(7)]
        for at, node in enumerate(nodes):
            node.next = nodes[(at + 1) % 7]
            node.children = [nodes[(number >> at) % 7], nodes[number * 7919 % (at + 1)]]


SHAPES = (pairs, trees, ring, closures, exceptions, graphs)


def bare(make: Callable[[int], None], count: int) -> float:
    """Return the seconds that a collection takes."""
    make(count)
    began = time.process_time()
    gc.collect()
    return time.process_time() - began


def parts_alone(make: Callable[[int], None], count: int) -> float:
    """Return the seconds for the cyclic parts, and nothing told of them."""
    gc.collect()
    capture = Capture(count * 2, "benchmark")
    make(count)
    began = time.process_time()
    captured = capture.now()
    cyclic_parts(edges_among(captured.objects))
    captured.objects.clear()
    gc.collect()
    return time.process_time() - began


def found(make: Callable[[int], None], count: int) -> tuple[float, int, str]:
    """Return the seconds from the end of the block to the report, its objects, and its path."""
    gc.collect()
    with find_cycles(max_objects=count * 2) as report:
        make(count)
        began = time.process_time()
    seconds = time.process_time() - began
    return seconds, report.objects, report[0].path


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    count: int = options.objects
    print(
        f"find_cycles() on about {count:,} objects of garbage, medians of {options.rounds} rounds\n"
        f"{'shape':<11}{'objects':>9}{'found':>9}{'least':>9}{'collect':>9}{'parts':>9}"
        f"{'x bare':>8}{'x parts':>9}{'peak':>10}  path"
    )
    probe = HighWaterProbe()
    gc.disable()  # What collections happen by chance would be in one number and not in the other.
    for make in SHAPES:
        rows = []
        for _ in range(options.rounds):
            make(count)
            gc.collect()  # The allocator has all that it needs for the garbage itself.
            before = probe.mark().level_bytes
            seconds, objects, path = found(make, count)
            peak_bytes = probe.mark().peak_bytes - before
            rows.append((seconds, bare(make, count), parts_alone(make, count), peak_bytes))
        seconds, collect, parts, peak = (median(column) for column in zip(*rows, strict=True))
        least = min(row[0] for row in rows)
        print(
            f"{make.__name__:<11}{objects:>9,}{seconds:>8.2f}s{least:>8.2f}s{collect:>8.2f}s"
            f"{parts:>8.2f}s{seconds / collect:>7.1f}x{seconds / parts:>8.1f}x"
            f"{peak / 1e6:>7.0f} MB  {path}"
        )
    gc.enable()


if __name__ == "__main__":
    main()
