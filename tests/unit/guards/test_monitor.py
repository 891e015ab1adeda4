"""The monitor: its thread, its callbacks, its gauges, and what cannot be read."""

from __future__ import annotations

import logging
import mmap
import sys
import threading
import time
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from kernel_trees import Tree
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import stratatrace
from stratatrace import MemoryMonitor
from stratatrace.config import Config
from stratatrace.errors import (
    AlreadyStartedError,
    InvalidTypeError,
    InvalidValueError,
    NotReadyError,
)
from stratatrace.guards import monitor as module
from stratatrace.guards.rise import RiseWatch
from stratatrace.pressure.sources import readings
from stratatrace.probes.processes import ProcessesProbe, ProcessReading
from stratatrace.recorder import active
from stratatrace.testing import recording, under_pressure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stratatrace.guards.monitor_report import MemoryAlert, MemoryReport

MIB = 2**20
FAST = 0.005


class Source:
    """Memory in use as it is told to be."""

    def __init__(self, used: int = 100 * MIB) -> None:
        self.used = used
        self.error: Exception | None = None
        self.reads = 0

    def read(self) -> ProcessReading:
        self.reads += 1
        if self.error is not None:
            raise self.error
        return ProcessReading(self.used, 1, "rss")


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Source:
    """Have monitors read this, and every failure be named anew."""
    source = Source()
    monkeypatch.setattr(module, "ProcessesProbe", lambda **_: source)
    monkeypatch.setattr(readings.guard, "_named", set())
    return source


def _threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "stratatrace-monitor"]


def _until(true: Callable[[], object]) -> None:
    for _ in range(2000):
        if true():
            return
        time.sleep(0.005)
    pytest.fail("it did not come true")


@contextmanager
def _touched(size: int) -> Iterator[None]:
    """Use memory of the system for the length of the block."""
    with mmap.mmap(-1, size) as memory:
        for page in range(0, size, mmap.PAGESIZE):
            memory[page] = 1
        yield


@pytest.mark.parametrize("children", [False, True])
def test_memory_of_this_process(children: bool) -> None:
    """What it takes for some time is seen, with its peak, and what it gives back."""
    with MemoryMonitor(interval_seconds=FAST, children=children) as monitor:
        first = monitor.report.last_bytes
        assert first is not None
        with _touched(64 * MIB):
            _until(lambda: (monitor.report.last_bytes or 0) - first > 60 * MIB)
    report = monitor.report
    assert report.peak_bytes is not None
    assert report.average_bytes is not None
    assert report.last_bytes is not None
    assert report.peak_bytes - first >= 60 * MIB
    assert report.peak_bytes > report.last_bytes + 50 * MIB
    assert first - 4 * MIB < report.average_bytes < report.peak_bytes
    assert report.processes >= 1
    assert report.limit_bytes is not None


@pytest.mark.skipif(sys.platform != "linux", reason="by the kernel's high-water mark")
def test_a_spike_between_two_looks() -> None:
    """Is known from the kernel's mark, where it is the highest that the process has been."""
    if ProcessesProbe().read().high_water_bytes is None:
        pytest.skip("there is no high-water mark here")
    with MemoryMonitor(interval_seconds=3600) as monitor:
        mark = ProcessesProbe().read().high_water_bytes or 0
        now = ProcessesProbe().read().used_bytes
        size = mark - now + 64 * MIB
        with _touched(size):
            pass
    report = monitor.report
    assert report.looks == 2
    assert report.peak_bytes is not None
    assert report.peak_bytes == pytest.approx(now + size, abs=8 * MIB)
    assert report.peak_method == "hwm"


def test_a_peak_is_not_called_exact_beside_measured_calls(source: Source) -> None:
    """They set the kernel's mark back."""
    with recording(Config(probe="rss")) as sink:
        stratatrace.measure(lambda: None)
        if sink.last.rss_peak_method != "hwm":
            pytest.skip("the mark cannot be set back here")
        marks = iter([100, 500, 500])
        source.read = lambda: ProcessReading(1, 1, "rss", next(marks))  # type: ignore[method-assign]
        with MemoryMonitor(interval_seconds=3600) as monitor:
            pass
    assert (monitor.report.peak_bytes, monitor.report.peak_method) == (500, "sampled")


