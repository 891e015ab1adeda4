"""The metrics of an instrumented strataregula: sums, told once for each call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import metrics

from stratatrace.telemetry import semconv
from stratatrace.telemetry.providers import ByProvider
from stratatrace.version import __version__

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

    from stratatrace.telemetry.semconv import Metric

__all__ = ["StrataregulaMetrics", "strataregula_metrics"]

_COUNTERS = tuple(
    metric for metric in semconv.STRATAREGULA_METRICS if metric.instrument == "Counter"
)


class StrataregulaMetrics:
    """The instruments of one provider.

    Args:
        meter_provider: Whose instruments; None takes the application's, set before or later.
    """

    def __init__(self, meter_provider: MeterProvider | None) -> None:
        meter = metrics.get_meter(semconv.SCOPE, __version__, meter_provider=meter_provider)
        self._counters = {
            metric: meter.create_counter(metric.name, metric.unit, metric.brief)
            for metric in _COUNTERS
        }
        memory = semconv.STRATAREGULA_PLUGIN_MEMORY
        self._plugin_memory = meter.create_up_down_counter(memory.name, memory.unit, memory.brief)

    def add(self, metric: Metric, count: int, component: str) -> None:
        """Add to one of the counters; nothing where nothing was counted."""
        if count:
            self._counters[metric].add(count, {semconv.STRATAREGULA_COMPONENT.name: component})

    def add_plugin_memory(self, plugin: str, net_bytes: int) -> None:
        """Tell what loading a plugin has taken, or unloading it has given back."""
        attributes = {
            semconv.STRATAREGULA_COMPONENT.name: "plugins",
            semconv.STRATAREGULA_PLUGIN.name: plugin,
        }
        self._plugin_memory.add(net_bytes, attributes)

    def after_fork_in_child(self) -> None:
        """Do nothing: the sums are the provider's own."""


strataregula_metrics = ByProvider(StrataregulaMetrics, at_fork=False)
