"""Blocks of the sample: whose they are, when they die, and how many there is room for."""

from __future__ import annotations

import itertools
import sys

import pytest

from .counting import (
    counters,
    in_thread,
    no_collections,
)
from .sampling import (
    ALLOCATORS,
    ERRORS_ALLOWED,
    EVERY_BLOCK,
    UNLIKELY,
    blocks,
    error_of,
    live,
    live_of,
    sampling,
)

RING = 65_536
MOST = 262_144


def test_what_is_freed_is_in_the_sample_no_more() -> None:
    """Its death is told, with where it was born."""
    with sampling(EVERY_BLOCK), no_collections():
        level = counters.samples_sequence()
        kept = blocks(5_000, 20)
        born = live_of(blocks, level)
        assert len([one for one in born if one.size == 5_033]) == 20
        middle, before = counters.samples_sequence(), counters.mark()[0]
        del kept[5:]
        assert len([one for one in live_of(blocks, level) if one.size == 5_033]) == 5
        events = counters.samples_events(middle)
    assert events is not None
    deaths = [event for event in events if event[1] and event[3] == 5_033]
    assert len(deaths) == 15
    assert {birth for _, _, birth, *_ in deaths} <= {one.birth for one in born}
    assert [number for number, *_ in events] == list(range(middle + 1, middle + 1 + len(events)))
    levels = [level for *_, level in deaths]
    assert [a - b for a, b in itertools.pairwise(levels)] == [5_033] * 14
    assert before - levels[-1] >= 15 * 5_033


@pytest.mark.parametrize("name", ALLOCATORS)
def test_blocks_of_threads_without_the_gil_have_no_stack(name: str) -> None:
    """Those with it have theirs."""
    allocator = ALLOCATORS[name]
    with sampling(EVERY_BLOCK):
        block = allocator.malloc(UNLIKELY)
        (sample,) = (one for one in live() if one.size == UNLIKELY)
        assert bool(sample.stack) == (name == "gil")
        allocator.free(block)
        assert not [one for one in live() if one.size == UNLIKELY]


@pytest.mark.parametrize("name", ALLOCATORS)
@pytest.mark.parametrize(("old_size", "new_size"), [(10, 500), (500, 10), (252, 253), (9_000, 7)])
def test_a_reallocation_is_a_death_and_a_birth(name: str, old_size: int, new_size: int) -> None:
    """By its whole new size, wherever it lies."""
    allocator = ALLOCATORS[name]
    with sampling(EVERY_BLOCK), no_collections():
        block = allocator.malloc(old_size)
        before = counters.samples_sequence()
        block = allocator.realloc(block, new_size)
        events = counters.samples_events(before)
        level = counters.mark()[0]
        allocator.free(block)
        assert 0 <= level - counters.mark()[0] - new_size < 300
    assert events is not None
    sizes = [(died, size) for _, died, _, size, *_ in events]
    assert sizes.index((True, old_size)) < sizes.index((False, new_size))


def test_a_reallocation_that_fails_leaves_a_block_of_the_right_size() -> None:
    """Which is in the sample no more, and counted as ever."""
    allocator = ALLOCATORS["gil"]
    for size in (100, 1_000):
        with sampling(EVERY_BLOCK), no_collections():
            block = allocator.malloc(size)
            assert allocator.realloc(block, 1 << 62) is None
            level = counters.mark()[0]
            allocator.free(block)
            assert 0 <= level - counters.mark()[0] - size < 300


def test_arrays_are_in_the_sample() -> None:
    """And out of it when they are freed, resized or not."""
    np = pytest.importorskip("numpy")

    def arrays() -> list[object]:
        return [np.empty(10_000, dtype=np.uint8) for _ in range(10)]

    with sampling(EVERY_BLOCK):
        kept = arrays()
        data = [one for one in live_of(arrays) if one.size == 10_000]
        assert len(data) == 10
        kept[0].resize(20_000, refcheck=False)  # type: ignore[attr-defined]
        assert len([one for one in live_of(arrays) if one.size == 10_000]) == 9
        assert len([one for one in live() if one.size == 20_000]) == 1
        kept.clear()
        assert not [one for one in live() if one.size in {10_000, 20_000}]


