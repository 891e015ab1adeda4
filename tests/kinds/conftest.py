"""Fixtures for the kinds: spans that can be looked at beside the measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest
from heap_probes import PROBES
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from stratatrace.config import Config
from stratatrace.testing import recording

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Tracer

    from stratatrace.measurement import Measurement
    from stratatrace.testing import ListSink


class Told(NamedTuple):
    """What was measured, and the spans that were ended."""

    sink: ListSink
    exporter: InMemorySpanExporter
    tracer: Tracer

    @property
    def measurements(self) -> list[Measurement]:
        """What was measured, the oldest first."""
        return self.sink.measurements

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        """The spans that have ended, by name."""
        return {span.name: span for span in self.exporter.get_finished_spans()}


@pytest.fixture(params=PROBES)
def told(request: pytest.FixtureRequest) -> Iterator[Told]:
    """Measure every call strictly, into a list and into spans of a provider of its own."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with recording(Config(probe=request.param), tracer_provider=provider) as sink:
        yield Told(sink, exporter, provider.get_tracer("user"))
    provider.shutdown()
