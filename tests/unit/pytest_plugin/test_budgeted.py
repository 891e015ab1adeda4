"""Tests with a budget, and blocks of them: which fail, and what is said of those."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

import pytest

from stratatrace.probes import native_obstacle

if TYPE_CHECKING:
    from unit.pytest_plugin.conftest import Run

BUDGETED = """
    import pytest, unittest

    @pytest.mark.memory_budget("1MB")
    def test_over():
        bytearray(5_000_000)

    @pytest.mark.memory_budget("10MB")
    def test_under():
        bytearray(5_000_000)

    @pytest.fixture
    def made():
        return bytearray(5_000_000)

    @pytest.mark.memory_budget("1MB")
    def test_fixture(made):
        pass

    @pytest.mark.memory_budget("1MB")
    def test_own_failure():
        assert bytearray(5_000_000) is None

    @pytest.mark.xfail(strict=True)
    @pytest.mark.memory_budget("1MB")
    def test_expected():
        bytearray(5_000_000)

    @pytest.mark.memory_budget("1MB")
    def test_skipped():
        bytearray(5_000_000)
        pytest.skip("no")

    @pytest.mark.memory_budget("1MB")
    class TestClass:
        @pytest.mark.parametrize("size", [1, 2_000_000])
        def test_sized(self, size):
            bytearray(size)

        @pytest.mark.memory_budget("10MB")
        def test_closest(self):
            bytearray(5_000_000)

    class TestUnit(unittest.TestCase):
        @pytest.mark.memory_budget("1MB")
        def test_over(self):
            bytearray(5_000_000)

        @pytest.mark.memory_budget("1MB")
        def test_own_failure(self):
            self.assertIsNone(len(bytearray(5_000_000)))
"""


def test_who_breaks_a_budget_fails(run: Run, probe: str) -> None:
    """The call counts, of whatever kind of test; a failure of its own is told, and no budget."""
    result = run(BUDGETED, "-rA")
    result.assert_outcomes(passed=4, failed=5, skipped=1, xfailed=1)
    result.stdout.fnmatch_lines(
        [
            "*_ test_over _*",
            "memory budget: heap peak 4.8 MiB is over the budget of 976.6 KiB by 3.8 MiB",
            "*- memory budget -*",
            "heap peak * 4.8 MiB   budget 976.6 KiB",
            f"heap by {probe}: *",
            "E *assert bytearray*",
            "*_ TestUnit.test_over _*",
            "memory budget: heap peak 4.8 MiB *",
            "*_ TestUnit.test_own_failure _*",
            "E *AssertionError: 5000000 is not None",
        ]
    )
    assert sum("- memory budget -" in line for line in result.outlines) == 3
    failed = ("test_over", "TestClass::test_sized[[]2000000[]]", "TestUnit::test_over")
    for name in failed:
        result.stdout.fnmatch_lines([f"FAILED test_it.py::{name} - Failed: memory budget*"])
    for name in ("test_own_failure", "TestUnit::test_own_failure"):
        result.stdout.no_fnmatch_line(f"FAILED test_it.py::{name} - Failed: memory budget*")


def test_resident_memory_has_a_budget_too(run: Run) -> None:
    """By how much the process may rise; the budget of the heap is one more."""
    result = run("""
        import mmap, pytest

        def touch():
            with mmap.mmap(-1, 60 * 2**20) as memory:
                for page in range(0, len(memory), mmap.PAGESIZE):
                    memory[page] = 1

        @pytest.mark.memory_budget("rss_peak=30MB")
        def test_over():
            touch()

        @pytest.mark.memory_budget("1KB", rss_peak="30MB")
        def test_both():
            held = bytearray(5_000)
            touch()

        @pytest.mark.memory_budget("1MB", rss_peak="100MB")
        def test_under():
            touch()
    """)
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(
        [
            "memory budget: RSS peak growth * MiB is over the budget of 28.6 MiB by *",
            "memory budget: heap peak * is over *; RSS peak growth * MiB is over *",
        ]
    )


def test_the_largest_lines_are_told(run: Run, probe: str) -> None:
    """By the native probe those that held the peak; else those that hold what is left."""
    result = run("""
        import pytest

        kept = []

        @pytest.mark.memory_budget("1MB")
        def test_over():
            kept.append(bytearray(4_000_000))
            let_go = [bytearray(1_000) for _ in range(8_000)]
            del let_go
            bytearray(2_000_000)
    """)
    lines = result.outlines
    heading = (
        "held at the peak, by a sample:"
        if probe == "native"
        else "alive when the test had ended, in the whole process:"
    )
    told = lines[lines.index(heading) + 1 :]
    if probe == "native":
        result.stdout.re_match_lines([r" +\d+\.\d MiB +.*test_it\.py:8 test_over"])
        told = told[1:]
    assert "3.8 MiB" in told[0]
    assert "test_it.py:7" in told[0]
    assert "MiB" not in told[1]


def test_a_budget_that_nobody_can_hold_a_test_to_is_not_passed_over(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says why."""
    monkeypatch.setenv("STRATATRACE_NO_EXTENSION", "1")
    result = run("""
        import pytest, tracemalloc

        @pytest.mark.memory_budget("100MB")
        def test_stops_it():
            tracemalloc.stop()
    """)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["memory budget: heap peak could not be measured: somebody else*"])


