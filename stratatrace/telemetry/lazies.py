"""The metrics of lazy values: how many were computed, dropped, and are alive."""

from __future__ import annotations

import os
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary, WeakMethod

from opentelemetry import metrics
from opentelemetry.metrics import Observation

from stratatrace.telemetry import semconv
from stratatrace.telemetry.providers import MOST_SERIES, OVERFLOW
from stratatrace.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.metrics import CallbackOptions, MeterProvider

__all__ = ["LazyMetrics", "Series", "lazy_metrics"]

#: A function's name, and what the user calls it.
Series = tuple[str, str | None]
_Counted = Literal["computations", "evictions"]


class LazyMetrics:
    """Counts by function and given name, for each provider; who is alive, is asked."""

    def __init__(self) -> None:
        self._counts: WeakKeyDictionary[Any, dict[_Counted, Counter[Series]]]
        self._counts = WeakKeyDictionary()
        # Of the application's provider, which is the usual one, without a look-up.
        self._usual: dict[_Counted, Counter[Series]] | None = None
        self._live: dict[int, tuple[Series, WeakMethod[Callable[[], int]]]] = {}
        # Reentrant: a collection may run a finalizer that computes a lazy value.
        self._lock = threading.RLock()

    def count(
        self, what: _Counted, series: Series, count: int, meter_provider: MeterProvider | None
    ) -> None:
        """Count values that were computed, or dropped because memory was short.

        Args:
            what: Which of the two.
            series: Of which function.
            count: How many.
            meter_provider: Whose metric; None takes the application's, set before or later.
        """
        with self._lock:
            counts = self._usual if meter_provider is None else self._counts.get(meter_provider)
            if counts is None:
                counts = self._offer(meter_provider)
            _add(counts[what], series, count)

    def add_live(self, series: Series, live: Callable[[], int]) -> None:
        """Ask *live*, a bound method, how many values there are, while its object is alive."""
        key = id(live.__self__)  # type: ignore[attr-defined] # it is a method

        def gone(reference: WeakMethod[Callable[[], int]]) -> None:
            known = self._live.get(key)
            if known is not None and known[1] is reference:
                self._live.pop(key, None)

        self._live[key] = (series, WeakMethod(live, gone))

    def after_fork_in_child(self) -> None:
        """Count from zero: the parent tells its own."""
        self._lock = threading.RLock()
        for counts in (*self._counts.values(), self._usual or {}):
            for counter in counts.values():
                counter.clear()

    def _offer(self, meter_provider: MeterProvider | None) -> dict[_Counted, Counter[Series]]:
        counts: dict[_Counted, Counter[Series]] = {
            "computations": Counter(),
            "evictions": Counter(),
        }
        if meter_provider is None:
            self._usual = counts
        else:
            self._counts[meter_provider] = counts
        meter = metrics.get_meter(semconv.SCOPE, __version__, meter_provider=meter_provider)
        for metric, counter in (
            (semconv.LAZY_COMPUTATIONS, counts["computations"]),
            (semconv.LAZY_EVICTIONS, counts["evictions"]),
        ):
            meter.create_observable_counter(
                metric.name, [self._reader(counter)], metric.unit, metric.brief
            )
        live = semconv.LAZY_LIVE
        meter.create_observable_up_down_counter(
            live.name, [self._observe_live], live.unit, live.brief
        )
        return counts

    def _reader(self, counter: Counter[Series]) -> Callable[[CallbackOptions], list[Observation]]:
        def observe(_options: CallbackOptions) -> list[Observation]:
            with self._lock:
                return [Observation(count, _attributes(*key)) for key, count in counter.items()]

        return observe

    def _observe_live(self, _options: CallbackOptions) -> list[Observation]:
        alive: Counter[Series] = Counter()
        for series, reference in tuple(self._live.values()):
            live = reference()
            if live is not None:
                _add(alive, series, live())
        return [Observation(count, _attributes(*key)) for key, count in alive.items()]


def _add(counter: Counter[Series], series: Series, count: int) -> None:
    if series not in counter and len(counter) >= MOST_SERIES:
        series = ("", None)
    counter[series] += count


def _attributes(function: str, label: str | None) -> dict[str, str | bool]:
    if not function:
        return dict((OVERFLOW,))
    if label is None:
        return {semconv.FUNCTION_NAME.name: function}
    return {semconv.FUNCTION_NAME.name: function, semconv.CALLSITE.name: label}


lazy_metrics = LazyMetrics()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lazy_metrics.after_fork_in_child)
