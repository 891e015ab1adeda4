"""The memory of any call, as OpenTelemetry spans and metrics.

PYTEST_DONT_REWRITE: pytest would warn where this was imported before it, which is no mistake.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from stratatrace.configure import configure, shutdown
from stratatrace.errors import MemoryLimitExceeded, StratatraceError
from stratatrace.measurement import Measurement
from stratatrace.pressure import memory_pressure
from stratatrace.profile import measure, profile_memory
from stratatrace.propagation import propagate
from stratatrace.recorder import active as _active
from stratatrace.version import __version__

if TYPE_CHECKING:
    from stratatrace.diagnose.cycle_breaking import break_cycles
    from stratatrace.diagnose.cycle_report import CycleReport
    from stratatrace.diagnose.cycles import find_cycles
    from stratatrace.diagnose.growth import track_growth
    from stratatrace.diagnose.growth_report import GrowthReport
    from stratatrace.diagnose.leak_loop import watch_leaks
    from stratatrace.diagnose.leak_report import LeakReport
    from stratatrace.diagnose.leak_watch import LeakWatch
    from stratatrace.diagnose.leaks import find_leaks, find_leaks_async
    from stratatrace.guards.limit import memory_limit
    from stratatrace.guards.monitor import MemoryMonitor
    from stratatrace.processor import MemorySpanProcessor
    from stratatrace.reuse.cache_bounded import BoundedCache
    from stratatrace.reuse.cache_decorator import cached
    from stratatrace.reuse.cache_weak import WeakCache
    from stratatrace.reuse.lazy import lazy
    from stratatrace.reuse.pool import MemoryPool
    from stratatrace.reuse.pooled import pooled
    from stratatrace.reuse.store import CompressedStore
    from stratatrace.streams import (
        MappedFile,
        adaptive_chunks,
        adaptive_chunks_async,
        process_stream,
    )

__all__ = [
    "BoundedCache",
    "CompressedStore",
    "CycleReport",
    "GrowthReport",
    "LeakReport",
    "LeakWatch",
    "MappedFile",
    "Measurement",
    "MemoryLimitExceeded",
    "MemoryMonitor",
    "MemoryPool",
    "MemorySpanProcessor",
    "StratatraceError",
    "WeakCache",
    "__version__",
    "adaptive_chunks",
    "adaptive_chunks_async",
    "break_cycles",
    "cached",
    "configure",
    "find_cycles",
    "find_leaks",
    "find_leaks_async",
    "lazy",
    "measure",
    "memory_limit",
    "memory_pressure",
    "pooled",
    "process_stream",
    "profile_memory",
    "propagate",
    "shutdown",
    "track_growth",
    "watch_leaks",
]

# The rooms beside the measuring are imported when they are first asked for: who only measures does
# not pay for them.
_ROOMS = {
    "BoundedCache": "stratatrace.reuse.cache_bounded",
    "CompressedStore": "stratatrace.reuse.store",
    "CycleReport": "stratatrace.diagnose.cycle_report",
    "GrowthReport": "stratatrace.diagnose.growth_report",
    "LeakReport": "stratatrace.diagnose.leak_report",
    "LeakWatch": "stratatrace.diagnose.leak_watch",
    "MappedFile": "stratatrace.streams",
    "MemoryMonitor": "stratatrace.guards.monitor",
    "MemoryPool": "stratatrace.reuse.pool",
    "MemorySpanProcessor": "stratatrace.processor",
    "WeakCache": "stratatrace.reuse.cache_weak",
    "adaptive_chunks": "stratatrace.streams",
    "adaptive_chunks_async": "stratatrace.streams",
    "break_cycles": "stratatrace.diagnose.cycle_breaking",
    "cached": "stratatrace.reuse.cache_decorator",
    "find_cycles": "stratatrace.diagnose.cycles",
    "find_leaks": "stratatrace.diagnose.leaks",
    "find_leaks_async": "stratatrace.diagnose.leaks",
    "lazy": "stratatrace.reuse.lazy",
    "memory_limit": "stratatrace.guards.limit",
    "pooled": "stratatrace.reuse.pooled",
    "process_stream": "stratatrace.streams",
    "track_growth": "stratatrace.diagnose.growth",
    "watch_leaks": "stratatrace.diagnose.leak_loop",
}

if not TYPE_CHECKING:  # To a type checker no other names are there.

    def __getattr__(name: str) -> object:
        if name not in _ROOMS:
            msg = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(msg)
        with _active.own_work():
            found: object = getattr(import_module(_ROOMS[name]), name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
