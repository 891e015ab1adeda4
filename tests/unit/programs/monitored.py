"""Forks while a monitor runs; prints, as JSON, what parent and child have seen.

The parent has memory that it gives back before it forks, and a thread that looks. The child, which
has only a copy of the monitor, begins anew when the monitor is used.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import warnings
from typing import TYPE_CHECKING

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from stratatrace import MemoryMonitor
from stratatrace.config import Config
from stratatrace.recorder import Recorder, active

if TYPE_CHECKING:
    from stratatrace.guards.monitor_report import MemoryReport

# Python 3.12 warns of every fork beside a thread, and that is what is tried here.
warnings.filterwarnings("ignore", "This process", DeprecationWarning)

MIB = 2**20

reader = InMemoryMetricReader()
provider = MeterProvider([reader], shutdown_on_exit=False)


def counted_alerts() -> int:
    """Return how many alerts the metrics tell of."""
    data = reader.get_metrics_data()
    return sum(
        point.value  # type: ignore[union-attr, misc]
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "stratatrace.monitor.alerts"
        for point in metric.data.data_points
    )


def threads() -> list[str]:
    """Return the names of ours."""
    return [t.name for t in threading.enumerate() if t.name.startswith("stratatrace")]


def told(report: MemoryReport) -> dict[str, object]:
    """Return what can be compared."""
    return {
        "peak": round((report.peak_bytes or 0) / MIB),
        "alerts": report.alert_count,
        "looked": report.looks > 0,
        "pid": os.getpid(),
    }


def child(monitor: MemoryMonitor, write_to: int) -> None:
    """Use the monitor in the forked process, and tell the parent."""
    result: dict[str, object] = {"threads at first": threads(), "running": monitor.running}
    result["alerts at first"] = counted_alerts()
    result["threads when used"] = threads()
    result["report"] = told(monitor.report)
    result["stopped"] = told(monitor.stop())
    result["threads at last"] = threads()
    os.write(write_to, json.dumps(result).encode())
    os._exit(0)


def main() -> None:
    """Fork in the middle."""
    active.install(Recorder(Config(probe="rss", rss_peak="lifetime"), meter_provider=provider))
    monitor = MemoryMonitor(interval_seconds=0.01, alert_at=("200 MiB",)).start()
    kept = bytearray(b"x") * (256 * MIB)
    while not monitor.report.alert_count:
        pass
    del kept
    read_from, write_to = os.pipe()
    pid = os.fork()
    if not pid:
        child(monitor, write_to)
    os.close(write_to)
    with os.fdopen(read_from) as pipe:
        from_child = json.load(pipe)
    os.waitpid(pid, 0)
    alerts = counted_alerts()
    report = monitor.stop()
    active.install(None)
    json.dump({"child": from_child, "parent": {**told(report), "counted": alerts}}, sys.stdout)


if __name__ == "__main__":
    main()
