"""What an object takes with all that it refers to."""

from __future__ import annotations

import gc
import json
import sys
import tracemalloc
from collections import deque
from typing import Any

import pytest

from stratatrace import deep_sizes as module
from stratatrace.deep_sizes import deep_size


class Plain:
    def __init__(self) -> None:
        self.text = "x" * 1_000


class Slotted:
    __slots__ = ("text",)

    def __init__(self) -> None:
        self.text = "x" * 1_000


class Derived(Slotted):
    pass


@pytest.mark.parametrize(
    "make",
    [
        Plain,
        Slotted,
        Derived,
        lambda: ["x" * 1_000],
        lambda: ("x" * 1_000,),
        lambda: {"x" * 1_000},
        lambda: frozenset(["x" * 1_000]),
        lambda: deque(["x" * 1_000]),
        lambda: {"k": "x" * 1_000},
        lambda: {"x" * 1_000: 1},
        lambda: [[["x" * 1_000]]],
    ],
)
def test_what_is_referred_to_counts(make: Any) -> None:
    """In objects of all kinds; and looking at them leaves them as they are."""
    item = make()
    size = sys.getsizeof(item)
    assert 1_000 < deep_size(item) < 2_500
    assert sys.getsizeof(item) == size


def test_deep_sizes_end() -> None:
    """In cycles, in large containers, in what is shared by all, and in classes that are wrong."""
    cycle: list[Any] = ["x" * 1_000]
    cycle.append(cycle)
    assert 1_000 < deep_size(cycle) < 2_000
    many = [str(number) * 10 for number in range(100_000, 200_000)]
    assert deep_size(many) == pytest.approx(sum(map(sys.getsizeof, [many, *many])), rel=0.1)
    assert deep_size([int, sys, deep_size, len]) < 1_000

    class Wrong:
        def __sizeof__(self) -> int:
            raise MemoryError

    assert deep_size(Wrong()) < 1_000


class Point:
    def __init__(self, number: int) -> None:
        self.name = f"point {number}"
        self.place = [number * 1.5, number * 1_000]


class Node:
    def __init__(self, parent: Node | None, depth: int) -> None:
        self.parent = parent
        self.name = f"{id(self)}"
        self.children = [Node(self, depth - 1) for _ in range(8 if depth else 0)]


def _rows(count: int) -> Any:
    rows = [{"id": n * 1_000, "name": f"user {n}", "tags": [f"a{n}", "b"]} for n in range(count)]
    return json.loads(json.dumps(rows))


@pytest.mark.parametrize(
    ("make", "tolerance"),
    [
        (lambda: _rows(500), 0.02),
        (lambda: _rows(30_000), 0.05),
        (
            lambda: [
                [[f"{a * b * c:20}" for a in range(30)] for b in range(30)] for c in range(30)
            ],
            0.05,
        ),
        (
            lambda: {a: {b: [f"{c:60}" for c in range(60)] for b in range(60)} for a in range(20)},
            0.05,
        ),
        (lambda: {f"key {n}": "v" * (n % 100) for n in range(50_000)}, 0.05),
        (lambda: [text for n in range(20_000) for text in (f"{n:10}", f"{n:300}")], 0.05),
        (lambda: [Point(n) for n in range(10_000)], 0.1),
        (lambda: deque({f"{n:50}" for n in range(20_000)}), 0.05),
        # Of a large graph, whose objects lead to each other, it knows the least.
        (lambda: Node(None, 5), 0.35),
    ],
)
def test_what_it_says_is_what_tracemalloc_counts(make: Any, tolerance: float) -> None:
    """Also of what is nested and wide, where only some of it is looked at."""
    gc.collect()
    tracemalloc.start()
    item = make()
    gc.collect()
    truth = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert deep_size(item) == pytest.approx(truth, rel=tolerance)


def test_what_is_shared_by_many_counts_once() -> None:
    """Also where only some of those that share it are looked at; once for each group of them."""
    text = "x" * 1_000_000
    assert deep_size([(text, number) for number in range(20_000)]) < 3_500_000
    assert deep_size([None] * 100_000) == pytest.approx(800_056)
    groups = [[(head, f"{n:5}") for n in range(100)] for head in (f"{n:10000}" for n in range(50))]
    rows = 50 * 100 * (8 + sys.getsizeof((1, 2)) + sys.getsizeof("12345"))
    assert deep_size(groups) == pytest.approx(50 * 10_000 + rows, rel=0.1)


def test_it_looks_at_so_much_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """However wide and however deep; a chain that is longer than that is cut."""
    looked: list[object] = []

    def own_size(item: object) -> int:
        looked.append(item)
        return 1

    monkeypatch.setattr(module, "own_size", own_size)
    chain: list[Any] = []
    for _ in range(50_000):
        chain = [chain]
    for item in ([[[[0.5 + n] * 20] * 20] * 20 for n in range(2_000)], chain):
        looked.clear()
        deep_size(item)
        assert 1_000 < len(looked) <= module._MOST_OBJECTS + module._MOST_OF_A_LEVEL
    while chain:
        chain = chain.pop()  # Else as many destructors would be nested.
