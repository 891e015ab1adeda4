"""The gauges of monitors: of those that run, by their names; alerts are counted for good."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stratatrace.telemetry import monitors as module
from stratatrace.telemetry import semconv
from stratatrace.telemetry.monitors import MonitorMetrics, Observed, monitor_metrics

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader


class Monitor:
    """Knows what it is made with."""

    def __init__(self, **known: Any) -> None:
        nothing = dict.fromkeys(Observed._fields)
        self.known: Observed | None = Observed(**{**nothing, "name": "job", **known})

    def observed(self) -> Observed | None:
        return self.known


def collected(reader: InMemoryMetricReader) -> dict[str, dict[tuple[Any, ...], float]]:
    """Return the values of all points, by metric and attributes."""
    data = reader.get_metrics_data()
    if data is None:
        return {}
    return {
        metric.name: {
            tuple((point.attributes or {}).values()): point.value  # type: ignore[union-attr]
            for point in metric.data.data_points
        }
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


@pytest.fixture
def metrics(meter_provider: MeterProvider) -> MonitorMetrics:
    return MonitorMetrics(meter_provider)


def test_all_that_is_known(metrics: MonitorMetrics, reader: InMemoryMetricReader) -> None:
    """Each number is a gauge of its own."""
    metrics.add(Monitor(**{name: place for place, name in enumerate(Observed._fields) if place}))
    assert collected(reader) == {
        "stratatrace.monitor.used": {("job",): 1},
        "stratatrace.monitor.peak": {("job",): 2},
        "stratatrace.monitor.processes": {("job",): 3},
        "stratatrace.monitor.limit": {("job",): 4},
        "stratatrace.monitor.utilization": {("job",): 5},
        "stratatrace.monitor.rise": {("job",): 6},
        "stratatrace.monitor.time_left": {("job",): 7},
    }


def test_what_is_not_known_is_absent(metrics: MonitorMetrics, reader: InMemoryMetricReader) -> None:
    """And so is a monitor that knows nothing."""
    metrics.add(Monitor(peak_bytes=5))
    silent = Monitor()
    silent.known = None
    metrics.add(silent)
    assert collected(reader) == {"stratatrace.monitor.peak": {("job",): 5}}


def test_only_while_it_runs(metrics: MonitorMetrics, reader: InMemoryMetricReader) -> None:
    """Added twice it is told once; removed, no more."""
    one, other = Monitor(peak_bytes=1), Monitor(name="other", peak_bytes=2)
    for monitor in (one, other, one):
        metrics.add(monitor)
    assert collected(reader)["stratatrace.monitor.peak"] == {("job",): 1, ("other",): 2}
    metrics.remove(one)
    metrics.remove(one)
    assert collected(reader)["stratatrace.monitor.peak"] == {("other",): 2}


def test_alerts_are_counted_by_name_and_kind(
    metrics: MonitorMetrics, reader: InMemoryMetricReader
) -> None:
    """Whether their monitor still runs or not."""
    for name, kind in (("job", "rise"), ("job", "threshold"), ("job", "rise"), ("other", "rise")):
        metrics.count_alert(name, kind)
    assert collected(reader)["stratatrace.monitor.alerts"] == {
        ("job", "rise"): 2,
        ("job", "threshold"): 1,
        ("other", "rise"): 1,
    }
    metrics.after_fork_in_child()
    assert "stratatrace.monitor.alerts" not in collected(reader)


def test_names_are_bounded(
    metrics: MonitorMetrics, reader: InMemoryMetricReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A monitor with a name of its own for each request does not fill the memory."""
    monkeypatch.setattr(module, "MOST_SERIES", 2)
    for number in (1, 2, 3, 4, 1):
        metrics.count_alert(f"request {number}", "rise")
    assert collected(reader)["stratatrace.monitor.alerts"] == {
        ("request 1", "rise"): 2,
        ("request 2", "rise"): 1,
        (True,): 2,
    }


def test_units_are_those_of_the_conventions(
    metrics: MonitorMetrics, reader: InMemoryMetricReader
) -> None:
    """And every metric of the conventions is told."""
    metrics.add(Monitor(**dict.fromkeys(Observed._fields[1:], 1)))
    metrics.count_alert("job", "rise")
    data = reader.get_metrics_data()
    assert data is not None
    told = {m.name: m.unit for m in data.resource_metrics[0].scope_metrics[0].metrics}
    assert told == {metric.name: metric.unit for metric in semconv.MONITOR_METRICS}


def test_instruments_are_made_once_a_provider(meter_provider: MeterProvider) -> None:
    """None is the application's."""
    assert monitor_metrics(meter_provider) is monitor_metrics(meter_provider)
    assert monitor_metrics(None) is monitor_metrics(None)
    assert monitor_metrics(None) is not monitor_metrics(meter_provider)
