"""For tests, ours and yours: a sink that keeps what it is given, and a recorder for a block."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from stratatrace.config import Config
from stratatrace.recorder import Recorder, active

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from stratatrace.measurement import Measurement
    from stratatrace.typing import Scope

__all__ = ["ListSink", "recording"]


class ListSink:
    """Keeps every Measurement that it is given, the oldest first."""

    def __init__(self) -> None:
        self.measurements: list[Measurement] = []

    def emit(self, measurement: Measurement, scope: Scope | None) -> None:  # noqa: ARG002
        """Keep one more."""
        self.measurements.append(measurement)

    @property
    def last(self) -> Measurement:
        """The latest."""
        return self.measurements[-1]

    def of(self, name: str) -> list[Measurement]:
        """Return those of the callsite of that name."""
        return [m for m in self.measurements if m.callsite.name == name]


@contextmanager
def recording(
    config: Config | None = None,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    strict: bool = True,
) -> Iterator[ListSink]:
    """Measure every call within the block, and put back what was configured before.

    Args:
        config: How to measure; every call's heap by tracemalloc by default.
        tracer_provider: Whose spans; the application's by default.
        meter_provider: Whose metrics; the application's by default.
        strict: Let stratatrace's own failures be raised, which otherwise never happens.
    """
    sink = ListSink()
    recorder = Recorder(
        config or Config(probe="tracemalloc"),
        tracer_provider=tracer_provider,
        meter_provider=meter_provider,
        sinks=(sink,),
    )
    recorder.guard.strict = strict
    with active.replaced(recorder):
        yield sink
