"""Access patterns, measured: the same cells added up in four orders, in lists and in numpy.

Whether the order matters depends on what a step costs besides. The sums go to stdout; the times,
and their ratios to the first of each table, to stderr.
"""

from __future__ import annotations

import random
import sys
import time
from statistics import median
from typing import TYPE_CHECKING, Any

from stratatrace import profile_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Matrix = list[list[float]]

ROWS = 800
#: Of the arrays. A power of two is the worst case: a column's cells compete for the same places in
#: the cache.
ARRAY_ROWS = 4096
BLOCK = 64
ROUNDS = 3


def sequential(matrix: Matrix) -> float:
    """Add cell by cell, as they lie in memory."""
    size, total = len(matrix), 0.0
    for row in range(size):
        for column in range(size):
            total += matrix[row][column]
    return total


def strided(matrix: Matrix) -> float:
    """Add column by column: each step goes to another row."""
    size, total = len(matrix), 0.0
    for column in range(size):
        for row in range(size):
            total += matrix[row][column]
    return total


def blocked(matrix: Matrix) -> float:
    """Add column by column within squares that a cache can hold."""
    size, total = len(matrix), 0.0
    for top in range(0, size, BLOCK):
        for left in range(0, size, BLOCK):
            for column in range(left, min(left + BLOCK, size)):
                for row in range(top, min(top + BLOCK, size)):
                    total += matrix[row][column]
    return total


def by_rows(matrix: Matrix) -> float:
    """Add what each row's own iterator gives: the same order as the first, with fewer steps."""
    return sum(map(sum, matrix))


def matrix_of(size: int, *, shuffled: bool) -> Matrix:
    """Make a matrix of floats, which lie in memory as they are made, or in no order."""
    numbers = [float(number % 97) for number in range(size * size)]
    places = list(range(size * size))
    if shuffled:
        random.Random(4711).shuffle(places)  # noqa: S311 -- any order will do
    cells = [0.0] * (size * size)
    # A float of its own for each cell, made in the order of the places.
    for place in places:
        cells[place] = numbers[place] + 0.0
    return [cells[row * size : (row + 1) * size] for row in range(size)]


def compare(title: str, works: Mapping[str, Callable[[Any], float]], data: Any) -> None:
    """Print the sum, which is the same each way, and the times of some rounds by turns."""
    times: dict[str, list[float]] = {name: [] for name in works}
    sums = set()
    for _ in range(ROUNDS):
        for name, work in works.items():
            began = time.perf_counter()
            sums.add(work(data))
            times[name].append(time.perf_counter() - began)
    (total,) = sums
    print(f"{title}: {total:.0f}", flush=True)
    first = next(iter(times.values()))
    for name, seconds in times.items():
        ratio = median(one / other for one, other in zip(seconds, first, strict=True))
        print(f"  {name:<28} {median(seconds) * 1e3:8.1f} ms  {ratio:6.2f}", file=sys.stderr)


@profile_memory
def over_lists() -> None:
    """Print how much the order matters over lists of floats."""
    works = {
        "sequential": sequential,
        "strided": strided,
        "blocked": blocked,
        "sum(map(sum, rows))": by_rows,
    }
    compare("lists, floats made in order", works, matrix_of(ROWS, shuffled=False))
    compare("lists, floats made in no order", works, matrix_of(ROWS, shuffled=True))


@profile_memory
def over_arrays() -> None:
    """Print how much the order matters over an array of numpy."""
    import numpy as np  # noqa: PLC0415 -- the rest of the example does without

    size = ARRAY_ROWS
    matrix = np.arange(size * size, dtype=np.float64).reshape(size, size) % 97

    def columns(array: Any) -> float:
        return float(sum(array[:, column].sum() for column in range(size)))

    def rows(array: Any) -> float:
        return float(sum(array[row].sum() for row in range(size)))

    def transposed(array: Any) -> float:
        return float(np.ascontiguousarray(array.T).sum())

    def copied_blocks(array: Any) -> float:
        result = np.empty_like(array)
        for top in range(0, size, BLOCK):
            for left in range(0, size, BLOCK):
                part = array[top : top + BLOCK, left : left + BLOCK]
                result[left : left + BLOCK, top : top + BLOCK] = part.T
        return float(result.sum())

    works: dict[str, Callable[[Any], float]] = {
        "sequential, row by row": rows,
        "strided, column by column": columns,
        "all at once": lambda array: float(array.sum()),
    }
    compare("numpy, a sum", works, matrix)
    works = {"strided": transposed, "blocked": copied_blocks}
    compare("numpy, a transposed copy and its sum", works, matrix)


def main() -> None:
    """Print all tables, those of numpy where it is installed."""
    over_lists()
    try:
        over_arrays()
    except ImportError:
        print("numpy is not installed")


if __name__ == "__main__":
    main()
