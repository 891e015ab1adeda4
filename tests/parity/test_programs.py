"""The same programs, by tracemalloc and by the native counters: equal to the byte."""

from __future__ import annotations

import ctypes
import functools
import itertools
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from .counting import (
    Taken,
    compared,
    counters,
    counting,
    native,
    no_collections,
    settled,
    traced,
    tracing,
)
from .programs import PROGRAMS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ALLOCATORS = ("PyMem_Raw", "PyMem_", "PyObject_")
# Each side of what the map of sizes and pymalloc treat in different ways.
SIZES = (0, 1, 2, 15, 16, 17, 252, 253, 254, 255, 256, 511, 512, 513, 4_096, 1 << 17, 40_000_000)


@pytest.fixture
def count() -> Iterator[None]:
    """Count while the test runs."""
    with counting():
        yield


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_a_program(program: Callable[[], object]) -> None:
    """Net and peak are those of tracemalloc."""
    expected, taken = compared(program)
    assert taken == expected


@pytest.mark.parametrize("program", list(PROGRAMS.values())[::5], ids=list(PROGRAMS)[::5])
def test_a_program_while_tracemalloc_traces_below(program: Callable[[], object]) -> None:
    """Started before us, it sees the same blocks at the same time."""
    with tracing():
        expected = traced(program)
        with counting():
            assert native(program) == expected
            assert traced(program) == expected


@pytest.mark.parametrize("program", list(PROGRAMS.values())[::5], ids=list(PROGRAMS)[::5])
def test_a_program_while_tracemalloc_traces_above(program: Callable[[], object]) -> None:
    """Started after us, it counts as ever, and takes memory for its traces, which we count."""
    expected, taken = compared(program)
    with counting(), tracing():
        assert traced(program) == expected
        assert native(program).net_bytes >= expected.net_bytes
    with counting():
        assert native(program) == taken


class Allocator:
    """The functions of one domain of the C API."""

    def __init__(self, prefix: str) -> None:
        # The raw domain is called without the GIL.
        raw = prefix == "PyMem_Raw"
        library = ctypes.CDLL(None) if raw else ctypes.pythonapi
        prototype = ctypes.CFUNCTYPE if raw else ctypes.PYFUNCTYPE
        address, size = ctypes.c_void_p, ctypes.c_size_t
        self.malloc = prototype(address, size)((f"{prefix}Malloc", library))
        self.calloc = prototype(address, size, size)((f"{prefix}Calloc", library))
        self.realloc = prototype(address, address, size)((f"{prefix}Realloc", library))
        self.free = prototype(None, address)((f"{prefix}Free", library))

    def take(
        self, request: Callable[[int | None], int], *, before: Callable[[], int | None]
    ) -> Taken:
        """Return what a request takes, for a block that was there *before* it, ctypes included."""

        def look() -> Taken:
            block = before()
            level, _ = counters.mark()
            block = request(block)
            after, peak = counters.mark()
            self.free(block)
            block = None
            left, _ = counters.mark()
            return Taken(after - level, peak - level, left - level)

        return settled(look)


@pytest.fixture(params=ALLOCATORS)
def allocator(request: pytest.FixtureRequest) -> Allocator:
    """Return the functions of each domain."""
    return Allocator(request.param)


def no_block() -> None:
    """Have no block before a request."""


@pytest.mark.usefixtures("count")
@pytest.mark.parametrize("way", ["malloc", "calloc", "realloc"])
def test_a_block_of_the_c_api(allocator: Allocator, way: str) -> None:
    """Each way counts the size that was asked for, whatever the allocator makes of it."""
    first: dict[str, list[int | None]] = {"malloc": [], "calloc": [1], "realloc": [None]}
    request = functools.partial(getattr(allocator, way), *first[way])

    def taking(size: int) -> Taken:
        return allocator.take(lambda _: request(size), before=no_block)

    with no_collections():
        one = taking(1)
        for size in SIZES:
            taken = taking(size)
            assert taken.net_bytes - one.net_bytes == size - 1
            assert taken.left_bytes == one.left_bytes
            assert 0 <= taken.peak_bytes - taken.net_bytes < 400


