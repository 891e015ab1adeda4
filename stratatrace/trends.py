"""Whether a series of numbers rises, and how fast, without a guess at how it is distributed; pure.

The Mann-Kendall test asks how many pairs of values rise and how many fall. Theil and Sen's slope is
the median of the slopes of all pairs. Neither minds outliers, nor values that are equal. Both look
at all pairs: the caller bounds the length of the series.

They take the values as independent of each other but for the trend. Memory is not: what it is now
it was nearly a moment ago, and a series that wanders shows trends that mean nothing.
`rises_steadily` therefore asks more than the test.

See H. B. Mann, Econometrica 13 (1945); P. K. Sen, J. Am. Stat. Assoc. 63 (1968).
"""

from __future__ import annotations

import math
from collections import Counter
from functools import lru_cache
from itertools import combinations, pairwise
from statistics import fmean, median
from typing import TYPE_CHECKING, NamedTuple

from stratatrace.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MannKendall", "SteadyRise", "mann_kendall", "rises_steadily", "theil_sen"]

# Up to here the chance is counted out where no values are equal; the normal distribution is close
# enough beyond.
_MOST_COUNTED = 10
# What the halves of a series must have of the whole one's slope. The first may have less: a rise
# that gets faster is no better news.
_LEAST_OF_FIRST_HALF = 1 / 3
_LEAST_OF_SECOND_HALF = 1 / 2
_SHORTEST = 8
_CLEAR_ERRORS = 5.0
_MOST_ALIKE = 0.99
_ROUNDING = 1e-18


class MannKendall(NamedTuple):
    """What the test says of a series."""

    #: Pairs that rise less pairs that fall.
    score: int
    #: The score in standard deviations of a series without a trend; 0 where all are equal.
    z: float
    #: The chance that a series without a trend rises as much, or more.
    p_rising: float
    #: The chance that a series without a trend falls as much, or more.
    p_falling: float


class SteadyRise(NamedTuple):
    """The slopes of a series that rises all along, in units of value by unit of time."""

    slope: float
    #: Of the earlier and of the later half of its values.
    first_half_slope: float
    second_half_slope: float


def mann_kendall(values: Sequence[float]) -> MannKendall:
    """Test a series for a trend.

    Args:
        values: The series, in the order of time; equal values are allowed.
    """
    score = sum(_sign(later - earlier) for earlier, later in combinations(values, 2))
    count = len(values)
    ties = [repeated for repeated in Counter(values).values() if repeated > 1]
    variance = (_spread(count) - sum(map(_spread, ties))) / 18
    if not variance:
        return MannKendall(0, 0.0, 1.0, 1.0)
    z = (score - _sign(score)) / math.sqrt(variance)  # One off for continuity.
    if count <= _MOST_COUNTED and not ties:
        return MannKendall(score, z, _counted_chance(count, score), _counted_chance(count, -score))
    deviation = math.sqrt(variance)
    return MannKendall(
        score, z, _upper_tail((score - 1) / deviation), _upper_tail((-score - 1) / deviation)
    )


def theil_sen(times: Sequence[float], values: Sequence[float]) -> float:
    """Return the median slope of all pairs, in units of value by unit of time.

    Args:
        times: When each value was seen; pairs of the same time do not count.
        values: As many values.

    Raises:
        InvalidValueError: There are not as many times as values, or no two different times.
    """
    if len(times) != len(values):
        msg = f"a slope needs a time for each value: {len(times)} times, {len(values)} values"
        raise InvalidValueError(msg)
    points = zip(times, values, strict=True)
    slopes = [(y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(points, 2) if x2 != x1]
    if not slopes:
        msg = "a slope needs values of two different times"
        raise InvalidValueError(msg)
    return median(slopes)


def rises_steadily(
    times: Sequence[float],
    values: Sequence[float],
    *,
    p_at_most: float = 0.01,
    independent: bool = True,
) -> SteadyRise | None:
    """Return the slopes of a series that rises all along; None where it does not.

    That is one which hardly rises so by chance, and whose second half goes on rising at half the
    slope or more: not one that has made a step, or that fills up and then stays.

    Args:
        times: When each value was seen, ascending.
        values: As many values, 8 or more.
        p_at_most: The chance that a series without a trend passes the test.
        independent: Whether each value is unlike the one before it but for the trend. Else the
            slope must also be clear of noise that lasts: five times its standard error, where the
            series counts as shorter by how alike neighbours are.
    """
    if len(values) < _SHORTEST:
        return None
    if mann_kendall(values).p_rising > p_at_most:
        return None
    slope = theil_sen(times, values)
    if not independent and _standard_errors(times, values, slope) < _CLEAR_ERRORS:
        return None
    middle = len(values) // 2
    first = theil_sen(times[:middle], values[:middle])
    second = theil_sen(times[middle:], values[middle:])
    steady = first >= slope * _LEAST_OF_FIRST_HALF and second >= slope * _LEAST_OF_SECOND_HALF
    return SteadyRise(slope, first, second) if slope > 0 and steady else None


def _standard_errors(times: Sequence[float], values: Sequence[float], slope: float) -> float:
    """Return how many of its standard errors a slope is, where neighbours are alike.

    The error is that of as many values as would tell as much if each were independent. What is left
    of a series without its slope looks less alike than it is, the more so the shorter it is.
    """
    count = len(values)
    apart = _distances([y - slope * x for x, y in zip(times, values, strict=True)])
    left = sum(distance * distance for distance in apart)
    taken = slope * slope * sum(distance * distance for distance in _distances(times))
    if left <= taken * _ROUNDING:
        return math.inf
    alike = sum(one * two for one, two in pairwise(apart)) / left
    alike = min(max((count * alike + 2) / (count - 4), 0.0), _MOST_ALIKE)
    independent = count * (1 - alike) / (1 + alike)
    return math.sqrt(taken / left * independent)


def _distances(values: Sequence[float]) -> list[float]:
    middle = fmean(values)
    return [value - middle for value in values]


def _sign(number: float) -> int:
    return (number > 0) - (number < 0)


def _spread(count: int) -> int:
    """Return 18 times the variance of the score of that many different values."""
    return count * (count - 1) * (2 * count + 5)


def _upper_tail(z: float) -> float:
    return 0.5 * math.erfc(z / math.sqrt(2))


def _counted_chance(count: int, score: int) -> float:
    """Return the chance that a random order of *count* different values has that score, or more."""
    orders = _orders_by_falls(count)
    pairs = count * (count - 1) // 2
    most_falls = (pairs - score) // 2
    return sum(orders[: most_falls + 1]) / math.factorial(count)


@lru_cache(maxsize=_MOST_COUNTED + 1)
def _orders_by_falls(count: int) -> list[int]:
    """Return how many orders of *count* values have 0, 1, 2 and so on pairs that fall."""
    orders = [1]
    for size in range(2, count + 1):
        longer = [0] * (len(orders) + size - 1)
        for falls, number in enumerate(orders):
            for more in range(size):
                longer[falls + more] += number
        orders = longer
    return orders
