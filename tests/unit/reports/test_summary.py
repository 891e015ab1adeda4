"""Rows from OTLP files: of spans, of metrics, of several processes, of files cut short."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from stratatrace.errors import CommandError
from stratatrace.reports.summary import SORT_KEYS, Row, read_summary

if TYPE_CHECKING:
    from pathlib import Path


def attributes(**values: Any) -> list[dict[str, Any]]:
    kinds = {str: "stringValue", int: "intValue", float: "doubleValue"}
    return [
        {
            "key": name.replace("__", "."),
            "value": {kinds[type(v)]: str(v) if type(v) is int else v},
        }
        for name, v in values.items()
    ]


def span(function: str, **values: Any) -> dict[str, Any]:
    return {
        "startTimeUnixNano": "1000000000",
        "endTimeUnixNano": "1500000000",
        "attributes": attributes(code__function__name=function, **values),
    }


def spans_line(*spans: dict[str, Any], scope: str = "stratatrace") -> str:
    scopes = [{"scope": {"name": scope}, "spans": list(spans)}]
    return json.dumps({"resourceSpans": [{"resource": {}, "scopeSpans": scopes}]}) + "\n"


def metrics_line(process: int, *metrics: dict[str, Any]) -> str:
    scopes = [{"scope": {"name": "stratatrace"}, "metrics": list(metrics)}]
    resource = {"attributes": attributes(process__pid=process)}
    line = {
        "resourceSpans": [],
        "resourceMetrics": [{"resource": resource, "scopeMetrics": scopes}],
    }
    return json.dumps(line) + "\n"


def points(
    name: str, kind: str, value: float, *, temporality: int = 2, **more: Any
) -> dict[str, Any]:
    point: dict[str, Any] = {"attributes": attributes(code__function__name="m.f", **more)}
    if kind == "histogram":
        point |= {"sum": value, "count": "1", "max": value}
    else:
        point |= {"asInt": str(value)} if isinstance(value, int) else {"asDouble": value}
    return {"name": name, kind: {"dataPoints": [point], "aggregationTemporality": temporality}}


def test_spans_are_added_up_by_callsite(tmp_path: Path) -> None:
    """Peaks are summed and the worst kept; nets are summed; errors counted; scores averaged."""
    file = tmp_path / "f.jsonl"
    one = {"stratatrace__heap__peak": 10, "stratatrace__heap__net": -4, "stratatrace__rss__peak": 7}
    two = {"stratatrace__heap__peak": 30, "stratatrace__heap__net": 6, "stratatrace__rss__peak": 5}
    file.write_text(
        spans_line(
            span("m.f", **one, stratatrace__efficiency__score=50.0),
            span("m.f", **two, stratatrace__efficiency__score=100.0, error__type="ValueError"),
            span("m.f", stratatrace__callsite="block"),
        )
    )
    labelled, plain = sorted(read_summary(file).rows, key=lambda row: row.calls)
    assert labelled == Row("m.f", "block", calls=1, time_s=0.5)
    assert plain == Row("m.f", None, 2, 1, 1.0, 30, 40, 2, 7, 75.0)


def test_spans_of_other_scopes_are_left_out(tmp_path: Path) -> None:
    """A span that an application made itself is no measured call."""
    file = tmp_path / "f.jsonl"
    file.write_text(spans_line(span("m.f"), scope="app") + spans_line(span("m.g")))
    assert [row.function for row in read_summary(file).rows] == ["m.g"]


def test_metrics_count_where_they_saw_more_calls(tmp_path: Path) -> None:
    """Cumulative sums count once, at their last; processes and outcomes are added up."""
    file = tmp_path / "f.jsonl"
    file.write_text(
        spans_line(span("m.f", stratatrace__heap__peak=1))
        + metrics_line(1, points("stratatrace.call.count", "sum", 3))
        + metrics_line(
            1,
            points("stratatrace.call.count", "sum", 5),
            points("stratatrace.call.count", "sum", 2, error__type="ValueError"),
            points("stratatrace.call.time", "sum", 1.5),
            points("stratatrace.heap.net", "sum", -8),
            points("stratatrace.heap.peak", "gauge", 90),
            points("stratatrace.efficiency.score", "gauge", 40.0),
        )
        + metrics_line(
            2,
            points("stratatrace.call.count", "sum", 10),
            points("stratatrace.heap.net", "sum", 3),
            points("stratatrace.call.heap.peak", "histogram", 70.0),
            points("stratatrace.call.rss.peak", "histogram", 60.0),
        )
    )
    (row,) = read_summary(file).rows
    assert row == Row("m.f", None, 17, 2, 1.5, 90, 70, -5, 60, 40.0)


def test_delta_metrics_are_added_up(tmp_path: Path) -> None:
    """A Collector may have turned the sums into differences."""
    file = tmp_path / "f.jsonl"
    count = points("stratatrace.call.count", "sum", 4, temporality=1)
    file.write_text(metrics_line(1, count) + metrics_line(1, count))
    assert read_summary(file).rows[0].calls == 8


def test_a_line_cut_short_is_counted(tmp_path: Path) -> None:
    """What a killed program has written half is left out, and said."""
    file = tmp_path / "f.jsonl"
    file.write_text(spans_line(span("m.f")) + spans_line(span("m.g"))[:40])
    summary = read_summary(file)
    assert [row.function for row in summary.rows] == ["m.f"]
    assert summary.unreadable_lines == 1


@pytest.mark.parametrize("text", ["hello\n", "[1, 2]\n", '"text"\n', "7\n"])
def test_a_file_of_something_else_is_refused(text: str, tmp_path: Path) -> None:
    """A file without a line of OTLP is no report, whatever JSON it may be."""
    file = tmp_path / "f.jsonl"
    file.write_text(text)
    with pytest.raises(CommandError, match="is not an OTLP JSON-lines file"):
        read_summary(file)


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    """A program that ended before its first call leaves an empty file."""
    file = tmp_path / "f.jsonl"
    file.touch()
    assert read_summary(file).rows == ()


@pytest.mark.parametrize("key", SORT_KEYS)
def test_rows_are_sorted_by_any_column(key: str, tmp_path: Path) -> None:
    """The highest comes first, and only as many as were asked for."""
    file = tmp_path / "f.jsonl"
    low = {f"stratatrace__{n}": 1 for n in ("heap__peak", "heap__net", "rss__peak")}
    high = {f"stratatrace__{n}": 2 for n in ("heap__peak", "heap__net", "rss__peak")}
    file.write_text(
        spans_line(span("m.low", **low), span("m.high", **high), span("m.high", **high))
    )
    (first,) = read_summary(file).sorted_by(key, 1).rows
    assert first.function == "m.high"
