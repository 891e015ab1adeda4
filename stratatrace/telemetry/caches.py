"""The metrics of caches: sums over those of one name, also of those that are gone."""

from __future__ import annotations

import os
import threading
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, Protocol
from weakref import WeakKeyDictionary, ref

from opentelemetry import metrics
from opentelemetry.metrics import Observation

from stratatrace.telemetry import semconv
from stratatrace.telemetry.providers import MOST_SERIES, OVERFLOW
from stratatrace.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.metrics import CallbackOptions, MeterProvider

__all__ = ["CacheCounts", "CacheMetrics", "ObservedCache", "cache_metrics"]

_FIRST_SWEEP = 64


class CacheCounts:
    """What has happened to a cache; outlives it, until it is added to the sums of its name."""

    __slots__ = ("evictions", "hits", "misses", "name", "refused")

    def __init__(self, name: str) -> None:
        self.name = name
        self.reset()

    def reset(self) -> None:
        """Count from zero."""
        self.hits = 0
        self.misses = 0
        #: Values that were not kept because they are larger than the cache may be.
        self.refused = 0
        #: By reason.
        self.evictions: Counter[str] = Counter()

    @property
    def used(self) -> bool:
        """Whether anything has happened."""
        return bool(self.hits or self.misses or self.refused or self.evictions)

    def add(self, other: CacheCounts) -> None:
        """Add those of another one."""
        self.hits += other.hits
        self.misses += other.misses
        self.refused += other.refused
        self.evictions.update(other.evictions)


class ObservedCache(NamedTuple):
    """What a cache holds now."""

    entries: int
    #: None where nothing is measured.
    size_bytes: int | None


class _Observable(Protocol):
    """Whatever can be asked for that."""

    def observed(self) -> ObservedCache:
        """Return what is held now."""
        ...


class _Sums:
    """What is told of one name."""

    def __init__(self, name: str) -> None:
        self.counts = CacheCounts(name)
        self.entries = 0
        self.size_bytes: int | None = None


class CacheMetrics:
    """The caches of this process, and the instruments of each provider that they are told to."""

    def __init__(self) -> None:
        # Reentrant: a collection may run a finalizer that makes a cache.
        self._lock = threading.RLock()
        self._caches: list[tuple[ref[_Observable], CacheCounts]] = []
        self._gone: dict[str, CacheCounts] = {}
        self._sweep_at = _FIRST_SWEEP
        self._offered: WeakKeyDictionary[object, bool] = WeakKeyDictionary()
        self._latest: Callable[[], object] = lambda: None

    def add(self, cache: _Observable, counts: CacheCounts) -> None:
        """Tell of one more, for as long as it is there, and of its counts for good."""
        with self._lock:
            self._caches.append((ref(cache), counts))
            if len(self._caches) >= self._sweep_at:
                self._sweep()
                self._sweep_at = max(_FIRST_SWEEP, 2 * len(self._caches))

    def is_offered(self, meter_provider: MeterProvider | None) -> bool:
        """Tell whether the latest offer was made to that provider."""
        return self._latest() is (CacheMetrics if meter_provider is None else meter_provider)

    def offer(self, meter_provider: MeterProvider | None) -> None:
        """Make the instruments of a provider, where it has none.

        Args:
            meter_provider: Whose; None takes the application's, set before or later.
        """
        key: object = CacheMetrics if meter_provider is None else meter_provider
        with self._lock:
            if key not in self._offered:
                self._offered[key] = True
                self._make_instruments(meter_provider)
            self._latest = ref(key)

    def after_fork_in_child(self) -> None:
        """Count from zero: the parent tells its own."""
        self._lock = threading.RLock()
        self._gone = {}
        for _, counts in self._caches:
            counts.reset()

    def _make_instruments(self, meter_provider: MeterProvider | None) -> None:
        meter = metrics.get_meter(semconv.SCOPE, __version__, meter_provider=meter_provider)
        counters: tuple[tuple[semconv.Metric, Callable[[CacheCounts], int]], ...] = (
            (semconv.CACHE_HITS, lambda counts: counts.hits),
            (semconv.CACHE_MISSES, lambda counts: counts.misses),
            (semconv.CACHE_REFUSED, lambda counts: counts.refused),
        )
        for metric, read in counters:
            meter.create_observable_counter(
                metric.name, [self._count_reader(read)], metric.unit, metric.brief
            )
        evictions = semconv.CACHE_EVICTIONS
        meter.create_observable_counter(
            evictions.name, [self._observe_evictions], evictions.unit, evictions.brief
        )
        levels: tuple[tuple[semconv.Metric, Callable[[_Sums], int | None]], ...] = (
            (semconv.CACHE_ENTRIES, lambda sums: sums.entries),
            (semconv.CACHE_SIZE, lambda sums: sums.size_bytes),
        )
        for metric, level in levels:
            meter.create_observable_up_down_counter(
                metric.name, [self._level_reader(level)], metric.unit, metric.brief
            )

    def _count_reader(
        self, read: Callable[[CacheCounts], int]
    ) -> Callable[[CallbackOptions], list[Observation]]:
        def observe(_options: CallbackOptions) -> list[Observation]:
            return [Observation(read(each.counts), _attributes(each)) for each in self._sums()]

        return observe

    def _level_reader(
        self, read: Callable[[_Sums], int | None]
    ) -> Callable[[CallbackOptions], list[Observation]]:
        def observe(_options: CallbackOptions) -> list[Observation]:
            levels = [(read(each), _attributes(each)) for each in self._sums()]
            return [Observation(level, told) for level, told in levels if level is not None]

        return observe

    def _observe_evictions(self, _options: CallbackOptions) -> list[Observation]:
        return [
            Observation(number, {**_attributes(each), semconv.CACHE_EVICTION_REASON.name: reason})
            for each in self._sums()
            for reason, number in each.counts.evictions.items()
        ]

    def _sums(self) -> list[_Sums]:
        """Return the sums of each name; past a bound, of all further names together."""
        by_name: dict[str, _Sums] = {}
        with self._lock:
            self._sweep()
            for name, counts in self._gone.items():
                _of_name(by_name, name).counts.add(counts)
            for reference, counts in self._caches:
                cache = reference()
                sums = _of_name(by_name, counts.name)
                if cache is not None:
                    observed = cache.observed()
                    sums.entries += observed.entries
                    if observed.size_bytes is not None:
                        sums.size_bytes = (sums.size_bytes or 0) + observed.size_bytes
                sums.counts.add(counts)
        return list(by_name.values())

    def _sweep(self) -> None:
        """Add up those that are gone."""
        left = []
        for reference, counts in self._caches:
            if reference() is not None:
                left.append((reference, counts))
                continue
            name = counts.name
            if not counts.used:
                continue
            if name not in self._gone and len(self._gone) >= MOST_SERIES:
                name = ""
            self._gone.setdefault(name, CacheCounts(name)).add(counts)
        self._caches = left


def _of_name(by_name: dict[str, _Sums], name: str) -> _Sums:
    if name not in by_name and len(by_name) >= MOST_SERIES:
        name = ""
    return by_name.setdefault(name, _Sums(name))


def _attributes(sums: _Sums) -> dict[str, str | bool]:
    if not sums.counts.name:
        return dict((OVERFLOW,))
    return {semconv.CACHE_NAME.name: sums.counts.name}


cache_metrics = CacheMetrics()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=cache_metrics.after_fork_in_child)
