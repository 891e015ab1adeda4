"""What telemetry must say of the calls that a program made, by the project's contract.

Written out here and not taken from the package, so that a name that changes breaks a test.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["ATTRIBUTE_TYPES", "METRIC_SHAPES", "of_function", "peak_tolerance", "span_attributes"]

#: The numbers of a call as span attributes: the field that each carries, and its type on the wire.
_CARRIED: Mapping[str, tuple[str, type]] = {
    "stratatrace.heap.net": ("heap_net_bytes", int),
    "stratatrace.heap.peak": ("heap_peak_bytes", int),
    "stratatrace.heap.allocated": ("heap_allocated_bytes", int),
    "stratatrace.heap.allocations": ("heap_allocations", int),
    "stratatrace.rss.before": ("rss_before_bytes", int),
    "stratatrace.rss.net": ("rss_net_bytes", int),
    "stratatrace.rss.peak": ("rss_peak_bytes", int),
    "stratatrace.rss.peak_method": ("rss_peak_method", str),
    "stratatrace.gc.collections": ("gc_collections", int),
    "stratatrace.gc.reclaimed": ("gc_reclaimed_bytes", int),
    "stratatrace.efficiency.score": ("efficiency_score", float),
    "stratatrace.attribution": ("attribution", str),
    "stratatrace.probe": ("probe", str),
    "error.type": ("error_type", str),
}

#: Every attribute of ours and its type on the wire.
ATTRIBUTE_TYPES: Mapping[str, type] = {
    "code.function.name": str,
    "code.file.path": str,
    "code.line.number": int,
    "stratatrace.callsite": str,
    "stratatrace.budget": int,
    "stratatrace.budget.exceeded": bool,
    "stratatrace.gc.time": float,
    **{name: kind for name, (_, kind) in _CARRIED.items()},
}

#: Unit, kind of data, and whether a sum is monotonic, of every metric that each program causes.
METRIC_SHAPES: Mapping[str, tuple[str, str, bool | None]] = {
    "stratatrace.call.count": ("{call}", "Sum", True),
    "stratatrace.call.time": ("s", "Sum", True),
    "stratatrace.heap.net": ("By", "Sum", False),
    "stratatrace.heap.peak": ("By", "Gauge", None),
    "stratatrace.rss.peak": ("By", "Gauge", None),
    "stratatrace.efficiency.score": ("1", "Gauge", None),
    "stratatrace.call.heap.peak": ("By", "Histogram", None),
    "stratatrace.call.rss.peak": ("By", "Histogram", None),
}


def span_attributes(measurement: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes that carry a call's numbers; what was not measured is absent."""
    return {
        name: measurement[field]
        for name, (field, _) in _CARRIED.items()
        if measurement[field] is not None
    }


def of_function(measurements: Iterable[Mapping[str, Any]], name: str) -> list[Mapping[str, Any]]:
    """Return the measurements of the calls of one function, by the last part of its name."""
    return [m for m in measurements if m["function"].rpartition(".")[2] == name]


def peak_tolerance(size: int) -> float:
    """Return how far a heap peak may be from the size of what was built, in bytes."""
    return max(size * 0.01, 4096)
