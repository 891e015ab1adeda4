"""Runs as a whole: the table, the baseline, leaks, and the numbers in JUnit's file."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from stratatrace.probes import native_obstacle
from stratatrace.pytest_plugin.baseline import environment_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from unit.pytest_plugin.conftest import Run

SIZED = """
    import os

    import pytest

    SIZE = int(os.environ.get("SIZE", "1000000"))
    calls = iter(range(99))

    @pytest.fixture
    def fresh(tmp_path):
        (tmp_path / "here").mkdir()
        return []

    def test_fresh(fresh, caplog):
        fresh.append(1)
        assert len(fresh) == 1
        bytearray(SIZE)

    @pytest.mark.parametrize("times", [1, 2])
    def test_sized(times):
        bytearray(SIZE * times)

    def test_once():
        assert next(calls) == 0
        bytearray(SIZE)

    class TestClass:
        def test_small(self):
            \"\"\"
            >>> bytearray(3)
            bytearray(b'')
            \"\"\"
"""


UPDATE = ("--memory-baseline=b.json", "--memory-baseline-update")


def names_in(lines: list[str]) -> list[str]:
    return [line.split("test_it.py::")[1] for line in lines if "test_it.py::" in line]


def test_the_worst_are_shown(run: Run) -> None:
    """As many as are asked for, the highest peak first."""
    result = run(SIZED, "--memory")
    result.assert_outcomes(passed=5)
    lines = result.outlines
    assert names_in(lines)[0] == "test_sized[2]"
    assert len(names_in(lines)) == 5
    result.stdout.fnmatch_lines(
        [
            "*= memory of tests =*",
            "heap peak  RSS growth  net heap *GC *time  test",
            "  1.9 MiB * ms  test_it.py::test_sized[[]2[]]",
            "the heap of each test's call, by *; fixtures are not in it",
        ]
    )
    result = run(SIZED, "--memory-top=2")
    assert len(names_in(result.outlines)) == 2
    result.stdout.fnmatch_lines(["3 more tests: --memory-top=0 shows all"])


def test_what_another_test_has_left_is_seen_to_go(run: Run) -> None:
    """It counts between tests, too, where all of them are measured."""
    result = run(
        """
        left = []

        def test_leaves():
            left.append(bytearray(9_000_000))

        def test_frees():
            left.clear()
            bytearray(5_000_000)
        """,
        "--memory",
    )
    result.stdout.re_match_lines([r" *\d+(\.\d KiB| B) .*test_it.py::test_frees"])


def test_what_was_to_fail_is_not_judged(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is it repeated."""
    text = """
        import os
        import pytest

        @pytest.mark.xfail
        def test_luck():
            bytearray(int(os.environ.get("SIZE", "1000000")))
    """
    run(text.replace("@pytest.mark.xfail", ""), *UPDATE)
    monkeypatch.setenv("SIZE", "2000000")
    run(text, UPDATE[0]).assert_outcomes(xpassed=1)


def test_options_are_checked(run: Run) -> None:
    """Before any test runs."""
    for options, complaint in {
        ("--memory-top=-1",): "*--memory-top is a number of tests, 0 for all, and -1 is not",
        ("--memory-baseline-update",): "*--memory-baseline-update needs to know the file*",
        ("--memory-baseline=none.json",): "*there is no memory baseline *none.json: *",
    }.items():
        result = run(SIZED, *options)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"ERROR: {complaint[1:]}"])


def test_doctests_are_left_alone(run: Run) -> None:
    """They are no calls of a test."""
    result = run(SIZED, "--memory", "--doctest-modules")
    assert result.ret == pytest.ExitCode.TESTS_FAILED  # Of the doctest: its output is wrong.
    assert len(names_in(result.outlines[result.outlines.index(_heading(result)) :])) == 6


def _heading(result: pytest.RunResult) -> str:
    return next(line for line in result.outlines if "= memory of tests =" in line)


