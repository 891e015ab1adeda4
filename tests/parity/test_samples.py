"""The sample of what is allocated: where, how much, whose, and when it was freed."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import math
import os
import signal
import statistics
import sys
import threading
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import pytest

from .counting import (
    counters,
    counting,
    in_thread,
    native,
    no_collections,
    run_python,
    traced,
    tracing,
)
from .programs import PROGRAMS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RING = 65_536
MOST = 262_144
EVERY_BLOCK = 1
ERRORS_ALLOWED = 4.0


@contextlib.contextmanager
def sampling(mean_bytes: int, depth: int = 8, seed: int = 1) -> Iterator[None]:
    """Count and sample."""
    with counting():
        counters.sample(mean_bytes, depth, seed)
        yield
        counters.sample(0, 1)
        assert counters.samples_live() == []


class Live(NamedTuple):
    """A live sample, with its stack."""

    birth: int
    size: int
    stack: tuple[tuple[str, str, int], ...]
    line: int
    mean: int

    @property
    def weight(self) -> float:
        """How many blocks it stands for."""
        return -1 / math.expm1(-self.size / self.mean)


def live(since: int = 0) -> list[Live]:
    """Return the live samples that were born after an event."""
    return [
        Live(birth, size, counters.samples_stack(stack), line, mean)
        for birth, size, stack, line, mean in counters.samples_live()
        if birth > since
    ]


def live_of(function: Callable[..., object], since: int = 0) -> list[Live]:
    """Return those of a function itself, or of a comprehension in it."""
    name = function.__qualname__
    return [one for one in live(since) if one.stack and one.stack[0][1].startswith(name)]


def error_of(samples: list[Live]) -> float:
    """Return the standard error of the bytes that samples stand for."""
    return math.sqrt(sum(s.size**2 * s.weight * (s.weight - 1) for s in samples))


def blocks(size: int, number: int) -> list[bytes]:
    return [bytes(size) for _ in range(number)]


# --- Estimates ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "number"), [(64, 200_000), (1_000, 50_000), (100_000, 1_000), (3_000_000, 70)]
)
def test_what_is_live_is_estimated_without_bias(size: int, number: int) -> None:
    """Whatever the size of the blocks: within a few standard errors of the truth."""
    with sampling(65_536):
        kept = blocks(size, number)
        samples = [one for one in live_of(blocks) if one.size == sys.getsizeof(kept[0])]
    expected = number * sys.getsizeof(kept[0])
    estimated = sum(one.size * one.weight for one in samples)
    assert abs(estimated - expected) <= ERRORS_ALLOWED * error_of(samples)
    assert abs(sum(one.weight for one in samples) - number) <= (
        ERRORS_ALLOWED * error_of(samples) / samples[0].size
    )


def mixed_blocks() -> list[bytes]:
    return [bytes(size) for size in [20_000] * 40 + [5_000] * 100 + [700] * 500]


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """In 95 of 100 samplings, give or take; the mean of all is the truth itself."""
    hits, misses = 0, []
    truth = 40 * 20_033 + 100 * 5_033 + 500 * 733
    kept: list[bytes] | None = None
    for seed in range(1, 201):
        with sampling(20_000, 1, seed):
            kept = mixed_blocks()
            samples = [one for one in live_of(mixed_blocks) if one.size != sys.getsizeof(kept)]
        # The list grew on the way.
        samples = [one for one in samples if one.size in {20_033, 5_033, 733}]
        estimated = sum(one.size * one.weight for one in samples)
        hits += abs(estimated - truth) <= 1.96 * error_of(samples)
        misses.append(estimated - truth)
    assert 180 <= hits <= 198
    of_mean = statistics.stdev(misses) / math.sqrt(len(misses))
    assert abs(statistics.fmean(misses)) <= ERRORS_ALLOWED * of_mean


def test_the_same_seed_draws_the_same_blocks() -> None:
    """And another one others."""

    def drawn(seed: int) -> list[int]:
        with no_collections(), sampling(1_000, 1, seed):
            level = counters.samples_sequence()
            kept = blocks(100, 2_000)
            drawn = [birth - level for birth, size, *_ in counters.samples_live() if size == 133]
            assert len(kept) == 2_000
            return sorted(drawn)

    drawn(5)
    first, again, other = drawn(5), drawn(5), drawn(6)
    assert first == again
    assert first != other


# --- Places -------------------------------------------------------------------------------------


class Maker:
    def method(self) -> bytes:
        return bytes(1_234)

    def generator(self) -> Iterator[bytes]:
        yield self.method()
        yield from (self.method() for _ in range(2))

    @property
    def attribute(self) -> list[bytes]:
        return [
            self.method(),
            *map(bytes, [1_234]),
        ]


def recursive(depth: int) -> bytes:
    return recursive(depth - 1) if depth else bytes(1_234)


def lines_of(function: Callable[..., object]) -> range:
    first = function.__code__.co_firstlineno
    return range(first, first + 8)


def test_every_sample_names_the_lines_that_allocated_it() -> None:
    """Through methods, properties, generators within generators, and what C calls."""
    maker = Maker()
    with sampling(EVERY_BLOCK):
        kept = [maker.method(), *maker.generator(), *maker.attribute]
        samples = [one for one in live() if one.size == sys.getsizeof(kept[0])]
    here = sys._getframe()
    assert len(samples) == len(kept)
    samples.sort()
    names = [[frame[1].rpartition("Maker.")[2] for frame in one.stack] for one in samples]
    me = here.f_code.co_qualname
    assert [each[: each.index(me) + 1] for each in names] == [
        ["method", me],
        ["method", "generator", me],
        *[["method", "generator.<locals>.<genexpr>", "generator", me]] * 2,
        ["method", "attribute", me],
        ["attribute", me],
    ]
    functions = {"method": Maker.method, "generator": Maker.generator}
    for one in samples:
        for file, name, line in one.stack:
            if name == me:
                assert line == test_line(here.f_code.co_firstlineno)
            short = name.rpartition("Maker.")[2]
            if short in functions:
                assert file == __file__
                assert line in lines_of(functions[short])


def test_line(first: int) -> int:
    """Return the line that `kept` is made in, above."""
    return first + 4


test_line.__test__ = False  # type: ignore[attr-defined]


def test_a_stack_that_is_deeper_than_what_is_kept() -> None:
    """It has the innermost frames; of the deepest recursion, too."""
    with sampling(EVERY_BLOCK, 5):
        kept = [recursive(depth) for depth in (2, 100, 101, 500)]
        samples = sorted(one for one in live() if one.size == sys.getsizeof(kept[0]))
    stacks = [one.stack for one in samples]
    assert [len(stack) for stack in stacks] == [5] * 4
    assert [frame[1] for frame in stacks[0]][:3] == ["recursive"] * 3
    assert {frame[1:] for frame in stacks[3]} == {("recursive", lines_of(recursive)[1])}
    assert stacks[1] == stacks[2] == stacks[3]


def test_the_same_stack_is_kept_once() -> None:
    """Its number is that of every block of it, and of none of another sampling."""
    with sampling(EVERY_BLOCK, 3):
        kept = blocks(1_000, 100)
        numbers = {stack for _, size, stack, _, _ in counters.samples_live() if size == 1_033}
        assert len(numbers) == 1
    (number,) = numbers
    assert counters.samples_stack(number) == ()
    with sampling(EVERY_BLOCK, 3):
        kept = blocks(1_000, 100)
        again = {stack for _, size, stack, _, _ in counters.samples_live() if size == 1_033}
        assert again.isdisjoint(numbers)
        assert counters.samples_stack(number) == ()
        assert counters.samples_stack(again.pop())[0][1].startswith("blocks")
    assert kept
    for unknown in (-1, 0, 2**40):
        assert counters.samples_stack(unknown) == ()


# --- Births and deaths --------------------------------------------------------------------------


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


class Allocator:
    """The raw domain, with the GIL or without."""

    def __init__(self, library: ctypes.CDLL) -> None:
        prototype = ctypes.CFUNCTYPE if library is not ctypes.pythonapi else ctypes.PYFUNCTYPE
        address, size = ctypes.c_void_p, ctypes.c_size_t
        self.malloc = prototype(address, size)(("PyMem_RawMalloc", library))
        self.realloc = prototype(address, address, size)(("PyMem_RawRealloc", library))
        self.free = prototype(None, address)(("PyMem_RawFree", library))


ALLOCATORS = {"gil": Allocator(ctypes.pythonapi), "no gil": Allocator(ctypes.CDLL(None))}
UNLIKELY = 7_777_777


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


# --- Beginning and ending -----------------------------------------------------------------------


@pytest.mark.parametrize("ends", [True, False])
def test_the_sampling_ends_while_samples_are_live(*, ends: bool) -> None:
    """Their blocks are counted to the byte when they are freed, as they are if it does not."""
    with counting(), no_collections():
        counters.sample(EVERY_BLOCK, 3, 1)
        kept = [bytearray(size) for size in range(600)]
        sizes = sum(map(sys.getsizeof, kept))
        if ends:
            counters.sample(0, 1)
        level = counters.mark()[0]
        kept.clear()
        assert 0 <= level - counters.mark()[0] - sizes < 9_000  # The list's items.
        counters.sample(0, 1)


def test_counting_ends_while_samples_are_live() -> None:
    """Then sampling ends, too."""
    counters.start()
    counters.sample(EVERY_BLOCK, 3, 1)
    kept = blocks(100, 100)
    counters.stop()
    assert counters.samples_live() == []
    kept.clear()
    counters.start()
    blocks(100, 100)
    assert counters.samples_live() == []
    counters.stop()


def test_hooks_that_somebody_takes_out() -> None:
    """Sampling goes on when they are put on again, with no samples of the time before."""
    with tracing(), counting():
        counters.sample(EVERY_BLOCK, 3, 1)
        old = blocks(2_000, 50)
    assert counters.samples_live() == []
    with contextlib.ExitStack() as stack:
        stack.enter_context(tracing())
        counters.start()
        counters.sample(EVERY_BLOCK, 3, 1)
        old = blocks(2_000, 50)
        stack.close()
        assert not counters.is_counting()
        counters.start()
        assert not [one for one in live_of(blocks) if one.size == 2_033]
        new = blocks(2_000, 50)
        assert len([one for one in live_of(blocks) if one.size == 2_033]) == 50
        level = counters.mark()[0]
        old.clear()
        assert abs(counters.mark()[0] - level) < 1_000
        new.clear()
        assert 50 * 2_033 <= level - counters.mark()[0] < 51 * 2_033
        counters.sample(0, 1)
        counters.stop()


def test_the_mean_is_changed() -> None:
    """Each sample has the mean that it was drawn by, so the estimate of all is right."""
    with sampling(50_000, 2):
        kept = blocks(1_000, 10_000)
        counters.sample(5_000, 2)
        kept += blocks(1_000, 10_000)
        samples = [one for one in live_of(blocks) if one.size == 1_033]
    by_mean: dict[int, list[Live]] = defaultdict(list)
    for one in samples:
        by_mean[one.mean].append(one)
    assert set(by_mean) == {50_000, 5_000}
    for some in by_mean.values():
        estimated = sum(one.size * one.weight for one in some)
        assert abs(estimated - 10_000 * 1_033) <= ERRORS_ALLOWED * error_of(some)


def test_threads_that_run_already_are_sampled() -> None:
    """From the first 16 KiB on that they allocate."""
    begin, done = threading.Event(), threading.Event()
    kept: list[bytes] = []

    def work() -> None:
        blocks(100, 1_000)
        done.set()
        begin.wait()
        kept.extend(blocks(1_000, 1_000))

    with counting():
        thread = threading.Thread(target=work)
        thread.start()
        done.wait()
        counters.sample(EVERY_BLOCK, 2)
        begin.set()
        thread.join()
        found = [one for one in live_of(blocks) if one.size == 1_033]
        assert 1_000 - 20 <= len(found) <= 1_000
        counters.sample(0, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((-1, 1), "mean"), ((1 << 50, 1), "mean"), ((1, 0), "frames"), ((1, 129), "frames")],
)
def test_what_is_no_mean_or_depth(arguments: tuple[int, int], message: str) -> None:
    """It is refused, and nothing is sampled."""
    with counting():
        with pytest.raises(ValueError, match=message):
            counters.sample(*arguments)
        blocks(100, 100)
        assert counters.samples_live() == []


def test_nothing_is_sampled_that_is_not_counted() -> None:
    """It says so; ending what never began is fine."""
    counters.sample(0, 1)
    with pytest.raises(RuntimeError, match="counted"):
        counters.sample(1, 1)


def test_starts_and_stops_leave_nothing_behind() -> None:
    """No reference and no memory of ours."""

    def once() -> None:
        with sampling(EVERY_BLOCK):
            kept = blocks(1_000, 100)
            for _, _, stack, _, _ in counters.samples_live():
                counters.samples_stack(stack)
            counters.samples_events(counters.samples_sequence() - 10)
        assert kept

    code = blocks.__code__
    once()
    references = sys.getrefcount(code.co_filename), sys.getrefcount(code.co_qualname)
    resident = _resident_bytes()
    for _ in range(100):
        once()
    assert (sys.getrefcount(code.co_filename), sys.getrefcount(code.co_qualname)) == references
    assert _resident_bytes() - resident < 4 << 20


def _resident_bytes() -> int:
    with contextlib.suppress(OSError), open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    return 0


# --- Exactness ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mean_bytes", [EVERY_BLOCK, 3_000])
@pytest.mark.parametrize("name", list(PROGRAMS)[1::4])
def test_a_program_is_counted_to_the_byte_while_it_is_sampled(name: str, mean_bytes: int) -> None:
    """Net, peak, and what is left."""
    program = PROGRAMS[name]
    with tracing():
        expected = traced(program)
    with sampling(mean_bytes):
        assert native(program) == expected


# --- Processes ----------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_goes_on_sampling() -> None:
    """With the samples of what it has from its parent, whatever other threads were at."""
    over = threading.Event()
    allocator = ALLOCATORS["no gil"]

    def churn() -> None:
        while not over.is_set():
            for _ in range(50):
                allocator.free(allocator.malloc(UNLIKELY))

    # What the forking thread itself allocates before it forks seldom has it wait for the lock.
    with sampling(100_000):
        threads = [threading.Thread(target=churn) for _ in range(2)]
        for thread in threads:
            thread.start()
        kept = blocks(3_000_000, 10)
        try:
            statuses = [_forked(lambda: _child_samples(kept)) for _ in range(8)]
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert statuses == [0] * 8
        assert len([one for one in live_of(blocks) if one.size == 3_000_033]) == 10


def _forked(function: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # Were the lock taken, it would wait for ever.
        try:
            function()
        except BaseException:  # The parent sees the status.
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def _child_samples(kept: list[bytes]) -> None:
    assert len([one for one in live_of(blocks) if one.size == 3_000_033]) == 10
    kept.pop()
    more = blocks(3_000_000, 10)
    assert len([one for one in live_of(blocks) if one.size == 3_000_033]) == 19
    level = counters.mark()[0]
    counters.sample(0, 1)
    more.clear()
    assert level - counters.mark()[0] >= 10 * 3_000_033


def test_sampling_begins_and_ends_while_many_threads_allocate() -> None:
    """With the GIL and without; afterwards a program is counted to the byte."""
    code = (
        "import ctypes, hashlib, sys, threading, zlib, random\n"
        "from stratatrace.probes import _counters as c\n"
        "raw = ctypes.CDLL(None)\n"
        "raw.PyMem_RawMalloc.restype = ctypes.c_void_p\n"
        "raw.PyMem_RawMalloc.argtypes = [ctypes.c_size_t]\n"
        "raw.PyMem_RawFree.argtypes = [ctypes.c_void_p]\n"
        "sys.setswitchinterval(1e-4)\n"
        "over = threading.Event()\n"
        "failed = []\n"
        "def work(seed):\n"
        "    pick = random.Random(seed)\n"
        "    kept = []\n"
        "    try:\n"
        "        while not over.is_set():\n"
        "            kept.append(bytearray(pick.randrange(2_000)))\n"
        "            kept.append([str(n) for n in range(pick.randrange(20))])\n"
        "            kept.append(zlib.compress(bytes(pick.randrange(10_000))))\n"
        "            level = c.mark()[0]\n"
        "            block = raw.PyMem_RawMalloc(500_000)\n"
        "            raw.PyMem_RawFree(block)\n"
        "            assert abs(c.mark()[0] - level) < 1_000\n"
        "            del kept[:pick.randrange(4)]\n"
        "            del kept[50:]\n"
        "    except BaseException as error:\n"
        "        failed.append(error)\n"
        "c.start()\n"
        "threads = [threading.Thread(target=work, args=(n,)) for n in range(20)]\n"
        "def toggle():\n"
        "    for n in range(100):\n"
        "        c.sample(n % 3 * 500 + 1, n % 40 + 1)\n"
        "        for sample in c.samples_live()[:50]: c.samples_stack(sample[2])\n"
        "        c.samples_events(c.samples_sequence() - 100)\n"
        "        c.sample(0, 1)\n"
        "togglers = [threading.Thread(target=toggle) for _ in range(3)]\n"
        "for t in threads + togglers: t.start()\n"
        "for t in togglers: t.join()\n"
        "over.set()\n"
        "for t in threads: t.join()\n"
        "assert not failed, failed\n"
        "assert not c.samples_live()\n"
        "c.sample(1, 3)\n"
        "level = c.mark()[0]\n"
        "kept = [bytearray(n) for n in range(1_000)]\n"
        "taken = c.mark()[0] - level\n"
        "expected = sum(map(sys.getsizeof, kept)) + sys.getsizeof(kept)\n"
        "assert -200 < taken - expected < 5_000, (taken, expected)  # A list from a free list.\n"
        "print('done')\n"
    )
    assert run_python(code) == "done\n"


def test_other_interpreters_are_sampled_without_stacks() -> None:
    """Their strings die with them; ours are the main interpreter's."""
    code = (
        "import sys\n"
        "if sys.version_info >= (3, 13):\n"
        "    import _interpreters as interpreters\n"
        "else:\n"
        "    import _xxsubinterpreters as interpreters\n"
        "from stratatrace.probes import _counters as c\n"
        "c.start()\n"
        "c.sample(1, 8)\n"
        "for isolated in ('isolated', 'legacy'):\n"
        "    if sys.version_info >= (3, 13):\n"
        "        interpreter = interpreters.create(isolated)\n"
        "    else:\n"
        "        interpreter = interpreters.create(isolated=isolated == 'isolated')\n"
        "    interpreters.run_string(interpreter, 'kept = bytearray(1_234_567)')\n"
        "    found = [s for s in c.samples_live() if s[1] == 1_234_568]\n"
        "    assert [c.samples_stack(s[2]) for s in found] == [()], found\n"
        "    interpreters.destroy(interpreter)\n"
        "    assert not [s for s in c.samples_live() if s[1] == 1_234_568]\n"
        "kept = [bytes(100) for _ in range(10)]\n"
        "c.sample(0, 1)\n"
        "print('done')\n"
    )
    assert run_python(code, "-W", "ignore") == "done\n"


@pytest.mark.parametrize("allocator", ["", "malloc", "debug"])
def test_the_interpreter_ends_while_sampling(allocator: str) -> None:
    """Everything is sampled to the very end, in threads that are cut off, too."""
    code = (
        "import sys, threading, time, zlib\n"
        "from stratatrace.probes import _counters as c\n"
        "c.start()\n"
        "c.sample(1, 20)\n"
        "class Late:\n"
        "    def __del__(self):\n"
        "        self.more = [str(n) for n in range(1_000)]\n"
        "late = Late()\n"
        "late.itself = late\n"
        "sys.late = Late()\n"
        "def churn():\n"
        "    while True:\n"
        "        [bytearray(n) for n in range(200)]\n"
        "        zlib.compress(bytes(10_000))\n"
        "threading.Thread(target=churn, daemon=True).start()\n"
        "time.sleep(0.05)\n"
        "del sys.modules['stratatrace.probes._counters'], c\n"
    )
    assert run_python(code, PYTHONMALLOC=allocator) == ""