def test_its_thread(source: Source) -> None:
    """Is a daemon with a name, and gone after the stop."""
    monitor = MemoryMonitor(interval_seconds=FAST)
    assert not monitor.running
    assert monitor.start() is monitor
    assert monitor.running
    (thread,) = _threads()
    assert thread.daemon
    _until(lambda: source.reads > 5)
    monitor.stop()
    assert not monitor.running
    assert not _threads()


def test_started_twice(source: Source) -> None:
    """Raises, and the first goes on."""
    monitor = MemoryMonitor(name="import").start()
    with pytest.raises(AlreadyStartedError, match="the monitor 'import' is running: stop"):
        monitor.start()
    assert isinstance(AlreadyStartedError(), RuntimeError)
    assert monitor.running
    assert len(_threads()) == 1
    monitor.stop()


def test_stopped_unstarted() -> None:
    """Raises, and so does its report."""
    with pytest.raises(NotReadyError, match="never started"):
        MemoryMonitor().stop()
    with pytest.raises(NotReadyError, match=r"start\(\) it"):
        _ = MemoryMonitor().report


def test_stopped_twice(source: Source) -> None:
    """Returns the same report: nothing is lost to who stops within a block."""
    with MemoryMonitor(interval_seconds=3600) as monitor:
        first = monitor.stop()
    assert monitor.stop() == monitor.report == first
    assert first.looks == 2  # At the start and at the stop.


def test_started_again(source: Source) -> None:
    """Begins anew."""
    monitor = MemoryMonitor(interval_seconds=3600, alert_at=("50 MiB",))
    with monitor:
        pass
    source.used = 70 * MIB
    with monitor:
        pass
    assert monitor.report.first_bytes == 70 * MIB
    assert (monitor.report.looks, monitor.report.alert_count) == (2, 1)


def test_an_exception_passes_through(source: Source) -> None:
    """And the report is there."""
    error = ValueError()
    with pytest.raises(ValueError) as caught, MemoryMonitor() as monitor:  # noqa: PT011
        raise error
    assert caught.value is error
    assert monitor.report.looks == 2
    assert not monitor.running


def test_alerts(source: Source, caplog: pytest.LogCaptureFixture) -> None:
    """Are called back, logged with their numbers, counted and reported."""
    told: list[tuple[MemoryAlert, str]] = []
    monitor = MemoryMonitor(
        name="import",
        interval_seconds=FAST,
        alert_at=("150 MiB",),
        on_alert=lambda alert: told.append((alert, threading.current_thread().name)),
    )
    with monitor:
        source.used = 160 * MIB
        _until(lambda: told)
        reads = source.reads
        _until(lambda: source.reads > reads + 3)
    ((alert, thread),) = told
    assert thread == "stratatrace-monitor"
    assert monitor.report.alerts == (alert,)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("stratatrace", logging.WARNING)
    assert record.getMessage() == f"memory monitor 'import': {alert.text}"
    assert vars(record)["stratatrace.monitor.name"] == "import"
    assert vars(record)["stratatrace.monitor.alert"] == "threshold"
    assert vars(record)["stratatrace.monitor.used"] == 160 * MIB


def test_a_callback_that_raises(source: Source, caplog: pytest.LogCaptureFixture) -> None:
    """Is logged once and counted, and looking goes on."""

    def broken(_: MemoryAlert) -> None:
        raise ValueError

    failures = readings.guard.failures
    with MemoryMonitor(interval_seconds=FAST, alert_at=(1,), on_alert=broken) as monitor:
        _until(lambda: source.reads > 5)
    assert monitor.report.failed_looks == 0
    assert monitor.report.alert_count == 1
    assert readings.guard.failures == failures + 1
    assert "could not hand over an alert for stratatrace.MemoryMonitor" in caplog.text


def test_a_callback_stops_the_monitor(source: Source) -> None:
    """From the monitor's own thread, which then ends."""
    stopped: list[MemoryReport] = []
    monitor = MemoryMonitor(
        interval_seconds=FAST,
        alert_at=("150 MiB",),
        on_alert=lambda _: stopped.append(monitor.stop()),
    ).start()
    (thread,) = _threads()
    source.used = 160 * MIB
    thread.join(10)
    assert not thread.is_alive()
    assert len(stopped) == 1
    assert not monitor.running


