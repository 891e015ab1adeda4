"""The log sink: a call that broke its budget is a log record, in the trace of the call.

A record and not an event of the span: it also tells of a call whose trace is not sampled, and it
can be searched and alerted on by itself.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from opentelemetry import trace

from stratatrace.sizes import format_size
from stratatrace.telemetry import semconv
from stratatrace.telemetry.log_records import provider_in_force, write_warning
from stratatrace.telemetry.providers import MOST_SERIES
from stratatrace.telemetry.spans import SpanScope, description_of, numbers_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry._logs import LoggerProvider
    from opentelemetry.context import Context

    from stratatrace.measurement import Callsite, Measurement
    from stratatrace.typing import Scope

__all__ = ["LogSink"]

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
        #: As given.
        self.logger_provider = logger_provider
        self._clock = clock
        self._turns: dict[tuple[str, str | None], _Turn] = {}
        # Reentrant: a collection may run a finalizer that breaks a budget of its own.
        self._lock = threading.RLock()

    def emit(self, measurement: Measurement, scope: Scope | None) -> None:
        """Tell of the call where it broke its budget, and its callsite has its turn."""
        if not measurement.budget_exceeded:
            return
        provider = provider_in_force(self.logger_provider)
        if provider is None:
            return
        untold = self._take_turn(measurement.callsite)
        if untold is not None:
            _write(provider, measurement, _context_of(scope), untold)

    def after_fork_in_child(self) -> None:
        """Begin anew: what the parent has not told is the parent's."""
        self._lock = threading.RLock()
        self._turns.clear()

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
    write_warning(
        provider,
        semconv.BUDGET_EXCEEDED_EVENT,
        f"the heap of {callsite.name} peaked at {format_size(peak)}, "
        f"and its budget is {format_size(budget)}",
        {
            **description_of(callsite),
            **numbers_of(measurement),
            semconv.BUDGET_UNTOLD.name: untold,
        },
        context,
    )