def test_nonsense_fails_the_collection(run: Run) -> None:
    """It is told with the test, before any runs."""
    result = run("""
        import pytest

        class TestClass:
            @pytest.mark.memory_budget("50 bananas")
            def test_one(self):
                pass

            @pytest.mark.no_leaks(iterations=0)
            def test_two(self):
                pass

            @pytest.mark.no_leaks(loops=3)
            def test_three(self):
                pass
    """)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "*_ ERROR collecting test_it.py _*",
            "test_one: '50 bananas' is not a size: *",
            "test_two: iterations of no_leaks() is 1 or more, and 0 is not",
            "test_three: no_leaks() was given 'loops': write *",
        ]
    )


def test_nonsense_that_comes_later_fails_the_test(run: Run, pytester: pytest.Pytester) -> None:
    """A conftest may mark tests when all are collected."""
    pytester.makeconftest("""
        import pytest

        def pytest_collection_modifyitems(items):
            items[0].add_marker(pytest.mark.memory_budget("50 bananas"))
            items[1].add_marker(pytest.mark.memory_budget("1MB"))
    """)
    result = run("""
        def test_one():
            pass

        def test_two():
            bytearray(5_000_000)
    """)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["'50 bananas' is not a size: *", "memory budget: heap peak 4.8*"])


def test_threads_of_a_test_are_its_own(run: Run, probe: str) -> None:
    """Those that it starts, and what it hands to those that others have started."""
    before = threading.Thread.start
    result = run("""
        import threading
        from concurrent.futures import ThreadPoolExecutor

        import pytest

        pytestmark = pytest.mark.memory_budget("1MB")

        def work():
            return len(bytearray(5_000_000))

        @pytest.fixture(scope="module")
        def pool():
            with ThreadPoolExecutor(1) as pool:
                pool.submit(int).result()
                yield pool

        def test_thread():
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()

        def test_pool(pool):
            pool.submit(work).result()

        def test_pool_of_its_own():
            with ThreadPoolExecutor(1) as pool:
                pool.submit(work).result()

        def test_other_thread(pool):
            pass
    """)
    result.assert_outcomes(passed=1, failed=3)
    assert threading.Thread.start is before


def test_coroutines_are_measured(run: Run, probe: str) -> None:
    """They run inside the call of the test, in whatever loop."""
    pytest.importorskip("anyio")
    result = run("""
        import asyncio

        import pytest

        pytestmark = [pytest.mark.anyio, pytest.mark.memory_budget("1MB")]

        async def work():
            held = bytearray(2_000_000)
            await asyncio.sleep(0)
            return len(held)

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        async def test_over():
            await work()

        async def test_tasks():
            await asyncio.gather(work(), work())

        async def test_thread():
            await asyncio.to_thread(bytearray, 5_000_000)

        async def test_under(memory):
            with memory() as block:
                await asyncio.sleep(0)
            assert block.measurement.attribution == "process"
    """)
    result.assert_outcomes(passed=1, failed=3)


def test_whoever_measures_by_itself_is_not_disturbed(run: Run, probe: str) -> None:
    """A recorder of the test, of any probe, has its numbers, and the plugin has its own."""
    result = run("""
        import gc

        import pytest

        from stratatrace import profile_memory
        from stratatrace.config import Config
        from stratatrace.recorder import active
        from stratatrace.testing import recording

        PROBES = ["tracemalloc", "auto"]

        @profile_memory
        def load():
            cycle = [bytearray(1_000_000)]
            cycle.append(cycle)
            del cycle
            gc.collect()
            return len(bytearray(3_000_000))

        @pytest.mark.memory_budget("4.5MB", rss_peak="1GB")
        @pytest.mark.parametrize("probe", PROBES)
        def test_recording(probe):
            before = active._recorder
            with recording(Config(probe=probe)) as sink:
                load()
            assert sink.last.heap_peak_bytes == pytest.approx(3_000_000, rel=0.5)
            assert sink.last.gc_reclaimed_bytes == pytest.approx(1_000_000, abs=50_000)
            assert active._recorder is before

        @pytest.mark.memory_budget("4.5MB", rss_peak="1GB")
        @pytest.mark.parametrize("probe", PROBES)
        def test_over(probe):
            bytearray(5_000_000)
            with recording(Config(probe=probe)) as sink:
                load()
            assert len(sink.measurements) == 1
    """)
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(["memory budget: heap peak 4.8 MiB is over the budget of 4.3 MiB*"])


