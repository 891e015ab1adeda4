"""Providers of OpenTelemetry's SDK that keep what they are given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk._logs import LoggerProvider, export
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    """Have a list of ended spans."""
    return InMemorySpanExporter()


@pytest.fixture
def tracer_provider(exporter: InMemorySpanExporter) -> Iterator[TracerProvider]:
    """Have a provider whose spans go to the exporter."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider
    provider.shutdown()


@pytest.fixture
def reader() -> InMemoryMetricReader:
    """Have a reader that collects when it is asked to."""
    return InMemoryMetricReader()


@pytest.fixture
def meter_provider(reader: InMemoryMetricReader) -> Iterator[MeterProvider]:
    """Have a provider that the reader collects from."""
    provider = MeterProvider([reader], shutdown_on_exit=False)
    yield provider
    provider.shutdown()


@pytest.fixture
def log_exporter() -> Any:
    """Have a list of log records."""
    # Its name before 1.39.
    kept: Any = getattr(export, "InMemoryLogRecordExporter", None) or export.InMemoryLogExporter
    return kept()


@pytest.fixture
def logger_provider(log_exporter: Any) -> Iterator[LoggerProvider]:
    """Have a provider whose log records go to the exporter."""
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(export.SimpleLogRecordProcessor(log_exporter))
    yield provider
    provider.shutdown()


@pytest.fixture
def log_records(log_exporter: Any) -> Callable[[], list[Any]]:
    """Return what the records are read with."""
    return lambda: [finished.log_record for finished in log_exporter.get_finished_logs()]