@pytest.mark.usefixtures("count")
def test_a_reallocation(allocator: Allocator) -> None:
    """In place or moved: the old size goes, the new one comes, and the peak never has both."""

    def taking(old_size: int, new_size: int) -> Taken:
        return allocator.take(
            lambda old: allocator.realloc(old, new_size), before=lambda: allocator.malloc(old_size)
        )

    with no_collections():
        one = taking(1, 1)
        for old_size, new_size in itertools.product(SIZES[:-1], SIZES[:-1]):
            taken = taking(old_size, new_size)
            assert taken.net_bytes - one.net_bytes == new_size - old_size
            assert 0 <= taken.peak_bytes - max(0, new_size - old_size) < 400


@pytest.mark.usefixtures("count")
def test_the_four_counts(allocator: Allocator) -> None:
    """Bytes and blocks, allocated and freed; a reallocation is one of each."""

    def counted(size: int) -> tuple[int, ...]:
        before = counters.counts()
        block = allocator.malloc(size)
        block = allocator.realloc(block, 10 * size)
        allocator.free(block)
        allocator.free(allocator.calloc(3, size))
        after = counters.counts()
        return tuple(now - then for now, then in zip(after, before, strict=True))

    with no_collections():
        for _ in range(5):
            least, most = counted(100), counted(1_100)
    assert most[0] - least[0] == most[2] - least[2] == 14 * 1_000
    assert (most[1], most[3]) == (least[1], least[3])


# So many blocks that a byte of each would be more than Python takes for the loop itself.
MANY = 1_000
LOOP_BYTES = 500


@pytest.mark.parametrize("size", [size for size in SIZES if 0 < size < 10_000])
def test_blocks_from_before_the_start_are_untracked(allocator: Allocator, size: int) -> None:
    """Freeing one counts nothing; reallocating one counts all of its new size."""
    old = [allocator.malloc(size) for _ in range(MANY)]
    new = [allocator.malloc(size) for _ in range(MANY)]
    with counting(), no_collections():
        level, _ = counters.mark()
        for block in old:
            allocator.free(block)
        assert abs(counters.mark()[0] - level) < LOOP_BYTES
        for position, block in enumerate(new):
            before, _ = counters.mark()
            moved = allocator.realloc(block, 7_000)
            after, _ = counters.mark()
            new[position] = moved
            assert 7_000 <= after - before < 7_000 + LOOP_BYTES
        for block in new:
            allocator.free(block)
        new.clear()
        assert abs(counters.mark()[0] - level) < LOOP_BYTES


def test_blocks_from_before_a_stop_are_untracked(allocator: Allocator) -> None:
    """What was counted, and freed and used again while nobody looked, is never taken off."""
    sizes = [size for size in SIZES if size < 10_000] * MANY
    with counting():
        old = [allocator.malloc(size) for size in sizes]
    for block in old:
        allocator.free(block)
    again = [allocator.malloc(size) for size in reversed(sizes)]
    with counting(), no_collections():
        level, _ = counters.mark()
        for block in again:
            allocator.free(block)
        assert abs(counters.mark()[0] - level) < LOOP_BYTES


def test_a_block_of_no_bytes_is_a_block() -> None:
    """It is one allocation and one free of nothing, as it has a trace of tracemalloc's."""
    allocator = Allocator("PyMem_")
    with tracing():
        before = len(tracemalloc.take_snapshot().traces)
        blocks = [allocator.malloc(0) for _ in range(1_000)]
        assert len(tracemalloc.take_snapshot().traces) - before >= 1_000
        for block in blocks:
            allocator.free(block)
    with counting():
        _, allocations, _, frees = counters.counts()
        for _ in range(1_000):
            allocator.free(allocator.malloc(0))
        _, allocations_after, _, frees_after = counters.counts()
    assert allocations_after - allocations >= 1_000
    # All that was taken is gone again, but for what Python has made for itself.
    assert abs((allocations_after - allocations) - (frees_after - frees)) < 100
