"""Trends: held against values that were computed by hand, and against series of known kinds."""

from __future__ import annotations

import itertools
import math
import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tracing import untraced

from stratatrace.errors import InvalidValueError
from stratatrace.trends import mann_kendall, rises_steadily, theil_sen

if TYPE_CHECKING:
    from collections.abc import Callable

COUNT = 32
RUNS = 400

numbers = st.integers(-1000, 1000)


@pytest.mark.parametrize(
    ("values", "score", "p_rising"),
    [
        ([1, 2, 3, 4], 6, 1 / 24),  # One of 4! orders.
        ([1, 2, 4, 3], 4, 4 / 24),  # It, and the three that have one pair falling.
        ([4, 3, 2, 1], -6, 1.0),
        ([2, 1], -1, 1.0),
        ([1, 3, 2], 1, 3 / 6),
        ([5, 5, 5], 0, 1.0),
        ([7], 0, 1.0),
        ([], 0, 1.0),
    ],
)
def test_short_series_by_hand(values: list[float], score: int, p_rising: float) -> None:
    """The chances are those of all orders, counted."""
    result = mann_kendall(values)
    assert result.score == score
    assert result.p_rising == pytest.approx(p_rising)


def test_the_chance_of_every_score() -> None:
    """For six values, all 720 orders were looked at."""
    scores = [mann_kendall(order).score for order in itertools.permutations(range(6))]
    for order in itertools.permutations(range(6)):
        result = mann_kendall(order)
        expected = sum(score >= result.score for score in scores) / 720
        assert result.p_rising == pytest.approx(expected)
        assert result.p_falling == pytest.approx(sum(s <= result.score for s in scores) / 720)


def test_a_long_series_by_hand() -> None:
    """Twenty values that rise: S is 190, its variance 20 * 19 * 45 / 18 = 950."""
    result = mann_kendall(range(20))
    assert result.score == 190
    assert result.z == pytest.approx(189 / math.sqrt(950))
    assert result.p_rising == pytest.approx(0.5 * math.erfc(189 / math.sqrt(1900)))
    assert result.p_falling == pytest.approx(1.0)


def test_equal_values_by_hand() -> None:
    """Groups of 2 and 3: the variance is (10*9*25 - 2*1*9 - 3*2*11) / 18 = 2166 / 18."""
    values = [1, 2, 2, 3, 5, 5, 5, 6, 7, 8]
    result = mann_kendall(values)
    assert result.score == 45 - 1 - 3
    assert result.z == pytest.approx(40 / math.sqrt(2166 / 18))


@pytest.mark.parametrize(
    ("count", "score", "p"),
    [(4, 4, 0.167), (5, 8, 0.042), (8, 16, 0.031), (9, 18, 0.038), (10, 21, 0.036)],
)
def test_the_printed_tables(count: int, score: int, p: float) -> None:
    """As Kendall's tables of the chances have them."""
    values = list(range(count))
    # Moving a value past its neighbour takes two off the score.
    swaps = (count * (count - 1) // 2 - score) // 2
    for place in itertools.cycle(range(count - 1)):
        if not swaps:
            break
        if values[place] < values[place + 1]:
            values[place], values[place + 1] = values[place + 1], values[place]
            swaps -= 1
    assert mann_kendall(values).score == score
    assert mann_kendall(values).p_rising == pytest.approx(p, abs=0.0005)


@given(st.lists(numbers, max_size=24))
def test_turned_around_it_is_the_opposite(values: list[int]) -> None:
    """In time, or in sign."""
    result = mann_kendall(values)
    for other in (mann_kendall(values[::-1]), mann_kendall([-value for value in values])):
        assert other.score == -result.score
        assert other.z == pytest.approx(-result.z)
        assert other.p_falling == pytest.approx(result.p_rising)


@given(st.lists(numbers, max_size=24))
def test_only_the_order_counts(values: list[int]) -> None:
    """Whatever keeps the order keeps the result."""
    assert mann_kendall([value**3 for value in values]) == mann_kendall(values)


@given(st.lists(numbers, min_size=1, max_size=30))
def test_chances_are_chances(values: list[int]) -> None:
    """From 0 to 1; together, at least 1, since what is seen counts in both."""
    result = mann_kendall(values)
    assert 0 <= result.p_rising <= 1
    assert 0 <= result.p_falling <= 1
    assert result.p_rising + result.p_falling >= 1 - 1e-9


@given(slope=numbers, start=numbers, times=st.lists(numbers, min_size=2, max_size=20, unique=True))
def test_a_line_has_its_slope(slope: int, start: int, times: list[int]) -> None:
    """Whatever the times are, and in whatever order."""
    assert theil_sen(times, [start + slope * time for time in times]) == pytest.approx(slope)


@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=12, unique_by=lambda p: p[0]))
def test_the_slope_is_turned_with_the_series(points: list[tuple[int, int]]) -> None:
    """Scaled by what values and times are scaled by."""
    times, values = [x for x, _ in points], [y for _, y in points]
    slope = theil_sen(times, values)
    assert theil_sen(times, [-3 * y for y in values]) == pytest.approx(-3 * slope)
    assert theil_sen([2 * x for x in times], values) == pytest.approx(slope / 2)


def test_a_slope_by_hand() -> None:
    """Of the slopes 1, 3, 5, 5, 7, 9 the median is 5; at the same time there is none."""
    assert theil_sen([0, 1, 2, 3], [0, 1, 10, 15]) == 5.0
    assert theil_sen([0, 0, 1], [0, 100, 2]) == (2 + -98) / 2


