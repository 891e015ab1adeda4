"""Callsite by callsite, what an OTLP JSON-lines file holds."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from stratatrace.errors import CommandError
from stratatrace.telemetry import semconv

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["SORT_KEYS", "Row", "Summary", "read_summary"]

_DELTA = 1  # AGGREGATION_TEMPORALITY_DELTA


@dataclass(slots=True)
class Row:
    """The calls of one callsite. A number that no call has measured is None."""

    function: str
    label: str | None
    calls: int = 0
    errors: int = 0
    time_s: float = 0.0
    heap_peak_worst_bytes: int | None = None
    heap_peak_total_bytes: int | None = None
    heap_net_bytes: int | None = None
    rss_peak_bytes: int | None = None
    score: float | None = None

    @property
    def name(self) -> str:
        """What to call it in a table."""
        return self.function if self.label is None else f"{self.label} ({self.function})"


@dataclass(frozen=True, slots=True)
class Summary:
    """The rows of a file."""

    rows: tuple[Row, ...]
    #: Lines that were no OTLP, such as one that a killed program has left unfinished.
    unreadable_lines: int = 0

    def sorted_by(self, key: str, top: int | None = None) -> Summary:
        """Return the rows with the highest first, and only the first *top* of them."""
        rows = sorted(self.rows, key=SORT_KEYS[key], reverse=True)
        return replace(self, rows=tuple(rows[:top]))

    def to_dict(self) -> dict[str, Any]:
        """Return the rows for machines."""
        return {
            "callsites": [asdict(row) for row in self.rows],
            "unreadable_lines": self.unreadable_lines,
        }


SORT_KEYS = {
    "peak": lambda row: row.heap_peak_worst_bytes or 0,
    "total": lambda row: row.heap_peak_total_bytes or 0,
    "net": lambda row: row.heap_net_bytes or 0,
    "rss": lambda row: row.rss_peak_bytes or 0,
    "time": lambda row: row.time_s,
    "calls": lambda row: row.calls,
}


def read_summary(path: Path) -> Summary:
    """Read an OTLP JSON-lines file.

    Spans tell of single calls and metrics of all, those without a span included; of the two, the
    one that saw more calls of a callsite is believed.

    Raises:
        OSError: The file cannot be read.
        CommandError: It has no line of OTLP.
    """
    spans, metrics = _SpanRows(), _MetricRows()
    lines = unreadable = 0
    with path.open(encoding="utf-8", errors="replace") as file:
        for text in file:
            lines += 1
            try:
                line = json.loads(text)
                spans.add(line)
                metrics.add(line)
            except (ValueError, TypeError, KeyError, AttributeError):
                unreadable += 1
    if unreadable and unreadable == lines:
        msg = f"{str(path)!r} is not an OTLP JSON-lines file: give one that a run has written"
        raise CommandError(msg)
    by_spans, by_metrics = spans.rows(), metrics.rows()
    rows = [
        max(
            (source[key] for source in (by_spans, by_metrics) if key in source),
            key=lambda row: row.calls,
        )
        for key in {**by_spans, **by_metrics}
    ]
    return Summary(tuple(rows), unreadable).sorted_by("peak")


_Key = tuple[str, str | None]


class _SpanRows:
    """Rows from spans: one call each."""

    def __init__(self) -> None:
        self._rows: dict[_Key, Row] = {}
        self._scores: dict[_Key, list[float]] = {}

    def add(self, line: Mapping[str, Any]) -> None:
        for span in _inner(line, "resourceSpans", "scopeSpans", "spans"):
            attributes = _attributes(span)
            if semconv.FUNCTION_NAME.name not in attributes:
                continue
            key = _key(attributes)
            row = self._rows.setdefault(key, Row(*key))
            row.calls += 1
            row.errors += semconv.ERROR_TYPE.name in attributes
            row.time_s += (int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"])) / 1e9
            peak = attributes.get("stratatrace.heap.peak")
            row.heap_peak_worst_bytes = _highest(row.heap_peak_worst_bytes, peak)
            row.heap_peak_total_bytes = _sum(row.heap_peak_total_bytes, peak)
            row.heap_net_bytes = _sum(row.heap_net_bytes, attributes.get("stratatrace.heap.net"))
            row.rss_peak_bytes = _highest(
                row.rss_peak_bytes, attributes.get("stratatrace.rss.peak")
            )
            if (score := attributes.get("stratatrace.efficiency.score")) is not None:
                self._scores.setdefault(key, []).append(score)

    def rows(self) -> dict[_Key, Row]:
        for key, scores in self._scores.items():
            self._rows[key].score = sum(scores) / len(scores)
        return self._rows


@dataclass(slots=True)
class _Series:
    """One metric of one callsite, outcome and process, over all its points."""

    last: float = 0
    highest: float | None = None
    total: float = 0
    points: int = 0


class _MetricRows:
    """Rows from metrics: sums over calls, told again and again as they grow."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, str, _Key, str | None], _Series] = {}

    def add(self, line: Mapping[str, Any]) -> None:
        for resource in line.get("resourceMetrics", ()):
            process = json.dumps(resource.get("resource"), sort_keys=True)
            for metric in _inner({"all": [resource]}, "all", "scopeMetrics", "metrics"):
                self._add_metric(process, metric)

    def _add_metric(self, process: str, metric: Mapping[str, Any]) -> None:
        for kind in ("sum", "gauge", "histogram"):
            for point in metric.get(kind, {}).get("dataPoints", ()):
                attributes = _attributes(point)
                if semconv.FUNCTION_NAME.name not in attributes:
                    continue
                error = attributes.get(semconv.ERROR_TYPE.name)
                series = self._series.setdefault(
                    (process, metric["name"], _key(attributes), error), _Series()
                )
                value = _value(point)
                highest = point.get("max", value)
                delta = metric[kind].get("aggregationTemporality") == _DELTA
                series.last = series.last + value if delta else value
                series.highest = highest if series.highest is None else max(series.highest, highest)
                series.total += value
                series.points += 1

    def rows(self) -> dict[_Key, Row]:
        rows: dict[_Key, Row] = {}
        for (_process, name, key, error), series in self._series.items():
            row = rows.setdefault(key, Row(*key))
            if name == semconv.CALL_COUNT.name:
                row.calls += int(series.last)
                row.errors += int(series.last) if error is not None else 0
            elif name == semconv.CALL_TIME.name:
                row.time_s += series.last
            elif name == semconv.HEAP_NET.name:
                row.heap_net_bytes = _sum(row.heap_net_bytes, int(series.last))
            elif name == semconv.SCORE.name:
                row.score = series.total / series.points
            elif name in {semconv.HEAP_PEAK.name, semconv.CALL_HEAP_PEAK.name}:
                row.heap_peak_worst_bytes = _highest(row.heap_peak_worst_bytes, series.highest)
                if name == semconv.CALL_HEAP_PEAK.name:
                    row.heap_peak_total_bytes = _sum(row.heap_peak_total_bytes, int(series.last))
            elif name in {semconv.RSS_PEAK.name, semconv.CALL_RSS_PEAK.name}:
                row.rss_peak_bytes = _highest(row.rss_peak_bytes, series.highest)
        return {key: row for key, row in rows.items() if row.calls}