def test_what_one_thread_allocates_and_another_frees() -> None:
    """Its death is on the line of who freed it."""
    with sampling(EVERY_BLOCK):
        level = counters.samples_sequence()
        kept, line = in_thread(lambda: (blocks(4_000, 10), counters.samples_line()))
        mine = counters.samples_line()
        assert line != mine
        samples = [one for one in live(level) if one.size == 4_033]
        assert len(samples) == 10
        middle = counters.samples_sequence()
        kept.clear()
        events = counters.samples_events(middle)
    assert events is not None
    died = [line for _, died, _, size, _, line, _, _ in events if died and size == 4_033]
    assert died == [mine] * 10


def test_each_line_has_its_own_samples() -> None:
    """Those of a task's steps are told from those of the thread that runs them."""
    heap = counters.HeapAccount()
    with sampling(EVERY_BLOCK):
        mine, line = counters.samples_line(), heap.line()
        kept = [bytes(3_000), heap.run(line, bytes, 3_000), bytes(3_000)]
        there = heap.run(line, counters.samples_line)
        samples = sorted(one for one in live() if one.size == sys.getsizeof(kept[0]))
        assert counters.samples_line() == mine != there
    assert [one.line for one in samples] == [mine, there, mine]


def test_our_own_work_is_in_no_sample() -> None:
    """Nor does it move what is drawn of the program's."""
    heap = counters.HeapAccount()

    def drawn(work: int) -> list[int]:
        with sampling(10_000, 1), no_collections():
            kept = []
            for _ in range(300):
                held = heap.hold()
                kept.append(bytes(work))
                heap.unhold(held)
                kept.append(bytes(1_000))
            assert not [one for one in live() if one.size == 33 + work]
            born = sorted(birth for birth, size, *_ in counters.samples_live() if size == 1_033)
            assert born
            return [birth - born[0] for birth in born]

    drawn(7_000)
    assert drawn(7_000) == drawn(70_000)


def test_what_line_a_thread_is_on_does_not_move_what_is_drawn() -> None:
    """The sample is as far off as it was, whose ever the bytes are in between."""
    heap = counters.HeapAccount()
    with sampling(20_000, 3):
        lines = [heap.line() for _ in range(10)]
        kept = [heap.run(line, blocks, 1_000, 20) for _ in range(50) for line in lines]
        samples = [one for one in live_of(blocks) if one.size == 1_033]
    assert kept
    estimated = sum(one.size * one.weight for one in samples)
    assert abs(estimated - 10_000 * 1_033) <= ERRORS_ALLOWED * error_of(samples)
    assert len({one.line for one in samples}) == 10


def test_events_that_were_overwritten_are_not_made_up() -> None:
    """Nor those of an earlier sampling, nor those to come."""
    with sampling(EVERY_BLOCK, 1):
        first = counters.samples_sequence()
        for _ in range(RING):
            bytes(100)
        newest = counters.samples_sequence()
        assert newest - first >= 2 * RING
        assert counters.samples_events(first) is None
        assert counters.samples_events(newest - RING - 1_000) is None
        with no_collections():
            middle = counters.samples_sequence()
            assert len(counters.samples_events(middle - RING + 5_000) or ()) >= RING - 5_000
        assert counters.samples_events(counters.samples_sequence() + 1_000) == []
    assert counters.samples_events(newest) is None
    assert counters.samples_events(-1) is None


def test_there_is_room_for_so_many_and_the_rest_is_told() -> None:
    """What is not in the sample is counted as any other block."""
    with sampling(EVERY_BLOCK, 1), no_collections():
        kept = [bytes(8) for _ in range(MOST)]
        before = counters.samples_dropped()
        more = [bytes(10) for _ in range(1_000)]
        assert counters.samples_dropped() - before >= 1_000
        assert MOST - 10 < len(counters.samples_live()) <= MOST
        level = counters.mark()[0]
        more.clear()
        assert level - counters.mark()[0] >= 1_000 * 43
    with sampling(EVERY_BLOCK, 1):
        assert counters.samples_dropped() == 0
        assert kept
