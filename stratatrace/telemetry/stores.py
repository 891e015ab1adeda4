"""The metrics of compressed stores, which tell of those that are open."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple, Protocol
from weakref import ref

from opentelemetry import metrics
from opentelemetry.metrics import Observation

from stratatrace.telemetry import semconv
from stratatrace.telemetry.providers import MOST_SERIES, OVERFLOW, ByProvider
from stratatrace.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.metrics import CallbackOptions, MeterProvider

__all__ = ["StoreMetrics", "Stored", "Storing", "store_metrics"]


class Stored(NamedTuple):
    """What an open store holds; its bytes as in `StoreStats`."""

    entries: int
    raw_bytes: int
    stored_bytes: int
    spilled_bytes: int


class Storing(Protocol):
    """Whatever can be asked for that. Must not wait: metrics are collected meanwhile."""

    @property
    def name(self) -> str:
        """What it is known by."""
        ...

    def observed(self) -> Stored | None:
        """Return what it holds now; None where it is closed."""
        ...


class StoreMetrics:
    """The instruments of one provider, which are made once and read the stores that are open.

    Stores are not kept alive. Those of one name are one series, and are added up.

    Args:
        meter_provider: Whose instruments; None takes the application's, set before or later.
    """

    def __init__(self, meter_provider: MeterProvider | None = None) -> None:
        self._stores: list[ref[Storing]] = []
        self._lock = threading.RLock()
        meter = metrics.get_meter(semconv.SCOPE, __version__, meter_provider=meter_provider)
        up_down, gauge = (
            meter.create_observable_up_down_counter,
            meter.create_observable_gauge,
        )
        for metric, create, read in (
            (semconv.STORE_ENTRIES, up_down, lambda stored: stored.entries),
            (semconv.STORE_RAW, up_down, lambda stored: stored.raw_bytes),
            (semconv.STORE_STORED, up_down, lambda stored: stored.stored_bytes),
            (semconv.STORE_SPILLED, up_down, lambda stored: stored.spilled_bytes),
            (semconv.STORE_RATIO, gauge, _ratio),
        ):
            create(metric.name, [self._reader(read)], metric.unit, metric.brief)

    def add(self, store: Storing) -> None:
        """Tell of one more."""
        with self._lock:
            self._stores = [*self._others(store), ref(store)]

    def remove(self, store: Storing) -> None:
        """Tell of it no more."""
        with self._lock:
            self._stores = self._others(store)

    def after_fork_in_child(self) -> None:
        """Have a lock that nobody holds."""
        self._lock = threading.RLock()

    def _others(self, store: Storing) -> list[ref[Storing]]:
        return [each for each in self._stores if each() is not None and each() is not store]

    def _reader(
        self, read: Callable[[Stored], float | None]
    ) -> Callable[[CallbackOptions], list[Observation]]:
        def observe(_options: CallbackOptions) -> list[Observation]:
            values = [(read(stored), name) for name, stored in self._observed().items()]
            return [
                Observation(value, _attributes(name)) for value, name in values if value is not None
            ]

        return observe

    def _observed(self) -> dict[str | None, Stored]:
        """Return what stores hold, by their names; None is all further names."""
        sums: dict[str | None, Stored] = {}
        for reference in self._stores:
            store = reference()
            stored = None if store is None else store.observed()
            if store is None or stored is None:
                continue
            name = store.name if store.name in sums or len(sums) < MOST_SERIES else None
            so_far = sums.get(name, Stored(0, 0, 0, 0))
            sums[name] = Stored(*map(int.__add__, so_far, stored))
        return sums


def _ratio(stored: Stored) -> float | None:
    return stored.raw_bytes / stored.stored_bytes if stored.stored_bytes else None


def _attributes(name: str | None) -> dict[str, str | bool]:
    return dict((OVERFLOW,)) if name is None else {semconv.STORE_NAME.name: name}


#: Returns the metrics that are told to a provider, None being the application's.
store_metrics = ByProvider(StoreMetrics).of
