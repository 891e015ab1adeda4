"""`WeakCache`: values that stay for as long as somebody uses them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Hashable, Iterator
from functools import partial
from types import MappingProxyType
from typing import Any, Generic, TypeVar, overload
from weakref import KeyedRef, WeakValueDictionary, ref

from stratatrace.errors import InvalidTypeError
from stratatrace.reuse.cache_flights import MISSING, Flights, Lead
from stratatrace.reuse.cache_forks import renew_after_fork
from stratatrace.reuse.cache_options import (
    check_callable,
    check_hashable,
    check_name,
    name_of,
    refuse_unfinished,
)
from stratatrace.reuse.cache_stats import CacheStats
from stratatrace.reuse.cache_telling import OFFER_EVERY, offer_metrics
from stratatrace.telemetry.caches import CacheCounts, ObservedCache, cache_metrics

__all__ = ["WeakCache"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class WeakCache(Generic[K, V]):
    """A cache that keeps no value alive: each is there for as long as somebody uses it.

    Threads may share it: a value is made once, and all that ask for a key while its value lives
    have the same object. It has ``[]``, ``in``, ``len()``, ``del`` and iteration as a dictionary
    has, which values that die meanwhile do not disturb.

    Args:
        keep_strong: Whether values whose type allows no weak reference (such as int, str, tuple,
            list and dict) are kept until they are deleted, in place of being refused.
        name: What it is called in the metrics; the function that makes it by default.

    Raises:
        InvalidTypeError: An argument is of the wrong type.
        InvalidValueError: The name is empty.
    """

    def __init__(self, *, keep_strong: bool = False, name: str | None = None) -> None:
        if not isinstance(keep_strong, bool):
            msg = f"keep_strong is True or False, not {keep_strong!r}"
            raise InvalidTypeError(msg)
        self._keep_strong = keep_strong
        # The standard library's: what it does when a value dies is one step of compiled code, which
        # takes no lock, and never removes the value that has come in its place.
        self._values: WeakValueDictionary[K, V] = WeakValueDictionary()
        self._strong: dict[K, V] = {}
        check_name(name)
        # Else it is called by where it was made, one frame up.
        self._counts = CacheCounts(name or name_of(sys._getframe(1)))  # noqa: SLF001
        #: Values that went in, less those that were deleted or replaced: those that are not there
        #: any more have died.
        self._taken_in = 0
        self._renew()
        cache_metrics.add(self, self._counts)
        renew_after_fork(self)

    def _renew(self) -> None:
        # Reentrant: a collection may run a finalizer that uses the cache. Nothing below takes more
        # than one step of a dictionary at a time, so it finds everything whole.
        self._lock = threading.RLock()
        self._flights = Flights()

    @property
    def name(self) -> str:
        """What it is called in the metrics."""
        return self._counts.name

    @overload
    def get(self, key: K) -> V | None: ...
    @overload
    def get(self, key: K, factory: Callable[[], V]) -> V: ...
    def get(self, key: K, factory: Callable[[], V] | None = None) -> V | None:
        """Return the value of a key, made by *factory* where there is none.

        It is made once, however many threads ask for it at the same time: the others wait for it,
        and have the same value. What *factory* raises is raised in those who wait, too, but not
        kept; a MemoryError is not shared. No lock is held meanwhile, so a factory may use the
        cache; for its own key it is called again, within itself.

        Args:
            key: The key.
            factory: Makes the value; without it, None is returned where there is none.

        Raises:
            InvalidTypeError: The key is not hashable; or the value cannot be weakly referenced, and
                is not to be kept; or it can be used only once, as a coroutine can.
            Exception: Whatever *factory* raises.
        """
        value: V = self._find(key, count_miss=factory is None)
        if value is not MISSING:
            return value
        if factory is None:
            return None
        if not callable(factory):
            check_callable("factory", factory, "nothing and returns a value")
        find, keep = partial(self._find, key), partial(self._keep_computed, key)
        made: V = self._flights.once(key, find, factory, keep, self._count_hit)
        return made

    def __getitem__(self, key: K) -> V:
        value = self._find(key)
        if value is MISSING:
            raise KeyError(key)
        return value

    def __setitem__(self, key: K, value: V) -> None:
        check_hashable(key)
        strong = self._must_be_strong(value)
        with self._lock:
            self._flights.forget(key)
            old = self._remove(key)
            self._put(key, value, strong=strong)
        del old  # Here, and not under the lock: its destructor may do anything.

    def __delitem__(self, key: K) -> None:
        if self.pop(key, MISSING) is MISSING:
            raise KeyError(key)

    def pop(self, key: K, default: Any = None) -> Any:
        """Remove a key and return its value, or *default*."""
        check_hashable(key)
        with self._lock:
            self._flights.forget(key)
            value = self._remove(key)
        return default if value is MISSING else value

    def clear(self) -> None:
        """Forget all values, also those that are being made at this moment."""
        with self._lock:
            self._flights.forget()
            self._settle()
            old = self._values, self._strong
            self._values, self._strong = WeakValueDictionary(), {}
            self._taken_in = 0
        del old

    def __contains__(self, key: object) -> bool:
        check_hashable(key)
        return key in self._values or key in self._strong

    def __len__(self) -> int:
        return len(self._values) + len(self._strong)

    def __iter__(self) -> Iterator[K]:
        return iter([key for key, _ in self.items()])

    def keys(self) -> Iterator[K]:
        """Return the keys of the values that live at this moment."""
        return iter(self)

    def values(self) -> Iterator[V]:
        """Return the values that live at this moment."""
        return iter([value for _, value in self.items()])

    def items(self) -> Iterator[tuple[K, V]]:
        """Return keys and values of this moment; the iterator keeps those values alive."""
        pairs: list[tuple[K, V]] = []
        # Lists that are made in one step: a value that dies meanwhile changes the dictionary.
        for reference in self._values.valuerefs():
            value = reference()
            if value is not None and isinstance(reference, KeyedRef):
                pairs.append((reference.key, value))
        pairs.extend(self._strong.copy().items())
        return iter(pairs)

    def stats(self) -> CacheStats:
        """Return what has happened to it, and what it holds; all threads are in the numbers."""
        with self._lock:
            self._settle()
            counts = self._counts
            return CacheStats(
                hits=counts.hits,
                misses=counts.misses,
                entries=len(self),
                evictions=MappingProxyType(dict(counts.evictions)),
            )

    def observed(self) -> ObservedCache:
        """Return what is held now, for the metrics."""
        with self._lock:
            self._settle()
        return ObservedCache(len(self), None)

    def __repr__(self) -> str:
        return f"<WeakCache {self.name}: {self.stats()}>"

    def __reduce__(self) -> Any:
        msg = (
            "a cache is neither copied nor pickled, as it belongs to its process: copy its items()"
        )
        raise InvalidTypeError(msg)

    def after_fork_in_child(self) -> None:
        """Have locks that nobody holds, and nothing that a thread of the parent is making."""
        self._renew()

    def _find(self, key: K, *, count_miss: bool = True) -> V:
        counts = self._counts
        with self._lock:
            try:
                value: V = self._values.get(key, MISSING)
            except TypeError:
                check_hashable(key)
                raise
            if value is MISSING and self._strong:
                value = self._strong.get(key, MISSING)
            if value is not MISSING:
                counts.hits += 1
                if counts.hits % OFFER_EVERY:
                    return value
            else:
                counts.misses += count_miss
        offer_metrics("WeakCache", self.name)
        return value

    def _keep_computed(self, key: K, value: V, lead: Lead[V]) -> V:
        refuse_unfinished(value)
        strong = self._must_be_strong(value)
        with self._lock:
            # A finalizer, or the factory itself, may have come first: its value is in use.
            there: V = self._values.get(key, MISSING)
            if there is MISSING:
                there = self._strong.get(key, MISSING)
            if there is not MISSING:
                return there
            if lead.current:
                self._put(key, value, strong=strong)
        return value

    def _must_be_strong(self, value: V) -> bool:
        try:
            ref(value)
        except TypeError:
            if self._keep_strong:
                return True
            kind = type(value).__name__
            msg = (
                f"a {kind} cannot be weakly referenced, so a WeakCache cannot tell when nobody "
                "uses it any more: give keep_strong=True to keep such values until they are "
                "deleted, use a BoundedCache, or add '__weakref__' to the __slots__ of the class"
            )
            raise InvalidTypeError(msg) from None
        return False

    def _put(self, key: K, value: V, *, strong: bool) -> None:
        if strong:
            self._strong[key] = value
        else:
            self._values[key] = value
        self._taken_in += 1

    def _remove(self, key: K) -> V:
        value: V = self._values.pop(key, MISSING)
        if value is MISSING:
            value = self._strong.pop(key, MISSING)
        if value is not MISSING:
            self._taken_in -= 1
        return value

    def _settle(self) -> None:
        """Count those that have died since the last time."""
        died = self._taken_in - len(self)
        if died > 0:
            self._taken_in -= died
            self._counts.evictions["collected"] += died

    def _count_hit(self) -> None:
        with self._lock:
            self._counts.hits += 1
