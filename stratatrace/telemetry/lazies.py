"""The metrics of lazy values: how many were computed, dropped, and are alive."""

from __future__ import annotations

import os
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakMethod

from opentelemetry import metrics
from opentelemetry.metrics import Observation

from stratatrace.telemetry import semconv
from stratatrace.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.metrics import CallbackOptions, MeterProvider

    from stratatrace.measurement import Callsite

__all__ = ["LazyMetrics", "lazy_metrics"]

# As many as the other metrics have.
_MOST_SERIES = 2000
_Series = tuple[str, str | None]


class _Counts:
    """What one provider is told."""

    def __init__(self) -> None:
        self.computations: Counter[_Series] = Counter()
        self.evictions: Counter[_Series] = Counter()

    def clear(self) -> None:
        self.computations.clear()
        self.evictions.clear()


class LazyMetrics:
    """Counts by function and given name, for each provider; who is alive, is asked."""

    def __init__(self) -> None:
        self._counts: WeakKeyDictionary[Any, _Counts] = WeakKeyDictionary()
        self._live: dict[int, tuple[_Series, WeakMethod[Callable[[], int]]]] = {}
        # Reentrant: a collection may run a finalizer that computes a lazy value.
        self._lock = threading.RLock()

    def count_computation(self, callsite: Callsite, meter_provider: MeterProvider | None) -> None:
        """Count a value that was computed.

        Args:
            callsite: Of which function.
            meter_provider: Whose metric; None takes the application's, set before or later.
        """
        with self._lock:
            _add(self._of(meter_provider).computations, callsite, 1)

    def count_evictions(
        self, callsite: Callsite, count: int, meter_provider: MeterProvider | None
    ) -> None:
        """Count values that were dropped because memory was short.

        Args:
            callsite: Of which function.
            count: How many.
            meter_provider: Whose metric; None takes the application's, set before or later.
        """
        with self._lock:
            _add(self._of(meter_provider).evictions, callsite, count)

    def add_live(self, callsite: Callsite, live: Callable[[], int]) -> None:
        """Ask *live*, a bound method, how many values there are, while its object is alive."""
        key = id(live.__self__)  # type: ignore[attr-defined] # it is a method

        def gone(reference: WeakMethod[Callable[[], int]]) -> None:
            known = self._live.get(key)
            if known is not None and known[1] is reference:
                self._live.pop(key, None)

        self._live[key] = ((callsite.function, callsite.label), WeakMethod(live, gone))

    def after_fork_in_child(self) -> None:
        """Count from zero: the parent tells its own."""
        self._lock = threading.RLock()
        for counts in self._counts.values():
            counts.clear()

    def _of(self, meter_provider: MeterProvider | None) -> _Counts:
        key = type(self) if meter_provider is None else meter_provider
        counts = self._counts.get(key)
        if counts is None:
            counts = self._counts[key] = _Counts()
            self._offer(counts, meter_provider)
        return counts

    def _offer(self, counts: _Counts, meter_provider: MeterProvider | None) -> None:
        meter = metrics.get_meter(semconv.SCOPE, __version__, meter_provider=meter_provider)
        for metric, counted in (
            (semconv.LAZY_COMPUTATIONS, counts.computations),
            (semconv.LAZY_EVICTIONS, counts.evictions),
        ):
            meter.create_observable_counter(
                metric.name, [self._reader(counted)], metric.unit, metric.brief
            )
        live = semconv.LAZY_LIVE
        meter.create_observable_up_down_counter(
            live.name, [self._observe_live], live.unit, live.brief
        )

    def _reader(self, counted: Counter[_Series]) -> Callable[[CallbackOptions], list[Observation]]:
        def observe(_options: CallbackOptions) -> list[Observation]:
            with self._lock:
                return [Observation(count, _attributes(*key)) for key, count in counted.items()]

        return observe

    def _observe_live(self, _options: CallbackOptions) -> list[Observation]:
        alive: Counter[_Series] = Counter()
        for series, reference in tuple(self._live.values()):
            live = reference()
            if live is not None:
                _add_series(alive, series, live())
        return [Observation(count, _attributes(*key)) for key, count in alive.items()]


def _add(counter: Counter[_Series], callsite: Callsite, count: int) -> None:
    _add_series(counter, (callsite.function, callsite.label), count)


def _add_series(counter: Counter[_Series], series: _Series, count: int) -> None:
    if series not in counter and len(counter) >= _MOST_SERIES:
        series = ("", None)
    counter[series] += count


def _attributes(function: str, label: str | None) -> dict[str, str | bool]:
    if not function:
        return {"otel.metric.overflow": True}
    if label is None:
        return {semconv.FUNCTION_NAME.name: function}
    return {semconv.FUNCTION_NAME.name: function, semconv.CALLSITE.name: label}


lazy_metrics = LazyMetrics()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lazy_metrics.after_fork_in_child)
