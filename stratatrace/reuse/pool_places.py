"""The places of a pool: which are idle, out, or free, and who is next in line for one.

Slots change hands without a lock: whoever takes one does so by one operation of a list, deque or
dictionary that the interpreter does not split, so that nobody else has it then. That also makes it
safe to give back from a finalizer or a signal handler that runs in the midst of any of this. Who
adds to what is free looks for waiters *after* that, and who begins to wait looks for what is free
after standing in line: one of the two always sees the other.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakSet, ref

from stratatrace.recorder import active
from stratatrace.reuse.pool_ledger import Ledger
from stratatrace.reuse.pool_slots import Slot, Tracked
from stratatrace.reuse.pool_waiting import CLOSED, GONE, Waiter

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Places"]

T = TypeVar("T")

_logger = logging.getLogger("stratatrace")


class Places(Generic[T]):
    """The capacity of a pool.

    Args:
        name: What the pool is called.
        max_size: The most objects that there may be.
    """

    def __init__(self, name: str, max_size: int) -> None:
        self._name = name
        self._max_size = max_size
        self._ledger = Ledger()
        self._ref: ref[Places[Any]] = ref(self)
        #: Slots with an object, the one that came back last at the end.
        self._idle: list[Slot] = []
        #: Slots without one.
        self._spare: list[Slot] = []
        #: Every slot that was made in the first place, by its number.
        self._slots: dict[int, ref[Slot]] = {}
        #: What has taken the place of one that got lost.
        self._heirs: dict[ref[Slot], ref[Slot]] = {}
        #: Slots whose object is out, by its id.
        self._out: dict[int, Slot] = {}
        self._waiters: deque[Waiter] = deque()
        self._closed = False
        #: Where leaked objects had been asked for, which was not said yet.
        self._unsaid: deque[str | None] = deque()
        self._said: set[str] = set()
        self._inherited: dict[int, Slot] = {}
        self._kept: list[Slot] = []
        _all.add(self)

    @property
    def _size(self) -> int:
        """How many slots have an object, or are about to."""
        return max(0, len(self._slots) - len(self._spare))

    def _take_spare(self) -> Slot | None:
        """Return a slot without an object; None where there are as many as there may be."""
        try:
            return self._spare.pop()
        except IndexError:
            if len(self._slots) >= self._max_size:
                return None
        slot, reference = self._new_slot()
        while (number := len(self._slots)) < self._max_size:
            if self._slots.setdefault(number, reference) is reference:
                return slot
        return None

    def _new_slot(self) -> tuple[Slot, ref[Slot]]:
        with active.own_work():
            slot = Slot(self._ref, self._ledger)
            reference = ref(slot)
            hash(reference)  # It has to have one when the slot is gone.
            return slot, reference

    def _replace_lost(self) -> None:
        """Have a place again for each slot that an exception from outside has cost."""
        for number, reference in list(self._slots.items()):
            latest = reference
            while latest() is None and latest in self._heirs:
                latest = self._heirs[latest]
            if latest() is None:
                slot, heir = self._new_slot()
                # Others may look at the same moment: the first one's counts.
                if self._heirs.setdefault(latest, heir) is heir:
                    self._spare.append(slot)
            elif latest is not reference:
                self._slots[number] = latest

    def _take_any(self) -> Slot | None:
        try:
            return self._idle.pop()
        except IndexError:
            return self._take_spare()

    def _shelve(self, slot: Slot) -> None:
        """Put back what somebody else may have, and look whether somebody waits for it."""
        (self._idle if slot.filled else self._spare).append(slot)
        if self._waiters:
            self._serve()

    def _serve(self) -> None:
        """Hand what is free to those who wait, the first in line first."""
        while self._waiters:
            slot = self._take_any()
            if slot is None:
                return
            try:
                waiter = self._waiters.popleft()
            except IndexError:
                taken = False
            else:
                taken = waiter.give(slot)
            if not taken:
                (self._idle if slot.filled else self._spare).append(slot)

    def _leave(self, waiter: Waiter) -> None:
        """Stand in line no more; what was handed over meanwhile goes to the next."""
        outcome = waiter.give_up()
        self._forget(waiter)
        if outcome is not GONE and outcome is not CLOSED:
            self._shelve(outcome)

    def _forget(self, waiter: Waiter) -> None:
        try:
            self._waiters.remove(waiter)
        except ValueError:
            return

    def _look_again(self, waiter: Waiter) -> None:
        """Find what no word comes of: what was cut short by an exception, and silent leaks."""
        if waiter.outcome is None and waiter not in self._waiters:
            self._waiters.append(waiter)  # Twice does no harm: it is given to once.
        if self._closed:
            waiter.give(CLOSED)
        self._sweep()
        self._serve()

    def _sweep(self) -> None:
        """Take back the places of objects in nobody's hands, and of slots that got lost."""
        for slot in list(self._out.values()):
            known = slot.ref
            if slot.forsaken:
                self._reclaim(slot, known)
        self._replace_lost()

    def lost(self, tracked: Tracked) -> None:
        """Take back the place of an object that was garbage collected.

        It is called by the collector, in any thread and at any moment.
        """
        slot = self._out.get(tracked.key)
        if slot is not None and (slot.ref is tracked or slot.handle is tracked):
            self._reclaim(slot, slot.ref)

    def _reclaim(self, slot: Slot, known: Callable[[], Any] | None) -> None:
        """Take back a place, unless it has another object by now than the one that was *known*."""
        if self._out.get(slot.key) is not slot:
            return
        found = self._out.pop(slot.key, None)
        if found is not slot or slot.ref is not known:
            if found is not None:  # Another thread was first, and the place is in use again.
                self._out[found.key] = found
            return
        self._ledger.leaked()
        self._unsaid.append(slot.where)
        slot.empty()
        self._shelve(slot)

    def _warn(self, what: str, message: str, *arguments: object, error: bool = False) -> None:
        """Log the first of each kind of trouble; the others are counted only."""
        if what not in self._said:
            self._said.add(what)
            _logger.warning(message, *arguments, exc_info=error)

    def _say_leaks(self) -> None:
        while True:
            try:
                where = self._unsaid.popleft()
            except IndexError:
                return
            advice = f"it was asked for at {where}" if where else "debug=True tells where"
            self._warn(
                f"leak at {where}",
                "pool %s: an object was dropped and not given back: %s; further leaks from there "
                "are only counted",
                self._name,
                advice,
            )

    def after_fork_in_child(self) -> None:
        """Begin with nothing, as the parent goes on using what there is.

        Its objects are kept and never touched: to drop them would run finalizers, which might say
        farewell to a server on a connection that is the parent's.
        """
        self._kept += [*self._idle, *self._out.values()]
        self._inherited = dict(self._out)
        for line in (self._idle, self._spare, self._waiters, self._unsaid):
            line.clear()
        for known in (self._out, self._slots, self._heirs):
            known.clear()
        self._ledger.live.clear()
        self._ledger.clear()


_all: WeakSet[Places[Any]] = WeakSet()


def _after_fork_in_child() -> None:
    for places in list(_all):
        places.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
