"""Tallies: calls that are told by nothing but sums, added up by the compiled part.

Where no span is recorded and nobody takes Measurements one by one, a call needs no Measurement. It
is opened, charged, closed and added to its callsite's sums without a line of Python. To be imported
only where the compiled part is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stratatrace.errors import ProbeError
from stratatrace.measurement import Measurement, Sums, error_type_of
from stratatrace.probes import _counters

if TYPE_CHECKING:
    from collections.abc import Callable

    from stratatrace.compiled import HighWaterAccount
    from stratatrace.guard import Guard
    from stratatrace.measurement import Callsite

__all__ = ["Tallied"]

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
