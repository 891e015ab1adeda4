"""The metrics of lazy values: counted for each provider, and asked for what is alive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stratatrace.telemetry import lazies as module
from stratatrace.telemetry import semconv
from stratatrace.telemetry.lazies import LazyMetrics

if TYPE_CHECKING:
    import pytest
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader


class Keeper:
    """Keeps so many values."""

    def __init__(self, count: int) -> None:
        self.count = count

    def live(self) -> int:
        return self.count


def told(reader: InMemoryMetricReader) -> dict[str, dict[tuple[Any, ...], float]]:
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


def test_counts_and_what_is_alive(
    meter_provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """By function and name; those who keep values are added up, while they are there."""
    metrics = LazyMetrics()
    one, two, other = Keeper(2), Keeper(3), Keeper(1)
    for keeper, series in ((one, ("f", None)), (two, ("f", None)), (other, ("f", "named"))):
        metrics.add_live(series, keeper.live)
    metrics.count("computations", ("f", None), 1, meter_provider)
    metrics.count("computations", ("f", None), 2, meter_provider)
    metrics.count("evictions", ("f", "named"), 4, meter_provider)
    assert told(reader) == {
        "stratatrace.lazy.computations": {("f",): 3},
        "stratatrace.lazy.evictions": {("f", "named"): 4},
        "stratatrace.lazy.live": {("f",): 5, ("f", "named"): 1},
    }
    del one, other, keeper
    assert told(reader)["stratatrace.lazy.live"] == {("f",): 3}


def test_a_child_counts_from_zero(
    meter_provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """The parent tells its own."""
    metrics = LazyMetrics()
    metrics.count("computations", ("f", None), 1, meter_provider)
    metrics.count("computations", ("f", None), 1, None)
    metrics.after_fork_in_child()
    assert told(reader) == {}
    metrics.count("computations", ("g", None), 1, meter_provider)
    assert told(reader) == {"stratatrace.lazy.computations": {("g",): 1}}
    assert metrics._usual is not None
    assert not metrics._usual["computations"]


def test_names_are_bounded(
    meter_provider: MeterProvider, reader: InMemoryMetricReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function made anew for each request does not fill the memory."""
    monkeypatch.setattr(module, "MOST_SERIES", 2)
    metrics = LazyMetrics()
    keepers = [Keeper(1) for _ in range(4)]
    for number, keeper in enumerate(keepers):
        metrics.count("computations", (f"f{number}", None), 1, meter_provider)
        metrics.add_live((f"f{number}", None), keeper.live)
    expected = {("f0",): 1, ("f1",): 1, (True,): 2}
    assert told(reader)["stratatrace.lazy.computations"] == expected
    assert told(reader)["stratatrace.lazy.live"] == expected


def test_units_are_those_of_the_conventions(
    meter_provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """And every metric of the conventions is told."""
    metrics = LazyMetrics()
    keeper = Keeper(1)
    metrics.add_live(("f", None), keeper.live)
    metrics.count("computations", ("f", None), 1, meter_provider)
    metrics.count("evictions", ("f", None), 1, meter_provider)
    data = reader.get_metrics_data()
    assert data is not None
    told = {m.name: m.unit for m in data.resource_metrics[0].scope_metrics[0].metrics}
    assert told == {metric.name: metric.unit for metric in semconv.LAZY_METRICS}
