"""The values of a bounded cache, shared by threads: one change at a time, and never half of one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Hashable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from stratatrace.measurement import Callsite
from stratatrace.pressure import subscribe
from stratatrace.pressure.sources import readings
from stratatrace.recorder import active
from stratatrace.reuse.cache_store import BoundedStore
from stratatrace.reuse.cache_telling import offer_metrics
from stratatrace.telemetry.caches import CacheCounts

if TYPE_CHECKING:
    from collections.abc import Callable

    from stratatrace.pressure import Pressure, Subscription
    from stratatrace.reuse.cache_stats import EvictionReason
    from stratatrace.reuse.cache_store import Bounds

__all__ = ["SharedStore", "only_expire"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
T = TypeVar("T")

# What of itself, and of its bounds, a cache may hold while memory runs short.
_SHARES = {"normal": 1.0, "warning": 0.5, "critical": 0.1}


class SharedStore(Generic[K, V]):
    """What a bounded cache does to its values, and what it tells of that.

    Args:
        bounds: How much may be held.
        clock: Tells the time in seconds, where values expire.
        measured: Whether values come with sizes.
        name: What the cache is called.
        on_evict: Told of evictions.
    """

    def __init__(
        self,
        bounds: Bounds,
        *,
        clock: Callable[[], float] | None,
        measured: bool,
        name: str,
        on_evict: Callable[[K, V, EvictionReason], object] | None,
    ) -> None:
        self._bounds = bounds
        self._clock = clock
        self._measured = measured
        self._on_evict = on_evict
        self._counts = CacheCounts(name)
        self._failures = 0
        self._subscription: Subscription | None = None
        self._store = BoundedStore[K, V](bounds, measured=measured)
        self._renew()

    def _renew(self) -> None:
        # Reentrant: a collection may run a finalizer, or a signal its handler, in the midst of a
        # change. What that changes is put off until the change is done.
        self._lock = threading.RLock()
        self._changing = False
        self._deferred: deque[Callable[[BoundedStore[K, V]], object]] = deque()

    def _now(self) -> float:
        return 0.0 if self._clock is None else self._clock()

    def _change(
        self,
        operation: Callable[[BoundedStore[K, V]], T],
        instead: Callable[[BoundedStore[K, V]], T] | None = None,
    ) -> T:
        """Do something to the values, alone, and tell of what was evicted after that.

        Args:
            operation: What to do. An exception that leaves it half done, such as a
                KeyboardInterrupt or a MemoryError, empties the cache.
            instead: What to do in the midst of another one of this thread; without it, the
                operation is put off until that is done, and the result is None.
        """
        now = 0.0 if self._clock is None else self._clock()
        with self._lock:
            store = self._store
            if self._changing:
                if instead is not None:
                    return instead(store)
                self._deferred.append(operation)
                return cast("T", None)
            try:
                self._changing = True
                if self._clock is not None:
                    store.advance(now)
                    store.expire()
                result = operation(store)
                while self._deferred:
                    self._deferred.popleft()(self._store)
            except BaseException:  # Wherever it was cut short, what is there cannot be trusted.
                self._counts.evictions["interrupted"] += store.count
                self._start_anew(store)
                raise
            finally:
                self._changing = False
                evicted, store.evicted = store.evicted, []
                dropped, store.dropped = store.dropped, []
                if store is not self._store:
                    evicted += self._store.evicted
                    dropped += [*self._store.dropped, store]
                    self._store.evicted, self._store.dropped = [], []
                for _, _, reason in evicted:
                    self._counts.evictions[reason] += 1
        if evicted and self._on_evict is not None:
            self._tell(evicted)
        del evicted, dropped  # Not under the lock: their destructors may do anything.
        return result

    def _later(
        self, operation: Callable[[BoundedStore[K, V]], V], result: V, _store: BoundedStore[K, V]
    ) -> V:
        self._deferred.append(operation)
        return result

    def _start_anew(self, store: BoundedStore[K, V]) -> None:
        # What memory pressure has told holds on.
        self._store = BoundedStore(self._bounds, measured=self._measured)
        self._store.share = store.share

    def _empty(self, store: BoundedStore[K, V]) -> None:
        self._start_anew(store)
        self._store.share = 1.0  # Who subscribes again is told again.

    def _tell(self, evicted: list[tuple[K, V, EvictionReason]]) -> None:
        for key, value, reason in evicted:
            try:
                self._on_evict(key, value, reason)  # type: ignore[misc] # it was looked at
            except Exception:
                self._failures += 1
                self._caught("tell of an eviction")

    def _watch_pressure(self) -> None:
        """Be told of memory pressure; called where it grows."""
        subscription = self._subscription
        if subscription is not None:
            subscription.keep_watching()
            return
        with active.own_work() if active.measuring else nullcontext(), self._lock:
            if self._subscription is None:
                self._subscription = subscribe(self._shrink)

    def _shrink(self, pressure: Pressure) -> None:
        share = _SHARES[pressure.level]
        self._change(lambda store: store.shrink(share))

    def _offer_metrics(self) -> None:
        offer_metrics("BoundedCache", self._counts.name)

    def _caught(self, doing: str) -> None:
        readings.guard.caught(Callsite(name="BoundedCache", function=self._counts.name), doing)


def only_expire(_store: BoundedStore[Any, Any]) -> None:
    """Do what every change does: drop what has expired."""
