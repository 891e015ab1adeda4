"""Thinning: the calls that the governor leaves out are counted, and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

from stratatrace.governor import PlainTurns
from stratatrace.measurement import Callsite, Sums, error_type_of
from stratatrace.probes import native_obstacle

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from stratatrace.governor import Governor, Site
    from stratatrace.own_work import OwnWork
    from stratatrace.probes._counters import Thinning
    from stratatrace.telemetry.metrics import MetricSink

__all__ = ["Holder", "PlainThinning", "Thinned", "Thinnings"]

_MOST_CALLSITES = 4096
# Past a bound, the governor takes callsites together.
_OTHERS = Callsite(name="", function="")


class Holder(Protocol):
    """Keeps stratatrace's own work away from the calls that are charged: the recorder does."""

    @property
    def work(self) -> OwnWork:
        """The threads whose calls are none."""
        ...

    def hold(self) -> object:
        """Charge no call from here to `unhold`."""
        ...

    def unhold(self, held: object, /) -> None:
        """Go on charging from where `hold` left off."""


class PlainThinning(PlainTurns):
    """The calls of one callsite that are not measured: one object that stands for each of them.

    Args:
        keeper: Counts them.
    """

    __slots__ = ("keeper", "retired")

    def __init__(self, keeper: Thinned) -> None:
        super().__init__()
        self.retired = False
        self.keeper = keeper

    def resume(self) -> None:
        """A step of a call begins."""

    def suspend(self) -> None:
        """It has ended."""

    def finish(self, error: BaseException | None = None) -> None:
        """A call has ended."""
        self.keeper.count(error)

    def take(self) -> int:
        """Return how many calls the keeper was not told of."""
        return 0


class Thinned:
    """Who counts the calls of one callsite that are not measured.

    Args:
        callsite: What is called.
        metrics: Who is told.
        holder: Keeps our own work away from the calls that are charged.
    """

    def __init__(self, callsite: Callsite, metrics: MetricSink, holder: Holder) -> None:
        self.callsite = callsite
        self.turns = _turns_of(self, holder.work)
        #: Whether any of its calls was ever left out.
        self.told = False
        self._holder = holder
        self._metrics: MetricSink | None = metrics
        metrics.attach(callsite, None, self)

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to take."""
        return self.turns.retired

    def take(self) -> Sums | None:
        """Return the calls since this was last called; None where there was none."""
        calls = self.turns.take()
        if not calls or self._metrics is None:
            return None
        return Sums(calls, 0, 0, None, None, None, None, [])

    def count(self, error: BaseException | None) -> None:
        """A call has ended that is not counted elsewhere."""
        held = self._holder.hold()
        try:
            if self._metrics is not None:
                self._metrics.count(self.callsite, error_type_of(error))
        finally:
            self._holder.unhold(held)

    def retire(self) -> None:
        """Leave no more calls out; those that are under way are counted as they end."""
        self.turns.retired = True
        self.turns.left = 0

    def disown(self) -> None:
        """Let the calls that are under way be somebody else's to tell of."""
        self.retire()
        self._metrics = None


def _turns_of(keeper: Thinned, work: OwnWork) -> Thinning | PlainThinning:
    if native_obstacle() is not None:
        return PlainThinning(keeper)
    from stratatrace.probes import _counters  # noqa: PLC0415 -- it is not always there

    return _counters.Thinning(keeper, work.threads)


class Thinnings:
    """Those of all callsites, as the governor wants it.

    Args:
        governor: Decides.
        metrics: Who is told of the calls that are left out, and of what measuring takes.
        holder: Keeps our own work away from the calls that are charged.
    """

    def __init__(self, governor: Governor, metrics: MetricSink, holder: Holder) -> None:
        self.governor = governor
        self._metrics = metrics
        self._holder = holder
        # Of the callsites that were called.
        self._by_callsite: dict[Callsite, Site] = {}

    def start(self) -> None:
        """Tell the metrics what measuring takes from now on."""
        self._metrics.overheads = self

    def stop(self) -> None:
        """Leave no more calls out, and forget what was learned."""
        if self._metrics.overheads is self:
            self._metrics.overheads = None
        for _, thinned in self._all():
            thinned.retire()
        self._begin_anew()

    def after_fork_in_child(self) -> None:
        """Begin anew: the parent tells of the calls that are under way."""
        for _, thinned in self._all():
            thinned.disown()
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._by_callsite.clear()
        self.governor.begin_anew()

    def passes(self, callsite: Callsite) -> Thinning | PlainThinning | None:
        """Return what stands for a call that is left out without asking; it takes no memory."""
        site = self._by_callsite.get(callsite)
        if site is None or not site.passes():
            return None
        turns: Any = site.turns  # It was made below.
        return cast("Thinning | PlainThinning", turns)

    def site_of(self, callsite: Callsite) -> Site:
        """Return what the governor knows of a callsite."""
        site = self._by_callsite.get(callsite)
        if site is None:
            if len(self._by_callsite) >= _MOST_CALLSITES:
                self._by_callsite.clear()  # Of callsites that come and go; what is known stays.
            site = self._by_callsite[callsite] = self._known(callsite)
        return site

    def _known(self, callsite: Callsite) -> Site:

        def make(key: Hashable) -> Thinning | PlainThinning:
            known = _OTHERS if key is None else callsite
            return Thinned(known, self._metrics, self._holder).turns

        return self.governor.site_of((callsite.function, callsite.label), make)

    def take_overhead(self) -> float:
        """Return what measuring has taken of the time since this was last called."""
        return self.governor.take_overhead()

    def ratios(self) -> Iterator[tuple[Callsite, float]]:
        """Return the ratio in force of each callsite of which calls were ever left out.

        One that is measured in full again goes on being told, as 1: what is not told any more would
        be taken for unchanged.
        """
        for site, thinned in self._all():
            thinned.told = thinned.told or site.ratio < 1
            if thinned.told:
                yield thinned.callsite, site.ratio

    def _all(self) -> Iterator[tuple[Site, Thinned]]:
        for site in self.governor.sites():
            # Those of others, who ask the governor by themselves, have no keeper.
            keeper = getattr(site.turns, "keeper", None)
            if isinstance(keeper, Thinned):
                yield site, keeper
