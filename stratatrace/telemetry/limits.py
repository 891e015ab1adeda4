"""What is told of a memory limit that was exceeded: the status of a span, and a metric."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from opentelemetry import metrics, trace
from opentelemetry.metrics import Observation
from opentelemetry.trace import Status, StatusCode

from stratatrace.telemetry import semconv
from stratatrace.telemetry.providers import MOST_SERIES, OVERFLOW
from stratatrace.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.metrics import CallbackOptions, MeterProvider
    from opentelemetry.trace import Span

    from stratatrace.measurement import Callsite

__all__ = ["LimitMetrics", "current_span", "mark_span"]

_ERROR_TYPE = "stratatrace.errors.MemoryLimitExceeded"


def current_span() -> Span:
    """Return the span that is current, which may be none that is recorded."""
    return trace.get_current_span()


def mark_span(span: Span, *, budget_bytes: int, used_bytes: int | None, raised: bool) -> None:
    """Say on a span that a limit was exceeded in it.

    Args:
        span: The span that was current where the limit was entered.
        budget_bytes: What the limit allows.
        used_bytes: By how much the process had grown.
        raised: Whether that is an error: its status is then one.
    """
    if not span.is_recording():
        return
    span.set_attribute(semconv.LIMIT_EXCEEDED.name, True)  # noqa: FBT003 -- their signature
    span.set_attribute(semconv.LIMIT_BUDGET.name, budget_bytes)
    if used_bytes is not None:
        span.set_attribute(semconv.LIMIT_USED.name, used_bytes)
    if raised:
        span.set_status(Status(StatusCode.ERROR, _ERROR_TYPE))


class LimitMetrics:
    """Counts the limits that were exceeded, by function and given name, for each provider."""

    def __init__(self) -> None:
        self._counts: WeakKeyDictionary[Any, dict[tuple[str, str | None], int]]
        self._counts = WeakKeyDictionary()
        # Reentrant: a collection may run a finalizer that is limited itself.
        self._lock = threading.RLock()

    def count(self, callsite: Callsite, meter_provider: MeterProvider | None) -> None:
        """Count one more.

        Args:
            callsite: Where the limit stands.
            meter_provider: Whose metric; None takes the application's, set before or later.
        """
        with self._lock:
            key = type(self) if meter_provider is None else meter_provider
            counts = self._counts.get(key)
            if counts is None:
                counts = self._counts[key] = {}
                self._offer(counts, meter_provider)
            series = (callsite.function, callsite.label)
            if series not in counts and len(counts) >= MOST_SERIES:
                series = ("", None)
            counts[series] = counts.get(series, 0) + 1

    def after_fork_in_child(self) -> None:
        """Count from zero: the parent tells its own."""
        self._lock = threading.RLock()
        for counts in self._counts.values():
            counts.clear()

    def _offer(
        self, counts: dict[tuple[str, str | None], int], meter_provider: MeterProvider | None
    ) -> None:
        def observe(_options: CallbackOptions) -> list[Observation]:
            with self._lock:
                return [Observation(count, _attributes(*key)) for key, count in counts.items()]

        metric = semconv.LIMITS_EXCEEDED
        meter = metrics.get_meter(semconv.SCOPE, __version__, meter_provider=meter_provider)
        meter.create_observable_counter(metric.name, [observe], metric.unit, metric.brief)


def _attributes(function: str, label: str | None) -> Mapping[str, str | bool]:
    if not function:
        return dict((OVERFLOW,))
    if label is None:
        return {semconv.FUNCTION_NAME.name: function}
    return {semconv.FUNCTION_NAME.name: function, semconv.CALLSITE.name: label}
