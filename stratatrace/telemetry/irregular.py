"""The metric of spans that could not be measured as others are, by what was wrong with them."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Literal

from opentelemetry import metrics
from opentelemetry.metrics import Observation

from stratatrace.telemetry import semconv
from stratatrace.telemetry.providers import ByProvider
from stratatrace.version import __version__

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, MeterProvider

__all__ = ["Irregularity", "irregular_spans"]

Irregularity = Literal["aside", "ended_elsewhere", "ended_late", "ended_twice", "full", "names"]


class _IrregularSpans:
    """Counts them for one provider.

    Args:
        meter_provider: None takes the application's, set before or later.
    """

    def __init__(self, meter_provider: MeterProvider | None) -> None:
        self.counts: Counter[Irregularity] = Counter()
        # Reentrant: a collection may run a finalizer that ends a span.
        self._lock = threading.RLock()
        metric = semconv.IRREGULAR_SPANS
        meter = metrics.get_meter(semconv.SCOPE, __version__, meter_provider=meter_provider)
        meter.create_observable_counter(metric.name, [self._observe], metric.unit, metric.brief)

    def add(self, irregularity: Irregularity) -> None:
        """Count one more."""
        with self._lock:
            self.counts[irregularity] += 1

    def after_fork_in_child(self) -> None:
        """Count from zero: the parent tells its own."""
        self._lock = threading.RLock()
        self.counts.clear()

    def _observe(self, _options: CallbackOptions) -> list[Observation]:
        with self._lock:
            counts = list(self.counts.items())
        return [Observation(count, {semconv.IRREGULARITY.name: what}) for what, count in counts]


class _Providers(ByProvider[_IrregularSpans]):
    def count(self, irregularity: Irregularity, meter_provider: MeterProvider | None) -> None:
        """Count one more span.

        Args:
            irregularity: What was wrong with it.
            meter_provider: Whose metric; None takes the application's, set before or later.
        """
        self.of(meter_provider).add(irregularity)


irregular_spans = _Providers(_IrregularSpans)
