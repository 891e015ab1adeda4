"""A run: what the looks of a monitor come to. The looks are made up here."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest

from stratatrace.guards.alerts import ThresholdAlarm
from stratatrace.guards.monitor_report import MemoryReport
from stratatrace.guards.monitor_run import MonitorRun
from stratatrace.guards.rise import RiseWatch
from stratatrace.pressure import Pressure
from stratatrace.probes.processes import MemoryMethod, ProcessReading

MIB = 2**20
CALM = Pressure(level="normal")


def _run(**options: Any) -> MonitorRun:
    return MonitorRun(
        **{
            "limit_bytes": None,
            "thresholds": [],
            "forecast_seconds": 86400.0,
            "max_samples": 16,
            "watch": RiseWatch(),
            **options,
        }
    )


def _reading(
    used: int, *, mark: int | None = None, method: MemoryMethod = "rss", processes: int = 1
) -> ProcessReading:
    return ProcessReading(used, processes, method, mark)


def _seen(
    *looks: ProcessReading, run: MonitorRun | None = None, pressure: Pressure = CALM
) -> MemoryReport:
    run = run or _run()
    for second, look in enumerate(looks):
        run.add(look, pressure, float(second), resets_mark=False)
    return run.report("job")


def test_levels() -> None:
    """First, last, highest and mean."""
    report = _seen(*map(_reading, [100, 400, 250]))
    assert (report.first_bytes, report.last_bytes, report.growth_bytes) == (100, 250, 150)
    assert (report.peak_bytes, report.peak_method) == (400, "sampled")
    assert report.average_bytes == 250
    assert report.looks == 3
    assert [sample.highest_bytes for sample in report.samples] == [100, 400, 250]


@pytest.mark.parametrize(
    ("looks", "peak", "method"),
    [
        # A mark from before the start says nothing.
        ([(100, 900), (120, 900)], 120, "sampled"),
        # One that moves has been reached since the start, between two looks.
        ([(100, 100), (120, 500)], 500, "hwm"),
        ([(100, 900), (120, 950), (90, 950)], 950, "hwm"),
        # One that falls was set back: it is of the time since, and others may have been missed.
        ([(100, 900), (120, 300)], 300, "sampled"),
        ([(100, 100), (120, 500), (120, 130), (120, 700)], 700, "sampled"),
        ([(100, None), (300, None)], 300, "sampled"),
    ],
)
def test_the_kernels_high_water_mark(
    looks: list[tuple[int, int | None]], peak: int, method: str
) -> None:
    """Tells what no look has seen."""
    report = _seen(*(_reading(used, mark=mark) for used, mark in looks))
    assert (report.peak_bytes, report.peak_method) == (peak, method)


def test_a_mark_that_we_set_back_ourselves() -> None:
    """May miss a peak, and is not called exact."""
    run = _run()
    for second, mark in enumerate([100, 500]):
        run.add(_reading(100, mark=mark), CALM, float(second), resets_mark=second == 0)
    assert run.report("job").peak_method == "sampled"


@pytest.mark.parametrize(
    ("methods", "expected"),
    [(["pss", "pss"], "pss"), (["rss"], "rss"), (["pss", "rss"], "mixed"), (["mixed"], "mixed")],
)
def test_the_method_is_that_of_all_looks(methods: list[MemoryMethod], expected: str) -> None:
    """Or it is mixed."""
    assert _seen(*(_reading(1, method=method) for method in methods)).method == expected


def test_the_most_processes_at_once() -> None:
    """And not those of the last look."""
    assert _seen(*(_reading(1, processes=count) for count in (1, 5, 2))).processes == 5


def test_the_limit_around() -> None:
    """Where the monitor has none of its own."""
    pressure = Pressure(
        level="warning", used_bytes=850, limit_bytes=1000, limited_by="cgroup /", headroom_bytes=150
    )
    report = _seen(_reading(10), pressure=pressure)
    assert (report.limit_bytes, report.limit_used_bytes) == (1000, 850)
    assert report.limited_by == "cgroup /"
    assert report.worst_pressure == "warning"


def test_a_limit_of_its_own() -> None:
    """Is of what the processes use; of what is left, the least counts."""
    pressure = Pressure(level="normal", headroom_bytes=30)
    run = _run(limit_bytes=100, thresholds=[ThresholdAlarm(0.5)])
    assert run.add(_reading(40), pressure, 0.0, resets_mark=False) == []
    assert run.extent is not None
    assert run.extent.left_bytes == 30
    (alert,) = run.add(_reading(90), pressure, 1.0, resets_mark=False)
    assert alert.text.startswith("90% of the memory of limit is in use")
    assert run.extent.left_bytes == 10
    run.add(_reading(120), pressure, 2.0, resets_mark=False)
    assert run.extent.left_bytes == 0
    assert run.report("job").limited_by == "limit"


def test_the_worst_pressure_is_kept() -> None:
    """After it has gone."""
    run = _run()
    for level in ("normal", "critical", "warning"):
        run.add(_reading(1), Pressure(level=level), 0.0, resets_mark=False)
    assert run.report("job").worst_pressure == "critical"


def test_a_slow_rise_is_told_of_long_before_the_limit() -> None:
    """With the time that is left; the report and the run have it while it goes on."""
    run = _run(limit_bytes=8000 * MIB, max_samples=32)
    alerts = []
    for second in range(0, 4800, 2):
        alerts += run.add(_reading((1000 + second) * MIB), CALM, float(second), resets_mark=False)
    assert [alert.kind for alert in alerts] == ["rise", "rise"]
    first = alerts[0]
    assert first.seconds < 7000 / 4
    assert first.seconds_left == pytest.approx(7000 - first.seconds, rel=0.05)
    assert "at this rate, out of memory in 2 hours: " in first.text
    assert "60.0 MiB more each minute" in first.text
    report = run.report("job")
    assert report.alerts == tuple(alerts)
    assert report.rise_bytes_per_second == pytest.approx(MIB, rel=0.01)
    assert report.seconds_left == pytest.approx(2200, rel=0.05)


def test_no_forecast() -> None:
    """Where it is not wanted, or nothing is known of a limit."""
    for run in (_run(forecast_seconds=None, limit_bytes=8000 * MIB), _run()):
        alerts = []
        for second in range(0, 3600, 4):
            alerts += run.add(
                _reading((1000 + second) * MIB), CALM, float(second), resets_mark=False
            )
        assert alerts == []
        assert run.report("job").seconds_left is None


def test_alerts_are_bounded() -> None:
    """The latest are kept, and all are counted."""
    run = _run(thresholds=[ThresholdAlarm(100)])
    for second in range(500):
        run.add(_reading(100 if second % 2 else 1), CALM, float(second), resets_mark=False)
    report = run.report("job")
    assert report.alert_count == 250
    assert len(report.alerts) == 100
    assert report.alerts[-1].seconds == 499


def test_nothing_was_seen() -> None:
    """Numbers are None, and the text says so."""
    run = _run()
    run.fail()
    run.fail()
    run.end()
    report = run.report("job")
    assert (report.looks, report.failed_looks) == (0, 2)
    for name in ("first_bytes", "last_bytes", "growth_bytes", "peak_bytes", "average_bytes"):
        assert getattr(report, name) is None
    assert (report.method, report.samples, report.limit_bytes) == (None, (), None)
    assert str(report).splitlines()[1:] == [
        "  nothing could be seen",
        "  failed   2 looks",
        "  pressure normal at worst",
    ]


def test_the_clock_stands_still_at_the_end() -> None:
    """A report is the same however late it is asked for."""
    run = _run()
    run.end()
    assert run.report("job") == run.report("job")


def test_for_people_and_for_machines() -> None:
    """The text has the numbers, the dictionary every field."""
    run = _run(limit_bytes=100 * MIB, thresholds=[ThresholdAlarm("70 MiB")])
    report = _seen(
        _reading(20 * MIB, method="pss", processes=2),
        _reading(80 * MIB, method="pss"),
        _reading(50 * MIB, method="pss"),
        run=run,
    )
    text = str(report).splitlines()
    assert text[0].startswith("memory of 'job' over ")
    assert text[0].endswith(" s, 3 looks")
    assert text[1:] == [
        "  peak     80.0 MiB or more",
        "  average  50.0 MiB",
        "  growth   +30.0 MiB",
        "  as       PSS of 2 processes",
        "  limit    100.0 MiB (limit), 50.0 MiB in use",
        "  pressure normal at worst",
        "  alert    after 1 second: 80.0 MiB are in use, and the threshold is 70.0 MiB",
    ]
    told = json.loads(json.dumps(report.to_dict()))
    assert set(told) == {field.name for field in fields(MemoryReport)} | {"growth_bytes"}
    assert told["alerts"][0]["kind"] == "threshold"
    assert told["samples"][1] == {
        "seconds": 1.0,
        "average_bytes": 80 * MIB,
        "lowest_bytes": 80 * MIB,
        "highest_bytes": 80 * MIB,
        "looks": 1,
    }


def test_an_exact_peak_in_words() -> None:
    """Has no "or more"."""
    report = _seen(_reading(MIB, mark=MIB), _reading(MIB, mark=3 * MIB))
    assert "  peak     3.0 MiB" in str(report).splitlines()
