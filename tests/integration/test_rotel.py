"""What stratatrace puts on the wire, as a collector of another make decodes it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .expected import (
    ATTRIBUTE_TYPES,
    METRIC_SHAPES,
    of_function,
    peak_tolerance,
    span_attributes,
)
from .running import PROGRAMS, run, run_program, unique

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .backends import Rotel
    from .decoded import Metric, Point, Span

pytestmark = pytest.mark.e2e

MIB = 2**20

#: The bytes that each call of the program takes at its highest, by function.
SIZES = {
    "within_budget": 20 * MIB,
    "build": 12 * MIB,
    "outer": 12 * MIB,
    "keep": 4 * MIB,
    "turn_over": 4 * MIB,
    "hold": 3 * MIB,
    "fail": 6 * MIB,
}
FUNCTIONS = (*SIZES, "release", "drop")


@dataclass(frozen=True, slots=True)
class Received:
    """One run of the program: what it measured, and what the collector got of it."""

    service: str
    measurements: Sequence[Mapping[str, Any]]
    spans: Sequence[Span]
    metrics: Mapping[str, Sequence[Metric]]
    stderr: str

    def span(self, function: str) -> Span:
        """Return the one span of a function."""
        (span,) = (s for s in self.spans if _last_part(s.attributes) == function)
        return span

    def measurement(self, function: str) -> Mapping[str, Any]:
        """Return the one measurement of a function."""
        (measurement,) = of_function(self.measurements, function)
        return measurement

    def points(self, metric: str, function: str) -> list[Point]:
        """Return the points of a metric for one function, in the order of their export."""
        return [
            point
            for export in self.metrics[metric]
            for point in export.points
            if _last_part(point.attributes) == function
        ]


def _last_part(attributes: Mapping[str, Any]) -> str:
    return str(attributes.get("code.function.name", "")).rpartition(".")[2]


@pytest.fixture(scope="module", params=["grpc", "http/protobuf"])
def received(request: pytest.FixtureRequest, rotel: Rotel) -> Received:
    """One run of the program over each protocol, configured by OpenTelemetry's own variables."""
    service = unique("known-memory")
    endpoint = rotel.grpc_endpoint if request.param == "grpc" else rotel.http_endpoint
    finished = run_program(
        "known_memory.py",
        environment={
            "OTEL_SERVICE_NAME": service,
            "OTEL_EXPORTER_OTLP_PROTOCOL": request.param,
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        },
    )
    return Received(
        service=service,
        measurements=finished.told,
        spans=rotel.spans(service, count=len(finished.told)),
        metrics=rotel.metrics(service, METRIC_SHAPES),
        stderr=finished.stderr,
    )


def test_every_call_is_a_span_of_our_scope(received: Received) -> None:
    """As many spans as calls arrive, under the service's name and stratatrace's own scope."""
    assert len(received.spans) == len(received.measurements) == len(FUNCTIONS)
    assert {span.resource["service.name"] for span in received.spans} == {received.service}
    assert {span.scope.name for span in received.spans} == {"stratatrace"}
    assert all(span.scope.version for span in received.spans)


def test_nothing_is_printed(received: Received) -> None:
    """Exporting over either protocol and ending leave standard error empty."""
    assert received.stderr == ""


def test_attributes_have_their_types_on_the_wire(received: Received) -> None:
    """Bytes are integers, the score is a double, words are strings; nothing of ours is unknown."""
    for span in received.spans:
        ours = {name: value for name, value in span.attributes.items() if "job." not in name}
        assert {name: type(value) for name, value in ours.items()} == {
            name: ATTRIBUTE_TYPES[name] for name in ours
        }


def test_attributes_of_the_user_keep_their_types(received: Received) -> None:
    """What the decorator was given arrives as string, integer, double and boolean."""
    attributes = received.span("within_budget").attributes
    theirs = {name: value for name, value in attributes.items() if name.startswith("job.")}
    assert theirs == {"job.name": "nightly", "job.attempt": 2, "job.share": 0.5, "job.dry": True}
    assert [type(value) for value in theirs.values()] == [str, int, float, bool]


def test_numbers_are_those_of_the_process(received: Received) -> None:
    """Each span carries exactly the numbers that a sink in the process was given."""
    for function in FUNCTIONS:
        attributes = received.span(function).attributes
        numbers = span_attributes(received.measurement(function))
        assert {name: attributes.get(name) for name in numbers} == numbers
        assert attributes["stratatrace.probe"] == "tracemalloc"


def test_span_names_the_code(received: Received) -> None:
    """Function, file and line of the definition are on the span, and so are name and budget."""
    program = PROGRAMS / "known_memory.py"
    span = received.span("within_budget")
    line = span.attributes["code.line.number"]
    assert Path(str(span.attributes["code.file.path"])) == program
    assert isinstance(line, int)
    below = program.read_text(encoding="utf-8").splitlines()[line - 1 :]
    # The line may be that of the decorator or that of the `def`.
    assert any(text.startswith("def within_budget") for text in below[:6])
    assert span.name == "nightly job"
    assert span.attributes["stratatrace.budget"] == 200_000_000
    assert received.span("build").name == "build"


