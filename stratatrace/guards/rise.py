"""Whether what is in use rises all along, in minutes or in days, and when it will be too much."""

from __future__ import annotations

import math
from array import array
from typing import NamedTuple

from stratatrace.trends import SteadyRise, rises_steadily

__all__ = ["Rise", "RiseWatch"]

#: The shortest time over which a rise is looked for, in seconds.
SHORTEST_SECONDS = 300.0

_POINTS = 32
_WINDOWS = 12  # The longest is 2**11 times the shortest: a week, for five minutes.
# A rise is looked for at every new point, and the windows overlap: at one in a hundred, noise alone
# would be taken for a rise every few hours.
_P_AT_MOST = 0.001
# How far ahead a rise is drawn out, in times of what was seen of it.
_REACH = 6
# For how many points on end there must be a rise: a quarter of a window.
_LASTING = 8


class Rise(NamedTuple):
    """A steady rise that goes on."""

    bytes_per_second: float
    #: Until all that is left is used up, at this rate.
    seconds_left: float
    #: For how long it has been seen.
    window_seconds: float


class _Window:
    """The latest points at one distance from each other."""

    def __init__(self) -> None:
        self.times: array[float] = array("d")
        self.lowest: array[int] = array("q")
        #: A point that waits for its neighbour, to become one of the next window with it.
        self.waiting: tuple[float, int] | None = None
        self.steady: SteadyRise | None = None
        #: At how many points on end there was a rise.
        self.lasted = 0

    def add(self, seconds: float, lowest_bytes: int) -> tuple[float, int] | None:
        """Take one more point; return one for the next window when two have come."""
        if len(self.times) == _POINTS:
            del self.times[0], self.lowest[0]
        self.times.append(seconds)
        self.lowest.append(lowest_bytes)
        if len(self.times) == _POINTS:
            self.steady = rises_steadily(
                self.times, self.lowest, p_at_most=_P_AT_MOST, independent=False
            )
            self.lasted = self.lasted + 1 if self.steady is not None else 0
        if self.waiting is None:
            self.waiting = (seconds, lowest_bytes)
            return None
        earlier_seconds, earlier_bytes = self.waiting
        self.waiting = None
        return earlier_seconds, min(earlier_bytes, lowest_bytes)

    def drawn_out(self, left_bytes: int) -> Rise | None:
        """Return the rise that uses up what is left; None where there is none, or it does not."""
        if self.steady is None or self.lasted < _LASTING:
            return None
        span_seconds = self.times[-1] - self.times[0]
        seconds_left = left_bytes / self.steady.slope
        if seconds_left > _REACH * span_seconds or left_bytes > self._to_come(span_seconds):
            return None
        return Rise(self.steady.slope, seconds_left, span_seconds)

    def _to_come(self, span_seconds: float) -> float:
        """Return what a rise that slows down will take until it has come to rest.

        A cache that fills does: each half of a window brings less than the one before, by about the
        same share, and all that is to come is the sum of that series.
        """
        _, first, second = self.steady or (0.0, 0.0, 0.0)
        if second >= first:
            return math.inf
        share = second / first
        return second * span_seconds / 2 * share / (1 - share)


class RiseWatch:
    """Looks for a steady rise over windows of time, each twice as long as the one before.

    A leak that begins after a quiet day must be seen in minutes, and one that takes a day must not
    be lost in an hour's noise. A point is the *lowest* of its time: what a collection of garbage
    gives back has not leaked. The memory that this takes does not grow with time, and the work is
    that of two windows for each point of the first, on average.

    Args:
        shortest_seconds: How long the shortest window is.
    """

    def __init__(self, shortest_seconds: float = SHORTEST_SECONDS) -> None:
        self._width_seconds = shortest_seconds / _POINTS
        self._windows = [_Window() for _ in range(_WINDOWS)]
        self._begun: tuple[float, int] | None = None

    def add(self, seconds: float, used_bytes: int) -> None:
        """Take one more look.

        Args:
            seconds: When; never less than the time before.
            used_bytes: What was in use.
        """
        if self._begun is None:
            self._begun = (seconds, used_bytes)
            return
        began_seconds, lowest_bytes = self._begun
        if seconds - began_seconds < self._width_seconds:
            self._begun = (began_seconds, min(lowest_bytes, used_bytes))
            return
        self._begun = (seconds, used_bytes)
        point = (began_seconds, lowest_bytes)
        for window in self._windows:
            merged = window.add(*point)
            if merged is None:
                return
            point = merged

    def rise(self, left_bytes: int, *, horizon_seconds: float) -> Rise | None:
        """Return the rise that will have used up what is left first; None where there is none.

        A rise is drawn out over six times the time that it was seen for, and no further.

        Args:
            left_bytes: What is left now.
            horizon_seconds: How far ahead to look at most.
        """
        first: Rise | None = None
        for window in self._windows:
            rise = window.drawn_out(left_bytes)
            if rise is None or rise.seconds_left > horizon_seconds:
                continue
            if first is None or rise.seconds_left < first.seconds_left:
                first = rise
        return first
