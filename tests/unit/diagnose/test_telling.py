"""What is found is a log record and a metric of the real SDK; and never an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.sdk._logs import LoggerProvider, export
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from stratatrace.diagnose.telling import Finding, tell
from stratatrace.telemetry.providers import MOST_SERIES
from stratatrace.testing import recording

if TYPE_CHECKING:
    import pytest

LEAK = Finding(
    kind="leak",
    name="app.load",
    body="app.load leaks 1.2 kB a call",
    attributes={"stratatrace.leak.slope": 1200.5},
)


def _points(reader: InMemoryMetricReader) -> dict[tuple[object, ...], object]:
    data: Any = reader.get_metrics_data()
    return {
        tuple((point.attributes or {}).values()): point.value
        for of_resource in data.resource_metrics
        for of_scope in of_resource.scope_metrics
        for metric in of_scope.metrics
        if metric.name == "stratatrace.finding.count"
        for point in metric.data.data_points
    }


def test_a_finding_is_a_log_record_and_is_counted() -> None:
    """The record has the event's name, the sentence and the numbers."""
    kept: Any = getattr(export, "InMemoryLogRecordExporter", None) or export.InMemoryLogExporter
    exporter = kept()
    logs = LoggerProvider(shutdown_on_exit=False)
    logs.add_log_record_processor(export.SimpleLogRecordProcessor(exporter))
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    with recording(logger_provider=logs, meter_provider=meters):
        tell(LEAK)
        tell(Finding(kind="cycles", name="app.load", body="2 cycles", found=2))
        tell(Finding(kind="cycles", name="app.load", body="none", found=0))
    first, second = (finished.log_record for finished in exporter.get_finished_logs())
    assert first.body == LEAK.body
    assert first.severity_text == "WARN"
    assert dict(first.attributes) == {
        **(first.attributes if not hasattr(first, "event_name") else {}),
        "stratatrace.finding.kind": "leak",
        "stratatrace.finding.name": "app.load",
        "stratatrace.leak.slope": 1200.5,
    }
    named = getattr(second, "event_name", None) or second.attributes["event.name"]
    assert named == "stratatrace.cycles"
    assert _points(reader) == {("leak", "app.load"): 1, ("cycles", "app.load"): 2}
    meters.shutdown()
    logs.shutdown()


def test_there_are_never_more_series_than_the_sdk_takes() -> None:
    """What is new past the bound is counted together."""
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    with recording(meter_provider=meters):
        for number in range(MOST_SERIES + 10):
            tell(Finding(kind="growth", name=str(number), body="grew"))
    points = _points(reader)
    assert points[True,] == 10
    assert len(points) == MOST_SERIES + 1
    meters.shutdown()


def test_what_cannot_be_told_is_counted_and_not_raised(caplog: pytest.LogCaptureFixture) -> None:
    """A provider that raises is stratatrace's own trouble."""

    class Broken(LoggerProvider):
        def get_logger(self, *_args: Any, **_kwargs: Any) -> Any:
            msg = "no loggers today"
            raise RuntimeError(msg)

    broken = Broken(shutdown_on_exit=False)
    with recording(logger_provider=broken, strict=False):
        tell(LEAK)
    assert "could not tell what was found" in caplog.text
    broken.shutdown()
