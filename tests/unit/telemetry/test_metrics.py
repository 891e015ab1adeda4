"""The metric sink against the real SDK: names, units, values, bounds, exemplars."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from tracing import untraced

from stratatrace import profile_memory
from stratatrace.config import Config
from stratatrace.measurement import Callsite, Measurement
from stratatrace.recorder import Recorder, active
from stratatrace.telemetry import semconv
from stratatrace.telemetry.metrics import MetricSink
from stratatrace.testing import recording

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

LOAD = Callsite(name="load", function="app.load", budget_bytes=10)
SAVE = Callsite(name="nightly", function="app.save", label="nightly")


def collected(reader: InMemoryMetricReader) -> dict[str, Any]:
    """Collect once; return the metrics by their names."""
    data = reader.get_metrics_data()
    return {
        metric.name: metric
        for resource in (data.resource_metrics if data else [])
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def values(reader: InMemoryMetricReader, name: str) -> dict[str, float]:
    """Collect once; return the values of one metric by the function they are of."""
    metric = collected(reader).get(name)
    points = metric.data.data_points if metric else []
    return {str(p.attributes.get("code.function.name", "overflow")): p.value for p in points}


@pytest.fixture
def metrics(meter_provider: MeterProvider) -> MetricSink:
    """Have a sink for that provider, which has failed three times."""
    sink = MetricSink(meter_provider)
    sink.count_failures = lambda: 3
    return sink


def _emit(metrics: MetricSink, callsite: Callsite, **numbers: Any) -> None:
    metrics.emit(Measurement(callsite=callsite, **numbers), None)


def test_names_units_and_values(metrics: MetricSink, reader: InMemoryMetricReader) -> None:
    """Sums add up, gauges are the highest or the mean, by function and by error."""
    _emit(
        metrics,
        LOAD,
        duration_ns=500_000_000,
        heap_net_bytes=5,
        heap_peak_bytes=20,
        heap_allocated_bytes=100,
        rss_peak_bytes=1000,
        efficiency_score=40.0,
    )
    _emit(
        metrics,
        LOAD,
        duration_ns=1_500_000_000,
        heap_net_bytes=-7,
        heap_peak_bytes=8,
        heap_allocated_bytes=1,
        rss_peak_bytes=900,
        efficiency_score=60.0,
    )
    metrics_told = collected(reader)
    expected = {
        "stratatrace.call.count": 2,
        "stratatrace.call.time": 2.0,
        "stratatrace.heap.net": -2,
        "stratatrace.heap.allocated": 101,
        "stratatrace.budget.exceeded": 1,
        "stratatrace.heap.peak": 20,
        "stratatrace.rss.peak": 1000,
        "stratatrace.efficiency.score": 50.0,
    }
    told = {
        name: metric.data.data_points[0].value
        for name, metric in metrics_told.items()
        if name != "stratatrace.self.errors"
    }
    assert told == expected
    assert metrics_told["stratatrace.self.errors"].data.data_points[0].value == 3
    units = {m.name: m.unit for m in semconv.METRICS}
    for name, metric in metrics_told.items():
        assert metric.unit == units[name]
        assert metric.description
    kinds = {name: type(metric.data).__name__ for name, metric in metrics_told.items()}
    assert kinds["stratatrace.heap.peak"] == "Gauge"
    assert kinds["stratatrace.call.count"] == "Sum"
    assert metrics_told["stratatrace.call.count"].data.is_monotonic
    assert not metrics_told["stratatrace.heap.net"].data.is_monotonic


def test_series_are_by_function_label_and_error(
    metrics: MetricSink, reader: InMemoryMetricReader
) -> None:
    """Never by anything of the arguments."""
    _emit(metrics, LOAD)
    _emit(metrics, LOAD, error_type="ValueError")
    _emit(metrics, SAVE)
    points = collected(reader)["stratatrace.call.count"].data.data_points
    assert sorted((dict(p.attributes) for p in points), key=str) == sorted(
        [
            {"code.function.name": "app.load"},
            {"code.function.name": "app.load", "error.type": "ValueError"},
            {"code.function.name": "app.save", "stratatrace.callsite": "nightly"},
        ],
        key=str,
    )


def test_what_was_not_measured_is_no_point(
    metrics: MetricSink, reader: InMemoryMetricReader
) -> None:
    """A call without numbers is counted, and nothing else is claimed of it."""
    _emit(metrics, LOAD)
    assert set(collected(reader)) == {
        "stratatrace.call.count",
        "stratatrace.call.time",
        "stratatrace.self.errors",
    }


def test_gauges_begin_anew_with_each_collection(
    metrics: MetricSink, reader: InMemoryMetricReader
) -> None:
    """A peak is told once; sums go on."""
    _emit(metrics, LOAD, heap_peak_bytes=9, rss_peak_bytes=9, efficiency_score=10.0)
    first = collected(reader)
    second = collected(reader)
    _emit(metrics, LOAD, heap_peak_bytes=4)
    third = collected(reader)
    gauges = {"stratatrace.heap.peak", "stratatrace.rss.peak", "stratatrace.efficiency.score"}
    assert gauges <= set(first)
    assert gauges.isdisjoint(second)
    assert third["stratatrace.heap.peak"].data.data_points[0].value == 4
    assert third["stratatrace.call.count"].data.data_points[0].value == 2


def test_cardinality_is_bounded(metrics: MetricSink, reader: InMemoryMetricReader) -> None:
    """Past 2000 callsites the rest is one series, and no call is lost."""
    for number in range(2500):
        _emit(metrics, Callsite(name="f", function=f"app.f{number}"), heap_net_bytes=1)
    told = values(reader, "stratatrace.call.count")
    assert len(told) == 2001
    assert len(metrics._totals) == 2001, "the SDK bounds what it exports, not what we remember"
    assert told["overflow"] == 500
    assert sum(told.values()) == 2500
    assert sum(values(reader, "stratatrace.heap.net").values()) == 2500


def test_the_overflow_is_marked(metrics: MetricSink, reader: InMemoryMetricReader) -> None:
    """With the attribute that the SDK itself uses."""
    for number in range(2001):
        _emit(metrics, Callsite(name="f", function=f"app.f{number}"))
    points = collected(reader)["stratatrace.call.count"].data.data_points
    assert {"otel.metric.overflow": True} in [dict(p.attributes) for p in points]


def test_histograms_have_byte_buckets_and_exemplars(
    meter_provider: MeterProvider,
    reader: InMemoryMetricReader,
    tracer_provider: TracerProvider,
    exporter: InMemorySpanExporter,
) -> None:
    """A call with a span is in the histograms, with an exemplar that leads to its trace."""

    @profile_memory
    def takes() -> int:
        return len(bytearray(5 * 2**20))

    with recording(tracer_provider=tracer_provider, meter_provider=meter_provider):
        takes()
        told = collected(reader)
    (span,) = exporter.get_finished_spans()
    for name in ("stratatrace.call.heap.peak", "stratatrace.call.rss.peak"):
        (point,) = told[name].data.data_points
        assert tuple(point.explicit_bounds) == semconv.BYTE_BOUNDARIES
        assert point.count == 1
        (exemplar,) = point.exemplars
        assert (exemplar.trace_id, exemplar.span_id) == (
            span.context.trace_id,
            span.context.span_id,
        )
    (heap,) = told["stratatrace.call.heap.peak"].data.data_points
    assert heap.sum == pytest.approx(5 * 2**20, rel=0.01)
    assert list(heap.bucket_counts).index(1) == semconv.BYTE_BOUNDARIES.index(4**12)


def test_calls_without_a_span_are_in_no_histogram(
    meter_provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """They are only added up."""
    with recording(meter_provider=meter_provider):
        profile_memory(lambda: None)()
        told = set(collected(reader))
    assert "stratatrace.call.count" in told
    assert not [name for name in told if name.startswith("stratatrace.call.heap")]


def test_a_forked_child_counts_from_zero(metrics: MetricSink, reader: InMemoryMetricReader) -> None:
    """And does not wait for a lock that a thread of the parent held."""
    _emit(metrics, LOAD, heap_net_bytes=5)
    holder = threading.Thread(target=metrics._lock.acquire)
    holder.start()
    holder.join()
    metrics.after_fork_in_child()
    _emit(metrics, LOAD, heap_net_bytes=2)
    assert values(reader, "stratatrace.call.count") == {"app.load": 1}
    assert values(reader, "stratatrace.heap.net") == {"app.load": 2}


def test_calls_of_threads_are_all_counted(
    metrics: MetricSink, reader: InMemoryMetricReader
) -> None:
    """No call is lost between threads, nor between them and a collection."""

    def call() -> None:
        for number in range(2000):
            _emit(metrics, (LOAD, SAVE)[number % 2], heap_net_bytes=1)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        collected(reader)
    for thread in threads:
        thread.join()
    assert values(reader, "stratatrace.call.count") == {"app.load": 4000, "app.save": 4000}


def test_a_second_recorder_goes_on_in_the_same_provider(
    meter_provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """After configuring again, calls still arrive in the application's one provider."""
    call: Callable[[], None] = profile_memory(name="twice")(lambda: None)
    for _ in range(2):
        with recording(Config(probe="rss"), meter_provider=meter_provider):
            call()
            told = values(reader, "stratatrace.call.count")
            name = next(iter(told))
        latest = told[name]
    assert latest == 2


