"""One run of a monitor: what it has seen, and what there is to tell of it. Reads nothing itself."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Literal

from stratatrace.guards.alerts import Extent, MemoryAlert, RiseAlarm, ThresholdAlarm
from stratatrace.guards.monitor_report import MemoryReport
from stratatrace.guards.samples import SampleRing
from stratatrace.pressure.reading import LEVELS, Level, Pressure

if TYPE_CHECKING:
    from stratatrace.guards.rise import Rise, RiseWatch
    from stratatrace.probes.processes import MemoryMethod, ProcessReading

__all__ = ["MonitorRun"]

_MOST_ALERTS = 100


class MonitorRun:
    """From a start to a stop.

    Args:
        limit_bytes: The monitor's own limit.
        thresholds: The alarms of thresholds, which have told nothing yet.
        forecast_seconds: How far ahead to look; None for not at all.
        max_samples: How many samples to keep.
        watch: Looks for a steady rise.
    """

    def __init__(
        self,
        *,
        limit_bytes: int | None,
        thresholds: list[ThresholdAlarm],
        forecast_seconds: float | None,
        max_samples: int,
        watch: RiseWatch,
    ) -> None:
        self.started_at = time.time()
        self.looks = self.failed_looks = 0
        self.peak_bytes: int | None = None
        #: What there was to see at the latest look.
        self.extent: Extent | None = None
        self.rise: Rise | None = None
        self.processes = 0
        self._started_seconds = time.monotonic()
        self._ended_seconds: float | None = None
        self._limit_bytes = limit_bytes
        self._thresholds = thresholds
        self._forecast_seconds = forecast_seconds
        self._watch = watch
        self._rise_alarm = RiseAlarm()
        self._samples = SampleRing(max_samples)
        self._alerts: deque[MemoryAlert] = deque(maxlen=_MOST_ALERTS)
        self._alert_count = 0
        self._first_bytes: int | None = None
        self._sum_bytes = 0
        self._most_processes = 0
        self._methods: set[MemoryMethod] = set()
        self._worst: Level = "normal"
        self._mark_bytes: int | None = None
        self._highest_mark_bytes = 0
        self._mark_was_reset = False

    @property
    def seconds(self) -> float:
        """How long it has been, until now or until its end."""
        ended = time.monotonic() if self._ended_seconds is None else self._ended_seconds
        return ended - self._started_seconds

    def end(self) -> None:
        """Let the clock stand still."""
        self._ended_seconds = time.monotonic()

    def fail(self) -> None:
        """Take note of a look at which there was nothing to be seen."""
        self.failed_looks += 1

    def add(
        self, reading: ProcessReading, pressure: Pressure, seconds: float, *, resets_mark: bool
    ) -> list[MemoryAlert]:
        """Take one more look; return what there is to tell.

        Args:
            reading: What the processes use.
            pressure: What is in use around them.
            seconds: When, since the start.
            resets_mark: Whether somebody sets the kernel's high-water mark back meanwhile.
        """
        used_bytes = reading.used_bytes
        if self._first_bytes is None:
            self._first_bytes = used_bytes
        self.looks += 1
        self._sum_bytes += used_bytes
        self._samples.add(seconds, used_bytes)
        self._methods.add(reading.method)
        self.processes = reading.processes
        self._most_processes = max(self._most_processes, reading.processes)
        self._worst = max(self._worst, pressure.level, key=LEVELS.index)
        self._mark_was_reset |= resets_mark
        self._see_mark(reading.high_water_bytes)
        self.peak_bytes = max(self.peak_bytes or 0, used_bytes, self._highest_mark_bytes)
        self.extent = extent = self._extent(used_bytes, pressure)
        self.rise = self._risen(extent, seconds)
        told = [alarm.look(extent, seconds) for alarm in self._thresholds]
        told.append(self._rise_alarm.look(extent, self.rise, seconds))
        alerts = [alert for alert in told if alert is not None]
        self._alerts += alerts
        self._alert_count += len(alerts)
        return alerts

    def report(self, name: str) -> MemoryReport:
        """Return all that was seen."""
        extent = self.extent or Extent(0)
        method: MemoryMethod | None = "mixed" if self._methods else None
        if len(self._methods) == 1:
            (method,) = self._methods
        return MemoryReport(
            name=name,
            started_at=self.started_at,
            duration_seconds=self.seconds,
            looks=self.looks,
            failed_looks=self.failed_looks,
            first_bytes=self._first_bytes,
            last_bytes=extent.used_bytes if self.looks else None,
            peak_bytes=self.peak_bytes,
            peak_method=self._peak_method(),
            average_bytes=round(self._sum_bytes / self.looks) if self.looks else None,
            method=method,
            processes=self._most_processes,
            limit_bytes=extent.limit_bytes,
            limit_used_bytes=extent.limit_used_bytes,
            limited_by=extent.limited_by,
            worst_pressure=self._worst,
            rise_bytes_per_second=self.rise.bytes_per_second if self.rise else None,
            seconds_left=self.rise.seconds_left if self.rise else None,
            alert_count=self._alert_count,
            alerts=tuple(self._alerts),
            samples=self._samples.samples(),
        )

    def _see_mark(self, mark_bytes: int | None) -> None:
        """Learn from the kernel's high-water mark of a level between two looks.

        At the first look it may be from before the start. One that is another than at the look
        before has been reached since: it was passed, or set back, and rose from there.
        """
        if mark_bytes is None:
            return
        if self._mark_bytes is not None and mark_bytes != self._mark_bytes:
            self._highest_mark_bytes = max(self._highest_mark_bytes, mark_bytes)
            self._mark_was_reset |= mark_bytes < self._mark_bytes
        self._mark_bytes = mark_bytes

    def _peak_method(self) -> Literal["hwm", "sampled"]:
        exact = self.peak_bytes is not None and self.peak_bytes == self._highest_mark_bytes
        return "hwm" if exact and not self._mark_was_reset else "sampled"

    def _extent(self, used_bytes: int, pressure: Pressure) -> Extent:
        left = [] if pressure.headroom_bytes is None else [pressure.headroom_bytes]
        if self._limit_bytes is None:
            return Extent(
                used_bytes,
                pressure.limit_bytes,
                pressure.used_bytes,
                pressure.limited_by,
                min(left, default=None),
            )
        left.append(max(0, self._limit_bytes - used_bytes))
        return Extent(used_bytes, self._limit_bytes, used_bytes, "limit", min(left))

    def _risen(self, extent: Extent, seconds: float) -> Rise | None:
        if self._forecast_seconds is None:
            return None
        self._watch.add(seconds, extent.used_bytes)
        if extent.left_bytes is None:
            return None
        return self._watch.rise(extent.left_bytes, horizon_seconds=self._forecast_seconds)
