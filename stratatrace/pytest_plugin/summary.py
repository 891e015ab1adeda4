"""What is known of a run as a whole: what was asked for, the baseline, and what came of all tests.

In a worker of pytest-xdist it has only what that needs to judge its tests: the baseline comes from
the controller, so that it need not have the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stratatrace.errors import InvalidValueError, OutputError
from stratatrace.pytest_plugin.baseline import Baseline, environment_of
from stratatrace.pytest_plugin.judging import typical_of
from stratatrace.pytest_plugin.table import Row, comparison_lines, table_lines

if TYPE_CHECKING:
    import pytest

    from stratatrace.pytest_plugin.judging import Verdict
    from stratatrace.pytest_plugin.meter import Measured

__all__ = ["KEY", "Summary", "row_of"]

#: The attribute of a report that has its `Row`, as a list: xdist sends plain values.
KEY = "stratatrace_row"

_INPUT = "stratatrace_baseline"
_MOST_SHOWN = 10


class Summary:
    """The options of a run of pytest, and the rows of its tests.

    Args:
        config: Of the run.
        probe: What counts the heap.

    Raises:
        InvalidValueError: Options make no sense, or the file of the baseline is none.
    """

    def __init__(self, config: pytest.Config, probe: str) -> None:
        option = config.option
        top: int | None = option.memory_top
        if top is not None and top < 0:
            msg = f"--memory-top is a number of tests, 0 for all, and {top} is not"
            raise InvalidValueError(msg)
        if option.memory_baseline_update and option.memory_baseline is None:
            msg = "--memory-baseline-update needs to know the file: --memory-baseline=FILE"
            raise InvalidValueError(msg)
        self._shows_table: bool = option.memory or top is not None
        self._most_shown = _MOST_SHOWN if top is None else top
        self._root = config.rootpath
        #: Whether the baseline is written, and whether there is one at all.
        self.updates: bool = option.memory_baseline_update
        self.compares: bool = option.memory_baseline is not None
        self._baseline: Baseline | None = None
        self._peaks: dict[str, int] = {}
        self._rows: dict[str, Row] = {}
        self._outcome = ""
        workerinput: dict[str, Any] | None = getattr(config, "workerinput", None)
        if workerinput is not None:
            self._peaks = workerinput.get(_INPUT, {})
        elif self.compares:
            path = Path(config.invocation_params.dir, option.memory_baseline)
            environment = environment_of(probe)
            self._baseline = Baseline(path, environment, must_exist=not self.updates)
            self._peaks = dict(self._baseline.peaks)

    @property
    def wants_all(self) -> bool:
        """Whether every test is measured."""
        return self._shows_table or self.compares

    def baseline_of(self, test: str) -> int | None:
        """Return the heap peak that a test had before, in bytes."""
        return self._peaks.get(test)

    def tell_worker(self, workerinput: dict[str, Any]) -> None:
        """Give a worker what it needs to judge its tests."""
        workerinput[_INPUT] = self._peaks

    def add(self, report: pytest.TestReport) -> None:
        """Take the row of a report, where it has one; of a test that was run again, the last."""
        cells = getattr(report, KEY, None)
        if cells is not None:
            row = Row(*cells)
            self._rows[row.test] = row._replace(runs=tuple(row.runs))

    def finish(self) -> None:
        """Write the baseline, where that was asked for; a worker has none."""
        if self._baseline is None or not self.updates:
            return
        changed = {row.test: typical_of(row.runs) for row in self._rows.values() if row.is_new}
        path = self._baseline.path
        try:
            written = self._baseline.update(changed, root=self._root)
        except OutputError as error:
            self._outcome = str(error)
            return
        self._outcome = (
            f"{len(changed)} of {len(self._peaks | changed)} tests are new or changed in {path}"
            if written
            else f"nothing has changed in {path}"
        )

    def print(self, terminal: pytest.TerminalReporter) -> None:
        """Print what was asked for."""
        rows = list(self._rows.values())
        if self._shows_table:
            terminal.section("memory of tests")
            for line in table_lines(rows, self._most_shown):
                terminal.write_line(line)
        if self._baseline is None:
            return
        terminal.section("memory baseline")
        lines = [self._outcome] if self.updates else comparison_lines(rows)
        for line in [*self._missing(self._baseline), *lines]:
            terminal.write_line(line)

    def _missing(self, baseline: Baseline) -> list[str]:
        """Return a warning where a file has nothing to compare with here."""
        if self.updates or baseline.peaks:
            return []
        others = ", ".join(baseline.environments) or "nothing"
        missing = f"{baseline.path} has no tests of {baseline.environment}, only {others}"
        return [f"WARNING: {missing}: nothing can fail"]


def row_of(
    test: str, measured: Measured, verdict: Verdict | None, baseline_bytes: int | None
) -> Row:
    """Return the row of a test.

    Args:
        test: Its node id.
        measured: What its call has taken.
        verdict: What its baseline says of it; None where nobody asked.
        baseline_bytes: The heap peak that it had before; None where nobody knows.
    """
    measurement = measured.measurement
    return Row(
        test=test,
        heap_peak_bytes=measured.heap_peak_bytes,
        rss_peak_growth_bytes=measured.rss_peak_growth_bytes,
        heap_net_bytes=measurement.heap_net_bytes,
        gc_time_ns=measurement.gc_time_ns,
        duration_ns=measurement.duration_ns,
        attribution=measurement.attribution,
        probe=measurement.probe,
        status=None if verdict is None else verdict.status,
        runs=() if verdict is None else verdict.runs,
        baseline_bytes=baseline_bytes,
    )
