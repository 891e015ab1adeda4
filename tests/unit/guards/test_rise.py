"""A steady rise: found over minutes and over days, and not where there is none."""

from __future__ import annotations

import math
import random
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from tracing import untraced

from stratatrace.guards.rise import Rise, RiseWatch, _Window

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 2**20
GIB = 2**30
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


def _first_rise(
    level: Callable[[float], float],
    *,
    left: int = 4 * GIB,
    until: float = 2 * HOUR,
    every: float = 2.0,
    horizon: float = DAY,
) -> tuple[float, Rise] | None:
    """Return when a rise is seen first in a run of that level, of which *left* may be used more."""
    watch = RiseWatch()
    base = level(0.0)
    seconds = 0.0
    while seconds < until:
        used = round(level(seconds))
        watch.add(seconds, used)
        rise = watch.rise(max(0, round(base + left - used)), horizon_seconds=horizon)
        if rise is not None:
            return seconds, rise
        seconds += every
    return None


def _noise(seed: int, height: float) -> Callable[[], float]:
    chance = random.Random(seed)
    return lambda: chance.gauss(0, height)


def test_a_leak_is_told_of_long_before_the_end() -> None:
    """After a sixth of the time that there was."""
    noise = _noise(1, 5 * MIB)
    found = _first_rise(lambda t: GIB + MIB * t + noise())
    assert found is not None
    seconds, rise = found
    assert 10 * MINUTE <= seconds <= 15 * MINUTE
    assert rise.bytes_per_second == pytest.approx(MIB, rel=0.1)
    assert rise.seconds_left == pytest.approx(4 * GIB / MIB - seconds, rel=0.15)
    assert rise.window_seconds == pytest.approx(10 * MINUTE, rel=0.1)


@untraced
def test_a_slow_leak_is_told_of_when_it_was_seen_for_long_enough() -> None:
    """Nothing is drawn out over more than six times the time that it was seen for."""
    rate = 4 * GIB / (20 * HOUR)
    noise = _noise(2, 5 * MIB)
    found = _first_rise(lambda t: GIB + rate * t + noise(), until=10 * HOUR, every=5.0)
    assert found is not None
    seconds, rise = found
    assert rise.seconds_left <= 6 * rise.window_seconds
    assert 3 * HOUR <= seconds <= 6 * HOUR
    assert rise.bytes_per_second == pytest.approx(rate, rel=0.2)


@untraced
def test_a_leak_after_a_quiet_day() -> None:
    """Is seen long before the end, too."""
    noise = _noise(3, 5 * MIB)
    began = 10 * HOUR
    found = _first_rise(
        lambda t: GIB + MIB * max(0.0, t - began) + noise(), until=12 * HOUR, every=5.0
    )
    assert found is not None
    assert began + 5 * MINUTE <= found[0] <= began + 20 * MINUTE


def test_a_leak_under_a_saw_of_garbage() -> None:
    """What a collection gives back is not taken for a leak, nor does it hide one."""
    saw = 300 * MIB
    assert _first_rise(lambda t: GIB + saw * (t % 20) / 20) is None
    found = _first_rise(lambda t: GIB + saw * (t % 20) / 20 + MIB * t)
    assert found is not None
    assert found[1].bytes_per_second == pytest.approx(MIB, rel=0.1)


def test_spikes_are_not_in_the_rate() -> None:
    """A point is the lowest of its time."""
    chance = random.Random(4)
    found = _first_rise(lambda t: GIB + MIB * t + (chance.random() < 0.3) * 2 * GIB)
    assert found is not None
    assert found[0] < 15 * MINUTE
    assert found[1].bytes_per_second == pytest.approx(MIB, rel=0.02)


def test_a_rise_must_last() -> None:
    """For a quarter of its window more."""
    found = _first_rise(lambda t: GIB + MIB * t, left=1500 * MIB)
    assert found is not None
    assert 1.2 * 5 * MINUTE <= found[0] <= 1.4 * 5 * MINUTE


@untraced
def test_a_walk_at_random_is_hardly_taken_for_a_rise() -> None:
    """In one window, without the other things that are asked."""
    taken = 0
    for seed in range(200):
        chance, level, window = random.Random(seed), 0.0, _Window()
        for second in range(32):
            level += chance.gauss(0, MIB)
            window.add(float(second), round(level))
        taken += window.steady is not None
    assert taken / 200 <= 0.08