def test_an_outlier_does_not_turn_the_slope() -> None:
    """Up to 29% of the values may be anything."""
    values = [float(time) for time in range(20)]
    values[3] = values[11] = values[17] = 1e9
    assert theil_sen(range(20), values) == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize(
    ("times", "values"), [([1, 2], [1]), ([], []), ([1], [1]), ([2, 2], [1, 5])]
)
def test_where_there_is_no_slope(times: list[float], values: list[float]) -> None:
    """Raises."""
    with pytest.raises(InvalidValueError, match="slope"):
        theil_sen(times, values)


# Kinds of series, of noise that is a tenth of their height.


def _noise(chance: random.Random) -> list[float]:
    return [chance.gauss(0, 0.1) for _ in range(COUNT)]


def _rise(chance: random.Random) -> list[float]:
    return [time / COUNT + chance.gauss(0, 0.1) for time in range(COUNT)]


def _saw(chance: random.Random) -> list[float]:
    return [time / COUNT + time % 5 / 10 + chance.gauss(0, 0.02) for time in range(COUNT)]


def _stairs(chance: random.Random) -> list[float]:
    return [time // 4 * 4 / COUNT + chance.gauss(0, 0.001) for time in range(COUNT)]


def _filling(chance: random.Random) -> list[float]:
    return [1 - math.exp(-time / 4) + chance.gauss(0, 0.03) for time in range(COUNT)]


def _step(chance: random.Random) -> list[float]:
    place = chance.randrange(4, COUNT - 4)
    return [float(time >= place) + chance.gauss(0, 0.1) for time in range(COUNT)]


def _wandering(chance: random.Random) -> list[float]:
    values = [0.0]
    while len(values) < COUNT:
        values.append(0.8 * values[-1] + chance.gauss(0, 0.1))
    return values


def _random_walk(chance: random.Random) -> list[float]:
    return list(itertools.accumulate(chance.gauss(0, 0.1) for _ in range(COUNT)))


def _share_taken(
    kind: Callable[[random.Random], list[float]], *, p_at_most: float = 0.001, independent: bool
) -> float:
    taken = sum(
        rises_steadily(
            range(COUNT), kind(random.Random(seed)), p_at_most=p_at_most, independent=independent
        )
        is not None
        for seed in range(RUNS)
    )
    return taken / RUNS


@pytest.mark.parametrize("independent", [True, False])
@pytest.mark.parametrize("kind", [_rise, _saw, _stairs])
def test_a_steady_rise_is_found(
    kind: Callable[[random.Random], list[float]], independent: bool
) -> None:
    """Under noise, as a saw, and in stairs."""
    assert _share_taken(kind, independent=independent) >= 0.9


@pytest.mark.parametrize(
    ("kind", "most", "most_clear"),
    [
        (_noise, 0.0, 0.0),
        (_filling, 0.01, 0.01),
        (_step, 0.04, 0.01),
        (_wandering, 0.04, 0.02),
        (_random_walk, 0.2, 0.065),
    ],
)
def test_what_is_no_steady_rise(
    kind: Callable[[random.Random], list[float]], most: float, most_clear: float
) -> None:
    """Is hardly taken for one; a walk at random is, at times, and by its nature."""
    assert _share_taken(kind, independent=True) <= most
    assert _share_taken(kind, independent=False) <= most_clear


def test_a_clear_rise_under_noise_that_lasts() -> None:
    """Is found by its height, however much alike its neighbours are."""

    def kind(chance: random.Random) -> list[float]:
        return [time / COUNT + y / 20 for time, y in enumerate(_random_walk(chance))]

    assert _share_taken(kind, independent=False) >= 0.95
    line = [0.1 * time for time in range(COUNT)]
    assert rises_steadily(range(COUNT), line, independent=False) is not None


@untraced
@pytest.mark.parametrize("p_at_most", [0.05, 0.01])
@pytest.mark.parametrize("count", [9, 16, 32])
def test_the_test_keeps_its_promise(count: int, p_at_most: float) -> None:
    """Of series without a trend, it takes no more for rising than it says, and about as many."""
    runs = 4000
    chance = random.Random(1)
    taken = sum(
        mann_kendall([chance.random() for _ in range(count)]).p_rising <= p_at_most
        for _ in range(runs)
    )
    spread = 4 * math.sqrt(p_at_most * (1 - p_at_most) / runs)
    assert taken / runs <= p_at_most + spread
    assert taken / runs >= p_at_most / 2 - spread


@untraced
def test_equal_values_do_not_break_the_promise() -> None:
    """With only three levels, most pairs are ties."""
    runs = 4000
    chance = random.Random(2)
    taken = sum(
        mann_kendall([chance.randrange(3) for _ in range(COUNT)]).p_rising <= 0.01
        for _ in range(runs)
    )
    assert 0.004 <= taken / runs <= 0.016


def test_too_few_values() -> None:
    """Say nothing."""
    assert rises_steadily(range(7), range(7), p_at_most=0.5) is None
    assert rises_steadily(range(8), range(8)) == (1.0, 1.0, 1.0)


def test_a_slope_that_is_mostly_nothing() -> None:
    """Two steps are a trend to the test, and no steady rise."""
    values = [0.0] * 16 + [1.0] * 16
    assert mann_kendall(values).p_rising < 0.001
    assert rises_steadily(range(32), values) is None