def test_what_a_collection_frees_is_not_the_tests(run: Run, probe: str) -> None:
    """Garbage of a fixture that goes meanwhile makes room for nothing."""
    result = run("""
        import gc

        import pytest

        @pytest.fixture
        def garbage():
            gc.disable()
            cycle = [bytearray(9_000_000)]
            cycle.append(cycle)
            del cycle
            yield
            gc.enable()

        @pytest.mark.memory_budget("1MB")
        def test_over(garbage):
            gc.collect()
            bytearray(5_000_000)

        @pytest.fixture
        def lent():
            return [bytearray(9_000_000)]

        @pytest.mark.memory_budget("1MB")
        def test_frees_what_a_fixture_made(lent):
            lent.clear()
            bytearray(5_000_000)
    """)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["FAILED test_it.py::test_over - *"])


BLOCKS = """
    import pytest

    from stratatrace.errors import NotReadyError, StratatraceError
    from stratatrace.pytest_plugin import MemoryFixture

    def test_numbers(memory: MemoryFixture) -> None:
        with memory("load") as block:
            with pytest.raises(NotReadyError, match="'load' has not ended"):
                block.heap_peak_bytes
            kept = bytearray(1_000_000)
            bytearray(4_000_000)
        assert block.heap_peak_bytes == pytest.approx(5_000_000, abs=2000)
        assert block.heap_net_bytes == pytest.approx(1_000_000, abs=2000)
        assert block.rss_peak_growth_bytes >= 0
        assert str(block).startswith("memory block 'load': heap peak 4.8 MiB, net 97")
        assert block.to_dict()["heap_peak_bytes"] == block.heap_peak_bytes
        for _ in range(3):
            with memory() as block:
                pass
        assert abs(block.heap_net_bytes) < 200
        assert block.label == "block 4"

    def test_no_less_than_was_taken(memory):
        with memory() as block:
            bytearray(1_000_000)
        if block.measurement.probe == "native":
            assert 1_000_000 <= block.heap_peak_bytes < 1_000_500

    def test_misuse(memory):
        with pytest.raises(StratatraceError, match="not a size"):
            memory(budget="50 bananas")
        with memory() as block, pytest.raises(NotReadyError, match="was entered before"):
            block.__enter__()
        with pytest.raises(ZeroDivisionError), memory(budget=1):
            1 / 0

    def test_nested(memory):
        with memory() as outer:
            with memory() as inner:
                bytearray(1_000_000)
            bytearray(2_000_000)
        assert inner.heap_peak_bytes < 1_100_000 < 1_900_000 < outer.heap_peak_bytes

    def test_over(memory):
        with memory("mine", budget="1MB"):
            bytearray(5_000_000)
"""


def test_blocks(run: Run, probe: str) -> None:
    """A block has its numbers when it has ended, and fails the test where it breaks its budget."""
    result = run(BLOCKS, "--strict-markers")
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(
        ["E*memory block 'mine': heap peak 4.8 MiB is over the budget of 976.6 KiB by 3.8 MiB"]
    )


def test_a_fixture_of_that_name_is_the_users(run: Run) -> None:
    """Theirs comes first, and nothing is loaded for it."""
    result = run("""
        import pytest

        @pytest.fixture
        def memory():
            return 5

        def test_theirs(memory, pytestconfig):
            assert memory == 5
            assert not pytestconfig.pluginmanager.has_plugin("stratatrace-memory")
    """)
    result.assert_outcomes(passed=1)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_test_may_fork(run: Run, probe: str) -> None:
    """The child is another process."""
    result = run("""
        import os, warnings

        import pytest

        @pytest.mark.memory_budget("1MB", rss_peak="1GB")
        def test_forks():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Of other threads, such as a plugin's.
                child = os.fork()
            if not child:
                bytearray(5_000_000)
                os._exit(3)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    """)
    result.assert_outcomes(passed=1)


def test_nothing_is_imported_until_it_is_asked_for(pytester: pytest.Pytester) -> None:
    """A run without marker, fixture or option has nothing of stratatrace but its options."""
    pytester.makepyfile("""
        import sys, tracemalloc

        def test_inert(pytestconfig):
            assert "stratatrace_pytest" in sys.modules
            assert [name for name in sys.modules if name.split(".")[0] == "stratatrace"] == []
            assert not tracemalloc.is_tracing()
    """)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-Werror")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("memory*")


def test_it_can_be_left_out(run: Run) -> None:
    """``-p no:stratatrace``."""
    result = run("def test_it(memory):\n    pass\n", "-p", "no:stratatrace")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixture 'memory' not found"])


def test_of_the_native_probe_nothing_is_slow(run: Run) -> None:
    """The header says what measures, and where that is slow."""
    lines = run("def test_it():\n    pass\n", "--memory").outlines
    slow = native_obstacle() is not None
    assert any(
        line.startswith("memory: the heap by") and ("slow" in line) == slow for line in lines
    )
