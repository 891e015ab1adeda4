"""The heap probes that can be had here, the best first."""

from __future__ import annotations

from stratatrace.probes import native_obstacle

__all__ = ["PROBES"]

PROBES = ["tracemalloc"] if native_obstacle() is not None else ["native", "tracemalloc"]
