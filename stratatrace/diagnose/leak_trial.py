"""The trial of one function: how often it is called, what is read meanwhile, and the verdict.

It asks for calls and makes none: who drives it calls a function, awaits one, or runs a test.

Two phases, the second longer, must both rise (Mann-Kendall): what warms up or fills soon has come
to rest by then. Where both do, a third goes on for a while, to see whether a larger cache fills: it
must rise at half the lesser slope of both or more (Theil-Sen); where there is no time for that, the
second must do so by the first. The last is traced: it tells of the whole process, and so whether
what this thread keeps is freed by another, and who the culprits are.
"""

from __future__ import annotations

import gc
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from stratatrace.diagnose.leak_culprits import CulpritSearch
from stratatrace.diagnose.leak_report import LeakCulprits, LeakPhase, LeakReport
from stratatrace.diagnose.leak_series import HeapReader, HeapSeries, phase_of
from stratatrace.probes.allocated import small_blocks
from stratatrace.recorder import active

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

__all__ = ["GROWS", "LeakTrial", "TrialPlan", "doubt", "quiet_collector"]

_P_AT_MOST = 0.01
#: What a phase must have of the slope of the one before.
_LEAST_SHARE = 0.5
_LEAST_BLOCKS = 0.25
# The long phase ends with the first of these.
_LONG_CALLS, _LONG_FACTOR = 2000, 20
_LONG_SECONDS = 2.0
_LONG_GROWTH_BYTES = 32 * 2**20
_FEWEST_LONG_READINGS = 16
# From Python 3.12 on, collections freeze what is immortal by themselves: some hundreds of objects.
# Whoever freezes, freezes all there is, which is some thousands at the very least.
_MOST_IMMORTAL = 2000
#: Why something leaks.
GROWS = "its heap grows steadily"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialPlan:
    """How a trial is made."""

    name: str
    #: Calls of the first two phases together, and those before them.
    iterations: int
    warmup: int
    #: Less than so many bytes a call is no leak.
    least_bytes: int
    probe: str
    #: Whether to look for them.
    culprits: bool


class _Trend(Protocol):
    @property
    def slope_bytes(self) -> float: ...
    @property
    def p_value(self) -> float: ...


