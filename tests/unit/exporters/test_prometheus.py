"""Exemplars in what Prometheus scrapes, read back by the parser of Prometheus's own client."""

from __future__ import annotations

import importlib
import logging
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import format_span_id, format_trace_id, get_current_span
from tracing import untraced

from stratatrace import profile_memory
from stratatrace.errors import MissingExtraError
from stratatrace.testing import recording

pytest.importorskip("opentelemetry.exporter.prometheus")

from opentelemetry.exporter import prometheus as exporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from prometheus_client import REGISTRY
from prometheus_client import generate_latest as plain_text
from prometheus_client.openmetrics import exposition, parser

from stratatrace.exporters.prometheus import ExemplarMetricReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from opentelemetry.metrics import Histogram
    from opentelemetry.trace import Span
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric
    from prometheus_client.samples import Exemplar

BOUNDS = [10.0, 100.0]


@pytest.fixture
def reader() -> ExemplarMetricReader:
    """Have a reader that the registry knows."""
    return ExemplarMetricReader()


@pytest.fixture
def provider(reader: ExemplarMetricReader) -> Iterator[MeterProvider]:
    """Have a provider that is scraped."""
    provider = MeterProvider([reader], shutdown_on_exit=False)
    yield provider
    provider.shutdown()


@pytest.fixture
def sizes(provider: MeterProvider) -> Histogram:
    """Have a histogram of the application's own."""
    meter = provider.get_meter("app")
    return meter.create_histogram("size", "By", explicit_bucket_boundaries_advisory=BOUNDS)


# They are not typed.
open_metrics: Callable[[CollectorRegistry], bytes] = exposition.generate_latest
parsed: Callable[[str], Iterable[Metric]] = parser.text_string_to_metric_families


def recorded(histogram: Histogram, value: float, attributes: dict[str, Any] | None = None) -> Span:
    """Record a value in a trace of its own; return its span."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("app")
    with tracer.start_as_current_span("work") as span:
        histogram.record(value, attributes or {})
    return span


def scraped(name: str, **labels: str) -> dict[str, Exemplar]:
    """Scrape once; return the exemplars of one histogram, by the upper bound of their bucket."""
    return {
        sample.labels["le"]: sample.exemplar
        for family in parsed(open_metrics(REGISTRY).decode())
        for sample in family.samples
        if sample.name == f"{name}_bucket"
        and sample.exemplar is not None
        and labels.items() <= sample.labels.items()
    }


def ids_of(span: Span) -> dict[str, str]:
    context = span.get_span_context()
    return {
        "trace_id": format_trace_id(context.trace_id),
        "span_id": format_span_id(context.span_id),
    }


@untraced
def test_a_bucket_leads_to_the_trace_of_the_call_that_filled_it(provider: MeterProvider) -> None:
    """The histograms of measured calls have an exemplar of each bucket's latest call."""
    spans: list[Span] = []

    @profile_memory
    def takes(size: int) -> int:
        spans.append(get_current_span())
        return len(bytearray(size))

    tracer_provider = TracerProvider(shutdown_on_exit=False)
    with recording(tracer_provider=tracer_provider, meter_provider=provider) as sink:
        for size in (5 * 2**20, 3 * 2**10, 6 * 2**20):
            takes(size)
        exemplars = scraped("stratatrace_call_heap_peak_bytes")
    assert set(exemplars) == {"4096.0", "16777216.0"}
    for bound, number in {"4096.0": 1, "16777216.0": 2}.items():
        assert exemplars[bound].labels == ids_of(spans[number])
        assert exemplars[bound].value == sink.measurements[number].heap_peak_bytes
        assert exemplars[bound].timestamp is not None
    assert set(scraped("stratatrace_call_rss_peak_bytes"))


def test_all_histograms_of_the_application_have_them(sizes: Histogram) -> None:
    """A value on a bound belongs below it, and one above all bounds to the last bucket."""
    low, on_bound, high = (recorded(sizes, value) for value in (1, 100, 101))
    exemplars = scraped("size_bytes")
    assert {bound: e.labels for bound, e in exemplars.items()} == {
        "10.0": ids_of(low),
        "100.0": ids_of(on_bound),
        "+Inf": ids_of(high),
    }
    assert [e.value for e in exemplars.values()] == [1, 100, 101]


def test_an_exemplar_stands_until_there_is_a_newer_one(sizes: Histogram) -> None:
    """A scrape takes nothing from the next, which may be another server's."""
    first = recorded(sizes, 5)
    assert scraped("size_bytes") == scraped("size_bytes")
    assert scraped("size_bytes")["10.0"].labels == ids_of(first)
    second = recorded(sizes, 6)
    assert scraped("size_bytes")["10.0"].labels == ids_of(second)


def test_series_keep_theirs_apart(provider: MeterProvider, sizes: Histogram) -> None:
    """Points of different labels, and of another scope's instrument of the same name."""
    spans = {route: recorded(sizes, 5, {"http.route": route}) for route in ("/a", "/b", '/"c"\\')}
    elsewhere = provider.get_meter("lib").create_histogram(
        "size", "By", explicit_bucket_boundaries_advisory=BOUNDS
    )
    spans["/d"] = recorded(elsewhere, 5, {"http.route": "/d"})
    for route, span in spans.items():
        assert scraped("size_bytes", http_route=route)["10.0"].labels == ids_of(span)


