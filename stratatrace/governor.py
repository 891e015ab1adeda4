"""The governor: which calls are measured, so that measuring takes no more than a share of time.

Each callsite has a *ratio*, the probability with which a call is measured, and each measured call
stands for ``1 / ratio`` calls. About once a second the ratios are set anew. What a callsite would
take of the time if every call was measured is its *share*: how often it is called, times what one
of its calls has cost. Shares are cut off at a common level, like hills by rising water, so high
that what is left below it fits into what stratatrace may take. So rare calls are always measured,
dear as they may be, and those are thinned that take the most.

No thread and no timer: the governor works when calls are made. It knows neither what is called nor
how it is measured, and reads no clock but the one that it is given.
"""

from __future__ import annotations

import math
import random
import threading
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

__all__ = ["Governor", "PlainTurns", "Site", "Turns", "water_level"]

_MOST_SITES = 4096
_PERIOD_NS = 1_000_000_000
#: A period ends early when so many times its budget is used up: a burst is no reason to overspend.
_EARLY = 1.5
#: What is aimed at, as a part of what is allowed: there is room for what is not foreseen.
_AIM = 0.9
#: A ratio is not raised by less than this, so that chance does not move it up and down.
_BAND = 1.1
#: The most that a ratio grows in a second.
_GROWTH = 1.25
#: What a second leaves of the memory of how often a callsite was called.
_FADE = 0.9
#: Likewise of what was spent on calls that are measured in any case.
_FADE_FIXED = 0.5
#: And of how many times more was spent than the shares explain; by that, less is aimed at.
_FADE_DOUBT = 0.7
_MOST_DOUBT = 2.0
#: Of how many calls the cost is the mean, about.
_COST_CALLS = 20
#: How many times dearer calls are taken to have become in one period, at most.
_MOST_DEARER = 10.0
#: How many calls pass unmeasured before somebody looks at the clock again.
_MOST_IN_A_ROW = 100
#: What no rule takes from the callsites, as a part of what is allowed.
_LEAST = 0.1
_FORGOTTEN_PER_S = 1e-3
_LONGEST_S = 60.0


class Turns(Protocol):
    """What is looked at with each call of a callsite; the compiled part has its own."""

    #: How many of the next calls are not measured.
    left: int
    #: How many calls one that is measured stands for.
    weight: float
    #: What measuring has cost since this was last looked at.
    own_ns: int


class PlainTurns:
    """Turns that are changed from Python alone."""

    __slots__ = ("left", "own_ns", "weight")

    def __init__(self) -> None:
        self.left = 0
        self.own_ns = 0
        self.weight = 1.0


