"""The hooks that measure tests: loaded when an option, a marker or the fixture asks for it.

Whoever runs a test, be it a worker of pytest-xdist, measures it, judges it and puts the numbers on
its report. Whoever prints the reports has all from there: see `summary`.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from stratatrace.errors import StratatraceError
from stratatrace.probes import native_obstacle
from stratatrace.pytest_plugin.fixture import MemoryBlock, MemoryFixture
from stratatrace.pytest_plugin.judging import Verdict, judge, limit_of, settle
from stratatrace.pytest_plugin.leaks import fail_where_it_leaks, raise_unittest_failure
from stratatrace.pytest_plugin.lines import sampled_lines, told_lines
from stratatrace.pytest_plugin.marks import budget_on, leak_options_on
from stratatrace.pytest_plugin.meter import Measured, Meter
from stratatrace.pytest_plugin.repeating import run_again
from stratatrace.pytest_plugin.summary import KEY, Summary, row_of
from stratatrace.sizes import format_size
from stratatrace.telemetry import semconv
from stratatrace.telemetry.spans import numbers_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from stratatrace.call_lines import SampledLines
    from stratatrace.pytest_plugin.budgets import Budget

__all__ = ["MemoryPlugin", "load"]

_NAME = "stratatrace-memory"
_MEASURED = pytest.StashKey[Measured]()
_BROKEN = pytest.StashKey[str]()


def load(config: pytest.Config) -> MemoryPlugin:
    """Return the plugin of this run of pytest, and have it take part from now on.

    Raises:
        UsageError: Options make no sense.
    """
    plugin = config.pluginmanager.get_plugin(_NAME)
    if plugin is None:
        try:
            plugin = MemoryPlugin(config)
        except StratatraceError as error:
            raise pytest.UsageError(str(error)) from error
        config.pluginmanager.register(plugin, _NAME)
    found: MemoryPlugin = plugin
    return found


class MemoryPlugin:
    """Measures the tests of one run of pytest.

    Args:
        config: Of the run.

    Raises:
        StratatraceError: Options make no sense.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._meter = Meter()
        self.summary = Summary(config, self._meter.probe)
        self._repeating = False
        self._counts_always = False

    def pytest_report_header(self) -> str:
        """Say what measures."""
        if self._meter.probe == "native":
            return "memory: the heap by native counters"
        return f"memory: the heap by {self._meter.probe}, which is slow: {native_obstacle()}"

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Count from before the fixtures on, whose memory a test may free."""
        if self.summary.wants_all and not self._counts_always:
            self._counts_always = True
            self._meter.open()
        if not self._is_measured(item):
            return (yield)
        self._meter.open()
        try:
            return (yield)
        finally:
            self._meter.close()

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker of pytest-xdist what it needs."""
        self.summary.tell_worker(node.workerinput)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the numbers of a test, which may have been run elsewhere."""
        self.summary.add(report)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print what was asked for."""
        self.summary.print(terminalreporter)

    def pytest_sessionfinish(self) -> None:
        """Count no more; write the baseline where that was asked for."""
        self.summary.finish()
        if self._counts_always:
            self._counts_always = False
            self._meter.close()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        """Measure what is the test's own: what other plugins do around it is not in it."""
        if not isinstance(item, pytest.Function) or not self._is_measured(item):
            return (yield)
        runtest = item.runtest
        vars(item)["runtest"] = lambda: self._run(item, runtest)
        try:
            return (yield)
        finally:
            vars(item).pop("runtest", None)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Put the numbers on the report, and fail a test that needs more than before."""
        report = yield
        measured = item.stash.get(_MEASURED, None)
        if call.when != "call" or measured is None or self._repeating or report.skipped:
            return report
        assert isinstance(item, pytest.Function)
        # What was to fail is no test of what it takes.
        judged = report.passed and not hasattr(report, "wasxfail")
        verdict = self._verdict(item, measured) if judged else None
        broken = item.stash.get(_BROKEN, None)
        if broken is not None:
            report.sections.append(("memory budget", broken))
        if verdict is not None and verdict.status == "regressed":
            self._fail(report, verdict, self.summary.baseline_of(item.nodeid))
        row = row_of(item.nodeid, measured, verdict, self.summary.baseline_of(item.nodeid))
        setattr(report, KEY, list(row))  # An attribute of a report reaches xdist's controller.
        return report

    @contextmanager
    def fixture(self, item: pytest.Item) -> Iterator[MemoryFixture]:
        """Return what a test's ``memory`` is, for as long as that is set up."""
        self._meter.open()
        try:
            yield MemoryFixture(self._meter, lambda block: _note_block(item, block))
        finally:
            self._meter.close()

    def _is_measured(self, item: pytest.Item) -> bool:
        if not isinstance(item, pytest.Function):
            return False  # Doctests and others: a call of those is none of a test.
        marked = ("memory_budget", "no_leaks")
        return self.summary.wants_all or any(map(item.get_closest_marker, marked))

    def _run(self, item: pytest.Function, runtest: Callable[[], None]) -> None:
        """Run a test's own part: measured, within its budget, and without leaks."""
        _forget(item)
        try:
            budget, leak_options = budget_on(item), leak_options_on(item)
        except StratatraceError as error:  # A marker that came after the collection.
            pytest.fail(str(error), pytrace=False)
        with sampled_lines(None if self._repeating else budget, self._meter.probe) as lines:
            measured = self._measure(item, runtest, lines)
            _note(item, measured, budget)
            raise_unittest_failure(item)
            if budget is not None and not self._repeating:
                _hold_to(item, budget, measured, lines)
        if leak_options is not None and not self._repeating:
            fail_where_it_leaks(item, runtest, leak_options)

    def _measure(
        self, item: pytest.Function, runtest: Callable[[], None], lines: SampledLines | None
    ) -> Measured:
        """Run a test's own part, and leave with the test what it has taken, even where it fails."""
        with self._meter.following_threads():
            if lines is not None:
                lines.resume()
            reading = self._meter.begin(item.nodeid)
            try:
                runtest()
            finally:
                measured = item.stash[_MEASURED] = reading.end()
                if lines is not None:
                    lines.pause()
        return measured

    def _verdict(self, item: pytest.Function, measured: Measured) -> Verdict | None:
        """Return what the baseline says of a test that has passed; None where nobody asks."""
        peak_bytes = measured.heap_peak_bytes
        if not self.summary.compares or peak_bytes is None:
            return None
        before_bytes = self.summary.baseline_of(item.nodeid)
        self._repeating = True
        try:
            if self.summary.updates:
                runs = settle(before_bytes, peak_bytes, lambda: self._again(item))
                return Verdict(status="same" if runs == (before_bytes,) else "new", runs=runs)
            return judge(before_bytes, peak_bytes, lambda: self._again(item))
        finally:
            self._repeating = False

    @staticmethod
    def _again(item: pytest.Function) -> int | None:
        if not run_again(item):
            return None
        measured = item.stash[_MEASURED]
        return measured.heap_peak_bytes

    @staticmethod
    def _fail(report: pytest.TestReport, verdict: Verdict, baseline_bytes: int | None) -> None:
        if baseline_bytes is None:
            return
        repeats = verdict.runs[1:]
        low, high = format_size(min(repeats)), format_size(max(repeats))
        report.outcome = "failed"
        report.longrepr = (
            f"memory regression: heap peak {low if low == high else f'{low} to {high}'} "
            f"in {len(repeats)} repeats, where the baseline has {format_size(baseline_bytes)} "
            f"and allows {format_size(limit_of(baseline_bytes))}"
        )


