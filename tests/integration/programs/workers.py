"""Hands work to processes of its own, and exports from all of them.

``python workers.py START_METHOD`` prints, as JSON, the sizes that its workers took.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from stratatrace import configure, profile_memory, propagate

MIB = 2**20


@profile_memory(name="work")
def work(size: int) -> int:
    """Take so many bytes for a moment."""
    return len(bytearray(size))


@profile_memory(name="hand out")
def hand_out(start_method: str) -> list[int]:
    """Have workers do it."""
    sizes = [number * MIB for number in range(1, 6)]
    with ProcessPoolExecutor(2, mp_context=get_context(start_method)) as pool:
        return list(pool.map(propagate(work), sizes, timeout=60))


if __name__ == "__main__":
    configure(probe="tracemalloc")
    work(0)  # Whatever an exporter opens at its first use is open when workers are forked.
    json.dump(hand_out(sys.argv[1]), sys.stdout)