def test_more_than_the_baseline_fails(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where repeats, with fixtures made anew, take more, too."""
    result = run(SIZED, *UPDATE)
    result.assert_outcomes(passed=5)
    result.stdout.fnmatch_lines(["5 of 5 tests are new or changed in *b.json"])
    file = pytester.path / "b.json"
    written = file.read_bytes()
    (tests,) = json.loads(written)["environments"].values()
    assert list(tests) == sorted(tests)
    assert tests["test_it.py::test_sized[2]"]["heap_peak_bytes"] == pytest.approx(2e6, rel=0.01)

    result = run(SIZED, *UPDATE)
    result.stdout.fnmatch_lines(["nothing has changed in *b.json"])
    assert file.read_bytes() == written
    result = run(SIZED, UPDATE[0])
    result.assert_outcomes(passed=5)
    result.stdout.fnmatch_lines(["5 tests compared by heap peak"])

    monkeypatch.setenv("SIZE", "1500000")
    result = run(SIZED, UPDATE[0])
    result.assert_outcomes(passed=2, failed=3)
    result.stdout.fnmatch_lines(
        [
            "memory regression: heap peak 1.4 MiB in 3 repeats, where the baseline has 97* KiB *",
            "*= memory baseline =*",
            "3 tests took more than the baseline:",
            "  test_it.py::test_sized[[]2[]]  2.9 MiB in 4 runs, baseline 1.9 MiB",
            "1 test took more, and could not be repeated to be sure:",
            "  test_it.py::test_once  1.4 MiB, baseline *",
        ]
    )

    monkeypatch.setenv("SIZE", "500000")
    result = run(SIZED, UPDATE[0])
    result.assert_outcomes(passed=5)
    result.stdout.fnmatch_lines(["4 tests took less, which --memory-baseline-update would keep:"])
    assert file.read_bytes() == written


def test_what_happens_once_is_no_regression(run: Run) -> None:
    """A first call that fills a cache is acquitted; a test that is new fails nothing."""
    before = "def test_cached():\n    bytearray(100_000)\n"
    run(before, "--memory-baseline=b.json", "--memory-baseline-update")
    result = run(
        "cache = []\n"
        "def test_cached():\n"
        "    if not cache:\n"
        "        cache.append(bytearray(9_000_000))\n"
        "    bytearray(100_000)\n"
        "def test_new():\n"
        "    bytearray(9_000_000)\n",
        "--memory-baseline=b.json",
    )
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["1 test not in the baseline yet: *", "2 tests compared*"])


def test_another_environment_is_not_compared(run: Run, pytester: pytest.Pytester) -> None:
    """It is warned of, as nothing can fail."""
    section = {"test_it.py::test_sized[1]": {"heap_peak_bytes": 1}}
    text = json.dumps({"version": 1, "environments": {"pypy-9": section}})
    (pytester.path / "b.json").write_text(text)
    result = run(SIZED, "--memory-baseline=b.json")
    result.assert_outcomes(passed=5)
    probe = "tracemalloc" if native_obstacle() is not None else "native"
    result.stdout.fnmatch_lines(
        [f"WARNING: *b.json has no tests of {environment_of(probe)}, only pypy-9: nothing can fail"]
    )


def test_workers_measure_and_judge(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With pytest-xdist, whoever prints has all numbers, and repeats are made by the workers."""
    run(SIZED, "--memory-baseline=b.json", "--memory-baseline-update")
    monkeypatch.setenv("SIZE", "1500000")
    pytester.makepyfile(
        test_other="""
        import pytest

        @pytest.mark.memory_budget("1MB")
        def test_over():
            bytearray(5_000_000)
        """
    )
    options = ("-n1", "--memory", "--memory-baseline=b.json", "--junitxml=junit.xml")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", *options)
    result.assert_outcomes(passed=2, failed=4)
    result.stdout.fnmatch_lines(
        [
            "*= memory of tests =*",
            "*4.8 MiB*  test_other.py::test_over",
            "*2.9 MiB*  test_it.py::test_sized[[]2[]]",
            "3 tests took more than the baseline:",
            "  test_it.py::test_sized[[]2[]]  2.9 MiB in 4 runs, baseline 1.9 MiB",
        ]
    )
    assert properties_of(pytester, "test_over")["stratatrace.budget"] == "1000000"


def properties_of(pytester: pytest.Pytester, test: str) -> dict[str, str]:
    (case,) = (
        case
        for case in ET.parse(pytester.path / "junit.xml").iter("testcase")
        if case.get("name") == test
    )
    properties = {p.attrib["name"]: p.attrib["value"] for p in case.iter("property")}
    assert len(properties) == len(list(case.iter("property")))
    return properties


def test_junit_has_the_numbers(run: Run, pytester: pytest.Pytester) -> None:
    """As properties of each test that was measured; each name once."""
    run(
        """
        def test_it(memory):
            for size in (10, 3_000_000, 20):
                with memory("load"):
                    bytearray(size)
        """,
        "--memory",
        "--junitxml=junit.xml",
    )
    properties = properties_of(pytester, "test_it")
    assert int(properties["stratatrace.heap.peak"]) == pytest.approx(3e6, rel=0.01)
    assert int(properties["stratatrace.heap.peak[load]"]) == pytest.approx(3e6, rel=0.01)
    assert properties["stratatrace.attribution"] in {"exact", "process"}
    assert "stratatrace.gc.time" in properties


LEAKY = """
    import logging, warnings, unittest

    import pytest

    kept, made = [], []

    @pytest.fixture
    def once():
        made.append(1)

    @pytest.mark.no_leaks(iterations=30)
    def test_leaks(once):
        kept.append(bytearray(1000))

    @pytest.mark.no_leaks
    def test_does_not(once, caplog, capsys):
        logging.warning("x" * 1000)
        print("x" * 1000)
        warnings.warn("x" * 1000)
        assert len(caplog.records) == 1
        assert capsys.readouterr().out == "x" * 1000 + "\\n"

    @pytest.mark.no_leaks
    def test_fails_then():
        made.append(1)
        assert len(made) < 5

    class TestUnit(unittest.TestCase):
        @pytest.mark.no_leaks
        def test_leaks(self):
            kept.append(bytearray(1000))

        @pytest.mark.no_leaks
        def test_fails_then(self):
            made.append(1)
            self.assertLess(len(made), 8)
"""


class _Report:
    def __init__(self, name: str, times: int) -> None:
        self.text = f"{name} leaks 1.0 kB a call ({times} calls)\n  bytearray +{times}"
        self.leaks = name.endswith("test_leaks")

    def __bool__(self) -> bool:
        return self.leaks

    def __str__(self) -> str:
        return self.text


def test_a_test_that_leaks_fails(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is called again and again, with fixtures that were set up once."""
    asked: list[str] = []

    def find_leaks(
        func: Callable[[], object], *, name: str, iterations: int = 10, **_others: Any
    ) -> _Report:
        asked.append(f"{name} {iterations}")
        for _ in range(iterations):
            func()
        return _Report(name, iterations)

    monkeypatch.setitem(
        sys.modules, "stratatrace.diagnose.leaks", SimpleNamespace(find_leaks=find_leaks)
    )
    result = run(LEAKY, "-Walways")
    result.assert_outcomes(passed=1, failed=4, warnings=1)
    result.stdout.fnmatch_lines(
        [
            "*_ test_leaks _*",
            "the test leaks: test_it.test_leaks leaks 1.0 kB a call (30 calls)",
            "*- Captured leaks call -*",
            "  bytearray +30",
            ">       assert len(made) < 5",
            "the test leaks: test_it.test_leaks leaks 1.0 kB a call (10 calls)",
        ],
        consecutive=False,
    )
    assert asked[:2] == ["test_it.test_leaks 30", "test_it.test_does_not 10"]


def test_leaks_are_found_by_the_finder(pytester: pytest.Pytester) -> None:
    """What pytest keeps of a call is no leak of the test."""
    pytester.makepyfile("""
        import logging

        import pytest

        kept = []

        @pytest.mark.no_leaks(iterations=30)
        def test_leaks():
            kept.append(bytearray(1_000_000))

        @pytest.mark.no_leaks(iterations=30)
        def test_does_not(memory, capsys):
            with memory():
                print("x" * 1_000)
            logging.getLogger().warning("x" * 1_000)
    """)
    # In a process of its own: of a run in this one, all calls of hooks are recorded.
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["the test leaks: test_*.test_leaks leaks * a call *", "*test_leaks*.py*"]
    )
