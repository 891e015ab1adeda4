"""How well a call used memory, 0 to 100. Pure: no I/O, no telemetry, no clock."""

from __future__ import annotations

import statistics
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stratatrace.measurement import Measurement
    from stratatrace.typing import Scorer

__all__ = ["SCORERS", "Baseline", "BudgetScorer", "LegacyScorer"]

_FLOOR_BYTES = 1_000_000
_MIB = 1 << 20


class BudgetScorer:
    """Scores a call against the peak that it may reach and the share of it that it may keep.

    ``100 * (B / max(B, peak)) ** 0.7 * (K / max(K, retained)) ** 0.3``, where ``B`` is the budget
    (at least 1 MB) and ``K`` is a quarter of it. A call within both scores 100; twice the budget
    scores 62, eight times 23. It falls with every byte above, and never reaches 0.
    """

    def score(self, measurement: Measurement, budget_bytes: int | None) -> float | None:
        """Return the score, or None with no budget or where the heap was not measured."""
        peak_bytes, net_bytes = measurement.heap_peak_bytes, measurement.heap_net_bytes
        if peak_bytes is None or net_bytes is None or budget_bytes is None:
            return None
        peak_allowed = max(budget_bytes, _FLOOR_BYTES)
        kept_allowed = peak_allowed / 4
        peak_factor: float = (peak_allowed / max(peak_allowed, peak_bytes)) ** 0.7
        kept_factor: float = (kept_allowed / max(kept_allowed, net_bytes)) ** 0.3
        return 100 * peak_factor * kept_factor


class LegacyScorer:
    """Strataregula's first formula: ten seconds score 0 for time, and 500 MiB 0 for memory.

    ``(max(0, 100 - 10 * seconds) + max(0, 100 - MiB / 5)) / 2``, of the peak RSS of the process. It
    knows no budget: to sleep ten seconds scores 50, and a job of 2 GB that does just what it should
    scores no more. Kept for comparison with numbers of old.
    """

    def score(self, measurement: Measurement, budget_bytes: int | None) -> float | None:  # noqa: ARG002
        """Return the score, or None where the resident memory was not measured."""
        if measurement.duration_ns is None or measurement.rss_peak_bytes is None:
            return None
        time_score = max(0.0, 100 - measurement.duration_ns / 1e9 * 10)
        memory_score = max(0.0, 100 - measurement.rss_peak_bytes / _MIB / 5)
        return (time_score + memory_score) / 2


#: The scorers that `configure(scorer=)` knows by name.
SCORERS: Mapping[str, Callable[[], Scorer]] = {"budget": BudgetScorer, "legacy": LegacyScorer}


class Baseline:
    """The peak that a callsite's calls usually reach: the median of its latest ones.

    It stands in for a budget where the user gave none, once there are `ENOUGH` calls to judge by.
    """

    ENOUGH = 10
    _LATEST = 64

    __slots__ = ("_peaks", "_unseen", "median_bytes")

    def __init__(self) -> None:
        #: The median in bytes, or None while too few calls were seen.
        self.median_bytes: int | None = None
        self._peaks: deque[int] = deque(maxlen=self._LATEST)
        self._unseen = 0

    def learn(self, peak_bytes: int) -> None:
        """Take the peak of one more call."""
        self._peaks.append(peak_bytes)
        self._unseen += 1
        if len(self._peaks) >= self.ENOUGH and self._unseen >= self.ENOUGH:
            self._unseen = 0
            self.median_bytes = round(statistics.median(self._peaks))
