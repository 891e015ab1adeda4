"""Starts, stops, forks, other tools' hooks, and the end of the interpreter."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import sys
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from .counting import counters, counting, native, no_collections, run_python, tracing
from .programs import PROGRAMS

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1 << 20


def takes(size: int) -> bool:
    """Return whether a block of that size is counted, once."""
    with no_collections():
        before, _ = counters.mark()
        block = bytearray(size)
        after, _ = counters.mark()
        # The tuple that `mark` returns may come from a free list or not.
        return 0 <= after - before - sys.getsizeof(block) < 200


def test_starts_and_stops_are_idempotent() -> None:
    """The last one wins, however many there were."""
    counters.stop()
    for _ in range(10):
        counters.start()
        counters.start()
        assert counters.is_counting()
        assert takes(10_000)
        counters.stop()
        counters.stop()
        assert not counters.is_counting()
        assert not takes(10_000)


def test_a_stop_gives_the_memory_of_the_map_back() -> None:
    """Nearly all of it: the branches of the tree stay."""
    with counting():
        kept = [bytes(40) for _ in range(200_000)]
        held = counters.held_bytes()
        assert held > len(kept) * 4
    assert counters.held_bytes() < held / 2


def test_the_map_takes_less_than_8_percent_of_what_it_tracks() -> None:
    """Of a heap of small objects, the worst there is."""
    code = (
        "from stratatrace.probes import _counters as c\n"
        "c.start()\n"
        "kept = [(n,) for n in range(10**9, 10**9 + 500_000)]\n"
        "print(c.held_bytes() / c.mark()[0])\n"
    )
    assert float(run_python(code)) < 0.08


def test_tracemalloc_above() -> None:
    """Whichever of the two ends first: both count while they are on, and neither is taken out."""
    for _ in range(3):
        counters.start()
        tracemalloc.start()
        assert _traces(100_000)
        counters.stop()
        assert not counters.is_counting()
        assert not takes(100_000)
        assert _traces(100_000)
        counters.start()
        assert counters.is_counting()
        assert _traces(100_000)
        tracemalloc.stop()
        assert counters.is_counting()
        assert takes(100_000)
        counters.stop()
        assert not takes(100_000)


def test_tracemalloc_below() -> None:
    """It takes our hooks out when it stops, which is noticed, and they can be put on again."""
    for _ in range(3):
        tracemalloc.start()
        counters.start()
        assert takes(100_000)
        assert _traces(100_000)
        counters.stop()
        assert not takes(100_000)
        assert _traces(100_000)
        counters.start()
        assert takes(100_000)
        old = [bytearray(100) for _ in range(1_000)]
        tracemalloc.stop()
        assert not counters.is_counting()
        assert not takes(100_000)
        old.clear()
        new = [bytearray(10) for _ in range(1_000)]
        counters.start()
        assert counters.is_counting()
        assert takes(100_000)
        level, _ = counters.mark()
        new.clear()
        assert abs(counters.mark()[0] - level) < 1_000
        counters.stop()
        assert not takes(100_000)


def _traces(size: int) -> bool:
    before, _ = tracemalloc.get_traced_memory()
    block = bytearray(size)
    after, _ = tracemalloc.get_traced_memory()
    del block
    return size <= after - before < size + 1_000


def test_hooks_below_somebody_elses_are_not_put_on_twice() -> None:
    """They stay in the chain as they are, and count once when they are started again."""
    counters.start()
    with tracing():
        for _ in range(10):
            counters.stop()
            counters.start()
        level, _ = counters.mark()
        block = bytearray(MIB)
        assert 0 <= counters.mark()[0] - level - MIB < 1_000
    assert takes(MIB)
    counters.stop()
    del block


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_goes_on_counting() -> None:
    """With the numbers of the thread that has forked."""

    def child() -> None:
        after, _ = counters.mark()
        assert abs(after - level) < 200_000
        assert takes(300_000)
        with no_collections():
            before, _ = counters.mark()
            size = sys.getsizeof(kept.pop())
            assert abs(counters.mark()[0] - before + size) < 200
        counters.stop()
        counters.start()
        assert takes(1_000)

    with counting():
        kept = [bytearray(5 * MIB)]
        level, _ = counters.mark()
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join()
        assert process.exitcode == 0


@pytest.mark.parametrize("allocator", ["", "malloc", "debug", "malloc_debug", "pymalloc_debug"])
def test_every_allocator_of_python(allocator: str) -> None:
    """What is counted is what was asked for, whoever answers it."""
    code = (
        "import sys\n"
        "from stratatrace.probes import _counters as c\n"
        "c.start()\n"
        "for size in (0, 10, 400, 600, 100_000):\n"
        "    for _ in range(2):\n"
        "        level = c.mark()[0]\n"
        "        block = bytearray(size)\n"
        "        taken = c.mark()[0] - level\n"
        "        del block\n"
        "    assert taken == sys.getsizeof(bytearray(size)), (size, taken)\n"
        "c.stop()\n"
        "print('done')\n"
    )
    assert run_python(code, PYTHONMALLOC=allocator) == "done\n"


@pytest.mark.parametrize("options", [[], ["-X", "tracemalloc"], ["-X", "dev"]])
def test_the_interpreter_ends_while_counting(options: list[str]) -> None:
    """Hooks run to the very end, when the module is long gone."""
    code = (
        "import sys, threading, time\n"
        "from stratatrace.probes import _counters as c\n"
        "c.start()\n"
        "class Late:\n"
        "    def __del__(self):\n"
        "        self.more = [str(n) for n in range(1_000)]\n"
        "late = Late()\n"
        "late.itself = late\n"
        "sys.late = Late()\n"
        "def churn():\n"
        "    while True:\n"
        "        [bytearray(n) for n in range(200)]\n"
        "threading.Thread(target=churn, daemon=True).start()\n"
        "time.sleep(0.05)\n"
        "del sys.modules['stratatrace.probes._counters'], c\n"
    )
    for _ in range(3):
        assert run_python(code, *options) == ""


def test_other_interpreters_are_counted_and_cannot_import_it() -> None:
    """The counters are the process's own; it says so."""
    code = (
        "import sys\n"
        "if sys.version_info >= (3, 13):\n"
        "    import _interpreters as interpreters\n"
        "else:\n"
        "    import _xxsubinterpreters as interpreters\n"
        "from stratatrace.probes import _counters as c\n"
        "c.start()\n"
        "for isolated in ('isolated', 'legacy'):\n"
        "    if sys.version_info >= (3, 13):\n"
        "        interpreter = interpreters.create(isolated)\n"
        "    else:\n"
        "        interpreter = interpreters.create(isolated=isolated == 'isolated')\n"
        "    program = '''if True:\n"
        "        import sys\n"
        "        from importlib.util import module_from_spec, spec_from_file_location\n"
        "        spec = spec_from_file_location('_counters', FILE)\n"
        "        try:\n"
        "            spec.loader.exec_module(module_from_spec(spec))\n"
        "        except ImportError as error:\n"
        "            assert 'main interpreter' in str(error), error\n"
        "        else:\n"
        "            raise AssertionError('imported')\n"
        "        sys.kept = bytearray(1_000_000)\n"
        "    '''.replace('FILE', repr(c.__file__))\n"
        "    level = c.mark()[0]\n"
        "    failure = interpreters.run_string(interpreter, program)\n"
        "    assert failure is None, failure\n"
        "    assert c.mark()[0] - level > 1_000_000\n"
        "    interpreters.destroy(interpreter)\n"
        "    assert c.mark()[0] - level < 1_000_000\n"
        "print('done')\n"
    )
    assert run_python(code, "-W", "ignore") == "done\n"


@pytest.mark.parametrize("name", ["json_loads", "json_dumps", "instances"])
def test_marking_changes_nothing(name: str) -> None:
    """However often it is looked, a program takes what it takes, and nothing piles up."""
    program: Callable[[], object] = PROGRAMS[name]
    with counting():
        expected = native(program)
        with no_collections():
            level, _ = counters.mark()
            counts = counters.counts()
            for _ in itertools.repeat(None, 10_000):
                counters.mark()
                counters.counts()
                counters.free_list_bytes()
            assert abs(counters.mark()[0] - level) < 500
            # Only the tuples, where they come from no free list.
            assert counters.counts()[1] - counts[1] < 10
        assert native(program) == expected
