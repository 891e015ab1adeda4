"""The gauges of memory monitors, which tell of those that are running."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple, Protocol

from opentelemetry import metrics
from opentelemetry.metrics import Observation

from stratatrace.telemetry import semconv
from stratatrace.telemetry.providers import MOST_SERIES, OVERFLOW, ByProvider
from stratatrace.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.metrics import CallbackOptions, MeterProvider

__all__ = ["MonitorMetrics", "Monitored", "Observed", "monitor_metrics"]


class Observed(NamedTuple):
    """What a running monitor knows; what is None is not told."""

    name: str
    #: None where OpenTelemetry's own instrumentation of the process tells the same.
    used_bytes: int | None
    peak_bytes: int | None
    processes: int | None
    limit_bytes: int | None
    utilization_ratio: float | None
    rise_bytes_per_second: float | None
    seconds_left: float | None


class Monitored(Protocol):
    """Whatever can be asked for that. May raise: it is then left out."""

    def observed(self) -> Observed | None:
        """Return what is known now."""
        ...


class MonitorMetrics:
    """The instruments of one provider, which are made once and read the monitors that are running.

    Args:
        meter_provider: Whose instruments; None takes the application's, set before or later.
    """

    def __init__(self, meter_provider: MeterProvider | None = None) -> None:
        self._monitors: list[Monitored] = []
        # Not of a monitor: the next one of the same name must not count from zero again.
        self._alerts: dict[tuple[tuple[str, str | bool], ...], int] = {}
        self._lock = threading.RLock()
        meter = metrics.get_meter(semconv.SCOPE, __version__, meter_provider=meter_provider)
        gauges: tuple[tuple[semconv.Metric, Callable[[Observed], float | None]], ...] = (
            (semconv.MONITOR_USED, lambda observed: observed.used_bytes),
            (semconv.MONITOR_PEAK, lambda observed: observed.peak_bytes),
            (semconv.MONITOR_PROCESSES, lambda observed: observed.processes),
            (semconv.MONITOR_LIMIT, lambda observed: observed.limit_bytes),
            (semconv.MONITOR_UTILIZATION, lambda observed: observed.utilization_ratio),
            (semconv.MONITOR_RISE, lambda observed: observed.rise_bytes_per_second),
            (semconv.MONITOR_TIME_LEFT, lambda observed: observed.seconds_left),
        )
        for metric, read in gauges:
            meter.create_observable_gauge(
                metric.name, [self._reader(read)], metric.unit, metric.brief
            )
        alerts = semconv.MONITOR_ALERTS
        meter.create_observable_counter(
            alerts.name, [self._observe_alerts], alerts.unit, alerts.brief
        )

    def add(self, monitor: Monitored) -> None:
        """Tell of one more."""
        if not any(each is monitor for each in self._monitors):
            self._monitors = [*self._monitors, monitor]

    def remove(self, monitor: Monitored) -> None:
        """Tell of it no more."""
        self._monitors = [each for each in self._monitors if each is not monitor]

    def count_alert(self, name: str, kind: str) -> None:
        """Count one alert of a monitor of that name."""
        key: tuple[tuple[str, str | bool], ...] = (
            (semconv.MONITOR_NAME.name, name),
            (semconv.MONITOR_ALERT.name, kind),
        )
        with self._lock:
            if key not in self._alerts and len(self._alerts) >= MOST_SERIES:
                key = (OVERFLOW,)
            self._alerts[key] = self._alerts.get(key, 0) + 1

    def after_fork_in_child(self) -> None:
        """Count from zero: the parent tells its own alerts."""
        self._lock = threading.RLock()
        self._alerts = {}

    def _reader(
        self, read: Callable[[Observed], float | None]
    ) -> Callable[[CallbackOptions], list[Observation]]:
        def observe(_options: CallbackOptions) -> list[Observation]:
            values = [(read(observed), _attributes(observed)) for observed in self._observed()]
            return [
                Observation(value, attributes) for value, attributes in values if value is not None
            ]

        return observe

    def _observe_alerts(self, _options: CallbackOptions) -> list[Observation]:
        with self._lock:
            return [Observation(count, dict(key)) for key, count in self._alerts.items()]

    def _observed(self) -> list[Observed]:
        told = (monitor.observed() for monitor in self._monitors)
        return [observed for observed in told if observed is not None]


def _attributes(observed: Observed) -> dict[str, str]:
    return {semconv.MONITOR_NAME.name: observed.name}


#: Returns the gauges that are told to a provider, None being the application's.
monitor_metrics = ByProvider(MonitorMetrics).of
