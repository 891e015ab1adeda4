"""The span sink: a span a call, current while it runs, with its numbers at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import StatusCode

from stratatrace.measurement import Callsite, Measurement
from stratatrace.telemetry import semconv
from stratatrace.telemetry.spans import SpanScope, SpanSink

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

CALLSITE = Callsite(
    name="load",
    function="app.load",
    file="app.py",
    line=3,
    label="load",
    attributes={"team": "search"},
    budget_bytes=10,
)


@pytest.fixture
def spans(tracer_provider: TracerProvider) -> SpanSink:
    """Have a sink for that provider."""
    return SpanSink(tracer_provider)


def _told(exporter: InMemorySpanExporter) -> dict[str, object]:
    (span,) = exporter.get_finished_spans()
    return dict(span.attributes or {})


def test_a_span_is_described_from_its_start(
    spans: SpanSink, exporter: InMemorySpanExporter
) -> None:
    """Samplers see where the call is; a name or budget that was not given is absent."""
    for callsite in (CALLSITE, Callsite(name="bare", function="app.bare")):
        scope = spans.open(callsite, None)
        assert scope is not None
        scope.span.end()
    named, bare = exporter.get_finished_spans()
    assert dict(named.attributes or {}) == {
        "code.function.name": "app.load",
        "code.file.path": "app.py",
        "code.line.number": 3,
        "stratatrace.callsite": "load",
        "stratatrace.budget": 10,
        "team": "search",
    }
    assert dict(bare.attributes or {}) == {"code.function.name": "app.bare"}
    assert named.name == "load"
    assert named.instrumentation_scope is not None
    assert named.instrumentation_scope.name == "stratatrace"


def test_attributes_of_one_call(spans: SpanSink, exporter: InMemorySpanExporter) -> None:
    """They are on that call's span, and not on the next one of the callsite."""
    for attributes in ({"size": 5}, None):
        scope = spans.open(CALLSITE, attributes)
        assert scope is not None
        scope.span.end()
    first, second = exporter.get_finished_spans()
    assert (first.attributes or {})["size"] == 5
    assert "size" not in (second.attributes or {})


def test_every_number_is_an_attribute(spans: SpanSink, exporter: InMemorySpanExporter) -> None:
    """By its promised name, bytes as integers, the collector's time in seconds."""
    measured = {
        a.field: value
        for value, a in enumerate(semconv.MEASURED)
        if a.field is not None and a.type == "int"
    }
    measurement = Measurement(
        callsite=CALLSITE,
        gc_time_ns=1_500_000_000,
        efficiency_score=50.5,
        probe="tracemalloc",
        attribution="exact",
        rss_peak_method="hwm",
        **measured,  # type: ignore[arg-type]
    )
    spans.emit(measurement, spans.open(CALLSITE, None))
    told = _told(exporter)
    for attribute in semconv.MEASURED:
        if attribute.field in measured:
            assert told[attribute.name] == measured[attribute.field]
            assert type(told[attribute.name]) is int
    assert told["stratatrace.gc.time"] == 1.5
    assert told["stratatrace.efficiency.score"] == 50.5
    assert told["stratatrace.attribution"] == "exact"
    assert told["stratatrace.probe"] == "tracemalloc"
    assert told["stratatrace.rss.peak_method"] == "hwm"


def test_what_was_not_measured_is_absent(spans: SpanSink, exporter: InMemorySpanExporter) -> None:
    """None is no attribute; 0 is one."""
    spans.emit(Measurement(callsite=CALLSITE, heap_net_bytes=0), spans.open(CALLSITE, None))
    told = _told(exporter)
    assert told["stratatrace.heap.net"] == 0
    assert not [n for n in told if n.startswith(("stratatrace.rss", "stratatrace.gc"))]


@pytest.mark.parametrize(("peak", "told"), [(11, True), (10, None), (None, None)])
def test_a_broken_budget_is_marked(
    spans: SpanSink, exporter: InMemorySpanExporter, peak: int | None, told: bool | None
) -> None:
    """Only where it was broken."""
    spans.emit(Measurement(callsite=CALLSITE, heap_peak_bytes=peak), spans.open(CALLSITE, None))
    assert _told(exporter).get("stratatrace.budget.exceeded") is told


@pytest.mark.parametrize("error", [None, "app.Broken"])
def test_an_error_is_a_status(
    spans: SpanSink, exporter: InMemorySpanExporter, error: str | None
) -> None:
    """With the type of the exception, and nothing of its text; else the status is unset."""
    spans.emit(Measurement(callsite=CALLSITE, error_type=error), spans.open(CALLSITE, None))
    (span,) = exporter.get_finished_spans()
    assert span.status.status_code is (StatusCode.ERROR if error else StatusCode.UNSET)
    assert span.status.description == error
    assert (span.attributes or {}).get("error.type") == error
    assert not span.events


def test_a_scope_is_entered_and_left_like_a_step(spans: SpanSink) -> None:
    """The span is current inside; what the step left current is so again in the next one."""
    scope = spans.open(CALLSITE, None)
    assert scope is not None
    assert trace.get_current_span() is trace.INVALID_SPAN
    scope.enter()
    assert trace.get_current_span() is scope.span
    scope.leave()
    assert trace.get_current_span() is trace.INVALID_SPAN
    scope.leave()
    scope.enter()
    assert trace.get_current_span() is scope.span
    scope.leave()


def test_a_span_that_is_not_sampled_is_still_the_parent() -> None:
    """The trace goes on through it, though nothing is recorded."""
    scope = SpanSink(TracerProvider(ALWAYS_OFF, shutdown_on_exit=False)).open(CALLSITE, None)
    assert scope is not None
    assert not scope.recording
    SpanSink().emit(Measurement(callsite=CALLSITE), scope)


def test_without_a_provider_there_is_no_scope() -> None:
    """An application without OpenTelemetry pays for no context."""
    assert SpanSink().open(CALLSITE, None) is None


def test_a_scope_of_another_sort_is_ignored(spans: SpanSink) -> None:
    """Blocks without a span, and scopes of others, are none of ours."""
    spans.emit(Measurement(callsite=CALLSITE), None)
    spans.emit(Measurement(callsite=CALLSITE), object())  # type: ignore[arg-type]


def test_a_new_span_hangs_below_the_current_one(
    spans: SpanSink, exporter: InMemorySpanExporter, tracer_provider: TracerProvider
) -> None:
    """The parent is what is current when the call begins."""
    with tracer_provider.get_tracer("user").start_as_current_span("request") as parent:
        scope = spans.open(CALLSITE, None)
    assert isinstance(scope, SpanScope)
    scope.span.end()
    child = next(s for s in exporter.get_finished_spans() if s.name == "load")
    assert child.parent == parent.get_span_context()