def test_a_steady_rise_is_told_of_long_before_the_end(
    source: Source, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In the log, to the callback, and by a gauge; here, within a second in place of minutes."""
    monkeypatch.setattr(module, "RiseWatch", partial(RiseWatch, 0.5))
    began = time.monotonic()
    rate, limit = 100 * MIB, 2000 * MIB

    def read() -> ProcessReading:
        return ProcessReading(100 * MIB + round((time.monotonic() - began) * rate), 1, "rss")

    source.read = read  # type: ignore[method-assign]
    told: list[MemoryAlert] = []
    seen: list[float | None] = []

    def on_alert(alert: MemoryAlert) -> None:
        told.append(alert)
        observed = monitor.observed()
        seen.append(observed.seconds_left if observed else None)

    monitor = MemoryMonitor(interval_seconds=FAST, limit=limit, alert_at=(), on_alert=on_alert)
    with monitor:
        _until(lambda: told)
    (alert,) = monitor.report.alerts
    assert alert.kind == "rise"
    assert alert.bytes_per_second == pytest.approx(rate, rel=0.3)
    assert alert.used_bytes < limit
    assert alert.seconds_left is not None
    assert alert.seconds_left == pytest.approx((limit - alert.used_bytes) / rate, rel=0.3)
    assert seen == [alert.seconds_left]
    assert "at this rate, out of memory in" in caplog.text
    (record,) = caplog.records
    assert vars(record)["stratatrace.monitor.time_left"] == alert.seconds_left
    assert vars(record)["stratatrace.monitor.rise"] == alert.bytes_per_second


def test_telemetry_that_fails(
    source: Source, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Takes neither the looks nor the callback with it."""

    def broken(_self: object) -> None:
        raise ValueError

    monkeypatch.setattr(type(active), "monitor_metrics", property(broken))
    failures = readings.guard.failures
    told: list[MemoryAlert] = []
    with MemoryMonitor(interval_seconds=3600, alert_at=(1,), on_alert=told.append) as monitor:
        pass
    assert monitor.report.looks == 2
    assert len(told) == 1
    assert readings.guard.failures == failures + 2
    assert "could not count and log an alert" in caplog.text


def test_what_cannot_be_read(source: Source, caplog: pytest.LogCaptureFixture) -> None:
    """Is counted and logged once; what was seen before and after is kept."""
    with MemoryMonitor(interval_seconds=FAST) as monitor:
        source.error = OSError("gone")
        _until(lambda: monitor.report.failed_looks > 3)
        source.error = None
        _until(lambda: source.reads > monitor.report.failed_looks + 3)
    report = monitor.report
    assert report.looks + report.failed_looks == source.reads
    assert report.looks >= 3
    assert report.last_bytes == 100 * MIB
    assert len(caplog.records) == 1
    assert "could not look at memory" in caplog.text


def test_without_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to see, and no error."""
    monkeypatch.setattr(
        module, "ProcessesProbe", lambda **_: ProcessesProbe(root=Tree(tmp_path).root)
    )
    with MemoryMonitor(interval_seconds=FAST) as monitor:
        _until(lambda: monitor.report.failed_looks > 2)
    assert monitor.report.peak_bytes is None
    assert "nothing could be seen" in str(monitor.report)


def test_no_thread_can_be_started(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """The looks at start and stop are made, and it is tried again at the next use."""
    monitor = MemoryMonitor(interval_seconds=FAST)
    with monkeypatch.context() as patched:

        def refused(_self: threading.Thread) -> None:
            raise RuntimeError

        patched.setattr(threading.Thread, "start", refused)
        monitor.start()
    assert not _threads()
    assert monitor.report.looks == 1
    assert len(_threads()) == 1
    assert monitor.stop().looks >= 2


def test_a_long_look_makes_looks_rarer(source: Source) -> None:
    """A look takes a fiftieth of the time at most."""

    def slow() -> ProcessReading:
        time.sleep(0.05)
        return ProcessReading(1, 1, "rss")

    source.read = slow  # type: ignore[method-assign]
    monitor = MemoryMonitor(interval_seconds=FAST)
    with monitor:
        assert monitor._pause_seconds >= 0.05 * 50


def test_the_limits_and_the_pressure_around(source: Source) -> None:
    """Are in the report, and their alerts."""
    with under_pressure("critical"), MemoryMonitor(interval_seconds=3600) as monitor:
        pass
    report = monitor.report
    assert report.worst_pressure == "critical"
    assert (report.limited_by, report.limit_used_bytes) == ("machine", 900 * MIB)
    assert [alert.threshold for alert in report.alerts] == [0.8, 0.9]


def test_gauges_while_it_runs(source: Source) -> None:
    """They are told to whom calls are told to; a single process's use, where that is asked for."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)

    def told() -> dict[str, list[float]]:
        data = reader.get_metrics_data()
        metrics = data.resource_metrics[0].scope_metrics[0].metrics if data else ()
        return {
            m.name.removeprefix("stratatrace.monitor."): [
                point.value  # type: ignore[union-attr]
                for point in m.data.data_points
            ]
            for m in metrics
            if m.name.startswith("stratatrace.monitor.")
        }

    with recording(Config(probe="rss"), meter_provider=provider):
        with MemoryMonitor(interval_seconds=3600, limit="200 MiB", alert_at=(0.5,)):
            assert told() == {
                "peak": [100 * MIB],
                "limit": [200 * MIB],
                "utilization": [0.5],
                "alerts": [1],
            }
            active.enabled = False
            assert told() == {"alerts": [1]}
            active.enabled = True
        assert told() == {"alerts": [1]}
        assert active.monitor_metrics._monitors == []
        with MemoryMonitor(interval_seconds=3600, process_metrics=True):
            assert told()["used"] == [100 * MIB]
        with MemoryMonitor(interval_seconds=3600, children=True):
            assert told()["used"] == [100 * MIB]
            assert told()["processes"] == [1]
    provider.shutdown()


def test_a_recorder_is_not_made_for_it(source: Source) -> None:
    """To look at memory, calls need not be measured."""
    with MemoryMonitor(interval_seconds=3600):
        assert not active.started


def test_its_thread_holds_no_account(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """By tracemalloc that would leave out what a measured call of another thread takes."""
    held: list[str] = []

    def own_work() -> nullcontext[None]:
        held.append(threading.current_thread().name)
        return nullcontext()

    monkeypatch.setattr(readings, "own_work", own_work)
    with MemoryMonitor(interval_seconds=FAST):
        readings.forget()
        _until(lambda: source.reads > 5)
    assert held == []


def test_a_measured_call_is_not_charged() -> None:
    """What a monitor keeps is ours, when it is started and stopped within a call."""
    monitor = MemoryMonitor(interval_seconds=3600)
    with monitor:  # What is imported or kept for the first time.
        pass
    with recording(Config(probe="tracemalloc")):

        def monitored() -> None:
            monitor.start()
            monitor.stop()

        stratatrace.measure(monitored)
        _, second = stratatrace.measure(monitored)
    # The samples alone take 20 kB.
    assert second.heap_net_bytes == pytest.approx(0, abs=1000)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"name": 5}, InvalidTypeError),
        ({"interval_seconds": "1"}, InvalidTypeError),
        ({"interval_seconds": True}, InvalidTypeError),
        ({"interval_seconds": 0}, InvalidValueError),
        ({"interval_seconds": -1}, InvalidValueError),
        ({"interval_seconds": float("inf")}, InvalidValueError),
        ({"interval_seconds": float("nan")}, InvalidValueError),
        ({"limit": 0}, InvalidValueError),
        ({"limit": -5}, InvalidValueError),
        ({"limit": "much"}, InvalidValueError),
        ({"limit": 0.5}, InvalidTypeError),
        ({"alert_at": 0.5}, InvalidTypeError),
        ({"alert_at": [2.0]}, InvalidValueError),
        ({"on_alert": "print"}, InvalidTypeError),
        ({"forecast_seconds": 0}, InvalidValueError),
        ({"forecast_seconds": "day"}, InvalidTypeError),
        ({"max_samples": 3.5}, InvalidTypeError),
        ({"max_samples": 8}, InvalidValueError),
        ({"max_samples": 17}, InvalidValueError),
        ({"max_samples": 10**9}, InvalidValueError),
    ],
)
def test_misuse_raises(options: dict[str, Any], error: type[Exception]) -> None:
    """At once, and nothing is started."""
    with pytest.raises(error):
        MemoryMonitor(**options)
    assert not _threads()