@pytest.mark.parametrize(("function", "size"), SIZES.items())
def test_heap_peak_is_the_truth(received: Received, function: str, size: int) -> None:
    """The peak on the wire is the size of what the call built, within 1% or 4 KiB."""
    peak = received.span(function).attributes["stratatrace.heap.peak"]
    assert peak == pytest.approx(size, abs=peak_tolerance(size))


def test_heap_net_is_the_truth(received: Received) -> None:
    """What a call keeps is its net, and giving it back is as much below zero."""
    nets = {"keep": 4 * MIB, "release": -4 * MIB, "turn_over": 0, "hold": 3 * MIB, "build": 0}
    for function, net in nets.items():
        attributes = received.span(function).attributes
        assert attributes["stratatrace.heap.net"] == pytest.approx(net, abs=peak_tolerance(net))


def test_heap_net_counts_what_an_earlier_call_took(received: Received) -> None:
    """Giving back what an earlier call took is below zero too, with no call open in between."""
    net = received.span("drop").attributes["stratatrace.heap.net"]
    assert net == pytest.approx(-3 * MIB, abs=peak_tolerance(3 * MIB))


def test_spans_nest_as_the_calls_did(received: Received) -> None:
    """A call inside a call is its child in the same trace; the others are roots of their own."""
    parents = {"build": "outer", "keep": "turn_over", "release": "turn_over"}
    for inner, outer in parents.items():
        child, parent = received.span(inner), received.span(outer)
        assert (child.trace_id, child.parent_id) == (parent.trace_id, parent.span_id)
    roots = [received.span(function) for function in FUNCTIONS if function not in parents]
    assert {span.parent_id for span in roots} == {""}
    assert len({span.trace_id for span in roots}) == len(roots)


def test_failure_is_an_error_with_its_type(received: Received) -> None:
    """A call that raises is a span with error status, and only that one."""
    assert received.span("fail").attributes["error.type"] == "LookupError"
    errors = [span for span in received.spans if span.status == "STATUS_CODE_ERROR"]
    assert errors == [received.span("fail")]


@pytest.mark.parametrize("name", METRIC_SHAPES)
def test_metric_has_its_unit_and_kind(received: Received, name: str) -> None:
    """Each metric arrives under its name, unit and kind, of our scope, once an export."""
    for export in received.metrics[name]:
        assert (export.unit, export.kind, export.monotonic) == METRIC_SHAPES[name]
        assert export.scope.name == "stratatrace"
        assert export.resource["service.name"] == received.service


@pytest.mark.parametrize("function", FUNCTIONS)
def test_sums_add_up_the_calls(received: Received, function: str) -> None:
    """Count, time and net of a function are the sums of what its calls measured."""
    measurement = received.measurement(function)
    sums = {
        "stratatrace.call.count": 1,
        "stratatrace.call.time": measurement["duration_ns"] / 1e9,
        "stratatrace.heap.net": measurement["heap_net_bytes"],
    }
    for name, value in sums.items():
        # A sum is exported anew at each collection: the last has it all.
        assert received.points(name, function)[-1].value == pytest.approx(value)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_gauges_hold_the_highest(received: Received, function: str) -> None:
    """The gauges of a function tell its peaks and its score, where it has one."""
    measurement = received.measurement(function)
    gauges = {
        "stratatrace.heap.peak": measurement["heap_peak_bytes"],
        "stratatrace.rss.peak": measurement["rss_peak_bytes"],
    }
    if measurement["efficiency_score"] is not None:
        gauges["stratatrace.efficiency.score"] = measurement["efficiency_score"]
    for name, value in gauges.items():
        values = [point.value for point in received.points(name, function) if point.value]
        assert max(values, default=0) == pytest.approx(value)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_histograms_have_byte_buckets(received: Received, function: str) -> None:
    """A peak falls into a bucket whose bounds are made for bytes, of every call with a span."""
    measurement = received.measurement(function)
    for name, field in {
        "stratatrace.call.heap.peak": "heap_peak_bytes",
        "stratatrace.call.rss.peak": "rss_peak_bytes",
    }.items():
        point = received.points(name, function)[-1]
        assert (point.count, point.sum, point.max) == (1, measurement[field], measurement[field])
        # The bounds that OpenTelemetry has by default stop at 10,000.
        assert point.bounds[-1] >= 2**30
        assert all(lower < upper for lower, upper in pairwise(point.bounds))
        (bucket,) = (index for index, calls in enumerate(point.buckets) if calls)
        assert bucket == sum(bound < measurement[field] for bound in point.bounds)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_histograms_lead_to_the_span(received: Received, function: str) -> None:
    """The exemplar of a peak names the very span of the call that had it."""
    for name in ("stratatrace.call.heap.peak", "stratatrace.call.rss.peak"):
        assert received.points(name, function)[-1].exemplars == [received.span(function).span_id]


