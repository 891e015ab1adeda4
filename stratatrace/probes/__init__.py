"""Where memory numbers come from: one source a file, and the selection among them.

A probe reads; it neither knows windows nor telemetry.
"""

from __future__ import annotations

from stratatrace.errors import InvalidValueError
from stratatrace.probes.collector import CollectorProbe
from stratatrace.probes.resident import (
    RSS_PEAKS,
    HighWaterProbe,
    LifetimeProbe,
    SampledProbe,
    resident_probe,
)
from stratatrace.probes.tracing import TracemallocProbe

__all__ = [
    "HEAP_PROBES",
    "RSS_PEAKS",
    "CollectorProbe",
    "HighWaterProbe",
    "LifetimeProbe",
    "SampledProbe",
    "TracemallocProbe",
    "heap_probe",
    "resident_probe",
]

#: What `configure(probe=)` accepts, and what each means.
HEAP_PROBES = {
    "auto": "the best heap probe at hand, fit for production: tracemalloc on 1 call in 100",
    "tracemalloc": "the standard library's tracing, on every call (or a share of them)",
    "rss": "no heap numbers at all: resident memory, time and garbage collection only",
}


def heap_probe(name: str, *, always: bool = False) -> TracemallocProbe | None:
    """Return the heap probe of that name, or None where the name says to measure no heap.

    Args:
        name: One of `HEAP_PROBES`.
        always: Whether it runs between calls as well.

    Raises:
        InvalidValueError: There is no probe of that name.
    """
    if name not in HEAP_PROBES:
        msg = f"there is no probe {name!r}: choose one of {', '.join(map(repr, HEAP_PROBES))}"
        raise InvalidValueError(msg)
    return None if name == "rss" else TracemallocProbe(always=always)