@untraced
@pytest.mark.parametrize("with_spans", [True, False])
def test_ten_thousand_callsites_under_collection(
    with_spans: bool,
    meter_provider: MeterProvider,
    reader: InMemoryMetricReader,
    tracer_provider: TracerProvider,
) -> None:
    """Called by threads while others collect: no call is lost or told twice, all is bounded.

    Without spans the compiled part adds them up, where it is there.
    """
    functions: list[Callable[[], None]] = [
        profile_memory(name=f"f{number}", budget=1)(lambda: None) for number in range(10_000)
    ]
    recorder = Recorder(
        Config(probe="auto", sample_ratio=1),
        tracer_provider=tracer_provider if with_spans else None,
        meter_provider=meter_provider,
    )
    recorder.guard.strict = True
    threads = [
        threading.Thread(target=lambda part=part: [function() for function in functions[part::2]])
        for part in range(2)
    ]
    seen: list[float] = []

    def count(told: dict[str, Any]) -> float:
        total: float = sum(p.value for p in told["stratatrace.call.count"].data.data_points)
        return total

    with active.replaced(recorder):
        functions[0]()  # Has a series of its own, whoever is first.
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            seen.append(count(collected(reader)))
            threads[0].join(0.2)
        for function in functions[:10]:
            function()
        told = collected(reader)
        assert len(recorder.metrics._totals) <= 2001
        assert len(recorder.habits) <= 4097
        if recorder.tallies is not None:
            # One more for each thread that is in the midst of making one.
            assert len(recorder.tallies.tallied) <= 4097 + len(threads)
            assert len(recorder.tallies._by_callsite) <= 4096
    assert seen == sorted(seen)
    assert count(told) == 10_011
    by_label = {
        p.attributes.get("stratatrace.callsite", "overflow"): p.value
        for p in told["stratatrace.call.count"].data.data_points
    }
    assert len(by_label) == 2001
    assert by_label["f0"] == 3
    assert by_label["overflow"] >= 8000
    histogram = told.get("stratatrace.call.heap.peak")
    assert (histogram is not None) == with_spans
    if histogram is not None:
        assert sum(p.count for p in histogram.data.data_points) == 10_011
        assert len(histogram.data.data_points) <= 2001
