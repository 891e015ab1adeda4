"""When what is in use will be too much, where it rises all along."""

from __future__ import annotations

import math
from typing import NamedTuple

from stratatrace.rising import SHORTEST_SECONDS, RisingWindow, RisingWindows

__all__ = ["Rise", "RiseWatch"]

# How far ahead a rise is drawn out, in times of what was seen of it.
_REACH = 6


class Rise(NamedTuple):
    """A steady rise that goes on."""

    bytes_per_second: float
    #: Until all that is left is used up, at this rate.
    seconds_left: float
    #: For how long it has been seen.
    window_seconds: float


class _Window(RisingWindow):
    """The latest points at one distance from each other, and what will come of them."""

    def drawn_out(self, left_bytes: int) -> Rise | None:
        """Return the rise that uses up what is left; None where there is none, or it does not."""
        if self.lasting is None:
            return None
        seconds_left = left_bytes / self.lasting.slope
        if seconds_left > _REACH * self.span_seconds or left_bytes > self._to_come():
            return None
        return Rise(self.lasting.slope, seconds_left, self.span_seconds)

    def _to_come(self) -> float:
        """Return what a rise that slows down will take until it has come to rest.

        A cache that fills does: each half of a window brings less than the one before, by about the
        same share, and all that is to come is the sum of that series.
        """
        _, first, second = self.steady or (0.0, 0.0, 0.0)
        if second >= first:
            return math.inf
        share = second / first
        return second * self.span_seconds / 2 * share / (1 - share)


class RiseWatch(RisingWindows[_Window]):
    """Looks for a steady rise over windows of time, each twice as long as the one before.

    Args:
        shortest_seconds: How long the shortest window is.
    """

    def __init__(self, shortest_seconds: float = SHORTEST_SECONDS) -> None:
        super().__init__(_Window, shortest_seconds)

    def rise(self, left_bytes: int, *, horizon_seconds: float) -> Rise | None:
        """Return the rise that will have used up what is left first; None where there is none.

        A rise is drawn out over six times the time that it was seen for, and no further.

        Args:
            left_bytes: What is left now.
            horizon_seconds: How far ahead to look at most.
        """
        first: Rise | None = None
        for window in self.windows:
            rise = window.drawn_out(left_bytes)
            if rise is None or rise.seconds_left > horizon_seconds:
                continue
            if first is None or rise.seconds_left < first.seconds_left:
                first = rise
        return first
