"""What a bounded cache holds. Recency, expiry and the sum of the sizes are cachetools'; that the
bounds may become narrower for a while is ours, which cachetools' own bound cannot. Not thread-safe.
"""  # noqa: D205 -- two sentences

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from cachetools import Cache, LRUCache, TTLCache

from stratatrace.reuse.cache_flights import MISSING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from stratatrace.reuse.cache_stats import EvictionReason

__all__ = ["BoundedStore", "Bounds"]

K = TypeVar("K", bound="Hashable")
V = TypeVar("V")


# Of the base class, like all that follows: a TTLCache drops what has expired without a word.
_current_size: Callable[[Any], float] = vars(Cache)["currsize"].fget
_length = Cache.__len__


class _Told:
    """Tells cachetools what it was told: the time, or a size. Refers to no cache: no cycle."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number: float = 0

    def __call__(self, _value: object = None) -> float:
        return self.number


class Bounds:
    """How much may be held.

    Args:
        max_entries: So many values; None is no bound.
        max_bytes: What they may take; None is no bound.
        ttl_seconds: How long one may stay; None is for ever.
    """

    __slots__ = ("max_bytes", "max_entries", "ttl_seconds")

    def __init__(
        self, max_entries: int | None, max_bytes: int | None, ttl_seconds: float | None
    ) -> None:
        self.max_entries: float = math.inf if max_entries is None else max_entries
        self.max_bytes: float = math.inf if max_bytes is None else max_bytes
        self.ttl_seconds = ttl_seconds


class BoundedStore(Generic[K, V]):
    """The values of one cache.

    Args:
        bounds: How much may be held.
        measured: Whether values come with sizes.
    """

    __slots__ = ("_bounds", "_items", "_now", "_size", "dropped", "evicted", "items", "share")

    def __init__(self, bounds: Bounds, *, measured: bool) -> None:
        self._bounds = bounds
        #: The time and the size that hold for the operation that is under way.
        self._now, self._size = _Told(), _Told()
        size = self._size if measured else None
        self._items: LRUCache[K, V] | TTLCache[K, V, float]
        if bounds.ttl_seconds is None:
            self._items = LRUCache(math.inf, getsizeof=size)
        else:
            self._items = TTLCache(math.inf, bounds.ttl_seconds, self._now, getsizeof=size)
        #: Looks a value up, and makes it the latest; raises KeyError.
        self.items = self._items
        #: The part of the bounds that may be used.
        self.share = 1.0
        #: What was evicted, and what was replaced or deleted, until somebody takes it.
        self.evicted: list[tuple[K, V, EvictionReason]] = []
        self.dropped: list[object] = []

    @property
    def count(self) -> int:
        """How many values are held."""
        return _length(self._items)

    @property
    def size_bytes(self) -> int:
        """What they take; where nothing is measured, how many there are."""
        return int(_current_size(self._items))

    def advance(self, now_seconds: float) -> None:
        """Have the time be that; it never goes back, as those that expire are kept in order."""
        if now_seconds > self._now.number or not _length(self._items):
            self._now.number = now_seconds

    def expire(self) -> None:
        """Drop what has expired."""
        if isinstance(self._items, TTLCache):
            self.evicted.extend((key, value, "expired") for key, value in self._items.expire())

    def peek(self, key: K) -> V:
        """Return a value, or MISSING, and leave it where it is."""
        try:
            return cast("V", Cache.__getitem__(self._items, key) if key in self._items else MISSING)
        except KeyError:  # It is being removed just now, by whoever was interrupted for this.
            return cast("V", MISSING)

    def put(self, key: K, value: V, size_bytes: int) -> None:
        """Keep a value, as the latest, and evict what is too much."""
        if key in self._items:
            self.dropped.append(self.peek(key))
        self._size.number = size_bytes
        self._items[key] = value
        self.trim()

    def remove(self, key: K) -> V:
        """Remove a value, and return it or MISSING."""
        value = self.peek(key)
        if value is not MISSING:
            self.dropped.append(value)
            del self._items[key]
        return value

    def remove_oldest(self) -> tuple[K, V] | None:
        """Remove the value that was not used for the longest time, and return it with its key."""
        return self._items.popitem() if self.count else None

    def trim(self) -> None:
        """Evict what was not used for the longest time until the bounds hold."""
        bounds, share = self._bounds, self.share
        most, most_bytes = bounds.max_entries, bounds.max_bytes
        weighs = most_bytes < math.inf or share < 1
        while count := _length(self._items):
            size = _current_size(self._items) if weighs else 0
            reason: EvictionReason
            if count > most:
                reason = "entries"
            elif size > most_bytes:
                reason = "bytes"
            elif share < 1 and (count > max(1, most * share) or size > most_bytes * share):
                reason = "pressure"
            else:
                return
            self.evicted.append((*self._items.popitem(), reason))

    def shrink(self, share: float) -> None:
        """Hold no more than that part of what is held, and of what may be."""
        self.share = share
        if share >= 1:
            return
        most, most_bytes = int(self.count * share), self.size_bytes * share
        while (count := self.count) and (count > most or self.size_bytes > most_bytes):
            self.evicted.append((*self._items.popitem(), "pressure"))
        self.trim()

    def snapshot(self) -> list[tuple[K, V]]:
        """Return all keys and values, and leave them where they are."""
        pairs = [(key, self.peek(key)) for key in self._items]
        return [pair for pair in pairs if pair[1] is not MISSING]
