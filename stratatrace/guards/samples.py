"""Samples of a run of any length, in bounded memory."""

from __future__ import annotations

from array import array
from typing import NamedTuple

__all__ = ["MemorySample", "SampleRing"]


class MemorySample(NamedTuple):
    """A stretch of a run, and what was in use in it."""

    #: When its first look was, in seconds since the start.
    seconds: float
    average_bytes: int
    lowest_bytes: int
    highest_bytes: int
    #: How many looks it is of.
    looks: int


class SampleRing:
    """Samples of the whole run, all of the same number of looks, but for the last.

    The latest few would forget how it began, and every tenth look would miss the peaks. So a sample
    keeps the lowest and the highest of its looks, and whenever there is no room left, each two
    become one. All memory is taken at the beginning.

    Args:
        most: How many samples there may be; an even number.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._looks_each = 1
        self._used = 0
        self._seconds = array("d", bytes(8 * most))
        self._sums, self._lowest, self._highest, self._looks = (
            array("q", bytes(8 * most)) for _ in range(4)
        )

    def add(self, seconds: float, used_bytes: int) -> None:
        """Take one more look."""
        last = self._used - 1
        if last >= 0 and self._looks[last] < self._looks_each:
            self._sums[last] += used_bytes
            self._lowest[last] = min(self._lowest[last], used_bytes)
            self._highest[last] = max(self._highest[last], used_bytes)
            self._looks[last] += 1
            return
        if self._used == self._most:
            self._halve()
        place = self._used
        self._seconds[place] = seconds
        self._sums[place] = self._lowest[place] = self._highest[place] = used_bytes
        self._looks[place] = 1
        self._used += 1

    def samples(self) -> tuple[MemorySample, ...]:
        """Return them, the oldest first."""
        return tuple(
            MemorySample(seconds, round(total / looks), lowest, highest, looks)
            for seconds, total, lowest, highest, looks in zip(
                self._seconds[: self._used],
                self._sums[: self._used],
                self._lowest[: self._used],
                self._highest[: self._used],
                self._looks[: self._used],
                strict=True,
            )
        )

    def _halve(self) -> None:
        for place in range(self._most // 2):
            one, two = 2 * place, 2 * place + 1
            self._seconds[place] = self._seconds[one]
            self._sums[place] = self._sums[one] + self._sums[two]
            self._lowest[place] = min(self._lowest[one], self._lowest[two])
            self._highest[place] = max(self._highest[one], self._highest[two])
            self._looks[place] = self._looks[one] + self._looks[two]
        self._used = self._most // 2
        self._looks_each *= 2
