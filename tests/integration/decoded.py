"""What rotel decoded from the wire, read from the detailed debug log that it prints.

The log is text for people. It is read line by line: a header such as ``Span #0`` begins a thing,
and the lines below it fill that thing. Two limits follow. A string with a line break in it is read
up to the break; and the value of a data point does not say whether it was an integer or a double.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["Decoded", "LogRecord", "Metric", "Other", "Point", "Scope", "Span", "Value", "decode"]


@dataclass(frozen=True, slots=True)
class Other:
    """A value of a type that no test of ours looks into, such as an array."""

    text: str


#: The Python type says the type on the wire: int for ``Int``, float for ``Double``.
Value = str | int | float | bool | Other


@dataclass(frozen=True, slots=True)
class Scope:
    """The instrumentation scope."""

    name: str = ""
    version: str = ""


@dataclass(slots=True)
class Span:
    """One span, as it was on the wire."""

    resource: Mapping[str, Value]
    scope: Scope
    name: str = ""
    trace_id: str = ""
    span_id: str = ""
    parent_id: str = ""
    kind: str = ""
    status: str = ""
    attributes: dict[str, Value] = field(default_factory=dict)


@dataclass(slots=True)
class LogRecord:
    """One log record, as it was on the wire."""

    resource: Mapping[str, Value]
    scope: Scope
    event_name: str = ""
    severity: str = ""
    body: str = ""
    trace_id: str = ""
    span_id: str = ""
    attributes: dict[str, Value] = field(default_factory=dict)


@dataclass(slots=True)
class Point:
    """One data point; a number has a value, a histogram has the rest."""

    attributes: dict[str, Value] = field(default_factory=dict)
    value: float | None = None
    count: int | None = None
    sum: float | None = None
    max: float | None = None
    bounds: list[float] = field(default_factory=list)
    buckets: list[int] = field(default_factory=list)
    #: The ids of the spans that its exemplars name.
    exemplars: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Metric:
    """One metric, as it was on the wire."""

    resource: Mapping[str, Value]
    scope: Scope
    name: str = ""
    unit: str = ""
    kind: str = ""
    monotonic: bool | None = None
    points: list[Point] = field(default_factory=list)


@dataclass(slots=True)
class Decoded:
    """All that the server received so far, in the order of arrival."""

    spans: list[Span] = field(default_factory=list)
    metrics: list[Metric] = field(default_factory=list)
    logs: list[LogRecord] = field(default_factory=list)


def decode(lines: Iterable[str]) -> Decoded:
    """Read the debug log."""
    reader = _Reader()
    for line in lines:
        reader.read(line)
    return reader.decoded


_ATTRIBUTE = re.compile(r" {5}-> (.+?): (\w+)\((.*?)\)?$")
_DESCRIPTOR = re.compile(r" {5}-> (Name|Unit|DataType|IsMonotonic): (.*)$")
_SPAN_FIELD = re.compile(r" {4}(Trace ID|Parent ID|ID|Name|Kind|Status code) *: (.*)$")
_POINT_FIELD = re.compile(
    r"(Value|Count|Sum|Max|ExplicitBounds|Buckets)(?: #\d+)?(?:, Count)?: (.*)$"
)
_LOG_FIELD = re.compile(r" *(EventName|SeverityText|Body|Trace ID|Span ID) *: (?:Str\()?(.*?)\)?$")
_EXEMPLAR_SPAN = re.compile(r" {5}-> Span ID: (.*)$")
_SCOPE = re.compile(r"InstrumentationScope (\S*) ?(.*)$")
_HEADER = re.compile(r"([A-Z][A-Za-z ]*?)(?: #\d+)?:?$")

_SPAN_NAMES = {
    "Trace ID": "trace_id",
    "Parent ID": "parent_id",
    "ID": "span_id",
    "Name": "name",
    "Kind": "kind",
    "Status code": "status",
}
_LOG_NAMES = {
    "EventName": "event_name",
    "SeverityText": "severity",
    "Body": "body",
    "Trace ID": "trace_id",
    "Span ID": "span_id",
}
_DESCRIPTOR_NAMES = {"Name": "name", "Unit": "unit", "DataType": "kind"}


class _Reader:
    """Remembers which thing the lines below a header belong to."""

    def __init__(self) -> None:
        self.decoded = Decoded()
        self._resource: dict[str, Value] = {}
        self._scope = Scope()
        self._line: Callable[[str], None] = self._skip
        self._attributes: dict[str, Value] = {}
        #: Whose attributes come next.
        self._owner: Span | LogRecord = Span({}, self._scope)
        self._headers: dict[str, Callable[[], None]] = {
            "ResourceSpans": self._begin_resource,
            "ResourceMetrics": self._begin_resource,
            "ResourceLog": self._begin_resource,
            "Resource attributes": lambda: self._begin_attributes(self._resource),
            "Span": self._begin_span,
            "LogRecord": self._begin_log,
            "Attributes": lambda: self._begin_attributes(self._owner.attributes),
            # Events and links carry attributes that are not the span's.
            "Events": self._begin_skipping,
            "Links": self._begin_skipping,
            "Metric": self._begin_metric,
            "NumberDataPoints": self._begin_point,
            "HistogramDataPoints": self._begin_point,
            "Exemplars": self._begin_exemplars,
        }

    def read(self, line: str) -> None:
        header = _HEADER.match(line)
        begin = self._headers.get(header[1]) if header else None
        scope = _SCOPE.match(line)
        if begin is not None:
            begin()
        elif scope is not None:
            self._scope = Scope(scope[1], scope[2])
            self._line = self._skip
        else:
            self._line(line)

    def _begin_resource(self) -> None:
        self._resource, self._scope = {}, Scope()
        self._line = self._skip

    def _begin_attributes(self, attributes: dict[str, Value]) -> None:
        self._attributes = attributes
        self._line = self._read_attribute

    def _begin_span(self) -> None:
        self._owner = Span(self._resource, self._scope)
        self.decoded.spans.append(self._owner)
        self._line = self._read_span

    def _begin_log(self) -> None:
        self._owner = LogRecord(self._resource, self._scope)
        self.decoded.logs.append(self._owner)
        self._line = self._read_log

    def _begin_metric(self) -> None:
        self.decoded.metrics.append(Metric(self._resource, self._scope))
        self._line = self._read_descriptor

    def _begin_point(self) -> None:
        self.decoded.metrics[-1].points.append(Point())
        self._line = self._read_point

    def _begin_exemplars(self) -> None:
        self._line = self._read_exemplar

    def _begin_skipping(self) -> None:
        self._line = self._skip

    def _skip(self, line: str) -> None:
        """Ignore a line that no test asks about."""

    def _read_attribute(self, line: str) -> None:
        if match := _ATTRIBUTE.match(line):
            self._attributes[match[1]] = _value(match[2], match[3])
        elif isinstance(self._owner, LogRecord):
            self._read_log(line)  # Its ids come last.

    def _read_log(self, line: str) -> None:
        if match := _LOG_FIELD.match(line):
            setattr(self.decoded.logs[-1], _LOG_NAMES[match[1]], match[2])

    def _read_span(self, line: str) -> None:
        if match := _SPAN_FIELD.match(line):
            setattr(self.decoded.spans[-1], _SPAN_NAMES[match[1]], match[2])

    def _read_descriptor(self, line: str) -> None:
        if match := _DESCRIPTOR.match(line):
            metric = self.decoded.metrics[-1]
            if match[1] == "IsMonotonic":
                metric.monotonic = match[2] == "true"
            else:
                setattr(metric, _DESCRIPTOR_NAMES[match[1]], match[2])

    def _read_point(self, line: str) -> None:
        point = self.decoded.metrics[-1].points[-1]
        if attribute := _ATTRIBUTE.match(line):
            point.attributes[attribute[1]] = _value(attribute[2], attribute[3])
        elif number := _POINT_FIELD.match(line):
            match number[1]:
                case "Count":
                    point.count = int(number[2])
                case "ExplicitBounds":
                    point.bounds.append(float(number[2]))
                case "Buckets":
                    point.buckets.append(int(number[2]))
                case name:
                    setattr(point, name.lower(), float(number[2]))

    def _read_exemplar(self, line: str) -> None:
        if match := _EXEMPLAR_SPAN.match(line):
            self.decoded.metrics[-1].points[-1].exemplars.append(match[1])


def _value(kind: str, text: str) -> Value:
    match kind:
        case "Str":
            return text
        case "Int":
            return int(text)
        case "Double":
            return float(text)
        case "Bool":
            return text == "true"
        case _:
            return Other(f"{kind}({text})")
