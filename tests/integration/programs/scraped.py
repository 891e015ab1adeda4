"""A service with providers of its own that Prometheus scrapes, on the port that is given.

Prints what a sink in the process was given, then serves until its standard input ends.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import start_http_server

import stratatrace
from stratatrace.exporters.prometheus import ExemplarMetricReader
from stratatrace.telemetry.spans import SpanScope

if TYPE_CHECKING:
    from stratatrace import Measurement
    from stratatrace.typing import Scope

MIB = 2**20

told: list[dict[str, Any]] = []
kept: list[bytearray] = []


class Listing:
    """Keeps what it is given, and the trace that it belongs to."""

    def emit(self, measurement: Measurement, scope: Scope | None) -> None:
        """Keep the numbers of one call, and where to find it."""
        assert isinstance(scope, SpanScope)
        ids = scope.span.get_span_context()
        told.append(
            {
                **measurement.to_dict(),
                "trace_id": trace.format_trace_id(ids.trace_id),
                "span_id": trace.format_span_id(ids.span_id),
            }
        )


@stratatrace.profile_memory(budget="64 MiB")
def build(size: int) -> int:
    """Take memory and give it back."""
    return len(bytearray(size))


@stratatrace.profile_memory
def keep(size: int) -> None:
    """Take memory for good."""
    kept.append(bytearray(size))


@stratatrace.profile_memory
def release() -> None:
    """Give back what another call took."""
    kept.clear()


@stratatrace.profile_memory
def turn_over(size: int) -> None:
    """Take memory in one measured call and give it back in another, both inside this one."""
    keep(size)
    release()


@stratatrace.profile_memory
def fail() -> None:
    """Raise."""
    raise LookupError


def main(port: int) -> None:
    """Work, then serve the metrics of that work."""
    # Its spans go nowhere, but the histograms are of the calls that have one.
    trace.set_tracer_provider(TracerProvider())
    metrics.set_meter_provider(MeterProvider([ExemplarMetricReader()]))
    stratatrace.configure(probe="tracemalloc", sample_ratio=1.0, sinks=[Listing()])
    for size in (2 * MIB, 8 * MIB, 5 * MIB):
        build(size)
    turn_over(4 * MIB)
    keep(3 * MIB)
    with suppress(LookupError):
        fail()
    start_http_server(port, "127.0.0.1")
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main(int(sys.argv[1]))