class LeakTrial:
    """One trial, whose `steps` ask for the calls.

    Args:
        plan: How it is made.
        func: What is called, as a place to look for what holds the culprits.
    """

    def __init__(self, plan: TrialPlan, func: Callable[..., Any] | None) -> None:
        self._plan = plan
        self._func = func
        self._phases: list[LeakPhase] = []
        self._culprits = LeakCulprits()
        self.report: LeakReport | None = None

    def steps(self) -> Generator[None]:
        """Yield whenever the function is to be called once; then there is a report.

        Closing it, at any moment, restores all that it has changed.

        Raises:
            LeakTrialError: The function has stopped what reads its heap.
        """
        began = time.perf_counter()
        reader = HeapReader(self._plan.probe)
        with quiet_collector():
            reason, hidden = yield from self._untraced(reader, began)
            if reason is not None and hidden and reader.name == "native":
                # Another thread may keep it, whose heap is not in this one's.
                self._phases.clear()
                reader = HeapReader("tracemalloc")
                reason, _ = yield from self._untraced(reader, began)
        if reason is None:
            reason = yield from self._traced()
        self.report = self._report(reason, reader.name)

    def _untraced(
        self, reader: HeapReader, began: float
    ) -> Generator[None, None, tuple[str | None, bool]]:
        """Go through the phases that are compared.

        Returns:
            Why it is no leak, None where it may be one; and whether blocks of all threads grow.
        """
        plan = self._plan
        reader.open()
        try:
            for _ in range(plan.warmup):
                yield
            reader.settle()
            blocks: list[LeakPhase] = []
            first_calls = plan.iterations // 3
            for name, calls in (("first", first_calls), ("second", plan.iterations - first_calls)):
                series = HeapSeries(reader, small_blocks)
                for _ in range(calls):
                    yield
                    series.called()
                reader.check()
                self._phases.append(phase_of(name, series.values, series.every))
                blocks.append(phase_of(name, series.others, series.every))
            # Each by itself: where a container has grown in the first, that was faster, and the
            # long phase can tell what goes on.
            first, second = self._phases
            least = plan.least_bytes
            reason = doubt(first, least=least) or doubt(second, least=least)
            if reason is None:
                reason = yield from self._long(reader, began)
        finally:
            reader.close()
        return reason, doubt(*blocks, least=_LEAST_BLOCKS) is None

    def _long(self, reader: HeapReader, began: float) -> Generator[None, None, str | None]:
        """Go on for as long as was taken until now; return why it is no leak after all."""
        series = HeapSeries(reader)
        now = time.perf_counter()
        ends = now + max(_LONG_SECONDS, now - began)
        most = max(_LONG_CALLS, _LONG_FACTOR * self._plan.iterations)
        while series.calls < most and series.growth_bytes < _LONG_GROWTH_BYTES:
            yield
            series.called()
            if time.perf_counter() > ends:
                break
        reader.check()
        values = series.values
        if len(values) < _FEWEST_LONG_READINGS:
            return doubt(*self._phases, least=self._plan.least_bytes)
        phase = phase_of("long", values, series.every)
        later = phase_of("later", values[len(values) // 2 :], series.every)
        # A large container that grows in the midst of a phase makes its slope too high; it hardly
        # does so in both.
        wanted = _LEAST_SHARE * min(before.slope_bytes for before in self._phases)
        least = max(wanted, self._plan.least_bytes)
        self._phases.append(phase)
        if (
            phase.growth_bytes < wanted * phase.calls
            or doubt(phase, least=least)
            or doubt(later, least=least)
        ):
            return f"it grew, and came to rest within {phase.calls:,} calls more"
        return None

    def _traced(self) -> Generator[None, None, str | None]:
        """Look for culprits; return why it is no leak after all."""
        reader = HeapReader("tracemalloc")
        with active.own_work():
            search = CulpritSearch()
        reader.open()
        try:
            search.mark_traces()
            with quiet_collector():
                series = HeapSeries(reader)
                yield from self._until_grown(series)
            if not reader.intact:
                return None  # The evidence stands without.
            phase = phase_of("traced", series.values, series.every)
            if not self._has_grown(series) and doubt(phase, least=self._plan.least_bytes):
                self._phases.append(phase)
                return "what it keeps is let go by other threads"
            self._phases.append(phase)
            if not self._plan.culprits:
                return None
            search.read_traces()
        finally:
            reader.close()
        with active.own_work():
            self._culprits = search.culprits(least=phase.calls // 16 + 1, func=self._func)
        return None

    def _until_grown(self, series: HeapSeries) -> Generator[None]:
        """Have as many calls as in the first phase, and more while nothing has grown.

        What is large is seldom reallocated, and its growth before that cannot be seen here.
        """
        ends = time.perf_counter() + _LONG_SECONDS
        fewest, most = self._plan.iterations // 3, 5 * self._plan.iterations
        while series.calls < fewest or (
            series.calls < most and not self._has_grown(series) and time.perf_counter() < ends
        ):
            yield
            series.called()

    def _has_grown(self, series: HeapSeries) -> bool:
        slope_bytes = min(phase.slope_bytes for phase in self._phases)
        return series.growth_bytes >= _LEAST_SHARE * slope_bytes * series.calls

    def _report(self, reason: str | None, probe: str) -> LeakReport:
        evidence = [phase for phase in self._phases if phase.name != "traced"]
        slope_bytes = evidence[-1].slope_bytes
        last = self._phases[-1]
        if reason is None and last.name == "traced" and doubt(last, least=0) is None:
            # What other threads let go is not kept.
            slope_bytes = min(slope_bytes, last.slope_bytes)
        return LeakReport(
            name=self._plan.name,
            leaks=reason is None,
            reason=reason or GROWS,
            probe=probe,
            slope_bytes=slope_bytes,
            p_value=max(phase.p_value for phase in evidence),
            iterations=sum(phase.calls for phase in evidence),
            phases=tuple(self._phases),
            culprits=self._culprits,
            culprit_calls=self._phases[-1].calls,
        )


@contextmanager
def quiet_collector() -> Iterator[None]:
    """Have collections look at what is new alone, and keep nothing; then all is as it was.

    What is old is frozen, unless somebody else has frozen something, who would not want it thawed.
    """
    flags = gc.get_debug()
    gc.set_debug(0)  # It may say to keep all garbage.
    frozen = 0
    try:
        gc.collect()
        if gc.get_freeze_count() < _MOST_IMMORTAL:
            gc.freeze()
            frozen = gc.get_freeze_count()
        yield
    finally:
        # Else somebody has frozen what is new meanwhile.
        if frozen and gc.get_freeze_count() < frozen + _MOST_IMMORTAL:
            gc.unfreeze()
        gc.set_debug(flags)


def doubt(first: _Trend, *later: _Trend, least: float) -> str | None:
    """Return why phases one after the other are no leak, or None.

    Args:
        first: The first of them.
        *later: The others, each held against the one before.
        least: Slopes up to here are none.
    """
    if first.p_value >= _P_AT_MOST or first.slope_bytes <= least:
        return "its heap does not grow"
    before = first
    for phase in later:
        if phase.slope_bytes < _LEAST_SHARE * before.slope_bytes or phase.slope_bytes <= least:
            return "it grew at first, and then less and less"
        if phase.p_value >= _P_AT_MOST:
            return "it grew at first, and not steadily"
        before = phase
    return None