@pytest.mark.skipif(
    not hasattr(exporter._CustomCollector, "_collect_data_points"),
    reason="older exporters make of this what no parser takes",
)
def test_a_label_that_one_series_lacks_is_no_matter(sizes: Histogram) -> None:
    """The exporter has it empty beside a series that has it."""
    spans = {
        error: recorded(sizes, 5, {"error.type": error} if error else {}) for error in ("", "E")
    }
    for error, span in spans.items():
        assert scraped("size_bytes", error_type=error)["10.0"].labels == ids_of(span)


def test_what_is_recorded_in_no_sampled_trace_has_none(sizes: Histogram) -> None:
    """There is nothing to lead to."""
    sizes.record(5)
    tracer = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False).get_tracer("app")
    with tracer.start_as_current_span("unsampled"):
        sizes.record(5)
    assert scraped("size_bytes") == {}


def test_nothing_else_is_changed(provider: MeterProvider, sizes: Histogram) -> None:
    """Without its exemplars it is what the exporter exposes, in both formats."""
    meter = provider.get_meter("app")
    meter.create_counter("hits").add(3, {"k": "v"})
    meter.create_up_down_counter("level").add(-3)
    recorded(sizes, 5)
    ours = open_metrics(REGISTRY).decode()
    assert " # {" in ours
    assert " # {" not in plain_text(REGISTRY).decode()
    assert "hits_total{" in ours

    def of_the_program(text: str) -> list[str]:
        names = ("hits", "level", "size")
        return [line.partition(" # {")[0] for line in text.splitlines() if line.startswith(names)]

    def stock() -> list[str]:
        theirs = MeterProvider([PrometheusMetricReader()], shutdown_on_exit=False)
        again = theirs.get_meter("app")
        again.create_counter("hits").add(3, {"k": "v"})
        again.create_up_down_counter("level").add(-3)
        recorded(
            again.create_histogram("size", "By", explicit_bucket_boundaries_advisory=BOUNDS), 5
        )
        text = open_metrics(REGISTRY).decode()
        theirs.shutdown()
        return of_the_program(text)

    provider.shutdown()
    assert stock() == of_the_program(ours)


def test_who_is_shut_down_is_scraped_no_more() -> None:
    """The registry is left as it was."""
    provider = MeterProvider([ExemplarMetricReader()], shutdown_on_exit=False)
    provider.get_meter("app").create_counter("hits").add(1)
    assert b"\nhits_total" in plain_text(REGISTRY)
    provider.shutdown()
    assert b"\nhits_total" not in plain_text(REGISTRY)


def test_scrapes_side_by_side_each_have_all(sizes: Histogram) -> None:
    """While the application records, every scrape has the bucket, and an exemplar that fits it."""
    stop = threading.Event()
    seen: list[dict[str, Exemplar]] = []
    recorded(sizes, 5)

    def record() -> None:
        while not stop.is_set():
            recorded(sizes, 5)

    def scrape() -> None:
        seen.extend(scraped("size_bytes") for _ in range(20))

    recorder = threading.Thread(target=record)
    scrapers = [threading.Thread(target=scrape) for _ in range(3)]
    for thread in (recorder, *scrapers):
        thread.start()
    for thread in scrapers:
        thread.join()
    stop.set()
    recorder.join()
    assert len(seen) == 60
    assert all(set(exemplars) == {"10.0"} for exemplars in seen)


def test_a_forked_child_waits_for_no_scrape_of_its_parent(
    reader: ExemplarMetricReader, sizes: Histogram
) -> None:
    """Its lock is new."""
    recorded(sizes, 5)
    collector = reader._collector
    holder = threading.Thread(target=collector._lock.acquire)
    holder.start()
    holder.join()
    collector.after_fork_in_child()
    assert set(scraped("size_bytes")) == {"10.0"}


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


def test_an_exporter_that_is_made_otherwise_exposes_without_exemplars(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where a name of theirs is missing, a warning says so, and all values are there."""
    theirs: Any = exporter._CustomCollector
    monkeypatch.setattr(theirs, "renamed", theirs._translate_to_prometheus, raising=False)

    def collect(self: Any) -> Iterator[object]:
        self._callback()
        made: dict[str, object] = {}
        while self._metrics_datas:
            self.renamed(self._metrics_datas.popleft(), made)
        yield from made.values()

    monkeypatch.delattr(theirs, "_translate_to_prometheus")
    provider = MeterProvider([ExemplarMetricReader()], shutdown_on_exit=False)
    monkeypatch.setattr(theirs, "collect", collect)
    try:
        (warning,) = _warnings(caplog)
        assert "cannot add exemplars" in warning
        recorded(provider.get_meter("app").create_histogram("size", "By"), 5)
        text = open_metrics(REGISTRY).decode()
    finally:
        provider.shutdown()
    assert "size_bytes_count" in text
    assert " # {" not in text


def test_a_failure_is_told_of_once_and_costs_no_metric(
    sizes: Histogram, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What fails in adding exemplars leaves the exposition alone."""
    recorded(sizes, 5)
    monkeypatch.setattr("stratatrace.exporters.prometheus.bisect_left", lambda *_: 99)
    for _ in range(2):
        assert "size_bytes_count" in open_metrics(REGISTRY).decode()
        assert scraped("size_bytes") == {}
    assert len(_warnings(caplog)) == 1


def test_without_the_exporter_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """As an ImportError that names the extra."""
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.prometheus", None)
    monkeypatch.delitem(sys.modules, "stratatrace.exporters.prometheus")
    with pytest.raises(MissingExtraError, match=r"stratatrace\[prometheus\]"):
        importlib.import_module("stratatrace.exporters.prometheus")
