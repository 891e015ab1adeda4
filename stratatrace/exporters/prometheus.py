"""Exemplars for those who are scraped: a bucket of a histogram, and the trace of what filled it.

OpenTelemetry's SDK keeps exemplars, and its exporter for Prometheus drops them. What is here adds
them to the metrics that the exporter makes, and leaves names, labels and values to it. Needs the
extra ``prometheus``; nothing else imports this module.
"""

from __future__ import annotations

import logging
import os
import threading
from bisect import bisect_left
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast
from weakref import ref

from opentelemetry.sdk.metrics.export import Histogram, MetricsData
from opentelemetry.trace import format_span_id, format_trace_id

from stratatrace.errors import MissingExtraError

try:
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from prometheus_client import REGISTRY
    from prometheus_client.samples import Exemplar, Timestamp
except ImportError as error:
    feature = "exposing exemplars to Prometheus"
    raise MissingExtraError(feature, "prometheus") from error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from opentelemetry.sdk.metrics.export import HistogramDataPoint
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric
    from prometheus_client.samples import Sample

__all__ = ["ExemplarMetricReader"]

_logger = logging.getLogger("stratatrace")

_NS_PER_S = 10**9

# A bucket: the name of its sample, and its labels.
_Bucket = tuple[str, frozenset[tuple[str, str]]]


class ExemplarMetricReader(PrometheusMetricReader):
    """OpenTelemetry's reader for Prometheus, whose histograms carry exemplars.

    It takes the arguments of `opentelemetry.exporter.prometheus.PrometheusMetricReader`, and stands
    in its place. All histograms of the application have exemplars, with ``trace_id`` and
    ``span_id``, of what was recorded last in each bucket within a sampled trace. They are exposed
    to who asks for OpenMetrics, as Prometheus does; it stores them with
    ``--enable-feature=exemplar-storage``.

    Where the exporter is not made as expected, metrics are exposed without exemplars, and the
    logger ``stratatrace`` says so.

    Raises:
        MissingExtraError: On import; the exporter is not installed.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        theirs: Any = getattr(self, "_collector", None)
        if not all(callable(getattr(theirs, name, None)) for name in _NEEDED):
            _warn()
            return
        registry: CollectorRegistry = getattr(self, "_registry", REGISTRY)
        ours = _ExemplarCollector(theirs)
        registry.unregister(theirs)
        registry.register(ours)
        # From here on it is given what is collected, and is unregistered at the end.
        self._collector: Any = ours


_NEEDED = ("add_metrics_data", "collect", "_translate_to_prometheus")


def _warn(error: Exception | None = None) -> None:
    _logger.warning(
        "stratatrace cannot add exemplars to what this version of opentelemetry-exporter-"
        "prometheus exposes; the metrics are not affected",
        exc_info=error,
    )


class _ExemplarCollector:
    """Adds exemplars to the metrics of the exporter's collector.

    Args:
        theirs: That collector.
    """

    def __init__(self, theirs: Any) -> None:
        self._theirs = theirs
        self._collected: list[MetricsData] = []
        # The SDK tells of each exemplar once. Here it stands until there is a newer one: a scrape
        # that fails, or a second server that scrapes, must not cost the others theirs.
        self._exemplars: dict[_Bucket, Exemplar] = {}
        self._failed = False
        # Two scrapes at a time would share what was collected. Reentrant: a collection runs the
        # program's callbacks, which may do anything.
        self._lock = threading.RLock()
        if hasattr(os, "register_at_fork"):
            this = ref(self)
            os.register_at_fork(after_in_child=lambda: _after_fork_in_child(this))

    def add_metrics_data(self, metrics_data: MetricsData) -> None:
        """Take what was collected; called within `collect`."""
        self._collected.append(metrics_data)
        self._theirs.add_metrics_data(metrics_data)

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that to be registered is no scrape."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of a new collection."""
        with self._lock:
            self._collected = []
            metrics: list[Metric] = list(self._theirs.collect())
            collected, self._collected = self._collected, []
            try:
                if not self._failed:
                    self._learn(collected)
                    self._add_to(metrics)
            except Exception as error:
                self._failed = True
                _warn(error)
        return metrics

    def after_fork_in_child(self) -> None:
        """Wait for no scrape of the parent."""
        self._lock = threading.RLock()

    def _learn(self, collected: list[MetricsData]) -> None:
        for data in collected:
            for one_point in _points_with_exemplars(data):
                buckets = self._buckets_of(one_point)
                point = _point_of(one_point)
                for exemplar in point.exemplars:
                    if not exemplar.trace_id or not exemplar.span_id:
                        continue  # Recorded in no trace.
                    bucket = buckets[bisect_left(point.explicit_bounds, exemplar.value)]
                    self._exemplars[_key(bucket)] = Exemplar(
                        {
                            "trace_id": format_trace_id(exemplar.trace_id),
                            "span_id": format_span_id(exemplar.span_id),
                        },
                        exemplar.value,
                        Timestamp(*divmod(exemplar.time_unix_nano, _NS_PER_S)),
                    )

    def _buckets_of(self, one_point: MetricsData) -> list[Sample]:
        """Return what the exporter makes of the buckets of one point, in their order."""
        made: dict[str, Metric] = {}
        self._theirs._translate_to_prometheus(one_point, made)  # noqa: SLF001 -- see _NEEDED
        (metric,) = made.values()
        return [sample for sample in metric.samples if "le" in sample.labels]

    def _add_to(self, metrics: list[Metric]) -> None:
        exemplars: dict[_Bucket, Exemplar] = {}
        for metric in metrics:
            if metric.type != "histogram":
                continue
            for index, sample in enumerate(metric.samples):
                if "le" not in sample.labels:
                    continue
                key = _key(sample)
                if key in self._exemplars:
                    exemplars[key] = self._exemplars[key]
                    metric.samples[index] = sample._replace(exemplar=exemplars[key])
        self._exemplars = exemplars  # Those of what is exposed no more are forgotten.


def _after_fork_in_child(reference: ref[_ExemplarCollector]) -> None:
    collector = reference()
    if collector is not None:
        collector.after_fork_in_child()


def _key(sample: Sample) -> _Bucket:
    # A label that a point lacks is empty beside others that have it.
    return sample.name, frozenset(item for item in sample.labels.items() if item[1])


def _point_of(one_point: MetricsData) -> HistogramDataPoint:
    (metric,) = one_point.resource_metrics[0].scope_metrics[0].metrics
    return cast("HistogramDataPoint", metric.data.data_points[0])


def _points_with_exemplars(data: MetricsData) -> Iterator[MetricsData]:
    """Yield each point of a histogram that has exemplars, as if nothing else had been collected."""
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                if not isinstance(metric.data, Histogram):
                    continue
                for point in metric.data.data_points:
                    if point.exemplars:
                        alone = replace(metric, data=replace(metric.data, data_points=[point]))
                        scopes = [replace(scope, metrics=[alone])]
                        yield MetricsData([replace(resource, scope_metrics=scopes)])
