"""An application that has set up OpenTelemetry for itself, before it ever heard of stratatrace.

Prints its spans as its own in-memory exporter got them; the same spans go to the endpoint that the
environment names. With the argument ``traces`` it has no MeterProvider.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import stratatrace

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

MIB = 2**20


@stratatrace.profile_memory(budget="64 MiB")
def load(size: int) -> int:
    """Take memory."""
    return len(bytearray(size))


@stratatrace.profile_memory
def transform(size: int) -> int:
    """Measure a call inside a measured call, with a span of the application's between the two."""
    with trace.get_tracer("application").start_as_current_span("between"):
        return load(size)


@stratatrace.profile_memory
async def fetch(size: int) -> int:
    """Hold memory while suspended."""
    held = bytearray(size)
    await asyncio.sleep(0.01)
    return len(held)


async def gather() -> None:
    """Run two measured coroutines at once."""
    await asyncio.gather(fetch(2 * MIB), fetch(3 * MIB))


def described(span: ReadableSpan) -> dict[str, object]:
    """Return what a backend should have of a span."""
    context = span.get_span_context()
    assert context is not None
    scope = span.instrumentation_scope
    return {
        "name": span.name,
        "scope": scope.name if scope else None,
        "trace_id": trace.format_trace_id(context.trace_id),
        "span_id": trace.format_span_id(context.span_id),
        "parent_id": trace.format_span_id(span.parent.span_id) if span.parent else None,
        "attributes": dict(span.attributes or {}),
    }


def main(*, has_metrics: bool) -> None:
    """Serve one request, then tell of its spans."""
    memory = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    if has_metrics:
        metrics.set_meter_provider(MeterProvider())
    stratatrace.configure(probe="tracemalloc", sample_ratio=1.0)

    with trace.get_tracer("application").start_as_current_span("request"):
        transform(8 * MIB)
        load(5 * MIB)
        asyncio.run(gather())
    stratatrace.shutdown()
    provider.shutdown()
    json.dump([described(span) for span in memory.get_finished_spans()], sys.stdout)


if __name__ == "__main__":
    main(has_metrics="traces" not in sys.argv)
