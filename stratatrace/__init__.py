"""The memory of any call, as OpenTelemetry spans and metrics."""

from __future__ import annotations

from stratatrace.configure import configure, shutdown
from stratatrace.errors import MemoryLimitExceeded, StratatraceError
from stratatrace.guards.limit import memory_limit
from stratatrace.guards.monitor import MemoryMonitor
from stratatrace.measurement import Measurement
from stratatrace.pressure import memory_pressure
from stratatrace.profile import measure, profile_memory
from stratatrace.propagation import propagate
from stratatrace.streams import (
    MappedFile,
    adaptive_chunks,
    adaptive_chunks_async,
    process_stream,
)
from stratatrace.version import __version__

__all__ = [
    "MappedFile",
    "Measurement",
    "MemoryLimitExceeded",
    "MemoryMonitor",
    "StratatraceError",
    "__version__",
    "adaptive_chunks",
    "adaptive_chunks_async",
    "configure",
    "measure",
    "memory_limit",
    "memory_pressure",
    "process_stream",
    "profile_memory",
    "propagate",
    "shutdown",
]
