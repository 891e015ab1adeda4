"""The span sink: a call is a span, current while the call runs, with its numbers as attributes."""

from __future__ import annotations

from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, TypeAlias

from opentelemetry import context, trace
from opentelemetry.trace import Status, StatusCode

from stratatrace.telemetry import semconv
from stratatrace.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextvars import Token

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, TracerProvider

    from stratatrace.measurement import Callsite, Measurement
    from stratatrace.stacks import LineGrowth
    from stratatrace.typing import AttributeValue, Scope

__all__ = ["SpanScope", "SpanSink", "description_of", "numbers_of"]

Told: TypeAlias = "AttributeValue | list[str] | list[int]"

_MEASURED_NAMES = tuple(attribute.name for attribute in semconv.MEASURED)
_TOP_NAMES = (semconv.TOP_LINES.name, semconv.TOP_BYTES.name, semconv.TOP_ERRORS.name)
_PEAK_NAMES = (semconv.PEAK_LINES.name, semconv.PEAK_BYTES.name, semconv.PEAK_ERRORS.name)
_measured_values = attrgetter(*(attribute.field or "" for attribute in semconv.MEASURED))


class SpanScope:
    """A call's span, and the context in which the call sees it as the current one.

    The context is taken back at every `leave`, so that a span which the call's own code opened
    before it was suspended is current again when it goes on.
    """

    __slots__ = ("_token", "context", "span")

    def __init__(self, span: Span) -> None:
        self.span = span
        self.context: Context = trace.set_span_in_context(span)
        self._token: Token[Context] | None = None

    @property
    def recording(self) -> bool:
        """Whether the span will be exported."""
        return self.span.is_recording()

    def enter(self) -> None:
        """Make the span current."""
        self._token = context.attach(self.context)

    def leave(self) -> None:
        """Make current again what was current before."""
        if self._token is not None:
            self.context = context.get_current()
            context.detach(self._token)
            self._token = None


class SpanSink:
    """Opens and ends spans through the OpenTelemetry API, whatever provider is behind it.

    Args:
        tracer_provider: Whose spans; None takes the application's, set before or later.
    """

    def __init__(self, tracer_provider: TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer(semconv.SCOPE, __version__, tracer_provider=tracer_provider)
        # Whether a provider may be set later. Every call asks for it, and the public function that
        # tells looks into the environment each time.
        self._awaits_provider = isinstance(self._tracer, trace.ProxyTracer)

    @property
    def silent(self) -> bool:
        """Whether there is no provider: no span can be recorded."""
        return self._awaits_provider and getattr(trace, "_TRACER_PROVIDER", self) is None

    def open(
        self, callsite: Callsite, attributes: Mapping[str, AttributeValue] | None
    ) -> SpanScope | None:
        """Start the span of a call, not yet current; None where no provider is set."""
        described = description_of(callsite)
        if attributes:
            described = {**described, **attributes}
        span = self._tracer.start_span(callsite.name, attributes=described)
        return SpanScope(span) if span.get_span_context().is_valid else None

    def emit(self, measurement: Measurement, scope: Scope | None) -> None:
        """Put the numbers on the call's span and end it."""
        if not isinstance(scope, SpanScope):
            return
        if scope.recording:
            scope.span.set_attributes(numbers_of(measurement))
            if measurement.error_type is not None:
                # The exception's text may hold the data that it failed on: only its type is told.
                scope.span.set_status(Status(StatusCode.ERROR, measurement.error_type))
        scope.span.end()


@lru_cache(maxsize=4096)
def description_of(callsite: Callsite) -> Mapping[str, AttributeValue]:
    """Return what a callsite's spans have in common, known when they start."""
    described: dict[str, AttributeValue | None] = {
        semconv.FUNCTION_NAME.name: callsite.function,
        semconv.FILE_PATH.name: callsite.file,
        semconv.LINE_NUMBER.name: callsite.line,
        semconv.CALLSITE.name: callsite.label,
        semconv.BUDGET.name: callsite.budget_bytes,
        **callsite.attributes,
    }
    return {name: value for name, value in described.items() if value is not None}


def numbers_of(measurement: Measurement) -> dict[str, Told]:
    """Return the numbers of a call; what was not measured is absent."""
    values = zip(_MEASURED_NAMES, _measured_values(measurement), strict=True)
    numbers: dict[str, Told] = {name: value for name, value in values if value is not None}
    if measurement.gc_time_ns is not None:
        numbers[semconv.GC_TIME.name] = measurement.gc_time_ns / 1e9
    if measurement.budget_exceeded:
        numbers[semconv.BUDGET_EXCEEDED.name] = True
    numbers.update(_told(measurement.top_lines, _TOP_NAMES))
    numbers.update(_told(measurement.peak_lines, _PEAK_NAMES))
    return numbers


def _told(lines: Sequence[LineGrowth] | None, names: tuple[str, str, str]) -> dict[str, Told]:
    if not lines:
        return {}
    places = [f"{line.file}:{line.line} {line.function}".rstrip() for line in lines]
    sizes, errors = [line.bytes for line in lines], [line.error_bytes for line in lines]
    return dict(zip(names, (places, sizes, errors), strict=True))
