"""One collection of metrics for several exporters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FanOutMetricExporter"]


class FanOutMetricExporter(MetricExporter):
    """Hands what was collected to each of several exporters.

    With a reader for each of them, the first to collect would leave nothing for the others: a gauge
    tells the highest since the last collection.

    Args:
        exporters: At least one; the last one's preferences count.
    """

    def __init__(self, exporters: Sequence[MetricExporter]) -> None:
        preferred = exporters[-1]
        super().__init__(
            preferred_temporality=preferred._preferred_temporality,  # noqa: SLF001 -- as the SDK does
            preferred_aggregation=preferred._preferred_aggregation,  # noqa: SLF001
        )
        self._exporters = tuple(exporters)

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        """Export to all, whatever becomes of each."""
        results = {e.export(metrics_data, timeout_millis, **kwargs) for e in self._exporters}
        failed = MetricExportResult.FAILURE in results
        return MetricExportResult.FAILURE if failed else MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Flush all."""
        flushed = [exporter.force_flush(timeout_millis) for exporter in self._exporters]
        return all(flushed)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Shut all down."""
        for exporter in self._exporters:
            exporter.shutdown(timeout_millis, **kwargs)
