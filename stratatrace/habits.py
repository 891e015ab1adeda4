"""What is remembered of callsites from call to call, and the scores that calls get by it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from stratatrace.scoring import Baseline

if TYPE_CHECKING:
    from stratatrace.guard import Guard
    from stratatrace.measurement import Callsite, Measurement
    from stratatrace.typing import Scorer

__all__ = ["Habit", "Habits", "Judge"]

_MOST_CALLSITES = 4096
# A record is more than the highest of all calls before by this, and not one of the first calls.
_RECORD = 1.25
_CALLS_BEFORE_RECORDS = 10
_ALMOST_ONE = 1 - 1e-9  # Ten times a tenth is a little less than one.


class Habit:
    """What is remembered of one callsite."""

    __slots__ = ("_calls", "_debt", "_highest_bytes", "baseline")

    def __init__(self) -> None:
        self.baseline = Baseline()
        # Grows by the sample ratio with each call, and falls by one with each that is traced.
        self._debt = 1.0  # So that the first is traced.
        self._calls = self._highest_bytes = 0

    def due(self, ratio: float) -> bool:
        """Tell whether the next call is to be traced, where that share of them is."""
        due = self._debt > _ALMOST_ONE
        self._debt += ratio - due
        return due

    def taken(self, ratio: float) -> None:
        """One was traced, due or not: it is of the share, but does not use it up far beforehand."""
        if ratio < 1:
            self._debt = max(self._debt, 0) + ratio - 1

    def breaks_record(self, peak_bytes: int) -> bool:
        """Take the heap peak of a call into account; tell whether it is by far the highest yet."""
        highest_bytes, self._highest_bytes = (
            self._highest_bytes,
            max(self._highest_bytes, peak_bytes),
        )
        self._calls += 1
        return self._calls > _CALLS_BEFORE_RECORDS and peak_bytes > highest_bytes * _RECORD


class Habits:
    """Those of all callsites."""

    def __init__(self) -> None:
        self._by_callsite: dict[tuple[str, str | None], Habit] = {}

    def __len__(self) -> int:
        return len(self._by_callsite)

    def of(self, callsite: Callsite) -> Habit:
        """Return what is remembered of *callsite*; past a bound, of no callsite in particular."""
        key = (callsite.function, callsite.label)
        habit = self._by_callsite.get(key)
        if habit is None:
            if len(self._by_callsite) >= _MOST_CALLSITES:
                key = ("", None)
            habit = self._by_callsite.setdefault(key, Habit())
        return habit


class Judge:
    """Gives Measurements their scores, and learns from them.

    Args:
        scorer: Knows what is good.
        habits: Where to look for what is usual.
        guard: Accounts for a scorer that fails.
    """

    def __init__(self, scorer: Scorer, habits: Habits, guard: Guard) -> None:
        self.scorer = scorer
        self._habits = habits
        self._guard = guard

    def __call__(self, measurement: Measurement) -> None:
        """Give *measurement* its score, where it can have one."""
        try:
            self._score(measurement)
        except Exception:
            self._guard.caught(measurement.callsite, "score a call")

    def _score(self, measurement: Measurement) -> None:
        budget_bytes = measurement.callsite.budget_bytes
        if measurement.heap_peak_bytes is not None:
            baseline = self._habits.of(measurement.callsite).baseline
            budget_bytes = budget_bytes or baseline.median_bytes
            baseline.learn(measurement.heap_peak_bytes)
        score = self.scorer.score(measurement, budget_bytes)
        if score is None:
            return
        if not math.isfinite(score):
            msg = f"{self.scorer!r} gave {score!r} as a score"
            raise ValueError(msg)
        # It is frozen for those whom it is handed to, which comes next. A second one with the score
        # in it would take as long as all other bookkeeping of a call.
        object.__setattr__(measurement, "efficiency_score", float(score))
