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

__all__ = ["live_bytes_source"]


def live_bytes_source() -> tuple[str, Callable[[], int]] | None:
    """Return a probe's name and what tells the live bytes; None where nothing counts.

    The native counters tell the calling thread's, tracemalloc the process's. Only the difference of
    two means something.
    """
    if native_obstacle() is None and _counters.is_counting():
        return "native", _native_bytes
    if tracemalloc.is_tracing():
        return "tracemalloc", _traced_bytes
    return None


def _native_bytes() -> int:
    allocated, _, freed, _ = _counters.counts()
    return allocated - freed


def _traced_bytes() -> int:
    return tracemalloc.get_traced_memory()[0]
