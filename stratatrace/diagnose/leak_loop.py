"""`watch_leaks`: does a loop keep more memory with every round?"""

from __future__ import annotations

import threading
import tracemalloc
from typing import TYPE_CHECKING, Self, TypeVar

from stratatrace.diagnose.leak_arguments import checked_count, checked_name
from stratatrace.diagnose.leak_culprits import CulpritSearch
from stratatrace.diagnose.leak_report import LeakCulprits, LeakReport
from stratatrace.diagnose.leak_series import HeapReader, HeapSeries, phase_of
from stratatrace.diagnose.leak_telling import tell_of
from stratatrace.diagnose.leak_trial import GROWS, doubt
from stratatrace.errors import AlreadyStartedError, LeakTrialError, NotReadyError
from stratatrace.recorder import active
from stratatrace.sizes import parse_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

    from stratatrace.diagnose.leak_report import LeakPhase

__all__ = ["LoopWatch", "watch_leaks"]

_T = TypeVar("_T")
_FEWEST_READINGS = 16
_MOST_CALLS = 10_000_000
_LEAST_SHARE = 0.5


def watch_leaks(
    name: str, *, warmup: int = 10, least: int | str = 16, probe: str = "auto"
) -> LoopWatch:
    """Return a block within which the rounds of a loop are looked at; it has the report afterwards.

    ``for item in leaks.each(items)`` is the loop; others call ``leaks.step()`` at the end of each
    round. The heap is read after a full collection: after every round at first, and after fewer and
    fewer as there are more, so that a long loop does not become slow.

    The heap is that of the calling thread by ``native``, and that of the process by
    ``tracemalloc``; other tasks of the thread are in both. Lines can be told where it is traced.

    Args:
        name: What the loop is called in the report and in telemetry.
        warmup: So many rounds are left out at the beginning.
        least: What keeps no more than so many bytes a round, an int or text, does not leak.
        probe: ``auto``, ``native`` or ``tracemalloc``.

    Raises:
        InvalidTypeError: An argument is of the wrong type.
        InvalidValueError: An argument makes no sense.
    """
    return LoopWatch(
        checked_name(name),
        warmup=checked_count("warmup", warmup, 0, _MOST_CALLS),
        least_bytes=parse_size(least),
        reader=HeapReader(probe),
    )


class LoopWatch:
    """A block within which the rounds of a loop are looked at; see `watch_leaks`, which makes it.

    Args:
        name: What the loop is called.
        warmup: So many rounds are left out at the beginning.
        least_bytes: What keeps no more than so many bytes a round does not leak.
        reader: Reads the heap.
    """

    def __init__(self, name: str, *, warmup: int, least_bytes: int, reader: HeapReader) -> None:
        self.name = name
        self._warmup = warmup
        self._least_bytes = least_bytes
        self._reader = reader
        self._thread = 0
        self._rounds = 0
        self._series: HeapSeries | None = None
        self._search: CulpritSearch | None = None
        self._report: LeakReport | None = None

    @property
    def report(self) -> LeakReport:
        """What was found.

        Raises:
            NotReadyError: The block has not ended.
        """
        if self._report is None:
            msg = f"there is no report of {self.name!r} yet: ask for it after the with block"
            raise NotReadyError(msg)
        return self._report

    def each(self, items: Iterable[_T]) -> Iterator[_T]:
        """Yield the items, one for each round.

        Args:
            items: What the loop goes through; only as much of it as the loop wants is taken.

        Raises:
            NotReadyError: The block has not been entered, or has ended.
            LeakTrialError: The loop has changed its thread.
        """
        for item in items:
            yield item
            del item  # It has not leaked.
            self.step()

    def step(self) -> None:
        """Say that a round has ended.

        Raises:
            NotReadyError: The block has not been entered, or has ended.
            LeakTrialError: The loop has changed its thread.
        """
        if not self._thread:
            msg = f"no round of {self.name!r} can end here: enter it by a with block"
            raise NotReadyError(msg)
        if self._thread != threading.get_ident():
            msg = f"the rounds of {self.name!r} end in several threads, whose heaps are not one"
            raise LeakTrialError(msg)
        self._rounds += 1
        if self._series is not None:
            self._series.called()
        elif self._rounds > self._warmup:
            self._begin()

    def __enter__(self) -> Self:
        if self._thread:
            msg = f"the loop {self.name!r} is being looked at already: make another one"
            raise AlreadyStartedError(msg)
        self._thread = threading.get_ident()
        self._rounds = 0
        self._series = self._search = self._report = None
        self._reader.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._thread = 0
        try:
            intact = self._reader.intact
            if not intact and error is None:
                self._reader.check()
            phases = self._phases() if intact else ()
            reason = self._doubt(phases)
            if self._search is not None and reason is None:
                self._search.read_traces()
        finally:
            self._reader.close()
        self._report = self._made(phases, reason)
        self._series = self._search = None
        tell_of(self._report)

    def _begin(self) -> None:
        """Look from here on."""
        self._reader.settle()
        with active.own_work():
            self._search = CulpritSearch()
            if tracemalloc.is_tracing():
                self._search.mark_traces()
        self._series = HeapSeries(self._reader)

    def _phases(self) -> tuple[LeakPhase, ...]:
        series = self._series
        if series is None or len(series.values) < _FEWEST_READINGS:
            return ()
        values, every = series.values, series.every
        third = len(values) // 3
        return (
            phase_of("first", values[: third + 1], every),
            phase_of("second", values[third:], every),
        )

    def _doubt(self, phases: tuple[LeakPhase, ...]) -> str | None:
        if not phases:
            return f"it has {self._rounds} rounds, too few to tell"
        first, second = phases
        if second.growth_bytes < _LEAST_SHARE * first.slope_bytes * second.calls:
            return "it grew at first, and then less and less"
        return doubt(first, second, least=self._least_bytes)

    def _made(self, phases: tuple[LeakPhase, ...], reason: str | None) -> LeakReport:
        culprits = LeakCulprits()
        if reason is None and self._search is not None:
            calls = sum(phase.calls for phase in phases)
            with active.own_work():
                culprits = self._search.culprits(least=calls // 16 + 1)
        return LeakReport(
            name=self.name,
            leaks=reason is None,
            reason=reason or GROWS,
            probe=self._reader.name,
            slope_bytes=phases[-1].slope_bytes if phases else 0.0,
            p_value=max((phase.p_value for phase in phases), default=1.0),
            iterations=sum(phase.calls for phase in phases),
            phases=phases,
            culprits=culprits,
            culprit_calls=sum(phase.calls for phase in phases),
        )