class Site:
    """What the governor knows of one callsite.

    Args:
        turns: What its calls look at.
    """

    __slots__ = (
        "_faded_calls",
        "_faded_s",
        "_given",
        "_own_ns",
        "_rest",
        "cost_ns",
        "measured",
        "rate",
        "ratio",
        "turns",
    )

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        #: The probability with which a call is measured.
        self.ratio = 1.0
        #: Calls in a second, and no less than shortly before.
        self.rate = 0.0
        #: What measuring a call costs.
        self.cost_ns = 0.0
        #: Calls that were measured in this period.
        self.measured = 0
        # How many calls there were in how much time, either fading: their quotient is the mean.
        self._faded_calls = self._faded_s = 0.0
        self._own_ns = 0
        self._rest = 0  # Calls that are not measured either when those in `turns.left` are through.
        self._given = 0  # What `turns.left` would be had nobody called in this period.

    @property
    def share(self) -> float:
        """What measuring every call would take of the time."""
        return self.rate * self.cost_ns / 1e9

    @property
    def forgotten(self) -> bool:
        """Whether it was not called for so long that nothing has to be done for it."""
        return self.ratio == 1 and self.rate < _FORGOTTEN_PER_S

    def passes(self) -> bool:
        """Count a call as one that is not measured, where one is left."""
        if self.turns.left <= 0:
            return False
        self.turns.left -= 1
        return True

    def collect(self) -> int:
        """Return what measuring has cost since this was last called, in ns."""
        own_ns, self.turns.own_ns = self.turns.own_ns, 0
        self._own_ns += own_ns
        return own_ns

    def pass_on(self) -> None:
        """Let more of the calls pass that are not to be measured, where there are such."""
        self._let_pass(self._rest)

    def draw(self, chance: random.Random) -> None:
        """Draw how many calls there are before the next that is measured."""
        if self.ratio >= 1:
            self._let_pass(0)
        else:
            # So many fail in a row when each is measured with that probability.
            self._let_pass(int(math.log(1 - chance.random()) / math.log1p(-self.ratio)))

    def _let_pass(self, calls: int) -> None:
        in_a_row = min(calls, _MOST_IN_A_ROW)
        self._rest = calls - in_a_row
        self._given += in_a_row - self.turns.left
        self.turns.left = in_a_row

    def learn(self, seconds: float) -> None:
        """Take what has happened in so many seconds into account, and begin a period."""
        calls = self.measured + self._given - self.turns.left
        self._given = self.turns.left
        # Up at once by as many as are not there by chance, and down slowly.
        fade = _FADE**seconds
        self._faded_calls = self._faded_calls * fade + calls
        self._faded_s = self._faded_s * fade + seconds
        mean = self._faded_calls / max(self._faded_s, 1.0)
        surely = (calls - 2 * math.sqrt(calls)) / seconds
        self.rate = max(mean, surely, self.rate * fade)
        if self.measured:
            cost_ns = max(self._own_ns, 0) / self.measured
            if self.cost_ns:
                # A call that the system interrupted for milliseconds is not dear for that.
                cost_ns = min(cost_ns, self.cost_ns * _MOST_DEARER)
                cost_ns -= (cost_ns - self.cost_ns) * _COST_CALLS / (self.measured + _COST_CALLS)
            self.cost_ns = cost_ns
            self._own_ns = self.measured = 0

    def approach(self, target: float, growth: float) -> bool:
        """Move the ratio down to *target*, or up towards it; return whether it was moved.

        Args:
            target: Where it ought to be.
            growth: By how much it may grow.
        """
        ratio = self.ratio
        if target < ratio:
            self.ratio = target
        elif target > ratio * _BAND or target == 1:
            self.ratio = min(target, ratio * growth)
        self.turns.weight = 1 / self.ratio
        return self.ratio != ratio


def water_level(shares: Iterable[float], room: float) -> float:
    """Return the level at which *shares*, none of them taken for higher, add up to *room*."""
    rising = sorted(shares)
    for below, share in enumerate(rising):
        level = room / (len(rising) - below)
        if share > level:
            return level
        room -= share
    return math.inf


