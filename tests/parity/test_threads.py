"""Each thread's numbers are its own, wherever its memory comes from and goes to."""

from __future__ import annotations

import ctypes
import gc
import hashlib
import sys
import threading
import zlib
from typing import TYPE_CHECKING

import pytest

from .counting import (
    Taken,
    counters,
    counting,
    in_thread,
    run_python,
    traced,
    tracing,
)
from .programs import PROGRAMS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIB = 1 << 20


@pytest.fixture
def count() -> Iterator[None]:
    """Count while the test runs."""
    with counting():
        yield


@pytest.mark.parametrize("name", ["json_loads", "bytes_of_every_small_size", "dicts_that_grow"])
def test_a_program_beside_busy_threads(name: str) -> None:
    """It takes what it takes alone, to the byte, which a count of the whole process cannot tell."""
    program = PROGRAMS[name]
    with tracing():
        expected = traced(program)
    over = threading.Event()

    def churn() -> None:
        while not over.is_set():
            PROGRAMS["instances"]()

    threads = [threading.Thread(target=churn) for _ in range(3)]
    with counting():
        for thread in threads:
            thread.start()
        try:
            # Free lists belong to all threads, and so do the few objects that they save.
            taken = [_once(program) for _ in range(30)]
        finally:
            over.set()
            for thread in threads:
                thread.join()
    nets = sorted(net for net, _, _ in taken)
    assert abs(nets[len(nets) // 2] - expected.net_bytes) <= 0.02 * expected.net_bytes


def _once(program: Callable[[], object]) -> Taken:
    before, _ = counters.mark()
    kept = program()
    after, peak = counters.mark()
    del kept
    return Taken(after - before, peak - before)


@pytest.mark.usefixtures("count")
def test_what_another_thread_frees_is_charged_to_it() -> None:
    """One has taken it for good, the other stands below zero: together they have nothing."""
    blocks = [bytearray(1_000) for _ in range(500)]
    sizes = sum(map(sys.getsizeof, blocks))

    def drop() -> int:
        before, _ = counters.mark()
        blocks.clear()
        return counters.mark()[0] - before

    level, _ = counters.mark()
    freed = in_thread(drop)
    assert abs(freed + sizes) < 5_000
    assert abs(counters.mark()[0] - level) < 2_000  # What a thread costs that starts it.


@pytest.mark.usefixtures("count")
def test_a_new_thread_begins_at_zero() -> None:
    """Whatever a thread before it, of the same identity perhaps, has counted."""

    def look() -> tuple[int, tuple[int, ...]]:
        first = counters.mark()[0], counters.counts()
        kept.append(bytearray(MIB))
        return first

    kept: list[bytearray] = []
    for _ in range(20):
        level, counts = in_thread(look)
        assert abs(level) < 5_000
        assert counts[0] < 20_000


@pytest.mark.usefixtures("count")
def test_threads_that_die_leave_nothing_behind() -> None:
    """No memory of ours is for a thread."""

    def work() -> None:
        for _ in range(5):
            zlib.compress(bytes(50_000))
            hashlib.sha256(bytes(50_000)).digest()

    for _ in range(5):
        in_thread(work)
    held = counters.held_bytes()
    for _ in range(300):
        in_thread(work)
    assert counters.held_bytes() - held < MIB


@pytest.mark.usefixtures("count")
@pytest.mark.skipif(sys.platform != "linux", reason="starts threads by the C library's own means")
def test_threads_that_python_does_not_know(request: pytest.FixtureRequest) -> None:
    """They allocate in the raw domain without the GIL, and some die with blocks of theirs live."""
    library = ctypes.CDLL(None)
    library.PyMem_RawMalloc.restype = ctypes.c_void_p
    library.PyMem_RawMalloc.argtypes = [ctypes.c_size_t]
    library.PyMem_RawFree.argtypes = [ctypes.c_void_p]
    library.pthread_create.argtypes = [ctypes.c_void_p] * 4
    library.pthread_join.argtypes = [ctypes.c_ulong, ctypes.c_void_p]
    malloc = ctypes.cast(library.PyMem_RawMalloc, ctypes.c_void_p)
    level, _ = counters.mark()
    gc.disable()  # What it finds of other tests would be in the difference.
    request.addfinalizer(gc.enable)
    for size in (1, 100, 253, 254, 5_000, MIB) * 20:
        thread, block = ctypes.c_ulong(), ctypes.c_void_p()
        # The function of the thread is PyMem_RawMalloc itself, and the block what it returns.
        assert library.pthread_create(ctypes.byref(thread), None, malloc, size) == 0
        assert library.pthread_join(thread, ctypes.byref(block)) == 0
        assert block.value
        before, _ = counters.mark()
        library.PyMem_RawFree(block)
        after, _ = counters.mark()
        assert -size <= after - before < 500 - size
    assert abs(level - counters.mark()[0]) > 100 * MIB // 6


def test_starts_and_stops_while_hundreds_of_threads_allocate() -> None:
    """None crashes, and afterwards a program is counted to the byte."""
    code = (
        "import hashlib, sys, threading, zlib, random\n"
        "from stratatrace.probes import _counters as c\n"
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
        "            hashlib.sha256(bytes(5_000)).digest()\n"
        "            del kept[:pick.randrange(4)]\n"
        "            del kept[50:]\n"
        "            c.mark()\n"
        "            over.wait(0.005)\n"
        "    except BaseException as error:\n"
        "        failed.append(error)\n"
        "def toggle():\n"
        "    for _ in range(200):\n"
        "        c.start(); bytearray(300); c.mark(); c.stop()\n"
        "threads = [threading.Thread(target=work, args=(n,)) for n in range(200)]\n"
        "togglers = [threading.Thread(target=toggle) for _ in range(4)]\n"
        "for t in threads + togglers: t.start()\n"
        "for t in togglers: t.join()\n"
        "over.set()\n"
        "for t in threads: t.join()\n"
        "assert not failed, failed\n"
        "assert not c.is_counting()\n"
        "c.start()\n"
        "level = c.mark()[0]\n"
        "kept = [bytearray(n) for n in range(1_000)]\n"
        "taken = c.mark()[0] - level\n"
        "expected = sum(map(sys.getsizeof, kept)) + sys.getsizeof(kept)\n"
        "assert 0 <= taken - expected < 5_000, (taken, expected)  # The module's names.\n"
        "print('done')\n"
    )
    assert run_python(code) == "done\n"
