"""`BoundedCache`: a mapping that holds so many values, and bytes, and no more."""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable, Hashable, Iterator, MutableMapping
from contextlib import nullcontext
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from stratatrace.deep_sizes import deep_size
from stratatrace.errors import InvalidTypeError, InvalidValueError, ValueTooLargeError
from stratatrace.recorder import active
from stratatrace.reuse.cache_flights import MISSING, Flights
from stratatrace.reuse.cache_forks import renew_after_fork
from stratatrace.reuse.cache_options import (
    check_callable,
    check_functions,
    check_hashable,
    check_name,
    checked_bounds,
    checked_size,
    name_of,
    refuse_unfinished,
)
from stratatrace.reuse.cache_shared import SharedStore, only_expire
from stratatrace.reuse.cache_stats import CacheStats
from stratatrace.reuse.cache_store import BoundedStore
from stratatrace.reuse.cache_telling import OFFER_EVERY
from stratatrace.reuse.cache_views import CacheItems, CacheKeys, CacheValues
from stratatrace.sizes import format_size
from stratatrace.telemetry.caches import ObservedCache, cache_metrics

if TYPE_CHECKING:
    from stratatrace.reuse.cache_flights import Lead
    from stratatrace.reuse.cache_options import TooLarge
    from stratatrace.reuse.cache_stats import EvictionReason