class Governor:
    """Keeps measuring within a share of wall time.

    Whoever measures asks `takes` with each call, and tells `spent` afterwards. `site_of` and
    `admits` do the same without looking the callsite up each time.

    Threads may use it at once: what two of them count in the same instant may be off by one.

    Args:
        max_overhead: How much of the wall time measuring may take, above 0 and up to 1.
        clock: Returns a time in ns that never steps back.
        seed: Makes what is drawn repeatable; for tests.
    """

    def __init__(
        self,
        max_overhead: float,
        *,
        clock: Callable[[], int] = time.perf_counter_ns,
        seed: int | None = None,
    ) -> None:
        self.max_overhead = max_overhead
        self._clock = clock
        self._seed = seed
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget all that was learned, as a forked child does."""
        self._lock = threading.Lock()
        self._chance = random.Random(self._seed)  # noqa: S311 -- nobody gains by guessing it
        self._sites: dict[Hashable, Site] = {}
        self._awake: dict[Site, None] = {}  # Those that are not forgotten; a set that has an order.
        #: What is spent on calls that are measured in any case.
        self.fixed = PlainTurns()
        self._fixed_share = 0.0
        self._doubt = 1.0
        self._fixed_ns = 0
        self._spent_ns = self._told_ns = self._before_ns = 0
        self._began_ns = self._told_at_ns = self._clock()
        self._begin_period(self._began_ns, 0)

    # --- For whoever measures ---------------------------------------------------------------------

    def takes(self, key: Hashable) -> float | None:
        """Decide whether a call is measured.

        Args:
            key: What is called; past a bound, what is new is taken together.

        Returns:
            The probability with which it was chosen; None where it is not to be measured.
        """
        site = self.site_of(key)
        return site.ratio if self.admits(site) else None

    def spent(self, key: Hashable, own_ns: int) -> None:
        """Account for what measuring a call has taken, `takes` included."""
        self.site_of(key).turns.own_ns += own_ns

    def ratio_of(self, key: Hashable) -> float:
        """Return the ratio in force."""
        return self.site_of(key).ratio

    def site_of(
        self, key: Hashable, make: Callable[[Hashable], Turns] = lambda _key: PlainTurns()
    ) -> Site:
        """Return what is known of a callsite.

        Args:
            key: What is called, as for `takes`.
            make: Makes what its calls look at when it is new; given the key, or None where it is
                taken together with others.
        """
        site = self._sites.get(key)
        if site is None and len(self._sites) >= _MOST_SITES:
            key = None
            site = self._sites.get(key)
        return self._sites.setdefault(key, Site(make(key))) if site is None else site

    def sites(self) -> list[Site]:
        """Return all that are known."""
        return list(self._sites.values())

    def admits(self, site: Site) -> bool:
        """Decide whether a call is measured, as `takes` does."""
        if site.passes():
            return False
        self._look(site)
        if site.passes():
            return False
        if not site.measured:
            self._awake[site] = None
        site.measured += 1
        site.draw(self._chance)
        return True

    def take_overhead(self) -> float:
        """Return what measuring has taken of the time since this was last called."""
        now_ns = self._clock()
        if now_ns >= self._due_ns:
            self._evaluate(now_ns)
        self._spent_ns += self._collect(list(self._awake))
        spent_ns, self._told_ns = self._spent_ns - self._told_ns, self._spent_ns
        elapsed_ns, self._told_at_ns = now_ns - self._told_at_ns, now_ns
        return max(spent_ns, 0) / max(elapsed_ns, 1)

    # --- Once in a period -------------------------------------------------------------------------

    def _look(self, site: Site) -> None:
        """Evaluate where it is time to; then more of the calls may have to pass."""
        self._spent_ns += site.collect()
        now_ns = self._clock()
        if now_ns >= self._due_ns or self._spent_ns >= self._enough_ns:
            # It is in the time of a call, of which it would be told as the cost.
            site.turns.own_ns -= self._evaluate(now_ns)
        if site.turns.left <= 0:
            site.pass_on()

    def _evaluate(self, now_ns: int) -> int:
        """Set the ratios anew; return how long that took, in ns."""
        if not self._lock.acquire(blocking=False):
            return 0  # Another thread does, or a finalizer is measured that runs in the midst.
        try:
            self._spent_ns += self._collect(list(self._awake))
            self._set_ratios(max(now_ns - self._began_ns, 1) / 1e9)
            self._before_ns = self._spent_ns
            took_ns = max(self._clock() - now_ns, 0)
            self._spent_ns += took_ns
            self._begin_period(now_ns, took_ns)
            return took_ns
        finally:
            self._lock.release()

    def _collect(self, sites: Iterable[Site]) -> int:
        fixed_ns, self.fixed.own_ns = self.fixed.own_ns, 0
        self._fixed_ns += fixed_ns
        return fixed_ns + sum(site.collect() for site in sites)

    def _set_ratios(self, seconds: float) -> None:
        sites = list(self._awake)
        for site in sites:
            site.learn(seconds)
        level = water_level((site.share for site in sites), self._room(sites, seconds))
        growth = _GROWTH ** min(seconds, _LONGEST_S)
        for site in sites:
            target = 1.0 if site.share <= level else level / site.share
            if site.approach(target, growth):
                site.draw(self._chance)
            if site.forgotten:
                self._awake.pop(site, None)

    def _room(self, sites: list[Site], seconds: float) -> float:
        """Return what all shares together may be, after a period of so many seconds."""
        fixed = self._fixed_ns / 1e9 / seconds
        self._fixed_share += (fixed - self._fixed_share) * (1 - _FADE_FIXED**seconds)
        room = self.max_overhead * _AIM - self._fixed_share
        room = max(room, self.max_overhead * _LEAST)
        # Many callsites together may be hot where each of them seems so by chance.
        actual = (self._spent_ns - self._before_ns - self._fixed_ns) / 1e9 / seconds
        expected = sum(site.ratio * site.share for site in sites)
        doubt = actual / expected if expected else 1.0
        at_once = doubt > self._doubt and actual > room * _EARLY
        self._doubt += (doubt - self._doubt) * (1 if at_once else 1 - _FADE_DOUBT**seconds)
        self._doubt = min(max(self._doubt, 1.0), _MOST_DOUBT)
        return room / self._doubt

    def _begin_period(self, now_ns: int, took_ns: int) -> None:
        self._began_ns = now_ns
        self._fixed_ns = took_ns
        # What this takes itself stays a small part of what is allowed.
        period_ns = max(_PERIOD_NS, int(took_ns / (_LEAST * self.max_overhead)))
        self._due_ns = now_ns + period_ns
        self._enough_ns = self._spent_ns + int(period_ns * self.max_overhead * _EARLY)
