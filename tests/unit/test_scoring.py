"""Scores: bounded, falling with waste, and none without something to judge by."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratatrace.measurement import Callsite, Measurement
from stratatrace.scoring import SCORERS, Baseline, BudgetScorer, LegacyScorer

CALLSITE = Callsite(name="f", function="f")
MB = 1_000_000
sizes = st.integers(min_value=0, max_value=2**45)


def _score(peak: int | None, net: int | None, budget: int) -> float | None:
    measured = Measurement(callsite=CALLSITE, heap_peak_bytes=peak, heap_net_bytes=net)
    return BudgetScorer().score(measured, budget)


@pytest.mark.parametrize(
    ("peak", "net", "score"),
    [
        (0, 0, 100),
        (100 * MB, 0, 100),
        (100 * MB, 25 * MB, 100),
        (200 * MB, 0, 62),
        (800 * MB, 0, 23),
        (100 * MB, -5 * MB, 100),
        (100 * MB, 100 * MB, 66),
    ],
)
def test_known_scores(peak: int, net: int, score: float) -> None:
    """On budget 100, at twice the budget 62, at eight times 23; what is kept costs too."""
    assert _score(peak, net, 100 * MB) == pytest.approx(score, abs=0.5)


@given(sizes, sizes, st.integers(min_value=0, max_value=2**45))
def test_scores_are_bounded(peak: int, net: int, budget: int) -> None:
    """Above 0 and at most 100, whatever is given."""
    score = _score(peak, net, budget)
    assert score is not None
    assert 0 < score <= 100


@given(sizes, sizes, sizes, st.integers(min_value=1, max_value=2**45))
def test_scores_never_rise_with_use(peak: int, more: int, net: int, budget: int) -> None:
    """A call that takes more, or keeps more, never scores higher."""
    lower_peak, lower_net = _score(peak + more, net, budget), _score(peak, net + more, budget)
    score = _score(peak, net, budget)
    assert score is not None
    assert lower_peak is not None
    assert lower_net is not None
    assert lower_peak <= score
    assert lower_net <= score


def test_a_small_budget_counts_as_a_megabyte() -> None:
    """Below the floor, a few stray bytes do not ruin a score."""
    assert _score(MB, 0, 1) == 100


@pytest.mark.parametrize(("peak", "net"), [(None, 5), (5, None), (None, None)])
def test_nothing_measured_is_no_score(peak: int | None, net: int | None) -> None:
    """Without heap numbers there is None, not 0 and not 100."""
    assert _score(peak, net, MB) is None


def test_without_a_budget_there_is_no_score() -> None:
    """Neither a budget nor habits: nothing to judge by."""
    measured = Measurement(callsite=CALLSITE, heap_peak_bytes=5, heap_net_bytes=5)
    assert BudgetScorer().score(measured, None) is None


@pytest.mark.parametrize(
    ("seconds", "peak_mib", "score"),
    [(0, 0, 100), (10, 0, 50), (100, 0, 50), (0, 500, 50), (5, 250, 50), (100, 9999, 0)],
)
def test_the_legacy_formula(seconds: int, peak_mib: int, score: float) -> None:
    """Half for time, half for resident memory, and none of it below zero."""
    measured = Measurement(
        callsite=CALLSITE, duration_ns=seconds * 10**9, rss_peak_bytes=peak_mib * 2**20
    )
    assert LegacyScorer().score(measured, None) == score
    assert LegacyScorer().score(Measurement(callsite=CALLSITE), None) is None


def test_every_name_makes_a_scorer() -> None:
    """The names that the configuration knows."""
    assert {name: type(make()) for name, make in SCORERS.items()} == {
        "budget": BudgetScorer,
        "legacy": LegacyScorer,
    }


def test_a_baseline_needs_enough_calls() -> None:
    """The median is None until there are enough calls to judge by, and then of all of them."""
    baseline = Baseline()
    for peak in range(Baseline.ENOUGH - 1):
        baseline.learn(peak)
        assert baseline.median_bytes is None
    baseline.learn(Baseline.ENOUGH - 1)
    assert baseline.median_bytes == round((Baseline.ENOUGH - 1) / 2)


def test_a_baseline_follows_the_latest_calls() -> None:
    """Old peaks are forgotten: a callsite whose calls have grown is judged by the grown ones."""
    baseline = Baseline()
    for _ in range(200):
        baseline.learn(1)
    for _ in range(200):
        baseline.learn(1000)
    assert baseline.median_bytes == 1000


def test_a_baseline_can_be_taught_by_threads() -> None:
    """Calls that end at the same time do not break it."""
    baseline = Baseline()
    failures: list[BaseException] = []

    def teach() -> None:
        try:
            for peak in range(2000):
                baseline.learn(peak)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=teach) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert baseline.median_bytes is not None
