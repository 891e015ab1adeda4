"""The metrics of pools, read from those that there are when they are collected."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from weakref import ref

from opentelemetry import metrics
from opentelemetry.metrics import Observation

from stratatrace.telemetry import semconv
from stratatrace.telemetry.providers import MOST_SERIES, OVERFLOW, ByProvider
from stratatrace.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from opentelemetry.metrics import CallbackOptions, MeterProvider

__all__ = ["Counted", "Levels", "PoolMetrics", "Pooled", "pool_metrics"]

_Attributes = tuple[tuple[str, str | bool], ...]


class Levels(NamedTuple):
    """How many objects and requests there are."""

    idle: int
    used: int
    max_size: int
    max_idle: int
    waiting: int


class Pooled(Protocol):
    """A pool, which is told of as long as somebody has it."""

    def levels(self) -> Levels:
        """Return what there is now."""
        ...


class Sums(Protocol):
    """What a pool has done since it was made."""

    @property
    def created(self) -> int: ...
    @property
    def reused(self) -> int: ...
    @property
    def discarded(self) -> Mapping[str, int]: ...
    @property
    def leaked(self) -> int: ...
    @property
    def timeouts(self) -> int: ...
    @property
    def abandoned(self) -> int: ...
    @property
    def use_ns(self) -> int: ...
    @property
    def saved_bytes(self) -> int | None: ...


class Counted(Protocol):
    """The counters of a pool, which outlive it."""

    def totals(self) -> Sums:
        """Return the sums; none is ever lower than it was."""
        ...


class PoolMetrics:
    """The instruments of one provider, which are made once.

    Several pools of one name are told together, and the counters of one that is gone stay in the
    sum: else they would fall.

    Args:
        meter_provider: Whose instruments; None takes the application's, set before or later.
    """

    def __init__(self, meter_provider: MeterProvider | None = None) -> None:
        self._pools: list[tuple[str, ref[Pooled], Counted]] = []
        # What pools that are gone have done: by metric, and by what the points carry.
        self._ended: dict[str, Counter[_Attributes]] = {}
        self._highest: dict[tuple[str, _Attributes], float] = {}
        self._lock = threading.RLock()
        meter = metrics.get_meter(semconv.SCOPE, __version__, meter_provider=meter_provider)
        for metric in (
            semconv.POOL_COUNT,
            semconv.POOL_MAX,
            semconv.POOL_IDLE_MAX,
            semconv.POOL_PENDING,
        ):
            meter.create_observable_up_down_counter(
                metric.name, [self._levels_reader(metric.name)], metric.unit, metric.brief
            )
        for metric in _SUMS:
            meter.create_observable_counter(
                metric.name, [self._sums_reader(metric.name)], metric.unit, metric.brief
            )
        self._create_times, self._wait_times = (
            meter.create_histogram(
                metric.name,
                metric.unit,
                metric.brief,
                explicit_bucket_boundaries_advisory=semconv.TIME_BOUNDARIES,
            )
            for metric in (semconv.POOL_CREATE_TIME, semconv.POOL_WAIT_TIME)
        )

    def add(self, name: str, pool: Pooled, counted: Counted) -> None:
        """Tell of one more; of one that is told of already, nothing changes."""
        with self._lock:
            if any(each is counted for _, _, each in self._pools):
                return
            self._settle()
            self._pools.append((name, ref(pool), counted))

    def record_create_time(self, name: str, seconds: float) -> None:
        """Tell how long it took to make an object."""
        self._create_times.record(seconds, {semconv.POOL_NAME.name: name})

    def record_wait_time(self, name: str, seconds: float) -> None:
        """Tell how long an object was waited for."""
        self._wait_times.record(seconds, {semconv.POOL_NAME.name: name})

    def after_fork_in_child(self) -> None:
        """Count from zero: the parent tells its own."""
        self._lock = threading.RLock()
        self._ended.clear()
        self._highest.clear()

    def _settle(self) -> None:
        """Keep the sums of pools that are gone, and forget those."""
        ended = [each for each in self._pools if each[1]() is None]
        self._pools = [each for each in self._pools if each[1]() is not None]
        for name, _, counted in ended:
            for metric, points in _points_of(name, counted.totals()).items():
                sums = self._ended.setdefault(metric, Counter())
                for key, value in points.items():
                    sums[_bounded(sums, key)] += value

    def _levels_reader(self, metric: str) -> Callable[[CallbackOptions], list[Observation]]:
        def observe(_options: CallbackOptions) -> list[Observation]:
            sums: Counter[_Attributes] = Counter()
            with self._lock:
                pools = list(self._pools)
            for name, reference, _ in pools:
                pool = reference()
                if pool is not None:
                    for key, value in _levels_of(metric, name, pool.levels()):
                        sums[_bounded(sums, key)] += value
            return [Observation(value, dict(key)) for key, value in sums.items()]

        return observe

    def _sums_reader(self, metric: str) -> Callable[[CallbackOptions], list[Observation]]:
        def observe(_options: CallbackOptions) -> list[Observation]:
            with self._lock:
                self._settle()
                sums: Counter[_Attributes] = Counter()
                sums.update(self._ended.get(metric, {}))
                for name, _, counted in self._pools:
                    for key, value in _points_of(name, counted.totals()).get(metric, {}).items():
                        sums[_bounded(sums, key)] += value
                # An average that fell would make an estimate fall that may only rise.
                for key, value in sums.items():
                    highest = max(self._highest.get((metric, key), 0), value)
                    self._highest[metric, key] = highest
                return [Observation(self._highest[metric, key], dict(key)) for key in sums]

        return observe


def _levels_of(metric: str, name: str, levels: Levels) -> Iterator[tuple[_Attributes, int]]:
    named = (semconv.POOL_NAME.name, name)
    if metric == semconv.POOL_COUNT.name:
        yield (named, (semconv.POOL_STATE.name, "idle")), levels.idle
        yield (named, (semconv.POOL_STATE.name, "used")), levels.used
    elif metric == semconv.POOL_MAX.name:
        yield (named,), levels.max_size
    elif metric == semconv.POOL_IDLE_MAX.name:
        yield (named,), levels.max_idle
    else:
        yield (named,), levels.waiting


def _points_of(name: str, totals: Sums) -> dict[str, dict[_Attributes, Any]]:
    named = (semconv.POOL_NAME.name, name)
    plain = {
        semconv.POOL_CREATED_OBJECTS.name: totals.created,
        semconv.POOL_REUSED.name: totals.reused,
        semconv.POOL_LEAKED.name: totals.leaked,
        semconv.POOL_TIMEOUTS.name: totals.timeouts,
        semconv.POOL_ABANDONED.name: totals.abandoned,
        semconv.POOL_USE_TIME.name: totals.use_ns / 1e9,
        semconv.POOL_SAVED.name: totals.saved_bytes,
    }
    points: dict[str, dict[_Attributes, Any]] = {
        metric: {(named,): value} for metric, value in plain.items() if value is not None
    }
    points[semconv.POOL_DISCARDED.name] = {
        (named, (semconv.POOL_REASON.name, reason)): count
        for reason, count in totals.discarded.items()
    }
    return points


def _bounded(sums: Counter[_Attributes], key: _Attributes) -> _Attributes:
    return key if key in sums or len(sums) < MOST_SERIES else (OVERFLOW,)


_SUMS = (
    semconv.POOL_CREATED_OBJECTS,
    semconv.POOL_REUSED,
    semconv.POOL_LEAKED,
    semconv.POOL_TIMEOUTS,
    semconv.POOL_ABANDONED,
    semconv.POOL_USE_TIME,
    semconv.POOL_SAVED,
    semconv.POOL_DISCARDED,
)


#: Returns the metrics that are told to a provider, None being the application's.
pool_metrics = ByProvider(PoolMetrics).of
