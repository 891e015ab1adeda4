"""The governor, driven by a simulated clock: it keeps to its budget, settles, and is fair."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratatrace.governor import Governor, water_level

BUDGET = 0.02
MICROSECOND = 1_000
MILLISECOND = 1_000_000
SLICE_S = 0.05


@dataclass
class Program:
    """A program whose calls cost no time but what measuring them takes."""

    max_overhead: float = BUDGET
    now_ns: int = 0
    #: Of each slice of time: the share that measuring took, and the ratios at its end.
    shares: list[float] = field(default_factory=list)
    ratios: dict[str, list[float]] = field(default_factory=dict)
    made: dict[str, int] = field(default_factory=dict)
    measured: dict[str, int] = field(default_factory=dict)
    #: How many calls each measured one stands for.
    weights: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.governor = Governor(self.max_overhead, clock=lambda: self.now_ns, seed=5)
        self._chance = random.Random(6)

    def run(self, seconds: float, **load: tuple[float, float]) -> None:
        """Run for a while.

        Args:
            seconds: How long.
            **load: Of each callsite, its calls in a second and what measuring one costs, in ns.
        """
        for _ in range(round(seconds / SLICE_S)):
            self._run_slice(load)

    def _run_slice(self, load: dict[str, tuple[float, float]]) -> None:
        began_ns, chance, spent_ns = self.now_ns, self._chance, 0
        calls = [
            (chance.random(), name)
            for name, (rate, _) in load.items()
            for _ in range(int(rate * SLICE_S + chance.random()))
        ]
        for part, name in sorted(calls):
            self.now_ns = max(self.now_ns, began_ns + int(part * SLICE_S * 1e9))
            self.made[name] = self.made.get(name, 0) + 1
            if (ratio := self.governor.takes(name)) is not None:
                self.weights.append(1 / ratio)
                self.measured[name] = self.measured.get(name, 0) + 1
                own_ns = int(load[name][1] * chance.uniform(0.5, 1.5))
                self.governor.spent(name, own_ns)
                self.now_ns += own_ns
                spent_ns += own_ns
        self.now_ns = max(self.now_ns, began_ns + int(SLICE_S * 1e9))
        self.shares.append(spent_ns / (self.now_ns - began_ns))
        for name in load:
            self.ratios.setdefault(name, []).append(self.governor.ratio_of(name))

    def overhead(self, seconds: float) -> float:
        """Return the share of the latest so many seconds that measuring took."""
        latest = self.shares[-round(seconds / SLICE_S) :]
        return sum(latest) / len(latest)


def turns_of(ratios: list[float]) -> int:
    """Return how often it was lowered after it was raised, or raised after it was lowered."""
    moves = [math.copysign(1, b - a) for a, b in pairwise(ratios) if a != b]
    return sum(a != b for a, b in pairwise(moves))


def test_a_program_within_the_budget_is_measured_in_full() -> None:
    """No call is left out for what there is room for."""
    program = Program()
    program.run(10, load=(100, 100 * MICROSECOND))
    assert program.measured == program.made
    assert program.overhead(10) == pytest.approx(0.01, rel=0.1)


def test_a_steady_load_settles_under_the_budget_and_stays() -> None:
    """After two seconds nothing moves any more, and what there is room for is used."""
    program = Program()
    program.run(2, hot=(2_000, 100 * MICROSECOND))
    program.ratios.clear()
    program.run(20, hot=(2_000, 100 * MICROSECOND))
    assert 0.8 * BUDGET < program.overhead(20) <= BUDGET
    assert max(program.ratios["hot"]) <= 1.15 * min(program.ratios["hot"])
    assert turns_of(program.ratios["hot"]) <= 1


@pytest.mark.parametrize("max_overhead", [0.001, 0.02, 0.3])
def test_any_budget_is_kept(max_overhead: float) -> None:
    """Whether it is small or large."""
    program = Program(max_overhead)
    program.run(12, a=(5_000, 200 * MICROSECOND), b=(2_000, 50 * MICROSECOND))
    assert 0.6 * max_overhead < program.overhead(10) <= max_overhead * 1.02


def test_rare_calls_are_kept_however_dear() -> None:
    """Beside hot and cheap ones, which are thinned; those alone pay."""
    program = Program()
    load = {
        "hot": (2_000, 50 * MICROSECOND),
        "warm": (20, 50 * MICROSECOND),
        "rare": (0.5, 2 * MILLISECOND),
    }
    program.run(30, **load)
    assert program.measured["rare"] == program.made["rare"] > 5
    assert program.measured["warm"] == program.made["warm"]
    assert program.ratios["hot"][-1] < 0.3
    assert program.overhead(25) <= BUDGET


def test_many_callsites_are_thinned_from_the_hottest_on() -> None:
    """By Zipf's law: what a callsite takes of the time is cut off at one level for all."""
    program = Program()
    load = {f"site {n}": (800 / n, 100 * MICROSECOND) for n in range(1, 201)}
    program.run(12, **load)
    assert 0.7 * BUDGET < program.overhead(10) <= BUDGET
    ratios = [program.ratios[name][-1] for name in load]
    # Those that are called half as often are measured more.
    assert all(ratios[n - 1] < ratios[2 * n - 1] for n in range(1, 101))
    assert ratios[-1] > 100 * ratios[0]
    assert all(turns_of(program.ratios[name][40:]) <= 6 for name in load)


