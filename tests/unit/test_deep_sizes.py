"""What an object takes with all that it refers to."""

from __future__ import annotations

import sys
from collections import deque
from typing import Any

import pytest

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
