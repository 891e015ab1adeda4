"""When a test is said to need more memory than before, and when that may be chance."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from stratatrace.pytest_plugin.judging import MOST_RUNS, judge, limit_of, settle, typical_of

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 2**20


def runs_of(*peaks: int) -> Callable[[], int | None]:
    """Return what gives these peaks, one a call, and fails when asked for more."""
    left = list(peaks)
    return lambda: left.pop(0)


def never() -> int | None:
    """Be not asked."""
    raise AssertionError


def test_what_keeps_to_its_limit_is_not_repeated() -> None:
    """A run is the same up to the limit, less where it is clearly below, and new without one."""
    assert judge(MIB, limit_of(MIB), never).status == "same"
    assert judge(MIB, MIB // 2, never).status == "less"
    assert judge(None, MIB, never).status == "new"
    assert judge(1, 10_000, never).status == "same"


def test_what_always_takes_more_is_convicted_by_three_repeats() -> None:
    """No more are run where they agree."""
    verdict = judge(MIB, 2 * MIB, runs_of(2 * MIB, 2 * MIB, 2 * MIB))
    assert verdict.status == "regressed"
    assert verdict.runs == (2 * MIB,) * 4


def test_one_repeat_within_the_limit_acquits() -> None:
    """A first run that imports, or fills caches, is no regression."""
    assert judge(MIB, 50 * MIB, runs_of(MIB)).status == "acquitted"
    assert judge(MIB, 2 * MIB, runs_of(2 * MIB, 2 * MIB, MIB)).status == "acquitted"


def test_repeats_that_scatter_are_all_looked_at() -> None:
    """Nine, all over the limit, are too many for chance; three are not."""
    scattered = [limit_of(MIB) + 1, 9 * MIB, 2 * MIB, 7 * MIB, limit_of(MIB) + 1]
    repeats = (scattered * 2)[: MOST_RUNS - 1]
    verdict = judge(MIB, 2 * MIB, runs_of(*repeats))
    assert verdict.status == "regressed"
    assert len(verdict.runs) == MOST_RUNS


def test_what_cannot_be_repeated_is_not_convicted() -> None:
    """Nobody can be sure of it."""
    assert judge(MIB, 2 * MIB, lambda: None).status == "unsure"


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_seldom_taken_for_more(seed: int) -> None:
    """Where runs scatter around the very limit, one in a hundred fails at most."""
    chance = random.Random(seed)

    def run() -> int:
        return round(chance.gauss(limit_of(MIB), MIB / 10))

    failed = sum(judge(MIB, run(), run).status == "regressed" for _ in range(1000))
    assert failed <= 10


def test_a_baseline_moves_only_for_a_difference() -> None:
    """What has hardly changed keeps it; the rest gets the median of three, or what there is."""
    assert settle(MIB, MIB + 1, never) == (MIB,)
    assert settle(MIB, 9 * MIB, runs_of(MIB + 5, MIB - 5)) == (MIB,)
    assert typical_of(settle(MIB, 9 * MIB, runs_of(3 * MIB, 4 * MIB))) == 4 * MIB
    assert typical_of(settle(None, 9 * MIB, runs_of(3 * MIB, 3 * MIB))) == 3 * MIB
    assert settle(None, 9 * MIB, lambda: None) == (9 * MIB,)
