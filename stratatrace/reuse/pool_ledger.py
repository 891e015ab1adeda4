"""What a pool has done: counters that only grow, and `PoolStats`, which is what users see."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakValueDictionary

from stratatrace.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stratatrace.reuse.pool_slots import Slot

__all__ = ["Ledger", "PoolStats", "Totals"]

# Enough to know what an object costs where the heap of few calls is traced.
_COSTS_WANTED = 5
_MOST_EVENTS = 64
_PATIENCE_SECONDS = 1.0
_DISCARDED = "discarded "


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStats:
    """What a pool has, and has done since it was made. Times are of all requests together."""

    name: str
    #: Objects that there are: idle ones, those that are out, and those that are being made.
    size: int
    #: Objects that can be had at once.
    idle: int
    #: Objects that are out.
    used: int
    #: Requests that wait now.
    waiting: int
    #: The most objects that there may be.
    max_size: int
    #: The most that are kept idle.
    max_idle: int
    #: Objects that the factory made.
    allocated: int
    #: Requests that were served by an object which had been out before.
    reused: int
    #: Objects that were thrown away.
    discarded: int
    #: How many of them for which reason; see `docs/pools.md`.
    discarded_by: Mapping[str, int]
    #: Objects that were garbage collected while they were out.
    leaked: int
    #: Requests that got nothing in the time that they had.
    timeouts: int
    #: Requests that were cancelled or interrupted while they waited.
    abandoned: int
    #: Requests that waited and got an object.
    waits: int
    wait_seconds: float
    create_seconds: float
    #: How long objects were out that came back.
    use_seconds: float
    #: What making an object took of the heap, on average; None where that was not measured.
    object_bytes: int | None

    @property
    def efficiency(self) -> float:
        """The share of requests that needed no new object, from 0 to 100."""
        return 100 * self.reused / max(1, self.allocated + self.reused)

    @property
    def saved_bytes(self) -> int | None:
        """About what would have been allocated without reuse; None where no cost was measured."""
        return None if self.object_bytes is None else max(0, self.object_bytes) * self.reused

    def to_dict(self) -> dict[str, object]:
        """Return the numbers for machines."""
        numbers = {**asdict(self), "discarded_by": dict(self.discarded_by)}
        return {**numbers, "efficiency": self.efficiency, "saved_bytes": self.saved_bytes}

    def __str__(self) -> str:
        """Return a line for people."""
        parts = [
            f"pool {self.name}: {self.used} out and {self.idle} idle of at most {self.max_size}",
            f"{self.allocated} made, {self.reused} times used again ({self.efficiency:.0f}%)",
        ]
        if self.saved_bytes is not None:
            parts.append(f"about {format_size(self.saved_bytes)} saved")
        named = {"thrown away": self.discarded, "leaked": self.leaked, "timeouts": self.timeouts}
        parts += [f"{count} {name}" for name, count in named.items() if count]
        return "; ".join(parts)


class Totals(NamedTuple):
    """The counters of a ledger at one moment."""

    created: int
    reused: int
    discarded: dict[str, int]
    leaked: int
    timeouts: int
    abandoned: int
    waits: int
    wait_ns: int
    create_ns: int
    use_ns: int
    object_bytes: int | None

    @property
    def saved_bytes(self) -> int | None:
        """About what would have been allocated without reuse."""
        return None if self.object_bytes is None else max(0, self.object_bytes) * self.reused


class Ledger:
    """The counters of one pool.

    Reuse is counted by each slot for itself, as nobody else has it meanwhile. All else is appended,
    which takes no lock: it may be in a finalizer, or cut short anywhere. Who reads adds it up.
    """

    def __init__(self) -> None:
        #: The slots that have an object, by its id.
        self.live: WeakValueDictionary[int, Slot] = WeakValueDictionary()
        self.clear()

    def clear(self) -> None:
        """Count from zero, with a lock that nobody holds."""
        #: What happened and is not added up yet: names, and by how much.
        self._events: deque[tuple[str, int]] = deque()
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._most_reused = self._most_ns = self._costs = 0

    @property
    def wants_cost(self) -> bool:
        """Whether too little is known of what an object costs."""
        return self._costs < _COSTS_WANTED

    def retire(self, uses: int, used_ns: int) -> None:
        """Keep what an object was used that is gone."""
        self._events.append(("retired_uses", uses))
        self._events.append(("retired_ns", used_ns))

    def leaked(self) -> None:
        """Count an object that was garbage collected while it was out."""
        self._events.append(("leaked", 1))

    def count(self, what: str, more: int = 1) -> None:
        """Add to one of the plain counters, by its name in `Totals`."""
        self._events.append((what, more))
        if len(self._events) > _MOST_EVENTS and self._lock.acquire(blocking=False):
            try:
                self._fold()
            finally:
                self._lock.release()

    def discarded(self, reason: str) -> None:
        """Count an object that was thrown away."""
        self.count(f"{_DISCARDED}{reason}")

    def created(self, took_ns: int, cost_bytes: int | None) -> None:
        """Count an object that was made.

        Args:
            took_ns: How long that took.
            cost_bytes: What it took of the heap, where that was measured.
        """
        if cost_bytes is not None:
            self.count("cost_bytes", cost_bytes)
            self.count("costs")
            self._costs += 1  # Threads may count as one: it says only when to stop.
        self.count("create_ns", took_ns)
        self.count("created")

    def totals(self) -> Totals:
        """Return the counters; none is ever lower than it was."""
        lock = self._lock
        held = lock.acquire(timeout=_PATIENCE_SECONDS)
        if not held:  # An exception that was thrown into its holder has left it behind.
            self._lock = threading.Lock()
        try:
            return self._totals()
        finally:
            if held:
                lock.release()

    def _totals(self) -> Totals:
        self._fold()
        counts, live = self._counts, list(self.live.values())
        reused = counts["retired_uses"] + sum(max(slot.uses, 0) for slot in live)
        use_ns = counts["retired_ns"] + sum(slot.used_ns for slot in live)
        # One that goes just now is in neither.
        self._most_reused = max(self._most_reused, reused)
        self._most_ns = max(self._most_ns, use_ns)
        costs = counts["costs"]
        return Totals(
            created=counts["created"],
            reused=self._most_reused,
            discarded={
                name.removeprefix(_DISCARDED): count
                for name, count in counts.items()
                if name.startswith(_DISCARDED)
            },
            leaked=counts["leaked"],
            timeouts=counts["timeouts"],
            abandoned=counts["abandoned"],
            waits=counts["waits"],
            wait_ns=counts["wait_ns"],
            create_ns=counts["create_ns"],
            use_ns=self._most_ns,
            object_bytes=round(counts["cost_bytes"] / costs) if costs else None,
        )

    def _fold(self) -> None:
        while True:
            try:
                name, more = self._events.popleft()
            except IndexError:
                return
            self._counts[name] += more
