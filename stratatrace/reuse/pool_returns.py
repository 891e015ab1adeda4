"""What comes back to a pool: whether it is of the pool, and whether it is kept."""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING, TypeVar

from stratatrace.errors import PoolMisuseError
from stratatrace.pressure import subscribe
from stratatrace.reuse import pool_debug
from stratatrace.reuse.pool_places import Places
from stratatrace.reuse.pool_slots import NOTHING, Slot
from stratatrace.reuse.pool_waiting import CLOSED

if TYPE_CHECKING:
    from stratatrace.pressure import Pressure, Subscription
    from stratatrace.reuse.pool_options import PoolOptions

__all__ = ["Returns"]

T = TypeVar("T")

# How many of the objects that were idle longest are looked at when one comes back.
_OLDEST_LOOKED_AT = 2


class Returns(Places[T]):
    """The part of a pool that objects come back to.

    Args:
        name: What the pool is called.
        options: What was said of the pool.
    """

    def __init__(self, name: str, options: PoolOptions) -> None:
        super().__init__(name, options.max_size)
        self._options = options
        # By what it has word of memory pressure; a dictionary, so that of two threads one sets it.
        self._watching: dict[str, Subscription] = {}
        #: Whether there is something to look after when an object has come back.
        self._tidies = options.max_age_ns is not None or options.max_idle < options.max_size

    def lease_number(self, item: object) -> int | None:
        """Return how often *item* was out before; None where it is not out."""
        slot = self._out.get(id(item))
        return None if slot is None or slot.ref is None or slot.ref() is not item else slot.uses

    def handle_of(self, item: T) -> T:
        """Return what was handed out for *item*: in debug mode, what stands in for it."""
        slot = self._out.get(id(item))
        handle = None if slot is None or slot.handle is None else slot.handle()
        return item if handle is None else handle

    def _recognised(self, slot: Slot | None, obj: object) -> Slot | None:
        """Return the slot of an object that is out, and is out no more.

        Args:
            slot: What was found by the id of *obj*, which may be that of one that is gone.
            obj: The object, or what stands in for it.

        Returns:
            None where the object was acquired before the process was forked: it is let go.

        Raises:
            PoolMisuseError: It is not out.
        """
        slot = self._is_of(slot, obj)
        if slot is None:
            item = pool_debug.item_of(obj)
            slot = self._is_of(self._out.pop(id(item), None), item)
            if slot is None:
                self._disown(item)
                return None
        if slot.handle is not None:
            borrowed, slot.handle = slot.handle(), None
            if borrowed is not None:
                at = pool_debug.place_of_use()
                message = f"an object of pool {self._name} is used after it was given back at {at}"
                pool_debug.revoke(borrowed, message)
        return slot

    def _is_of(self, slot: Slot | None, item: object) -> Slot | None:
        if slot is None or (slot.ref is not None and slot.ref() is item):
            return slot
        self._out[slot.key] = slot
        return None

    def _disown(self, item: object) -> None:
        slot = self._inherited.pop(id(item), None)
        if slot is not None and slot.ref is not None and slot.ref() is item:
            self._ledger.discarded("forked")
            return
        twice = any(slot.item is item for slot in list(self._idle))
        what = "it was given back already" if twice else "it is not out, or not of this pool"
        msg = f"{item!r} cannot be given back to pool {self._name}: {what}"
        raise PoolMisuseError(msg)

    def _failed_to_reset(self, slot: Slot, item: object, error: BaseException) -> None:
        """Throw away an object whose reset has raised; go on raising what is no Exception."""
        self._throw_away(slot, item, "reset")
        if not isinstance(error, Exception):
            raise error
        self._warn(
            "reset",
            "pool %s: an object could not be reset and was thrown away; further ones are only "
            "counted",
            self._name,
            error=True,
        )

    def _tidy(self, slot: Slot) -> None:
        """Look after what is idle, now that *slot* is."""
        if self._closed:
            self._dismiss()
            return
        self._serve()
        if self._options.max_age_ns is not None:
            for each in (slot, *self._idle[:_OLDEST_LOOKED_AT]):
                if self._is_expired(each):
                    self._evict(each, "expired")
        while len(self._idle) > self._options.max_idle:
            for each in self._idle[:1]:  # Which others may have emptied meanwhile.
                self._evict(each, "surplus")

    def _evict(self, slot: Slot, reason: str) -> None:
        """Throw away what is in an idle slot, unless somebody has it meanwhile."""
        try:
            self._idle.remove(slot)
        except ValueError:
            return
        self._throw_away(slot, slot.item, reason)

    def _watch_pressure(self) -> None:
        """Have word of memory pressure from now on: there is something that could be let go."""
        if not self._options.shrink_under_pressure or self._closed:
            return
        subscription = self._watching.get("pressure")
        if subscription is not None:
            subscription.keep_watching()
            return
        subscription = subscribe(self._shrink)
        if self._watching.setdefault("pressure", subscription) is not subscription:
            subscription.close()

    def _shrink(self, pressure: Pressure) -> None:
        """Throw away what is idle while memory runs short: half of it, or all."""
        if pressure.level == "normal":
            return
        idle = self._idle[:]
        for each in idle if pressure.level == "critical" else idle[: len(idle) // 2]:
            self._evict(each, "pressure")

    def _dismiss(self) -> None:
        """Let go of all that is idle, and of who waits: the pool is closed."""
        subscription = self._watching.pop("pressure", None)
        if subscription is not None:
            subscription.close()
        while True:
            try:
                self._waiters.popleft().give(CLOSED)
            except IndexError:
                break
        while True:
            try:
                slot = self._idle.pop()
            except IndexError:
                return
            self._throw_away(slot, slot.item, "closed")

    def _throw_away(self, slot: Slot, item: object, reason: str) -> None:
        """Be rid of an object; somebody else may have one made in its place."""
        try:
            self._strip(slot, item, reason)
        finally:
            slot.item = NOTHING  # Also where that was cut short.
            self._shelve(slot)

    def _strip(self, slot: Slot, item: object, reason: str) -> None:
        """Be rid of the object of a slot, which is empty then."""
        slot.empty()
        self._ledger.discarded(reason)
        dispose = self._options.dispose
        if dispose is None or item is NOTHING:
            return
        try:
            dispose(item)
        except Exception:
            self._warn(
                "dispose", "pool %s: an object could not be disposed of", self._name, error=True
            )

    def _is_expired(self, slot: Slot) -> bool:
        max_age_ns = self._options.max_age_ns
        return max_age_ns is not None and monotonic_ns() - slot.born_ns > max_age_ns
