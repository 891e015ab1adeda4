"""The heap that is alive now, by whatever counts it at the moment; starts and marks nothing."""

from __future__ import annotations

import contextlib
import tracemalloc
from typing import TYPE_CHECKING

from stratatrace.probes.native import native_obstacle

with contextlib.suppress(ImportError):  # `native_obstacle` says so.
    from stratatrace.probes import _counters

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["live_bytes_by", "live_bytes_source"]


def live_bytes_source() -> tuple[str, Callable[[], int]] | None:
    """Return a probe's name and what tells the live bytes; None where nothing counts.

    The native counters tell the calling thread's, tracemalloc the process's. Only the difference of
    two means something.
    """
    for name in ("native", "tracemalloc"):
        source = live_bytes_by(name)
        if source is not None:
            return name, source
    return None


def live_bytes_by(name: str) -> Callable[[], int] | None:
    """Return what tells the live bytes by that probe; None where it counts nothing now."""
    if name == "native" and native_obstacle() is None and _counters.is_counting():
        return _native_bytes
    return _traced_bytes if name == "tracemalloc" and tracemalloc.is_tracing() else None


def _native_bytes() -> int:
    allocated, _, freed, _ = _counters.counts()
    return allocated - freed


def _traced_bytes() -> int:
    return tracemalloc.get_traced_memory()[0]