__all__ = ["BoundedCache"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
T = TypeVar("T")

# What an entry takes beside its key and its value, as measured: with a size, and with an expiry.
_PLACE_BYTES, _EXPIRY_BYTES = 190, 110


class BoundedCache(SharedStore[K, V], MutableMapping[K, V]):
    """A mapping that holds so many values, and so many bytes, and forgets the rest.

    Threads may share it. What was not used for the longest time goes first; what is older than
    *ttl* goes, too. While memory runs short it holds less: see `stratatrace.memory_pressure`. At
    ``warning`` it drops to half of what it holds, and holds half of its bounds at most; at
    ``critical``, a tenth; until the level is ``normal`` again.

    Args:
        max_entries: How many values it may hold.
        max_bytes: What they may take, with their keys: bytes, or text such as ``"50MB"``. Values
            are measured when they are put in, large ones by looking at some of what they hold.
        ttl: How long a value may stay, in seconds.
        size_of: Tells what a value takes, in bytes, in place of that; keys are then not counted.
        on_evict: Called with the key, the value and the reason after a value was evicted, by the
            thread that has caused it, or by that of memory pressure. What it raises is logged and
            counted.
        on_too_large: What is done about a value that is larger than *max_bytes*: ``raise``, or
            ``skip``, which drops it and the value that the key had before.
        shrink_under_pressure: Whether to hold less while memory runs short.
        clock: Tells the time in seconds; for tests.
        name: What it is called in the metrics; the function that makes it by default.

    Raises:
        InvalidTypeError: An argument is of the wrong type, or there is no bound at all.
        InvalidValueError: A bound is not positive, or a choice does not exist.
    """

    def __init__(
        self,
        *,
        max_entries: int | None = None,
        max_bytes: int | str | None = None,
        ttl: float | None = None,
        size_of: Callable[[V], int] | None = None,
        on_evict: Callable[[K, V, EvictionReason], object] | None = None,
        on_too_large: TooLarge = "raise",
        shrink_under_pressure: bool = True,
        clock: Callable[[], float] = time.monotonic,
        name: str | None = None,
    ) -> None:
        bounds = checked_bounds(max_entries, max_bytes, ttl)
        check_functions(size_of, on_evict)
        check_name(name)
        check_callable("clock", clock, "nothing and returns seconds")
        if on_too_large not in {"raise", "skip"}:
            msg = f"on_too_large is 'raise' or 'skip', and {on_too_large!r} is neither"
            raise InvalidValueError(msg)
        super().__init__(
            bounds,
            clock=clock if ttl is not None else None,
            measured=max_bytes is not None or size_of is not None,
            # Else it is called by where it was made, one frame up.
            name=name or name_of(sys._getframe(1)),  # noqa: SLF001
            on_evict=on_evict,
        )
        self._size_of = size_of
        self._skips = on_too_large == "skip"
        self._shrinks = shrink_under_pressure
        self._flights, self._async_flights = Flights(), Flights()
        cache_metrics.add(self, self._counts)
        renew_after_fork(self)

    @property
    def name(self) -> str:
        """What it is called in the metrics."""
        return self._counts.name

    # Looking up.

    def __getitem__(self, key: K) -> V:
        value = self._find(key)
        if value is MISSING:
            raise KeyError(key)
        return value

    @overload
    def get(self, key: K, /) -> V | None: ...
    @overload
    def get(self, key: K, /, default: V | T) -> V | T: ...
    def get(self, key: K, /, default: Any = None) -> Any:
        """Return the value of a key, or *default*."""
        value = self._find(key)
        return default if value is MISSING else value

    def __contains__(self, key: object) -> bool:
        check_hashable(key)
        now = self._now()
        with self._lock:
            self._store.advance(now)
            return key in self._store.items

    def _find(self, key: K, *, count_miss: bool = True) -> V:
        now = 0.0 if self._clock is None else self._clock()
        counts = self._counts
        with self._lock:
            store = self._store
            if self._clock is not None:
                store.advance(now)
            try:
                value = store.items[key]
            except KeyError:
                value = MISSING
            except TypeError:
                check_hashable(key)
                raise
            # Not in the `try` above, nor may that be the end of the block: the jump out of its
            # handler would be a place where an exception that is thrown in leaves the lock taken.
            if value is MISSING:
                counts.misses += count_miss
            else:
                counts.hits += 1
                if counts.hits % OFFER_EVERY:
                    return value
        self._offer_metrics()
        if value is MISSING and self._clock is not None:
            self._change(only_expire)
        return value

    # Changing.

    def __setitem__(self, key: K, value: V) -> None:
        check_hashable(key)
        size = self._size(key, value)
        if size > self._bounds.max_bytes:
            self._refuse(key, value, size)
        else:
            self._keep(key, value, size)

    def __delitem__(self, key: K) -> None:
        if self._take(key) is MISSING:
            raise KeyError(key)

    @overload
    def pop(self, key: K, /) -> V: ...
    @overload
    def pop(self, key: K, /, default: V | T) -> V | T: ...
    def pop(self, key: K, /, default: Any = MISSING) -> Any:
        """Remove a key and return its value, or *default*."""
        value = self._take(key)
        if value is not MISSING:
            return value
        if default is MISSING:
            raise KeyError(key)
        return default

    def popitem(self) -> tuple[K, V]:
        """Remove the value that was not used for the longest time, and return it with its key."""
        item = self._change(BoundedStore.remove_oldest, only_expire)
        if item is None:
            msg = "the cache is empty"
            raise KeyError(msg)
        return item

    def setdefault(self, key: K, default: V = None) -> V:  # type: ignore[assignment] # as a dict's
        """Return the value of a key; give it *default* where it has none."""
        value = self._find(key)
        if value is not MISSING:
            return value
        size = self._size(key, default)
        if size > self._bounds.max_bytes:
            self._refuse(key, default, size)
            return default
        put = partial(self._put_unless_there, key, default, size)
        kept = self._change(put, partial(self._later, put, default))
        if self._shrinks:
            self._watch_pressure()
        return kept

    def clear(self) -> None:
        """Drop everything, and what is being computed at this moment; the statistics stay."""
        with self._lock:
            self._flights.forget()
            self._async_flights.forget()
            subscription, self._subscription = self._subscription, None
        self._change(self._empty)
        if subscription is not None:
            subscription.close()

    def expire(self) -> None:
        """Drop what is older than *ttl* now, and not when the cache is used next."""
        self._change(only_expire)

    # Looking at all of it.

    def __len__(self) -> int:
        if self._clock is not None:
            self._change(only_expire)
        return self._store.count

    def __iter__(self) -> Iterator[K]:
        return iter(self.keys())

    def snapshot(self) -> list[tuple[K, V]]:
        """Return all keys and values of this moment; that is no use of them."""
        return self._change(BoundedStore.snapshot, BoundedStore.snapshot)

    def keys(self) -> CacheKeys[K]:
        """Return the keys; iterating takes those of the moment when it begins."""
        return CacheKeys(self)

    def values(self) -> CacheValues[V]:
        """Return the values; see `keys`."""
        return CacheValues(self)

    def items(self) -> CacheItems[K, V]:
        """Return keys and values; see `keys`."""
        return CacheItems(self)

    def stats(self) -> CacheStats:
        """Return what has happened to it, and what it holds; all threads are in the numbers."""
        with self._lock:
            counts, observed = self._counts, self.observed()
            return CacheStats(
                hits=counts.hits,
                misses=counts.misses,
                entries=observed.entries,
                size_bytes=observed.size_bytes,
                evictions=MappingProxyType(dict(counts.evictions)),
                refused=counts.refused,
                callback_failures=self._failures,
            )

    def observed(self) -> ObservedCache:
        """Return what is held now, for the metrics; what has expired and is still held counts."""
        store = self._store
        return ObservedCache(store.count, store.size_bytes if self._measured else None)

    def __repr__(self) -> str:
        return f"<BoundedCache {self.name}: {self.stats()}>"

    def __reduce__(self) -> Any:
        msg = (
            "a cache is neither copied nor pickled, as it belongs to its process: copy dict(cache)"
        )
        raise InvalidTypeError(msg)

    # Computing.

    def get_or_create(self, key: K, factory: Callable[[], V]) -> V:
        """Return the value of a key, made by *factory* where there is none.

        It is made once, however many threads ask for it at the same time: the others wait for it.
        What *factory* raises is raised in those who wait, too, but not kept; a MemoryError is not
        shared. A factory may use the cache, also for other keys that others are making; for its own
        key it is called again, within itself. A value that is too large to be kept is returned.

        Args:
            key: The key.
            factory: Makes the value. Nothing is kept where the key was set, deleted or cleared
                meanwhile.

        Raises:
            InvalidTypeError: The key is not hashable, or the factory gives a coroutine or another
                thing that can be used only once.
            Exception: Whatever *factory* raises.
        """
        value = self._find(key, count_miss=False)
        if value is not MISSING:
            return value
        find, keep = partial(self._find, key), partial(self._keep_computed, key)
        made: V = self._flights.once(key, find, factory, keep, self._count_hit)
        return made

    async def get_or_create_async(self, key: K, factory: Callable[[], Awaitable[V]]) -> V:
        """Return the value of a key, made by awaiting what *factory* returns; see `get_or_create`.

        Those who wait do so in event loops of asyncio; elsewhere they make a value of their own.
        When the task that makes it is cancelled, the next of them makes it.
        """
        value = self._find(key, count_miss=False)
        if value is not MISSING:
            return value
        find, keep = partial(self._find, key), partial(self._keep_computed, key)
        return await self._async_flights.once_async(key, find, factory, keep, self._count_hit)

    def _keep_computed(self, key: K, value: V, lead: Lead[V]) -> V:
        refuse_unfinished(value)
        try:
            size = self._size(key, value)
        except MemoryError:
            raise  # It may be a limit of the caller's.
        except Exception:  # Of size_of: the value is there, and must not be lost.
            self._caught("measure a value")
            return value
        if size > self._bounds.max_bytes:
            self._count_refused()
        else:
            self._keep(key, value, size, lead)
        return value

    def _count_refused(self) -> None:
        with self._lock:
            self._counts.refused += 1

    def _count_hit(self) -> None:
        with self._lock:
            self._counts.hits += 1

    # What all of that is made of.

    def _keep(self, key: K, value: V, size: int, lead: Lead[V] | None = None) -> None:
        self._change(partial(self._put, key, value, size, lead))
        if self._shrinks:
            self._watch_pressure()

    def _put(
        self, key: K, value: V, size: int, lead: Lead[V] | None, store: BoundedStore[K, V]
    ) -> None:
        if lead is not None:
            if not lead.current:
                return
        else:
            self._flights.forget(key)
            self._async_flights.forget(key)
        store.put(key, value, size)

    def _put_unless_there(self, key: K, value: V, size: int, store: BoundedStore[K, V]) -> V:
        old = store.peek(key)
        if old is MISSING:
            self._put(key, value, size, None, store)
            return value
        return old

    def _take(self, key: K) -> V:
        check_hashable(key)
        remove = partial(self._remove, key)
        return self._change(remove, partial(self._take_later, key, remove))

    def _take_later(
        self, key: K, remove: Callable[[BoundedStore[K, V]], V], store: BoundedStore[K, V]
    ) -> V:
        self._deferred.append(remove)
        return store.peek(key)

    def _remove(self, key: K, store: BoundedStore[K, V]) -> V:
        self._flights.forget(key)
        self._async_flights.forget(key)
        return store.remove(key)

    def _size(self, key: K, value: V) -> int:
        if not self._measured:
            return 0
        if self._size_of is not None:
            return checked_size(self._size_of(value), value)
        place = _PLACE_BYTES + (_EXPIRY_BYTES if self._clock is not None else 0)
        with active.own_work() if active.measuring else nullcontext():
            return deep_size(value) + deep_size(key) + place

    def _refuse(self, key: K, value: V, size: int) -> None:
        self._count_refused()
        if self._skips:
            self._take(key)
            return
        msg = (
            f"the {type(value).__name__} takes {format_size(size)}, and the whole cache may take "
            f"{format_size(int(self._bounds.max_bytes))}: make max_bytes= larger, or give "
            "on_too_large='skip'"
        )
        raise ValueTooLargeError(msg)

    def after_fork_in_child(self) -> None:
        """Have locks that nobody holds, and no change that a thread of the parent has begun."""
        if self._changing:
            self._start_anew(self._store)
        self._failures = 0
        self._flights, self._async_flights = Flights(), Flights()
        self._renew()
