"""The metric sink: calls are added up in the process and read by observable instruments.

Adding to a sum costs a tenth of what recording to an instrument does, so a hot function can be
measured on every call. Histograms, which link to traces by exemplars, are recorded only for the
calls that have a span, where the span costs more anyway.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from opentelemetry import metrics
from opentelemetry.metrics import Observation

from stratatrace.telemetry import semconv
from stratatrace.telemetry.providers import MOST_SERIES, OVERFLOW, ByProvider
from stratatrace.telemetry.spans import SpanScope
from stratatrace.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opentelemetry.metrics import CallbackOptions, MeterProvider

    from stratatrace.measurement import Callsite, Measurement, Sums
    from stratatrace.typing import Overheads, Scope, SumsSource

__all__ = ["MetricSink", "metric_sinks"]


class _Totals:
    """The sums of one callsite and outcome."""

    __slots__ = (
        "attributes",
        "calls",
        "exceeded",
        "heap_allocated_bytes",
        "heap_net_bytes",
        "heap_peak_bytes",
        "rss_peak_bytes",
        "score_sum",
        "scores",
        "sources",
        "time_ns",
    )

    def __init__(self, attributes: dict[str, str | bool]) -> None:
        self.attributes = attributes
        #: Where calls are that were added up elsewhere.
        self.sources: list[SumsSource] = []
        self.clear()

    def clear(self) -> None:
        self.calls = 0
        # No whole numbers where a measured call stands for others.
        self.time_ns: float = 0
        self.exceeded: float = 0
        self.heap_net_bytes: float | None = None
        self.heap_allocated_bytes: float | None = None
        self.heap_peak_bytes: int | None = None
        self.rss_peak_bytes: int | None = None
        self.score_sum = 0.0
        self.scores = 0

    def add(self, measurement: Measurement) -> None:
        ratio = measurement.sample_ratio
        weight = 1 if ratio is None else 1 / ratio
        self.calls += 1
        self.time_ns += (measurement.duration_ns or 0) * weight
        self.exceeded += bool(measurement.budget_exceeded) * weight
        self.heap_net_bytes = _sum(self.heap_net_bytes, measurement.heap_net_bytes, weight)
        self.heap_allocated_bytes = _sum(
            self.heap_allocated_bytes, measurement.heap_allocated_bytes, weight
        )
        self.heap_peak_bytes = _highest(self.heap_peak_bytes, measurement.heap_peak_bytes)
        self.rss_peak_bytes = _highest(self.rss_peak_bytes, measurement.rss_peak_bytes)
        self._add_score(measurement.efficiency_score)

    def drain(self) -> None:
        """Add what the sources have added up since this was last called."""
        for source in self.sources:
            sums = source.take()
            if sums is not None:
                self._add_sums(sums)
        if any(source.ended for source in self.sources):
            self.sources = [source for source in self.sources if not source.ended]

    def _add_sums(self, sums: Sums) -> None:
        self.calls += sums.calls
        self.time_ns += sums.time_ns
        self.exceeded += sums.exceeded
        self.heap_net_bytes = _sum(self.heap_net_bytes, sums.heap_net_bytes)
        self.heap_allocated_bytes = _sum(self.heap_allocated_bytes, sums.heap_allocated_bytes)
        self.heap_peak_bytes = _highest(self.heap_peak_bytes, sums.heap_peak_bytes)
        self.rss_peak_bytes = _highest(self.rss_peak_bytes, sums.rss_peak_bytes)
        for measurement in sums.latest:
            self._add_score(measurement.efficiency_score)

    def _add_score(self, score: float | None) -> None:
        if score is not None:
            self.score_sum += score
            self.scores += 1

    # A gauge tells of the time since the last collection: whoever takes it starts it anew.

    def take_heap_peak(self) -> int | None:
        peak_bytes, self.heap_peak_bytes = self.heap_peak_bytes, None
        return peak_bytes

    def take_rss_peak(self) -> int | None:
        peak_bytes, self.rss_peak_bytes = self.rss_peak_bytes, None
        return peak_bytes

    def take_mean_score(self) -> float | None:
        mean = self.score_sum / self.scores if self.scores else None
        self.score_sum, self.scores = 0.0, 0
        return mean


class MetricSink:
    """Adds up calls by function, given name and error, and offers the sums to whoever collects.

    Args:
        meter_provider: Whose instruments; None takes the application's, set before or later.
    """

    def __init__(
        self,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self._totals: dict[tuple[str, str | None, str | None], _Totals] = {}
        # Reentrant: a collection inside `emit` may run a finalizer that is measured itself.
        self._lock = threading.RLock()
        #: Returns how many failures stratatrace itself has had.
        self.count_failures: Callable[[], int] = lambda: 0
        #: What measuring takes, and which calls are left out for it; None where none are.
        self.overheads: Overheads | None = None
        meter = metrics.get_meter(semconv.SCOPE, __version__, meter_provider=meter_provider)
        self._heap_peaks, self._rss_peaks = (
            meter.create_histogram(
                metric.name,
                metric.unit,
                metric.brief,
                explicit_bucket_boundaries_advisory=semconv.BYTE_BOUNDARIES,
            )
            for metric in (semconv.CALL_HEAP_PEAK, semconv.CALL_RSS_PEAK)
        )
        counter, up_down, gauge = (
            meter.create_observable_counter,
            meter.create_observable_up_down_counter,
            meter.create_observable_gauge,
        )
        for metric, create, read in (
            (semconv.CALL_COUNT, counter, lambda totals: totals.calls),
            (semconv.CALL_TIME, counter, lambda totals: totals.time_ns / 1e9),
            (semconv.HEAP_NET, up_down, lambda totals: _whole(totals.heap_net_bytes)),
            (semconv.HEAP_ALLOCATED, counter, lambda totals: _whole(totals.heap_allocated_bytes)),
            (semconv.EXCEEDED, counter, lambda totals: round(totals.exceeded) or None),
            (semconv.HEAP_PEAK, gauge, _Totals.take_heap_peak),
            (semconv.RSS_PEAK, gauge, _Totals.take_rss_peak),
            (semconv.SCORE, gauge, _Totals.take_mean_score),
        ):
            create(metric.name, [self._reader(read)], metric.unit, metric.brief)
        for metric, create, observe in (
            (semconv.SELF_ERRORS, counter, self._observe_failures),
            (semconv.SELF_OVERHEAD, gauge, self._observe_overhead),
            (semconv.SAMPLE_RATIO, gauge, self._observe_ratios),
        ):
            create(metric.name, [observe], metric.unit, metric.brief)

    def emit(self, measurement: Measurement, scope: Scope | None) -> None:
        """Add one call to the sums, and to the histograms where it has a span."""
        totals = self._totals_of(measurement.callsite, measurement.error_type)
        with self._lock:
            totals.add(measurement)
        if isinstance(scope, SpanScope) and scope.recording:
            for histogram, peak_bytes in (
                (self._heap_peaks, measurement.heap_peak_bytes),
                (self._rss_peaks, measurement.rss_peak_bytes),
            ):
                if peak_bytes is not None:
                    histogram.record(max(peak_bytes, 0), totals.attributes, scope.context)

    def count(self, callsite: Callsite, error_type: str | None) -> None:
        """Add one call that was not measured."""
        totals = self._totals_of(callsite, error_type)
        with self._lock:
            totals.calls += 1

    def attach(self, callsite: Callsite, error_type: str | None, source: SumsSource) -> None:
        """Add to the calls of a callsite and outcome what is added up elsewhere."""
        totals = self._totals_of(callsite, error_type)
        with self._lock:
            if source not in totals.sources:
                totals.sources.append(source)

    def after_fork_in_child(self) -> None:
        """Count from zero: the parent tells its own calls."""
        self._lock = threading.RLock()
        for totals in self._totals.values():
            totals.drain()
            totals.clear()

    def _totals_of(self, callsite: Callsite, error_type: str | None) -> _Totals:
        key = (callsite.function, callsite.label, error_type)
        totals = self._totals.get(key)
        if totals is None:
            with self._lock:
                if len(self._totals) >= MOST_SERIES:
                    key = ("", None, None)
                    totals = _Totals(dict((OVERFLOW,)))
                else:
                    totals = _Totals(_attributes(callsite, error_type))
                totals = self._totals.setdefault(key, totals)
        return totals

    def _reader(
        self, read: Callable[[_Totals], float | None]
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_options: CallbackOptions) -> list[Observation]:
            with self._lock:
                for totals in self._totals.values():
                    totals.drain()
                values = [(read(totals), totals.attributes) for totals in self._totals.values()]
            return [
                Observation(value, attributes) for value, attributes in values if value is not None
            ]

        return observe

    def _observe_failures(self, _options: CallbackOptions) -> list[Observation]:
        return [Observation(self.count_failures())]

    def _observe_overhead(self, _options: CallbackOptions) -> list[Observation]:
        overheads = self.overheads
        return [] if overheads is None else [Observation(overheads.take_overhead())]

    def _observe_ratios(self, _options: CallbackOptions) -> list[Observation]:
        overheads = self.overheads
        told = [] if overheads is None else list(overheads.ratios())
        observations = [
            Observation(ratio, _attributes(callsite, None))
            for callsite, ratio in told[:MOST_SERIES]
        ]
        if len(told) > MOST_SERIES:  # The lowest says that there are such.
            lowest = min(ratio for _, ratio in told[MOST_SERIES:])
            observations.append(Observation(lowest, dict((OVERFLOW,))))
        return observations


def _attributes(callsite: Callsite, error_type: str | None) -> dict[str, str | bool]:
    attributes: dict[str, str | bool] = {semconv.FUNCTION_NAME.name: callsite.function}
    if callsite.label is not None:
        attributes[semconv.CALLSITE.name] = callsite.label
    if error_type is not None:
        attributes[semconv.ERROR_TYPE.name] = error_type
    return attributes


def _sum(so_far: float | None, more: int | None, weight: float = 1) -> float | None:
    return so_far if more is None else more * weight + (so_far or 0)


def _whole(total: float | None) -> int | None:
    return None if total is None else round(total)


def _highest(so_far: int | None, more: int | None) -> int | None:
    return so_far if more is None or (so_far is not None and so_far >= more) else more


#: To make a sum zero reads what is measured, of which the recorder makes an end first.
metric_sinks = ByProvider(MetricSink, at_fork=False)
