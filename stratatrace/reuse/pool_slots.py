"""One place of a pool's capacity, with the object that is in it.

A slot belongs to one list, dictionary, waiter or running call at a time, and to nobody else: that
is why the fast path needs no lock. One that gets lost, because an exception was thrown into a
thread from outside, is missed when the pool runs out, and replaced.
"""

from __future__ import annotations

import sys
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Self, cast
from weakref import ref

if TYPE_CHECKING:
    from collections.abc import Callable

    from stratatrace.reuse.pool_ledger import Ledger
    from stratatrace.reuse.pool_places import Places

__all__ = ["NOTHING", "Held", "Slot", "Tracked"]

#: What is in a slot that has no object.
NOTHING: Any = object()


class Tracked(ref[Any]):
    """A weak reference to an object that is out; tells the pool when it is garbage collected."""

    __slots__ = ("key", "places")

    key: int
    places: ref[Places[Any]]

    def __new__(cls, item: object, places: ref[Places[Any]], key: int) -> Self:
        """Refer to *item*, which is known to the pool by *key*."""
        self = super().__new__(cls, item, _gone)
        self.places = places
        self.key = key
        return self

    def __init__(self, *_arguments: object) -> None:
        """Take the arguments, which the weak reference's own would refuse."""


def _gone(reference: ref[Any]) -> None:
    tracked = cast("Tracked", reference)
    places = tracked.places()
    if places is not None:
        places.lost(tracked)


class Held:
    """Stands for a weak reference where an object can have none: a bytearray, a list, a dict."""

    __slots__ = ("item",)

    def __init__(self, item: object) -> None:
        self.item = item

    def __call__(self) -> Any:
        """Return the object."""
        return self.item


class Slot:
    """A place for one object."""

    __slots__ = (
        "__weakref__",
        "born_ns",
        "handle",
        "item",
        "key",
        "ledger",
        "places",
        "ref",
        "reset",
        "rest",
        "taken_ns",
        "used_ns",
        "uses",
        "where",
    )

    def __init__(self, places: ref[Places[Any]], ledger: Ledger) -> None:
        self.places = places
        self.ledger = ledger
        #: The object, while it is idle; while it is out, only what cannot be referred to weakly.
        self.item: Any = NOTHING
        #: What `item` is while the object is out.
        self.rest: Any = None
        #: Returns the object.
        self.ref: Callable[[], Any] | None = None
        #: Leads to what was handed out in its place, where something was.
        self.handle: Tracked | None = None
        self.key = 0
        self.reset: Callable[[Any], object] | None = None
        self.uses = -1
        self.used_ns = self.taken_ns = self.born_ns = 0
        #: Where it was asked for, in debug mode.
        self.where: str | None = None

    @property
    def filled(self) -> bool:
        """Whether there is an object in it."""
        return self.item is not NOTHING

    def fill(self, item: object, reset: Callable[[Any], object] | None, *, held: bool) -> None:
        """Put an object in.

        Args:
            item: The object.
            reset: What makes it as new.
            held: Keep it while it is out as well.
        """
        self.key = id(item)
        self.ref = Held(item)
        self.rest = item
        if not held:
            try:
                self.ref = Tracked(item, self.places, self.key)
                self.rest = None
            except TypeError:
                pass
        self.reset = reset
        self.born_ns = monotonic_ns()
        self.item = item
        self.ledger.live[self.key] = self

    def empty(self) -> None:
        """Let the object go, which is the pool's no more."""
        uses, used_ns = self.uses, self.used_ns
        self.uses, self.used_ns = -1, 0
        if uses > 0 or used_ns:
            self.ledger.retire(max(uses, 0), used_ns)
        if self.ledger.live.get(self.key) is self:
            self.ledger.live.pop(self.key, None)
        self.ref = self.handle = self.reset = self.where = None
        self.rest, self.item = None, NOTHING

    @property
    def forsaken(self) -> bool:
        """Whether an object that is out is in nobody's hands but the pool's."""
        if self.rest is None:
            return self.ref is not None and self.ref() is None
        return sys.getrefcount(self.item) <= _references_of_a_held_item

    def __del__(self) -> None:
        if getattr(self, "uses", 0) > 0:  # Making it may have been interrupted.
            self.ledger.retire(self.uses, self.used_ns)


def _held_alone() -> int:
    # What the pool itself refers to an object by: how many that are depends on the interpreter.
    slot = Slot.__new__(Slot)
    slot.item = slot.rest = object()
    slot.ref = Held(slot.item)
    return sys.getrefcount(slot.item)


_references_of_a_held_item = _held_alone()
