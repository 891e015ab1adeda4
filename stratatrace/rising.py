"""Whether a level rises all along, in minutes or in days, seen while it goes on; in bounded memory.

Pure: it is told the times and the levels.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Generic, TypeVar

from stratatrace.trends import rises_steadily

if TYPE_CHECKING:
    from collections.abc import Callable

    from stratatrace.trends import SteadyRise

__all__ = ["LASTING", "POINTS", "SHORTEST_SECONDS", "RisingWindow", "RisingWindows"]

#: The shortest time over which a rise is looked for, in seconds.
SHORTEST_SECONDS = 300.0
#: How many points a window has.
POINTS = 32
#: For how many points on end there must be a rise: a quarter of a window.
LASTING = 8

_WINDOWS = 12  # The longest is 2**11 times the shortest: a week, for five minutes.
# A rise is looked for at every new point, and the windows overlap: at one in a hundred, noise alone
# would be taken for a rise every few hours.
_P_AT_MOST = 0.001


class RisingWindow:
    """The latest points at one distance from each other."""

    def __init__(self) -> None:
        self.times: array[float] = array("d")
        self.lowest: array[int] = array("q")
        #: A point that waits for its neighbour, to become one of the next window with it.
        self.waiting: tuple[float, int] | None = None
        self.steady: SteadyRise | None = None
        #: At how many points on end there was a rise.
        self.lasted = 0

    @property
    def span_seconds(self) -> float:
        """From its first point to its last."""
        return self.times[-1] - self.times[0]

    @property
    def lasting(self) -> SteadyRise | None:
        """The rise; None where there is none, or it has not lasted yet."""
        return self.steady if self.lasted >= LASTING else None

    def add(self, seconds: float, lowest: int) -> tuple[float, int] | None:
        """Take one more point; return one for the next window when two have come."""
        if len(self.times) == POINTS:
            del self.times[0], self.lowest[0]
        self.times.append(seconds)
        self.lowest.append(lowest)
        if len(self.times) == POINTS:
            self.steady = rises_steadily(
                self.times, self.lowest, p_at_most=_P_AT_MOST, independent=False
            )
            self.lasted = self.lasted + 1 if self.steady is not None else 0
        if self.waiting is None:
            self.waiting = (seconds, lowest)
            return None
        earlier_seconds, earlier = self.waiting
        self.waiting = None
        return earlier_seconds, min(earlier, lowest)


_W = TypeVar("_W", bound=RisingWindow)


class RisingWindows(Generic[_W]):
    """Looks for a steady rise over windows of time, each twice as long as the one before.

    A leak that begins after a quiet day must be seen in minutes, and one that takes a day must not
    be lost in an hour's noise. A point is the *lowest* of its time: what a collection of garbage
    gives back has not leaked. The memory that this takes does not grow with time, and the work is
    that of two windows for each point of the first, on average.

    Args:
        make: Makes a window.
        shortest_seconds: How long the shortest window is.
    """

    def __init__(self, make: Callable[[], _W], shortest_seconds: float = SHORTEST_SECONDS) -> None:
        self._width_seconds = shortest_seconds / POINTS
        self._begun: tuple[float, int] | None = None
        self.windows = [make() for _ in range(_WINDOWS)]

    def add(self, seconds: float, level: int) -> None:
        """Take one more look.

        Args:
            seconds: When; never less than the time before.
            level: What was in use.
        """
        if self._begun is None:
            self._begun = (seconds, level)
            return
        began_seconds, lowest = self._begun
        if seconds - began_seconds < self._width_seconds:
            self._begun = (began_seconds, min(lowest, level))
            return
        self._begun = (seconds, level)
        point = (began_seconds, lowest)
        for window in self.windows:
            merged = window.add(*point)
            if merged is None:
                return
            point = merged
