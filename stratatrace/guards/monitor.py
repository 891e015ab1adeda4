"""`MemoryMonitor`: looks at memory in the background for as long as a job runs."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from typing import TYPE_CHECKING, Self

from stratatrace.errors import (
    AlreadyStartedError,
    InvalidTypeError,
    InvalidValueError,
    NotReadyError,
)
from stratatrace.guards.alerts import MemoryAlert, ThresholdAlarm, checked_thresholds
from stratatrace.guards.monitor_run import MonitorRun
from stratatrace.guards.rise import RiseWatch
from stratatrace.measurement import Callsite
from stratatrace.pressure import PressureThresholds
from stratatrace.pressure.sources import readings
from stratatrace.probes.processes import ProcessesProbe
from stratatrace.recorder import active
from stratatrace.sizes import parse_size
from stratatrace.telemetry import semconv
from stratatrace.telemetry.monitors import Observed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from stratatrace.guards.monitor_report import MemoryReport
    from stratatrace.telemetry.monitors import MonitorMetrics

__all__ = ["MemoryMonitor"]

_logger = logging.getLogger("stratatrace")
# A look at the proportional set of a large process takes long, and holds up its page faults: it may
# take this share of the time, and the looks are further apart where it would be more.
_LOOKING_RATIO = 0.02
_LEAST_SECONDS = 0.001
_MAX_AGE_SECONDS = 0.5
_LEAST_SAMPLES, _MOST_SAMPLES = 16, 1_000_000
_JOIN_SECONDS = 5.0
_DAY_SECONDS = 86400.0


class MemoryMonitor:
    """Looks at the memory of this process, or of its whole tree, until it is stopped.

    Start and stop it, or use it as a context manager; `report` has what it has seen, at any time.
    It looks from a thread of its own, a daemon, and never fails: what cannot be read is counted in
    the report. It may be started again after it was stopped.

    An alert is a warning in the log ("stratatrace"), a count in ``stratatrace.monitor.alerts``, an
    entry of the report, and a call of *on_alert*, which is called in the monitor's thread.

    All threads of the processes are in the numbers. In a forked child, a monitor that was running
    goes on with the child's own memory, from the child's first use of it.

    Args:
        name: What its numbers and alerts are known by.
        interval_seconds: The time between two looks. Where a look takes more than a fiftieth of
            it, the time is longer.
        children: Whether the processes that this one has started count, and theirs.
        limit: What the processes may use, in bytes or text; None for what control groups and the
            machine leave them. It is what alerts go by; nothing is enforced.
        alert_at: Shares of the limit, as floats, and sizes, as int or text, at which to alert. It
            is done again after use was 5% below.
        on_alert: What to call with each `MemoryAlert`.
        forecast_seconds: How far ahead to tell of the end, in seconds, where memory rises
            steadily; None for never.
        max_samples: How many samples the report has at most, 16 or more; an even number.
        process_metrics: Whether to tell what a single process uses as a metric, which
            OpenTelemetry's own instrumentation of the process does as well.

    Raises:
        InvalidTypeError: An argument is of the wrong type.
        InvalidValueError: An argument makes no sense.
    """

    def __init__(
        self,
        *,
        name: str = "default",
        interval_seconds: float = 1.0,
        children: bool = False,
        limit: int | str | None = None,
        alert_at: Iterable[float | str] = (0.8, 0.9),
        on_alert: Callable[[MemoryAlert], object] | None = None,
        forecast_seconds: float | None = _DAY_SECONDS,
        max_samples: int = 512,
        process_metrics: bool = False,
    ) -> None:
        if not isinstance(name, str):
            msg = f"name= is text, not {name!r}"
            raise InvalidTypeError(msg)
        if on_alert is not None and not callable(on_alert):
            msg = f"on_alert= is what can be called with a MemoryAlert, not {on_alert!r}"
            raise InvalidTypeError(msg)
        self.name = name
        self._interval_seconds = _checked_seconds("interval_seconds", interval_seconds)
        self._limit_bytes = None if limit is None else parse_size(limit)
        self._alert_at = checked_thresholds(alert_at)
        self._on_alert = on_alert
        if forecast_seconds is not None:
            _checked_seconds("forecast_seconds", forecast_seconds)
        self._forecast_seconds = forecast_seconds
        self._max_samples = _checked_samples(max_samples)
        self._children = children
        self._tells_use = children or process_metrics
        self._probe = ProcessesProbe(children=children)
        self._callsite = Callsite(name=name, function="stratatrace.MemoryMonitor", label=name)
        self._pause_seconds = self._interval_seconds
        self._running = False
        self._metrics: MonitorMetrics | None = None
        self._run: MonitorRun | None = None
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.RLock()

    @property
    def running(self) -> bool:
        """Whether it was started, and not stopped since."""
        return self._running

    @property
    def report(self) -> MemoryReport:
        """What was seen since the start, until now or until the stop.

        Raises:
            NotReadyError: It was never started.
        """
        with active.own_work():
            run = self._current()
        if run is None:
            msg = "this monitor has nothing to report: start() it, or use it in a with block"
            raise NotReadyError(msg)
        with self._lock:  # The report itself is the caller's, who may keep it.
            return run.report(self.name)

    def start(self) -> Self:
        """Begin to look; return the monitor.

        Raises:
            AlreadyStartedError: It is running.
        """
        with active.own_work():
            with self._lock:
                if self._running:
                    msg = f"the monitor {self.name!r} is running: stop() it, or make another one"
                    raise AlreadyStartedError(msg)
                self._running = True
                self._run = None
                _all_running.add(self)
            self._current()
            self._offer_gauges()
        return self

    def stop(self) -> MemoryReport:
        """Look once more, end looking, and return the report; a second time, return it again.

        Raises:
            NotReadyError: It was never started.
        """
        with active.own_work():
            run = self._current(threaded=False)
            if run is not None:
                self._end(run)
        if run is None:
            msg = "this monitor cannot be stopped: it was never started"
            raise NotReadyError(msg)
        with self._lock:
            return run.report(self.name)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def observed(self) -> Observed | None:
        """Return what the gauges tell; None where it is not running."""
        if not (self._running and active.enabled):
            return None
        run = self._current()
        with self._lock:
            if run is None or run.extent is None:
                return None
            extent, rise = run.extent, run.rise
            limit, used = extent.limit_bytes, extent.limit_used_bytes
            return Observed(
                name=self.name,
                used_bytes=extent.used_bytes if self._tells_use else None,
                peak_bytes=run.peak_bytes,
                processes=run.processes if self._children else None,
                limit_bytes=limit,
                utilization_ratio=used / limit if limit and used is not None else None,
                rise_bytes_per_second=rise.bytes_per_second if rise else None,
                seconds_left=rise.seconds_left if rise else None,
            )

    def _current(self, *, threaded: bool = True) -> MonitorRun | None:
        """Return the run, with a thread that looks where there should be one.

        There is none at the start, nor in a forked child, which begins a run of its own. The lock
        must not be held: a first look may have something to tell.

        Args:
            threaded: Whether to start it.
        """
        with self._lock:
            run, new = self._run, self._running and self._run is None
            if new:
                self._run = run = self._new_run()
        if run is not None and new:
            self._look(run)
        with self._lock:
            missing = self._running and self._thread is None and run is self._run
            if threaded and missing and run is not None:
                self._start_thread(run)
        return run

    def _end(self, run: MonitorRun) -> None:
        """End looking, where it has not ended already."""
        with self._lock:
            was_running, self._running = self._running, False
            thread, self._thread = self._thread, None
            self._done.set()
            _all_running.discard(self)
        if not was_running:
            return
        if self._metrics is not None:
            self._metrics.remove(self)
        if thread is not None and thread is not threading.current_thread():
            thread.join(_JOIN_SECONDS)  # Not for ever: it may be in a callback that waits.
        self._look(run)
        run.end()

    def _offer_gauges(self) -> None:
        try:
            self._metrics = active.monitor_metrics
            self._metrics.add(self)
        except Exception:
            readings.guard.caught(self._callsite, "offer gauges")

    def _new_run(self) -> MonitorRun:
        return MonitorRun(
            limit_bytes=self._limit_bytes,
            thresholds=[ThresholdAlarm(given) for given in self._alert_at],
            forecast_seconds=self._forecast_seconds,
            max_samples=self._max_samples,
            watch=RiseWatch(),
        )

    def _start_thread(self, run: MonitorRun) -> None:
        self._done = threading.Event()
        thread = threading.Thread(
            target=self._watch, args=(run, self._done), name="stratatrace-monitor", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # No more threads; it is tried again at the next use.
            readings.guard.caught(self._callsite, "start a thread")
        else:
            self._thread = thread

    def _watch(self, run: MonitorRun, done: threading.Event) -> None:
        while not done.wait(self._pause_seconds):
            if run is not self._run:
                return  # A callback has forked, and this is the child.
            self._look(run)

    def _look(self, run: MonitorRun) -> None:
        """Look once, and tell what there is to tell. Never raises."""
        began = time.perf_counter()
        alerts: list[MemoryAlert] = []
        try:
            # Nobody's account is held: this is mostly the monitor's own thread, and holding would
            # leave out what others, who are measured, take meanwhile.
            reading = self._probe.read()
            max_age_seconds = min(self._interval_seconds, _MAX_AGE_SECONDS)
            pressure = readings.read(_DEFAULTS, max_age_seconds, hold=False)
            resets = active.started and active.recorder.accounts.rss_peak_method == "hwm"
            with self._lock:
                alerts = run.add(reading, pressure, run.seconds, resets_mark=resets)
        except Exception:
            run.fail()
            readings.guard.caught(self._callsite, "look at memory")
        took_seconds = time.perf_counter() - began
        self._pause_seconds = max(self._interval_seconds, took_seconds / _LOOKING_RATIO)
        for alert in alerts:
            self._tell(alert)

    def _tell(self, alert: MemoryAlert) -> None:
        numbers = {
            semconv.MONITOR_NAME.name: self.name,
            semconv.MONITOR_ALERT.name: alert.kind,
            semconv.MONITOR_USED.name: alert.used_bytes,
            semconv.MONITOR_RISE.name: alert.bytes_per_second,
            semconv.MONITOR_TIME_LEFT.name: alert.seconds_left,
        }
        try:
            active.monitor_metrics.count_alert(self.name, alert.kind)
            _logger.warning(
                "memory monitor %r: %s",
                self.name,
                alert.text,
                extra={name: value for name, value in numbers.items() if value is not None},
            )
        except Exception:
            readings.guard.caught(self._callsite, "count and log an alert")
        if self._on_alert is not None:
            try:
                self._on_alert(alert)
            except Exception:
                readings.guard.caught(self._callsite, "hand over an alert")

    def _after_fork_in_child(self) -> None:
        self._lock = threading.RLock()
        self._thread = self._run = None


def _checked_seconds(option: str, seconds: float) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        msg = f"{option}= is a number of seconds, not {seconds!r}"
        raise InvalidTypeError(msg)
    if not (seconds >= _LEAST_SECONDS and math.isfinite(seconds)):
        msg = f"{option}= is {_LEAST_SECONDS:g} seconds or more, and {seconds!r} is not"
        raise InvalidValueError(msg)
    return float(seconds)


def _checked_samples(count: int) -> int:
    if isinstance(count, bool) or not isinstance(count, int):
        msg = f"max_samples= is an int, not {count!r}"
        raise InvalidTypeError(msg)
    if not _LEAST_SAMPLES <= count <= _MOST_SAMPLES or count % 2:
        msg = (
            f"max_samples= is an even number from {_LEAST_SAMPLES} to {_MOST_SAMPLES}, "
            f"and {count!r} is not"
        )
        raise InvalidValueError(msg)
    return count


def _after_fork_in_child() -> None:
    for monitor in _all_running:
        monitor._after_fork_in_child()  # noqa: SLF001 -- its own module


_DEFAULTS = PressureThresholds()
_all_running: set[MemoryMonitor] = set()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
