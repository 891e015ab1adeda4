"""What has allocated most, where tracemalloc is tracing."""

from __future__ import annotations

import tracemalloc
from collections import Counter

__all__ = ["top_allocators"]

_MOST = 5
# A list of all traces takes about as much memory as tracing itself: not where memory is short.
_MOST_TRACING_BYTES = 256 << 20


def top_allocators() -> tuple[tuple[str, int, int], ...]:
    """Return the lines that hold most memory: triples of file, line and bytes, the largest first.

    Nothing where tracemalloc does not trace, or where to find out would itself take too much.
    """
    if not tracemalloc.is_tracing() or tracemalloc.get_tracemalloc_memory() > _MOST_TRACING_BYTES:
        return ()
    held: Counter[tuple[str, int]] = Counter()
    try:
        for trace in tracemalloc.take_snapshot().traces:
            frame = trace.traceback[-1]
            held[frame.filename, frame.lineno] += trace.size
    except MemoryError:
        return ()
    return tuple((file, line, size) for (file, line), size in held.most_common(_MOST))
