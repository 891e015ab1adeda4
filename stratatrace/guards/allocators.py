"""What has allocated most, where tracemalloc is tracing."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any, cast

__all__ = ["top_allocators"]

_MOST = 5
# To list all traces takes more memory than they do, and what is exceeded already must not be pushed
# over the edge for it.
_MOST_TRACING_BYTES = 4 << 20
_OWN_FOLDER = str(Path(__file__).parents[1])


def top_allocators() -> tuple[tuple[str, int, int], ...]:
    """Return the lines that hold most memory: triples of file, line and bytes, the largest first.

    Nothing where tracemalloc does not trace, or where to find out would itself take too much.
    """
    if not tracemalloc.is_tracing() or tracemalloc.get_tracemalloc_memory() > _MOST_TRACING_BYTES:
        return ()
    held: Counter[tuple[str, int]] = Counter()
    try:
        # The bare tuples: an object for each would take five times as long.
        traces = cast("Any", tracemalloc.take_snapshot().traces)._traces  # noqa: SLF001
        for _domain, size, frames, *_ in traces:
            held[frames[0]] += size
    except MemoryError:
        return ()
    lines = ((*place, size) for place, size in held.most_common(_MOST * 4))
    return tuple(line for line in lines if not line[0].startswith(_OWN_FOLDER))[:_MOST]
