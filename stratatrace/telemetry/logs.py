"""The log sink: a call that broke its budget is a log record, in the trace of the call.

A record and not an event of the span: it also tells of a call whose trace is not sampled, and it
can be searched and alerted on by itself. OpenTelemetry's API for log records is private still
(`opentelemetry._logs`) and has changed with the years; what it looks like is known here alone.
"""

from __future__ import annotations

import threading
import time
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any

from opentelemetry import trace

from stratatrace.sizes import format_size
from stratatrace.telemetry import semconv
from stratatrace.telemetry.providers import MOST_SERIES
from stratatrace.telemetry.spans import SpanScope, description_of, numbers_of
from stratatrace.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry._logs import LoggerProvider
    from opentelemetry.context import Context

    from stratatrace.measurement import Callsite, Measurement
    from stratatrace.typing import Scope

__all__ = ["LogSink", "is_logger_provider"]

# A callsite may break its budget at every call, a thousand times a second.
_SECONDS_BETWEEN_RECORDS = 1.0


class _Turn:
    """When a callsite may have its next record."""

    __slots__ = ("told_at", "untold")

    def __init__(self) -> None:
        self.told_at: float | None = None
        self.untold = 0


class LogSink:
    """Tells of calls that broke their budget: of a callsite's first, then of one each second.

    Args:
        logger_provider: Whose log records; None takes the application's, set before or later.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        logger_provider: LoggerProvider | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger_provider = logger_provider
        self._clock = clock
        self._turns: dict[tuple[str, str | None], _Turn] = {}
        # Reentrant: a collection may run a finalizer that breaks a budget of its own.
        self._lock = threading.RLock()

    def emit(self, measurement: Measurement, scope: Scope | None) -> None:
        """Tell of the call where it broke its budget, and its callsite has its turn."""
        if not measurement.budget_exceeded:
            return
        provider = self._provider()
        if provider is None:
            return
        untold = self._take_turn(measurement.callsite)
        if untold is not None:
            _write(provider, measurement, _context_of(scope), untold)

    def after_fork_in_child(self) -> None:
        """Begin anew: what the parent has not told is the parent's."""
        self._lock = threading.RLock()
        self._turns.clear()

    def _provider(self) -> LoggerProvider | None:
        # Imported with the first budget that is broken, as most programs see none.
        from opentelemetry._logs import get_logger_provider  # noqa: PLC0415

        provider = self._logger_provider or get_logger_provider()
        return provider if is_logger_provider(provider) else None

    def _take_turn(self, callsite: Callsite) -> int | None:
        """Return how many calls have had no record since the last; None where it is no turn."""
        now = self._clock()
        key = (callsite.function, callsite.label)
        with self._lock:
            if key not in self._turns and len(self._turns) >= MOST_SERIES:
                key = ("", None)  # Past that, callsites take their turns together.
            turn = self._turns.setdefault(key, _Turn())
            if turn.told_at is not None and now - turn.told_at < _SECONDS_BETWEEN_RECORDS:
                turn.untold += 1
                return None
            untold, turn.untold, turn.told_at = turn.untold, 0, now
        return untold


def is_logger_provider(provider: object) -> bool:
    """Tell whether it takes log records, and does not stand in until one is set."""
    # The API has no public names for those that do nothing.
    return type(provider).__name__ not in {"ProxyLoggerProvider", "NoOpLoggerProvider"}


def _context_of(scope: Scope | None) -> Context | None:
    """Return the context whose span is the call's; None is the current one."""
    if not isinstance(scope, SpanScope):
        return None
    # By the span: what the call's own code has left current in its context may be another one.
    return trace.set_span_in_context(scope.span, scope.context)


def _write(
    provider: LoggerProvider, measurement: Measurement, context: Context | None, untold: int
) -> None:
    callsite = measurement.callsite
    peak, budget = measurement.heap_peak_bytes or 0, callsite.budget_bytes or 0
    logs: Any = import_module("opentelemetry._logs")
    logger: Any = provider.get_logger(semconv.SCOPE, __version__)
    fields: dict[str, Any] = {
        "timestamp": time.time_ns(),
        "context": context,
        "severity_number": logs.SeverityNumber.WARN,
        "severity_text": "WARN",
        "body": (
            f"the heap of {callsite.name} peaked at {format_size(peak)}, "
            f"and its budget is {format_size(budget)}"
        ),
        "attributes": {
            **description_of(callsite),
            **numbers_of(measurement),
            semconv.BUDGET_UNTOLD.name: untold,
        },
        "event_name": semconv.BUDGET_EXCEEDED_EVENT,
    }
    if "event_name" in signature(logs.Logger.emit).parameters:
        logger.emit(**fields)
    else:  # Before 1.38, a logger takes only what the SDK has made.
        logger.emit(_record(logger, fields))


def _record(logger: Any, fields: dict[str, Any]) -> Any:
    """Return the SDK's own record of these fields, for a logger that takes no others."""
    make: Any = import_module("opentelemetry.sdk._logs").LogRecord
    known = signature(make.__init__).parameters
    if "context" not in known:
        current = trace.get_current_span(fields.pop("context")).get_span_context()
        fields.update(
            trace_id=current.trace_id, span_id=current.span_id, trace_flags=current.trace_flags
        )
    if "event_name" not in known:
        # What the conventions had for it before there was a field.
        fields["attributes"]["event.name"] = fields.pop("event_name")
    return make(resource=logger.resource, **fields)
