"""What a backend for traces stores of ours and gives back when it is asked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from .expected import peak_tolerance, span_attributes
from .running import PROGRAMS, run, run_program, unique

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from .backends import Phoenix, PhoenixSpan, Rotel

pytestmark = pytest.mark.e2e

MIB = 2**20


def _into(project: str) -> dict[str, str]:
    """Return the settings that put a run's spans into a project of its own."""
    return {
        "OTEL_SERVICE_NAME": project,
        "OTEL_RESOURCE_ATTRIBUTES": f"openinference.project.name={project}",
    }


def _same(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Whether two sets of attributes are equal, and each value of the same type."""
    return theirs == ours and all(type(theirs[name]) is type(ours[name]) for name in ours)


@dataclass(frozen=True, slots=True)
class Traced:
    """One run of an application with providers of its own: its spans, and the stored ones."""

    told: Sequence[Mapping[str, Any]]
    stored: Sequence[PhoenixSpan]


@pytest.fixture(scope="module")
def traced(phoenix: Phoenix) -> Traced:
    """One run of the application, whose in-memory exporter is the witness."""
    project = unique("own-tracing")
    told = run_program(
        "own_tracing.py",
        environment={**_into(project), "OTEL_EXPORTER_OTLP_ENDPOINT": phoenix.http_endpoint},
    ).told
    assert len(told) == 7
    return Traced(told, phoenix.spans(project, told[0]["trace_id"], count=len(told)))


def test_every_attribute_comes_back(traced: Traced) -> None:
    """Names, parents and all attributes of the spans are stored as they ended, and no more."""
    stored = {span.span_id: span for span in traced.stored}
    assert stored.keys() == {span["span_id"] for span in traced.told}
    for span in traced.told:
        theirs = stored[span["span_id"]]
        assert theirs.name == span["name"]
        assert theirs.trace_id == span["trace_id"]
        assert theirs.parent_id == span["parent_id"]
        assert _same(theirs.attributes, span["attributes"]), (theirs.attributes, span["attributes"])


def test_spans_nest_in_the_applications_trace(traced: Traced) -> None:
    """Calls stand below the request and below each other, with the application's spans between.

    Two coroutines that ran at once are both children of the request, not of one another.
    """
    names = {span.span_id: span.name for span in traced.stored}
    assert sorted((span.name, names.get(span.parent_id or "", "")) for span in traced.stored) == [
        ("between", "transform"),
        ("fetch", "request"),
        ("fetch", "request"),
        ("load", "between"),
        ("load", "request"),
        ("request", ""),
        ("transform", "request"),
    ]
    assert len({span.trace_id for span in traced.stored}) == 1


def test_peaks_of_coroutines_are_told_apart(traced: Traced) -> None:
    """Each of two coroutines that hold memory at the same time has its own heap peak."""
    peaks = sorted(
        span.attributes["stratatrace.heap.peak"] for span in traced.stored if span.name == "fetch"
    )
    for peak, size in zip(peaks, (2 * MIB, 3 * MIB), strict=True):
        assert peak == pytest.approx(size, abs=peak_tolerance(size))


def test_a_collector_between_changes_nothing(phoenix: Phoenix, rotel_to_phoenix: Rotel) -> None:
    """Over gRPC into a collector and on to the backend, every number is the process's own."""
    project = unique("collector")
    told = run_program(
        "known_memory.py",
        environment={
            **_into(project),
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_EXPORTER_OTLP_ENDPOINT": rotel_to_phoenix.grpc_endpoint,
        },
    ).told
    decoded = {s.span_id: s for s in rotel_to_phoenix.spans(project, count=len(told))}
    stored = phoenix.spans(project, count=len(told))
    assert len(stored) == len(told)
    for span in stored:
        assert _same(span.attributes, decoded[span.span_id].attributes)
    measured = {m["function"]: span_attributes(m) for m in told}
    for span in stored:
        numbers = measured[span.attributes["code.function.name"]]
        assert numbers.items() <= span.attributes.items()
    assert {s.name: s.status for s in stored if s.status != "UNSET"} == {"fail": "ERROR"}


def test_backend_that_refuses_metrics_has_the_spans(phoenix: Phoenix) -> None:
    """An endpoint that knows only traces, and answers metrics with an error, gets every span."""
    project = unique("traces-only")
    told = run_program("known_memory.py", phoenix.http_endpoint, environment=_into(project)).told
    assert len(phoenix.spans(project, count=len(told))) == len(told)


def test_script_is_profiled_unchanged(phoenix: Phoenix, tmp_path: Path) -> None:
    """`stratatrace run` measures the functions of a script that knows nothing of it.

    The spans are in the backend and in the file alike, and the peaks are the truth. The script's
    own output and success are untouched, though this backend refuses metrics. A pattern may name
    the script as ``__main__`` or by its own name.
    """
    project = unique("script")
    output = tmp_path / "spans.jsonl"
    finished = run(
        *("-m", "stratatrace", "run", "--profile", "__main__:make", "--profile", "plain:total"),
        *("--probe", "tracemalloc", "--endpoint", phoenix.http_endpoint, "-o", str(output)),
        *(str(PROGRAMS / "plain.py"), str(8 * MIB)),
        environment=_into(project),
    )
    assert finished.stdout == f"took {12 * MIB}\n"
    stored = phoenix.spans(project, count=3)
    total, *made = sorted(stored, key=lambda span: span.name, reverse=True)
    assert [span.name for span in stored if span.name == "total"] == ["total"]
    assert [(span.name, span.parent_id) for span in made] == [("make", total.span_id)] * 2
    peaks = sorted(span.attributes["stratatrace.heap.peak"] for span in made)
    for peak, size in zip(peaks, (4 * MIB, 8 * MIB), strict=True):
        assert peak == pytest.approx(size, abs=peak_tolerance(size))
    written = _spans_of(output)
    assert written.keys() == {span.span_id for span in stored}
    for span in stored:
        assert _same(span.attributes, written[span.span_id])


def _spans_of(output: Path) -> dict[str, dict[str, object]]:
    """Return the attributes of each span in a file of OTLP JSON lines."""
    return {
        span["spanId"]: {a["key"]: _value(a["value"]) for a in span.get("attributes", ())}
        for line in output.read_text(encoding="utf-8").splitlines()
        for resource in json.loads(line).get("resourceSpans", ())
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    }


def _value(value: Mapping[str, Any]) -> object:
    ((kind, content),) = value.items()
    # OTLP JSON writes 64 bit integers as strings.
    return int(content) if kind == "intValue" else content