def _forget(item: pytest.Item) -> None:
    """Drop what a run before this one has left."""
    if _MEASURED in item.stash:
        del item.stash[_MEASURED]
    if _BROKEN in item.stash:
        del item.stash[_BROKEN]


def _hold_to(
    item: pytest.Function, budget: Budget, measured: Measured, lines: SampledLines | None
) -> None:
    problem = budget.broken_by(measured)
    if problem is None:
        return
    item.stash[_BROKEN] = "\n".join([budget.told(measured), *told_lines(lines, budget)])
    pytest.fail(f"memory budget: {problem}", pytrace=False)


def _note(item: pytest.Item, measured: Measured, budget: Budget | None) -> None:
    """Put the numbers into the properties of a test, which JUnit's XML has."""
    for name, value in numbers_of(measured.measurement).items():
        _set_property(item, name, value)
    if budget is not None and budget.heap_peak is not None:
        _set_property(item, semconv.BUDGET.name, budget.heap_peak)


def _note_block(item: pytest.Item, block: MemoryBlock) -> None:
    """Put the peak of a block into the properties of its test; of one label, the highest."""
    peak_bytes = block.measurement.heap_peak_bytes
    if peak_bytes is not None:
        name = f"stratatrace.heap.peak[{block.label}]"
        before = dict(item.user_properties).get(name, 0)
        _set_property(item, name, max(peak_bytes, int(str(before))))


def _set_property(item: pytest.Item, name: str, value: object) -> None:
    # A test that is run again, by whomever, has each but once.
    item.user_properties[:] = [pair for pair in item.user_properties if pair[0] != name]
    item.user_properties.append((name, value))
