"""Alerts: once for each crossing, and told again as time runs out."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratatrace.errors import InvalidTypeError, InvalidValueError
from stratatrace.guards.alerts import (
    Extent,
    MemoryAlert,
    RiseAlarm,
    ThresholdAlarm,
    checked_thresholds,
    format_duration,
)
from stratatrace.guards.rise import Rise

MIB = 2**20


def _told(alarm: ThresholdAlarm, levels: list[int], *, limit: int | None = None) -> list[int]:
    """Return the levels at which there was something to tell."""
    return [
        level
        for second, level in enumerate(levels)
        if alarm.look(Extent(level, limit, None if limit is None else level), float(second))
    ]


def test_a_size() -> None:
    """Is told of once, and again after use was well below."""
    levels = [90, 100, 120, 99, 100, 96, 101, 94, 99, 102, 150]
    assert _told(ThresholdAlarm(100), levels) == [100, 102]


def test_a_share_of_the_limit() -> None:
    """By what is used of the limit, which is not what the process uses."""
    alarm = ThresholdAlarm(0.8)
    assert alarm.look(Extent(900, 1000, 799, "machine"), 0.0) is None
    alert = alarm.look(Extent(1, 1000 * MIB, 800 * MIB, "cgroup /a"), 7.0)
    assert alert == MemoryAlert(
        kind="threshold",
        text="80% of the memory of cgroup /a is in use (800.0 MiB of 1000.0 MiB), "
        "and the threshold is 80%",
        seconds=7.0,
        used_bytes=1,
        threshold=0.8,
    )
    assert str(alert) == alert.text
    assert json.loads(json.dumps(alert.to_dict()))["threshold"] == 0.8


def test_without_a_limit_there_is_no_share() -> None:
    """And nothing to tell."""
    assert _told(ThresholdAlarm(0.1), [10**15]) == []


def test_a_limit_of_zero() -> None:
    """Is crossed by anything, and told of."""
    alert = ThresholdAlarm(0.5).look(Extent(5, 0, 5, "cgroup /"), 0.0)
    assert alert is not None
    assert "100% of the memory of cgroup /" in alert.text


@pytest.mark.parametrize(("given", "text"), [("1 MiB", "1.0 MiB"), (2**21, "2.0 MiB")])
def test_the_text_of_a_size(given: int | str, text: str) -> None:
    """As int or text."""
    alert = ThresholdAlarm(given).look(Extent(3 * MIB), 0.0)
    assert alert is not None
    assert alert.text == f"3.0 MiB are in use, and the threshold is {text}"
    assert alert.threshold == given


@given(st.lists(st.integers(0, 200), max_size=60))
def test_between_two_alerts_use_was_below(levels: list[int]) -> None:
    """By 5% at least; and the first crossing is always told."""
    alarm = ThresholdAlarm(100)
    told = [place for place, level in enumerate(levels) if alarm.look(Extent(level), float(place))]
    above = [place for place, level in enumerate(levels) if level >= 100]
    assert told[:1] == above[:1]
    for one, two in pairwise(told):
        assert min(levels[one:two]) < 95


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ("0.8", InvalidTypeError),
        (0.8, InvalidTypeError),
        (None, InvalidTypeError),
        ([True], InvalidTypeError),
        ([None], InvalidTypeError),
        ([0.0], InvalidValueError),
        ([1.5], InvalidValueError),
        ([float("nan")], InvalidValueError),
        ([0], InvalidValueError),
        (["much"], InvalidValueError),
    ],
)
def test_thresholds_that_make_no_sense(given: Any, error: type[Exception]) -> None:
    """Raise."""
    with pytest.raises(error):
        checked_thresholds(given)


def test_thresholds_of_a_generator() -> None:
    """Are taken once."""
    assert checked_thresholds(share / 10 for share in (5, 9)) == (0.5, 0.9)


def _rise(seconds_left: float) -> Rise:
    return Rise(2.0 * MIB / 60, seconds_left, 600.0)


def test_a_rise_is_told_of_in_words() -> None:
    """With what it would take to judge it."""
    alert = RiseAlarm().look(Extent(500 * MIB, left_bytes=80 * MIB), _rise(2400.0), 900.0)
    assert alert is not None
    assert alert.text == (
        "at this rate, out of memory in 40 minutes: 500.0 MiB are in use, 2.0 MiB more each minute "
        "for 10 minutes now, and 80.0 MiB are left"
    )
    assert (alert.kind, alert.seconds_left, alert.window_seconds) == ("rise", 2400.0, 600.0)
    assert alert.bytes_per_second == 2 * MIB / 60


def test_a_rise_is_told_again_when_half_the_time_has_gone() -> None:
    """And not at every look."""
    alarm = RiseAlarm()
    left = [2400.0, 2000.0, 1201.0, 1200.0, 900.0, 600.0, 300.0]
    told = [s for s in left if alarm.look(Extent(1), _rise(s), 2400.0 - s)]
    assert told == [2400.0, 1200.0, 600.0, 300.0]


def test_a_rise_that_wavers_is_not_told_again() -> None:
    """The next one is news after five minutes without."""
    alarm = RiseAlarm()
    looks = [(0.0, True), (100.0, False), (200.0, True), (499.0, False), (500.0, False)]
    told = [t for t, rises in looks if alarm.look(Extent(1), _rise(2400.0) if rises else None, t)]
    assert told == [0.0]
    assert alarm.look(Extent(1), _rise(2400.0), 510.0) is not None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "less than a second"),
        (1.0, "1 second"),
        (59, "59 seconds"),
        (89, "89 seconds"),
        (90, "2 minutes"),
        (2400, "40 minutes"),
        (5400, "2 hours"),
        (86400, "24 hours"),
        (200000, "2 days"),
    ],
)
def test_times_for_people(seconds: float, text: str) -> None:
    """In the largest unit of which there are two."""
    assert format_duration(seconds) == text