def _inner(line: Mapping[str, Any], outer: str, middle: str, inner: str) -> Iterator[Any]:
    for resource in line.get(outer, ()):
        for scope in resource.get(middle, ()):
            if scope.get("scope", {}).get("name") == semconv.SCOPE:
                yield from scope.get(inner, ())


def _attributes(holder: Mapping[str, Any]) -> dict[str, Any]:
    return {each["key"]: _any_value(each["value"]) for each in holder.get("attributes", ())}


def _any_value(value: Mapping[str, Any]) -> Any:
    # One of its possible members is there; OTLP's JSON has 64-bit integers as text.
    kind: str
    content: Any
    kind, content = next(iter(value.items()), ("", None))
    return int(content) if kind == "intValue" else content


def _value(point: Mapping[str, Any]) -> float:
    if "asInt" in point:
        return int(point["asInt"])
    return float(point.get("asDouble", point.get("sum", 0)))


def _key(attributes: Mapping[str, Any]) -> _Key:
    return attributes[semconv.FUNCTION_NAME.name], attributes.get(semconv.CALLSITE.name)


def _sum(so_far: int | None, more: int | None) -> int | None:
    return so_far if more is None else more + (so_far or 0)


def _highest(so_far: int | None, more: float | None) -> int | None:
    return so_far if more is None or (so_far is not None and so_far >= more) else int(more)