def test_a_broken_budget_is_a_log_record_in_the_trace(received: Received, rotel: Rotel) -> None:
    """One record, of the call that broke it, with the ids of its span and the same numbers."""
    (record,) = rotel.logs(received.service, count=1)
    span = received.span("build")
    assert (record.trace_id, record.span_id) == (span.trace_id, span.span_id)
    assert (record.event_name, record.severity) == ("stratatrace.budget.exceeded", "WARN")
    assert record.scope == span.scope
    assert record.body == "the heap of build peaked at 12.0 MiB, and its budget is 9.5 MiB"
    assert record.attributes == {**span.attributes, "stratatrace.budget.untold": 0}


def test_failed_calls_are_counted_apart(received: Received) -> None:
    """The points of a call that raised carry the error's type, those of the others none."""
    assert received.points("stratatrace.call.count", "fail")[-1].attributes["error.type"] == (
        "LookupError"
    )
    assert "error.type" not in received.points("stratatrace.call.count", "keep")[-1].attributes


def test_endpoint_of_configure_is_enough(rotel: Rotel) -> None:
    """`configure(endpoint=...)` with no variable set exports over HTTP, traces and metrics."""
    service = unique("endpoint")
    finished = run_program(
        "known_memory.py", rotel.http_endpoint, environment={"OTEL_SERVICE_NAME": service}
    )
    assert len(rotel.spans(service, count=len(FUNCTIONS))) == len(finished.told)
    assert rotel.metrics(service, METRIC_SHAPES)


def test_endpoint_of_configure_goes_before_the_environment(rotel: Rotel) -> None:
    """An endpoint that is passed wins over the variable's, which leads nowhere here."""
    service = unique("endpoint-wins")
    run_program(
        "known_memory.py",
        rotel.grpc_endpoint,
        environment={
            "OTEL_SERVICE_NAME": service,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        },
    )
    assert len(rotel.spans(service, count=len(FUNCTIONS))) == len(FUNCTIONS)


@pytest.mark.parametrize("has", ["traces and metrics", "traces"])
def test_providers_of_the_application_are_used(rotel: Rotel, has: str) -> None:
    """Our spans go the application's way, beside its own spans, and through no second exporter.

    So too where tracing is all that the application has set up, with an endpoint in its variables.
    """
    service = unique("own-tracing")
    finished = run_program(
        "own_tracing.py",
        has,
        environment={
            "OTEL_SERVICE_NAME": service,
            "OTEL_EXPORTER_OTLP_ENDPOINT": rotel.http_endpoint,
        },
    )
    assert len(finished.told) == 7
    spans = rotel.spans(service, count=len(finished.told))
    assert sorted(span.span_id for span in spans) == sorted(s["span_id"] for s in finished.told)
    assert {span.scope.name for span in spans} == {"application", "stratatrace"}


@pytest.mark.parametrize("output", [True, False], ids=["and a file", "alone"])
def test_script_under_run_exports_all_its_metrics(
    rotel: Rotel, tmp_path: Path, *, output: bool
) -> None:
    """`stratatrace run --endpoint` exports every metric, whether or not a file takes them too."""
    service = unique("script")
    run(
        *("-m", "stratatrace", "run", "--profile", "__main__:make"),
        *("--endpoint", rotel.http_endpoint),
        *(("--output", str(tmp_path / "telemetry.jsonl")) if output else ()),
        *(str(PROGRAMS / "plain.py"), str(8 * MIB)),
        environment={"OTEL_SERVICE_NAME": service},
    )
    assert [span.name for span in rotel.spans(service, count=2)] == ["make", "make"]
    # No score: the script has no budget, and two calls are no baseline.
    metrics = rotel.metrics(service, METRIC_SHAPES.keys() - {"stratatrace.efficiency.score"})
    (peak,) = (
        point.value for export in metrics["stratatrace.heap.peak"] for point in export.points
    )
    assert peak == pytest.approx(8 * MIB, rel=0.01)


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("start_method", ["fork", "spawn", "forkserver"])
def test_workers_export_for_themselves(start_method: str, protocol: str, rotel: Rotel) -> None:
    """Each task's span arrives once, in the trace of the call that handed it out."""
    service = unique("workers")
    finished = run_program(
        "workers.py",
        start_method,
        environment={
            "OTEL_SERVICE_NAME": service,
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_ENDPOINT": (
                rotel.grpc_endpoint if protocol == "grpc" else rotel.http_endpoint
            ),
        },
    )
    sizes: list[Any] = finished.told
    spans = rotel.spans(service, count=2 + len(sizes))
    (parent,) = (span for span in spans if span.name == "hand out")
    handed_out = [span for span in spans if span.trace_id == parent.trace_id and span != parent]
    assert {span.parent_id for span in handed_out} == {parent.span_id}
    peaks: list[Any] = [span.attributes["stratatrace.heap.peak"] for span in handed_out]
    assert sorted(peaks) == pytest.approx(sizes, rel=0.01, abs=4096)
    assert finished.stderr == ""
