"""Where lazy values are kept: beside their instances, and how they are dropped under pressure."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakSet, ref

from stratatrace.pressure import subscribe
from stratatrace.reuse.lazy_recipe import MISSING, own_work

if TYPE_CHECKING:
    from stratatrace.pressure import Pressure, Subscription
    from stratatrace.reuse.lazy_recipe import Recipe

__all__ = ["Cell", "InDict", "SideTable", "SingleValue", "evictor"]


class InDict:
    """The ``__dict__`` of an instance, where a value is found without us.

    Args:
        namespace: The ``__dict__``.
        name: The attribute's name.
    """

    __slots__ = ("_name", "_namespace")

    def __init__(self, namespace: dict[str, Any], name: str) -> None:
        self._namespace = namespace
        self._name = name

    def read(self, _instance: Any) -> Any:
        """Return what is there, or `MISSING`."""
        return self._namespace.get(self._name, MISSING)

    def keep(self, _instance: Any, value: Any) -> None:
        """Keep *value*, unless something was assigned while it was computed."""
        self._namespace.setdefault(self._name, value)


class Cell(ref[Any]):
    """A value, and the instance that it goes with, which it does not keep alive."""

    __slots__ = ("key", "value")

    key: int
    #: The value, or a weak reference to it.
    value: Any


class SideTable:
    """Values of the instances that cannot, or must not, have them in a ``__dict__``.

    Instances are known by their identity: they need not be hashable, and equal ones have values of
    their own. What is kept goes with its instance.
    """

    __slots__ = ("__weakref__", "_recipe", "cells")

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        #: By the id of the instance. A cell of one that is gone may be left where its callback was
        #: interrupted: whoever reads looks whether the cell is of this very instance.
        self.cells: dict[int, Cell] = {}

    def read(self, instance: Any) -> Any:
        """Return the value of *instance*, or `MISSING`."""
        cell = self.cells.get(id(instance))
        if cell is None or cell() is not instance:
            return MISSING
        return _strong(cell.value) if self._recipe.weak else cell.value

    def keep(self, instance: Any, value: Any) -> None:
        """Keep *value*.

        Raises:
            TypeError: *instance* takes no weak references.
        """
        cell: Cell = Cell(instance, self._gone)
        cell.key = id(instance)
        cell.value = ref(value) if self._recipe.weak else value
        self.cells[cell.key] = cell
        if self._recipe.options.evict_under_pressure:
            evictor.watch(self)

    def drop(self, instance: Any) -> bool:
        """Keep the value of *instance* no more; tell whether there was one."""
        there = self.read(instance) is not MISSING
        return self.cells.pop(id(instance), None) is not None and there

    def live(self) -> int:
        """Return how many values are kept."""
        if not self._recipe.weak:
            return len(self.cells)
        return sum(cell.value() is not None for cell in tuple(self.cells.values()))

    def evict(self) -> None:
        """Drop all values, because memory is short."""
        keys = tuple(self.cells)
        self._recipe.count_evictions(sum(self.cells.pop(key, None) is not None for key in keys))

    def _gone(self, cell: Any) -> None:
        key = cell.key
        if self.cells.get(key) is cell:
            self.cells.pop(key, None)


class SingleValue:
    """The one value of a function without arguments."""

    __slots__ = ("__weakref__", "_recipe", "kept")

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        #: The value, or a weak reference to it; `MISSING` where there is none.
        self.kept: Any = MISSING
        recipe.tell_live(self.live)

    def read(self, _instance: Any = None) -> Any:
        """Return the value, or `MISSING`."""
        kept = self.kept
        return _strong(kept) if self._recipe.weak and kept is not MISSING else kept

    def keep(self, _instance: Any, value: Any) -> None:
        """Keep *value*."""
        self.kept = ref(value) if self._recipe.weak else value
        if self._recipe.options.evict_under_pressure:
            evictor.watch(self)

    def drop(self) -> None:
        """Keep the value no more."""
        self.kept = MISSING

    def live(self) -> int:
        """Return how many values are kept: one or none."""
        return int(self.read() is not MISSING)

    def evict(self) -> None:
        """Drop the value, because memory is short."""
        kept, self.kept = self.kept, MISSING
        self._recipe.count_evictions(int(kept is not MISSING))


class _Evictable(Protocol):
    """Who can drop what it keeps."""

    def evict(self) -> None:
        """Drop it."""


class _Evictor:
    """Has values dropped when memory pressure is critical; one subscription serves all."""

    def __init__(self) -> None:
        self._evictables: WeakSet[_Evictable] = WeakSet()
        self._lock = threading.RLock()
        self.subscription: Subscription | None = None

    def watch(self, evictable: _Evictable) -> None:
        """Have *evictable* drop what it keeps; called whenever it keeps something."""
        with own_work(), self._lock:
            self._evictables.add(evictable)
            if self.subscription is None or self.subscription.closed:
                self.subscription = subscribe(self.shrink)
            else:
                self.subscription.keep_watching()

    def shrink(self, pressure: Pressure) -> None:
        """Drop the values where memory pressure has become critical."""
        if pressure.level == "critical":
            with self._lock:
                evictables = tuple(self._evictables)
            for each in evictables:
                each.evict()

    def after_fork_in_child(self) -> None:
        """Have a lock that no thread of the parent holds."""
        self._lock = threading.RLock()


def _strong(reference: Any) -> Any:
    value = reference()
    return MISSING if value is None else value


evictor = _Evictor()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=evictor.after_fork_in_child)