def test_a_rise_in_stairs() -> None:
    """Allocators take memory in large pieces."""
    found = _first_rise(lambda t: GIB + 64 * MIB * (t // 60))
    assert found is not None
    assert found[1].bytes_per_second == pytest.approx(64 * MIB / 60, rel=0.15)


@untraced
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "kind", ["noise", "filling soon", "filling late", "step", "wandering", "daily", "falling"]
)
def test_what_is_no_leak(kind: str, seed: int) -> None:
    """In a day, nothing is told, though a tenth of what is left comes and goes."""
    noise = _noise(seed, GIB)
    wandering = [0.0]

    def level(t: float) -> float:
        if kind.startswith("filling"):
            time = 5 * MINUTE if kind == "filling soon" else HOUR
            return 2 * GIB - GIB * math.exp(-t / time) + 0.02 * noise()
        if kind == "step":
            return GIB + GIB * (t > HOUR) + 0.1 * noise()
        if kind == "wandering":  # By as much, within half an hour or so.
            wandering[0] = 0.95 * wandering[0] + 0.03 * noise()
            return GIB + wandering[0]
        if kind == "daily":
            return GIB + 0.3 * GIB * math.sin(t / DAY * math.tau) + 0.1 * noise()
        return GIB + 0.2 * noise() - (0.01 * t * MIB if kind == "falling" else 0)

    assert _first_rise(level, left=4 * GIB, until=DAY, every=60.0) is None


def test_a_horizon() -> None:
    """Beyond it, nothing is told."""
    assert _first_rise(lambda t: GIB + MIB * t, horizon=30 * MINUTE, until=20 * MINUTE) is None
    found = _first_rise(lambda t: GIB + MIB * t, horizon=30 * MINUTE)
    assert found is not None
    assert found[1].seconds_left <= 30 * MINUTE


def test_a_rise_that_slows_down_is_drawn_out_as_it_slows_down() -> None:
    """A cache that fills is no leak, though at its rate it would be: so much is not to come."""

    def filling(t: float) -> float:
        return 3 * GIB - 2 * GIB * math.exp(-t / HOUR)

    assert _first_rise(filling, left=5 * GIB // 2) is None
    found = _first_rise(filling, left=GIB)
    assert found is not None
    assert found[0] < 0.6 * HOUR


def test_the_nearest_end_is_told() -> None:
    """Where a rise gets faster, the short windows know it first."""
    watch = RiseWatch()
    for second in range(0, 7200, 2):
        watch.add(float(second), GIB + second * MIB + max(0, second - 6600) * 9 * MIB)
    rise = watch.rise(4 * GIB, horizon_seconds=DAY)
    assert rise is not None
    assert rise.bytes_per_second == pytest.approx(10 * MIB, rel=0.1)


def test_a_rise_that_ends_is_forgotten() -> None:
    """Within a window of its length."""
    watch = RiseWatch()
    ended = None
    for second in range(0, 3600, 2):
        watch.add(float(second), GIB + min(second, 600) * MIB)
        rise = watch.rise(4 * GIB, horizon_seconds=DAY)
        if second > 600 and rise is None and ended is None:
            ended = second
    assert ended is not None
    assert ended <= 600 + 600


def test_looks_that_are_far_apart() -> None:
    """Are points of their own."""
    watch = RiseWatch()
    for look in range(45):
        watch.add(look * 600.0, GIB + look * 10 * MIB)
    rise = watch.rise(100 * MIB, horizon_seconds=DAY)
    assert rise is not None
    assert rise.bytes_per_second == pytest.approx(10 * MIB / 600)


@untraced
def test_the_windows_are_bounded() -> None:
    """A month of looks takes no more memory than a day."""
    watch = RiseWatch()
    for second in range(0, 86400 * 30, 600):
        watch.add(float(second), GIB)
    tracemalloc.start()
    for second in range(86400 * 30, 86400 * 60, 600):
        watch.add(float(second), GIB)
    current, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert current < 10_000
    assert all(len(window.times) <= 32 for window in watch.windows)
