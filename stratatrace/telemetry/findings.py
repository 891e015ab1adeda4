"""What the finders of leaks, cycles and growth have found: a log record, and a metric."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Literal

from opentelemetry import metrics
from opentelemetry.metrics import Observation

from stratatrace.telemetry import semconv
from stratatrace.telemetry.log_records import provider_in_force, write_warning
from stratatrace.telemetry.providers import MOST_SERIES, OVERFLOW, ByProvider
from stratatrace.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry._logs import LoggerProvider
    from opentelemetry.metrics import CallbackOptions, MeterProvider

__all__ = ["FindingKind", "finding_metrics", "write_finding"]

FindingKind = Literal["leak", "cycles", "growth"]


def write_finding(
    logger_provider: LoggerProvider | None,
    kind: FindingKind,
    name: str,
    body: str,
    attributes: Mapping[str, str | bool | int | float],
) -> None:
    """Write the log record of a finding, in the span that is current; where somebody takes it.

    Args:
        logger_provider: Whose record; None takes the application's, set before or later.
        kind: What was found; ``stratatrace.`` before it is the name of the event.
        name: What was looked at.
        body: The finding as a sentence for people.
        attributes: Its numbers.
    """
    provider = provider_in_force(logger_provider)
    if provider is not None:
        known = {semconv.FINDING_KIND.name: kind, semconv.FINDING_NAME.name: name}
        write_warning(provider, f"stratatrace.{kind}", body, {**known, **attributes})


class _FindingMetrics:
    """Counts findings for one provider, by what was found where.

    Args:
        meter_provider: None takes the application's, set before or later.
    """

    def __init__(self, meter_provider: MeterProvider | None) -> None:
        self._counts: Counter[tuple[tuple[str, str | bool], ...]] = Counter()
        # Reentrant: a collection may run a finalizer that looks for something.
        self._lock = threading.RLock()
        metric = semconv.FINDING_COUNT
        meter = metrics.get_meter(semconv.SCOPE, __version__, meter_provider=meter_provider)
        meter.create_observable_counter(metric.name, [self._observe], metric.unit, metric.brief)

    def add(self, kind: FindingKind, name: str, found: int) -> None:
        """Count so many more."""
        key: tuple[tuple[str, str | bool], ...] = (
            (semconv.FINDING_KIND.name, kind),
            (semconv.FINDING_NAME.name, name),
        )
        with self._lock:
            if key not in self._counts and len(self._counts) >= MOST_SERIES:
                key = (OVERFLOW,)
            self._counts[key] += found

    def after_fork_in_child(self) -> None:
        """Count from zero: the parent tells its own."""
        self._lock = threading.RLock()
        self._counts.clear()

    def _observe(self, _options: CallbackOptions) -> list[Observation]:
        with self._lock:
            counts = list(self._counts.items())
        return [Observation(count, dict(key)) for key, count in counts]


#: Returns the counters of a provider, None being the application's.
finding_metrics = ByProvider(_FindingMetrics).of
