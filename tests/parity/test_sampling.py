"""The sampling begins, changes and ends, and what is counted is the same to the byte."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from .counting import (
    counters,
    counting,
    native,
    no_collections,
    run_python,
    traced,
    tracing,
)
from .programs import PROGRAMS
from .sampling import (
    ALLOCATORS,
    ERRORS_ALLOWED,
    EVERY_BLOCK,
    UNLIKELY,
    Live,
    blocks,
    error_of,
    live_of,
    sampling,
)

if TYPE_CHECKING:
    from collections.abc import Callable

# --- Beginning and ending ----------------------------------------------------------------------


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


# --- Exactness ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mean_bytes", [EVERY_BLOCK, 3_000])
@pytest.mark.parametrize("name", list(PROGRAMS)[1::4])
def test_a_program_is_counted_to_the_byte_while_it_is_sampled(name: str, mean_bytes: int) -> None:
    """Net, peak, and what is left."""
    program = PROGRAMS[name]
    with tracing():
        expected = traced(program)
    with sampling(mean_bytes):
        assert native(program) == expected


# --- Processes ---------------------------------------------------------------------------------


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
