"""Tallies: calls that are told by nothing but sums, added up by the compiled part.

Where no span is recorded and nobody takes Measurements one by one, a call needs no Measurement. It
is opened, charged, closed and added to its callsite's sums without a line of Python. To be imported
only where the compiled part is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from stratatrace.errors import ProbeError
from stratatrace.measurement import Callsite, Measurement, Sums, error_type_of
from stratatrace.probes import _counters

if TYPE_CHECKING:
    from collections.abc import Callable

    from stratatrace.compiled import HighWaterAccount
    from stratatrace.guard import Guard
    from stratatrace.telemetry.metrics import MetricSink
    from stratatrace.windows import Accounts

__all__ = ["Tallied", "Tallies"]

# What the compiled part keeps of each of the latest calls, in its order.
_FIELDS = (
    "duration_ns",
    "heap_net_bytes",
    "heap_peak_bytes",
    "heap_allocated_bytes",
    "heap_allocations",
    "rss_before_bytes",
    "rss_net_bytes",
    "rss_peak_bytes",
)


_MOST_CALLSITES = 4096
# Past that, callsites share one.
_OTHERS = Callsite(name="", function="")
_NEVER_CALLED: Any = object()

# By what tallies are told apart: function, given name, budget, error.
_Series = tuple[str, str | None, int | None, str | None]


class Tallies:
    """The tallies of all callsites.

    Args:
        accounts: What calls are charged to.
        metrics: Who is told of the sums.
        guard: Counts what could not be read.
        judge: Gives a Measurement its score.
    """

    def __init__(
        self,
        accounts: Accounts,
        metrics: MetricSink,
        guard: Guard,
        judge: Callable[[Measurement], None],
    ) -> None:
        self.tallied: dict[_Series, Tallied] = {}
        self._accounts = accounts
        self._metrics = metrics
        self._guard = guard
        self._judge = judge
        # Of the callsites that were called; None where each call needs its Measurement.
        self._by_callsite: dict[Callsite, _counters.Tally | None] = {}

    def start(self) -> None:
        """Tell the metrics of all that is added up from now on."""
        for tallied in self.tallied.values():
            tallied.retired = False
            self._metrics.attach(tallied.callsite, tallied.error_type, tallied)

    def stop(self) -> None:
        """Let the metrics forget what has no more calls."""
        for tallied in self.tallied.values():
            tallied.retired = True

    def of(self, callsite: Callsite) -> _counters.Tally | None:
        """Return where its calls are added up; None where a call needs its Measurement."""
        tally = self._by_callsite.get(callsite, _NEVER_CALLED)
        return self._first_of(callsite) if tally is _NEVER_CALLED else tally

    def _first_of(self, callsite: Callsite) -> _counters.Tally | None:
        heap = self._accounts.heap
        held = None if heap is None else heap.hold()
        try:
            if len(self._by_callsite) >= _MOST_CALLSITES:
                self._by_callsite.clear()  # Of callsites that come and go; their sums stay.
            sampled = callsite.sample_ratio is not None and callsite.sample_ratio < 1
            tally = None if sampled else self._ending_with(callsite, None)
            self._by_callsite[callsite] = tally
            return tally
        finally:
            if heap is not None:
                heap.unhold(held)

    def _ending_with(self, callsite: Callsite, error_type: str | None) -> _counters.Tally:
        key = (callsite.function, callsite.label, callsite.budget_bytes, error_type)
        tallied = self.tallied.get(key)
        if tallied is None and len(self.tallied) >= _MOST_CALLSITES:
            callsite, key = _OTHERS, (_OTHERS.function, None, None, error_type)
            tallied = self.tallied.get(key)
        if tallied is None:
            tallied = Tallied(
                callsite,
                error_type,
                heap=self._accounts.heap is not None,
                rss=cast("HighWaterAccount | None", self._accounts.rss),
                tally_of=self._ending_with,
                judge=self._judge,
                guard=self._guard,
            )
            self._metrics.attach(callsite, error_type, tallied)
            self.tallied[key] = tallied  # The last: whatever fails before, is done anew.
        return tallied.tally


class Tallied:
    """The sums of one callsite and outcome.

    Args:
        callsite: What is called.
        error_type: How the calls ended; None for those that did not fail.
        heap: Whether the heap is measured.
        rss: The account of the resident memory, where that is measured.
        tally_of: Returns the tally of a callsite and an outcome.
        judge: Gives a Measurement its score.
        guard: Counts what could not be read.
    """

    def __init__(
        self,
        callsite: Callsite,
        error_type: str | None,
        *,
        heap: bool,
        rss: HighWaterAccount | None,
        tally_of: Callable[[Callsite, str | None], _counters.Tally],
        judge: Callable[[Measurement], None],
        guard: Guard,
    ) -> None:
        self.callsite = callsite
        self.error_type = error_type
        self.tally = _counters.Tally(
            self, heap=heap, resident=rss, budget_bytes=callsite.budget_bytes
        )
        #: Whether calls that begin from now on are told elsewhere.
        self.retired = False
        self._tally_of = tally_of
        self._judge = judge
        self._guard = guard

    @property
    def ended(self) -> bool:
        """Whether there will be no more calls."""
        return self.retired and not self.tally.in_flight

    def tally_of(self, error: BaseException) -> _counters.Tally:
        """Return the tally of the calls that end with such an error."""
        return self._tally_of(self.callsite, error_type_of(error))

    def missed(self, doing: str) -> None:
        """Account for a number that a call could not have."""
        error = ProbeError(
            "somebody else changed what it is read from, or the step changed threads"
        )
        self._guard.caught(self.callsite, doing, error)

    def take(self) -> Sums | None:
        """Return the sums since this was last called; None where there was no call."""
        taken = self.tally.take()
        if taken is None:
            return None
        latest = taken[-1]
        measurements = [self._measurement(numbers) for numbers in latest]
        for measurement in measurements:
            self._judge(measurement)
        return Sums(*taken)._replace(latest=measurements)

    def _measurement(self, numbers: tuple[int | None, ...]) -> Measurement:
        fields: dict[str, Any] = dict(zip(_FIELDS, numbers, strict=True))
        if fields["heap_net_bytes"] is not None:
            fields.update(probe="native", attribution="exact")
        if fields["rss_net_bytes"] is not None:
            fields["rss_peak_method"] = "hwm"
        return Measurement(callsite=self.callsite, error_type=self.error_type, **fields)