def test_a_burst_does_not_run_away() -> None:
    """It is answered in the midst of the second that it comes in, and overspends twice at most."""
    program = Program()
    program.run(5, hot=(10, 100 * MICROSECOND))
    assert program.ratios["hot"][-1] == 1
    program.run(3, hot=(6_000, 100 * MICROSECOND))  # 60% of the time, if all were measured.
    assert program.overhead(3) * 3 <= 3 * BUDGET + 2 * 1.6 * BUDGET
    assert program.overhead(2) <= BUDGET * 1.05


def test_the_first_burst_of_all_does_not_run_away_either() -> None:
    """Though nothing is known yet."""
    program = Program()
    program.run(1, hot=(6_000, 100 * MICROSECOND))
    assert program.overhead(1) <= 2.6 * BUDGET


@pytest.mark.parametrize("half_s", [0.3, 1.0, 3.0, 8.0])
def test_a_load_that_comes_and_goes_is_no_reason_to_swing(half_s: float) -> None:
    """On and off for any while: the ratio remembers, and moves little; the budget is kept."""
    program = Program()
    program.run(half_s, hot=(1_000, 100 * MICROSECOND))
    cycles = max(3, round(6 / half_s))
    for _ in range(cycles):
        program.run(half_s)
        program.run(half_s, hot=(1_000, 100 * MICROSECOND))
    assert program.overhead(half_s * 2 * cycles) <= BUDGET
    settled = program.ratios["hot"][-round(half_s / SLICE_S) * (cycles * 2 // 3) :]
    assert turns_of(settled) <= 3 * cycles
    # A second is on, off or both; and what eight seconds leave of the memory is two fifths.
    assert max(settled) <= min(settled) * max(2.5, 0.9 ** (-half_s) * 1.3)


def test_dearer_calls_are_thinned_more() -> None:
    """A cost that changes is learned within a second or two."""
    program = Program()
    program.run(5, hot=(1_000, 100 * MICROSECOND))
    before = program.ratios["hot"][-1]
    program.run(5, hot=(1_000, 500 * MICROSECOND))
    assert program.overhead(3) <= BUDGET
    assert program.ratios["hot"][-1] == pytest.approx(before / 5, rel=0.3)


def test_calls_that_have_become_cheap_are_measured_more_and_more() -> None:
    """But not all of them at once."""
    program = Program()
    program.run(5, hot=(1_000, 400 * MICROSECOND))
    before = program.ratios["hot"][-1]
    program.run(2, hot=(1_000, 4 * MICROSECOND))
    assert program.ratios["hot"][-1] <= before * 1.25**3
    program.run(25, hot=(1_000, 4 * MICROSECOND))
    assert program.ratios["hot"][-1] == 1


def test_a_call_that_was_interrupted_is_not_taken_for_dear() -> None:
    """One that took a hundred times as long by the clock changes little."""
    program = Program()
    program.run(5, hot=(20, 10 * MICROSECOND))
    assert program.ratios["hot"][-1] == 1
    program.governor.spent("hot", 500 * MILLISECOND)
    program.run(2, hot=(20, 10 * MICROSECOND))
    assert program.ratios["hot"][-1] == 1


def test_what_the_governor_takes_is_not_the_cost_of_a_call() -> None:
    """Though it is in the time that is told of the call in which it looked."""
    program = Program()

    def clock() -> int:
        if program.governor._lock.locked():
            program.now_ns += 20 * MILLISECOND
        return program.now_ns

    program.governor._clock = clock
    for _ in range(100):
        before_ns = program.now_ns
        assert program.governor.takes("a") == 1
        program.now_ns += 10 * MICROSECOND
        program.governor.spent("a", program.now_ns - before_ns)
        program.now_ns += 500 * MILLISECOND
    assert program.governor.site_of("a").cost_ns == pytest.approx(10 * MICROSECOND, rel=0.01)


def test_when_there_is_room_again_all_are_measured_again() -> None:
    """The ratio rises, by a quarter a second at most, and never falls on the way."""
    program = Program()
    program.run(4, hot=(2_000, 100 * MICROSECOND))
    low = program.ratios.pop("hot")[-1]
    program.run(60, hot=(15, 100 * MICROSECOND))
    rising = program.ratios["hot"]
    assert low < 0.15
    assert rising[-1] == 1
    assert turns_of(rising) == 0
    assert all(ratio <= low * 1.25 ** (n * SLICE_S + 1.5) for n, ratio in enumerate(rising))
    assert program.overhead(55) <= BUDGET


def test_what_is_no_longer_called_is_forgotten() -> None:
    """Collections alone see to it; then nothing has to be looked at."""
    program = Program()
    program.run(4, hot=(2_000, 100 * MICROSECOND))
    assert program.governor.ratio_of("hot") < 0.2
    for _ in range(10):
        program.now_ns += 60_000 * MILLISECOND
        assert program.governor.take_overhead() < BUDGET
    assert program.governor.ratio_of("hot") == 1
    assert not program.governor._awake


def test_calls_that_are_measured_in_any_case_leave_less_to_the_others() -> None:
    """They are in the overhead, and what they take is saved elsewhere."""
    program = Program()
    for _ in range(round(10 / SLICE_S)):
        program.run(SLICE_S, hot=(1_000, 100 * MICROSECOND))
        program.governor.fixed.own_ns += int(SLICE_S * 1e9 * 0.01)
    assert program.overhead(4) == pytest.approx(0.008, rel=0.3)
    program.run(5, hot=(1_000, 100 * MICROSECOND))
    for _ in range(round(10 / SLICE_S)):
        program.run(SLICE_S, hot=(1_000, 100 * MICROSECOND))
        program.governor.fixed.own_ns += int(SLICE_S * 1e9 * 0.2)
    assert 0 < program.overhead(3) < BUDGET / 5  # A tenth is left to them however much that is.


def test_the_overhead_is_what_was_spent_since_it_was_last_told() -> None:
    """By the clock."""
    program = Program(max_overhead=0.5)
    program.run(2, a=(100, 1 * MILLISECOND))
    assert program.governor.take_overhead() == pytest.approx(0.1, rel=0.15)
    program.run(2)
    assert program.governor.take_overhead() == 0
    assert program.governor.take_overhead() == 0  # In the same instant.


def test_what_is_known_is_bounded() -> None:
    """A hundred thousand callsites are 4096, and one for all others."""
    governor = Governor(BUDGET, clock=lambda: 0, seed=1)
    for number in range(100_000):
        governor.takes(number)
    assert len(governor.sites()) == 4097
    assert len(governor._awake) <= 4097
    assert governor.site_of("new") is governor.site_of("newer")


def test_looking_at_many_callsites_is_part_of_the_overhead() -> None:
    """It is counted, and becomes rarer where it takes long."""
    now_ns = 0

    def clock() -> int:  # Each look at it takes as long as looking at the callsites does.
        nonlocal now_ns
        now_ns += 20 * MILLISECOND
        return now_ns

    governor = Governor(BUDGET, clock=clock, seed=1)
    for _ in range(1000):
        governor.takes("a")
    assert governor._due_ns - governor._began_ns >= 20 * MILLISECOND / (0.1 * BUDGET)
    assert governor.take_overhead() <= 0.1 * BUDGET


def test_nobody_looks_while_somebody_looks() -> None:
    """Be it another thread, or a finalizer in the midst: the call goes on at the old ratio."""
    program = Program()
    program.governor.takes("a")
    program.now_ns = 5_000 * MILLISECOND
    with program.governor._lock:
        assert program.governor.takes("a") == 1
        assert program.governor._began_ns == 0
    assert program.governor.takes("a") == 1
    assert program.governor._began_ns == program.now_ns


@pytest.mark.parametrize(("pattern", "ratio"), [(1, 0.5), (2, 0.1), (10, 0.01)])
def test_weighted_sums_are_unbiased(pattern: int, ratio: float) -> None:
    """Also of a program that alternates: who is measured is chance, and not counted out."""
    governor = Governor(BUDGET, clock=lambda: 0, seed=pattern)
    site = governor.site_of("a")
    site.approach(ratio, 1)
    site.draw(governor._chance)
    truth = estimate = squares = 0.0
    for number in range(200_000):
        value = 1000.0 if number % pattern == 0 else 1.0
        truth += value
        squares += value * value
        if (taken := governor.takes("a")) is not None:
            assert taken == ratio
            assert site.turns.weight == 1 / ratio
            estimate += value / taken
    error = math.sqrt(squares * (1 - ratio) / ratio)
    assert abs(estimate - truth) < 3 * error


def test_sums_stay_unbiased_while_ratios_move() -> None:
    """Over many seeds, the mean of the estimates is the truth."""
    estimates = []
    for seed in range(40):
        program = Program()
        program.governor._chance = random.Random(seed)
        program.run(0.5, a=(30, 100 * MICROSECOND))
        program.run(0.5, a=(2_000, 200 * MICROSECOND))
        program.run(0.5, a=(100, 200 * MICROSECOND))
        estimates.append(sum(program.weights) / program.made["a"])
    mean = sum(estimates) / len(estimates)
    spread = math.sqrt(sum((e - mean) ** 2 for e in estimates) / len(estimates))
    assert abs(mean - 1) < 3 * spread / math.sqrt(len(estimates))
    assert spread < 0.2


SHARES = st.lists(st.floats(min_value=0, max_value=1e6), max_size=50)
ROOMS = st.floats(min_value=1e-6, max_value=1.0)


@given(SHARES, ROOMS)
def test_under_the_water_level_the_shares_fill_the_room(shares: list[float], room: float) -> None:
    """All of it where they do not fit, and are in it as they are where they do."""
    level = water_level(shares, room)
    used = sum(min(share, level) for share in shares)
    assert used <= room * (1 + 1e-9)
    if sum(shares) > room * (1 + 1e-9):
        assert used == pytest.approx(room)
    else:
        assert all(share <= level for share in shares) or used == pytest.approx(room)


@given(SHARES, ROOMS)
def test_who_takes_more_is_measured_less(shares: list[float], room: float) -> None:
    """Ratios are above 0 and up to 1, and fall as shares rise."""
    level = water_level(shares, room)
    ratios = [1.0 if share <= level else level / share for share in sorted(shares)]
    assert all(0 < ratio <= 1 for ratio in ratios)
    assert all(a >= b for a, b in pairwise(ratios))


@given(SHARES, ROOMS, st.floats(min_value=0, max_value=1e6))
def test_one_more_leaves_less_to_each(shares: list[float], room: float, more: float) -> None:
    """The level falls, or stays."""
    assert water_level([*shares, more], room) <= water_level(shares, room) * (1 + 1e-9)
