"""Where memory numbers come from: one source a file, and the selection among them.

A probe reads; it neither knows windows nor telemetry.
"""

from __future__ import annotations

from stratatrace.errors import InvalidValueError
from stratatrace.probes.allocations import AllocationSampler
from stratatrace.probes.collector import CollectorProbe
from stratatrace.probes.native import (
    Leftovers,
    NativeProbe,
    advance,
    count_arrays,
    leftovers,
    native_obstacle,
)
from stratatrace.probes.resident import (
    RSS_PEAKS,
    HighWaterProbe,
    LifetimeProbe,
    ResidentProbe,
    SampledProbe,
    resident_probe,
)
from stratatrace.probes.tracing import TracemallocProbe

__all__ = [
    "HEAP_PROBES",
    "RSS_PEAKS",
    "AllocationSampler",
    "CollectorProbe",
    "HighWaterProbe",
    "Leftovers",
    "LifetimeProbe",
    "NativeProbe",
    "ResidentProbe",
    "SampledProbe",
    "TracemallocProbe",
    "advance",
    "count_arrays",
    "default_ratio",
    "heap_probe",
    "leftovers",
    "native_obstacle",
    "resident_probe",
]

#: What `configure(probe=)` accepts, and what each means.
HEAP_PROBES = {
    "auto": "native where it was built; else tracemalloc on 1 call in 100",
    "native": "each thread's own heap, by the compiled counters, on every call",
    "tracemalloc": "the standard library's tracing, on every call (or a share of them)",
    "rss": "no heap numbers at all: resident memory, time and garbage collection only",
}

# How many of the calls `auto` traces where it has to trace: that makes allocating code some ten
# times slower, so one call in a hundred costs about a tenth.
_TRACED_RATIO = 0.01


def heap_probe(name: str, *, always: bool = False) -> NativeProbe | TracemallocProbe | None:
    """Return the heap probe of that name, or None where the name says to measure no heap.

    Args:
        name: One of `HEAP_PROBES`.
        always: Whether tracemalloc runs between calls as well; native counting always does.

    Raises:
        InvalidValueError: There is no probe of that name, or not here.
    """
    if name not in HEAP_PROBES:
        msg = f"there is no probe {name!r}: choose one of {', '.join(map(repr, HEAP_PROBES))}"
        raise InvalidValueError(msg)
    obstacle = native_obstacle()
    if name == "native" and obstacle is not None:
        msg = f"there is no probe 'native' here: {obstacle}; 'auto' takes the best at hand"
        raise InvalidValueError(msg)
    if name == "rss":
        return None
    if name == "tracemalloc" or obstacle is not None:
        return TracemallocProbe(always=always)
    return NativeProbe()


def default_ratio(name: str) -> float:
    """Return the share of the calls whose heap a probe measures where nobody says."""
    return _TRACED_RATIO if name == "auto" and native_obstacle() is not None else 1.0
