"""How often, and when, a monitor tells of a rise in simulated days: leaks, and what is none."""

from __future__ import annotations

import itertools
import math
import random
import statistics
from typing import TYPE_CHECKING

from stratatrace.guards.rise import RiseWatch
from stratatrace.trends import rises_steadily

if TYPE_CHECKING:
    from collections.abc import Callable

GIB = 2**30
HOUR, DAY = 3600.0, 86400.0
SEEDS = 10
SECONDS_BETWEEN_LOOKS = 30.0
#: What may be used beyond what is in use at first.
LEFT_BYTES = 4 * GIB


def steady(chance: random.Random) -> Callable[[float], float]:
    """Noise of 5% of what is left, each look unlike the one before."""
    return lambda _: chance.gauss(0, 0.2 * GIB)


def step(chance: random.Random) -> Callable[[float], float]:
    """A quarter of what is left, at once, after an hour."""
    return lambda t: GIB * (t > HOUR) + chance.gauss(0, 0.1 * GIB)


def filling(seconds: float) -> Callable[[random.Random], Callable[[float], float]]:
    """A cache that takes a quarter of what is left, the more slowly the fuller it is."""
    return lambda chance: lambda t: GIB * (1 - math.exp(-t / seconds)) + chance.gauss(0, 0.02 * GIB)


def wandering(looks: float) -> Callable[[random.Random], Callable[[float], float]]:
    """Noise of 5% of what is left that lasts for so many looks."""
    kept = 1 - 1 / looks

    def make(chance: random.Random) -> Callable[[float], float]:
        level = [0.0]

        def at(_: float) -> float:
            level[0] = kept * level[0] + math.sqrt(1 - kept * kept) * chance.gauss(0, 0.2 * GIB)
            return level[0]

        return at

    return make


def leak(hours: float) -> Callable[[random.Random], Callable[[float], float]]:
    """All that is left, at one rate, in so many hours."""
    return lambda chance: lambda t: LEFT_BYTES * t / (hours * HOUR) + chance.gauss(0, 0.05 * GIB)


def first_rise_hours(level: Callable[[float], float]) -> float | None:
    """Return after how many hours of a day a rise is told of."""
    watch = RiseWatch()
    for look in itertools.count():
        seconds = look * SECONDS_BETWEEN_LOOKS
        used = level(seconds)
        if seconds > DAY or used > LEFT_BYTES:
            return None
        watch.add(seconds, round(used))
        if watch.rise(round(LEFT_BYTES - used), horizon_seconds=DAY) is not None:
            return seconds / HOUR
    return None


def share_taken(make: Callable[[random.Random], list[float]]) -> tuple[float, float]:
    """Return how many of the series pass by the test and both halves, and how many are clear."""
    series = [make(random.Random(seed)) for seed in range(1000)]
    return tuple(  # type: ignore[return-value]
        sum(
            rises_steadily(range(32), values, p_at_most=0.001, independent=independent) is not None
            for values in series
        )
        / len(series)
        for independent in (True, False)
    )


def main() -> None:
    """Print both tables."""
    print(f"{SEEDS} days each; {'told of':>27} {'after (median)':>16}")
    for title, make in (
        ("noise", steady),
        ("step", step),
        ("filling, 1 minute", filling(60)),
        ("filling, 10 minutes", filling(600)),
        ("filling, 2 hours", filling(7200)),
        ("wandering, 5 minutes", wandering(10)),
        ("wandering, 50 minutes", wandering(100)),
        ("leak, 1 hour to the end", leak(1)),
        ("leak, 10 hours to the end", leak(10)),
        ("leak, 24 hours to the end", leak(24)),
    ):
        told = [first_rise_hours(make(random.Random(seed))) for seed in range(SEEDS)]
        hours = [hour for hour in told if hour is not None]
        after = f"{statistics.median(hours):.2f} h" if hours else "-"
        print(f"{title:30} {len(hours):7} of {SEEDS} {after:>12}")
    for title, kept in (("wandering", 0.8), ("walking", 1.0)):

        def series(chance: random.Random, kept: float = kept) -> list[float]:
            steps = (chance.gauss(0, 1) for _ in range(32))
            return list(itertools.accumulate(steps, lambda level, more: kept * level + more))

        passing, clear = share_taken(series)
        print(f"series of 32 that are {title}: {passing:.1%} pass, {clear:.1%} are clear, too")


if __name__ == "__main__":
    main()
