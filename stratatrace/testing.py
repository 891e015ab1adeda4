"""For tests, ours and yours: a sink that keeps what it is given, and a recorder for a block."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from stratatrace.config import Config
from stratatrace.errors import InvalidValueError
from stratatrace.pressure import LEVELS
from stratatrace.pressure.reading import Look, MemoryScope, PressureThresholds
from stratatrace.pressure.sources import readings
from stratatrace.pressure.watching import watcher
from stratatrace.recorder import Recorder, active

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry._logs import LoggerProvider
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from stratatrace.measurement import Measurement
    from stratatrace.pressure.reading import Level
    from stratatrace.typing import Scope

__all__ = ["ListSink", "recording", "under_pressure"]


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
    logger_provider: LoggerProvider | None = None,
    strict: bool = True,
) -> Iterator[ListSink]:
    """Measure every call within the block, and put back what was configured before.

    Args:
        config: How to measure; every call's heap by tracemalloc by default.
        tracer_provider: Whose spans; the application's by default.
        meter_provider: Whose metrics; the application's by default.
        logger_provider: Whose log records; the application's by default.
        strict: Let stratatrace's own failures be raised, which otherwise never happens.
    """
    sink = ListSink()
    recorder = Recorder(
        config or Config(probe="tracemalloc"),
        tracer_provider=tracer_provider,
        meter_provider=meter_provider,
        logger_provider=logger_provider,
        sinks=(sink,),
    )
    recorder.guard.strict = strict
    with active.replaced(recorder):
        yield sink


@contextmanager
def under_pressure(level: Level = "critical") -> Iterator[None]:
    """Have `memory_pressure()` read that level within the block.

    Whoever is subscribed has been told when the block begins, and of the true level when it has
    ended. Of thresholds other than those that hold by default, the level may be another one.

    Args:
        level: ``normal``, ``warning`` or ``critical``.

    Raises:
        InvalidValueError: There is no such level.
    """
    if level not in LEVELS:
        msg = f"there is no level {level!r} of pressure: choose one of {', '.join(LEVELS)}"
        raise InvalidValueError(msg)
    thresholds = PressureThresholds()
    ratio = dict(
        zip(LEVELS, (0.0, thresholds.warning_ratio, thresholds.critical_ratio), strict=True)
    )
    source = readings.source
    readings.source = _Pretended(round(ratio[level] * _PRETENDED_BYTES))
    try:
        readings.forget()
        watcher.tell_all(at_once=True)
        yield
    finally:
        readings.source = source
        readings.forget()
        watcher.tell_all(at_once=True)


_PRETENDED_BYTES = 1000 * 2**20


class _Pretended:
    """A machine that uses so much of a thousand MiB."""

    def __init__(self, used_bytes: int) -> None:
        self._used_bytes = used_bytes

    def read(self) -> Look:
        return Look((MemoryScope("machine", self._used_bytes, _PRETENDED_BYTES),))
