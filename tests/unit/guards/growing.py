"""Ways to grow that end, should nobody end them.

They map new memory, and never take what an earlier test has left in the allocators.
"""

from __future__ import annotations

import ctypes
import mmap
import time

MB = 1_000_000
# What a test may take where a limit fails to hold.
MOST_MB = 400


def grow(megabytes: int = MOST_MB) -> list[mmap.mmap]:
    """Take memory in small steps, in Python code that can be interrupted anywhere."""
    kept: list[mmap.mmap] = []
    for _ in range(megabytes):
        take(kept, 1)
        time.sleep(0.001)  # Nobody promises how soon another thread gets its turn.
    return kept


def take(kept: list[mmap.mmap], megabytes: int) -> None:
    """Take memory at once, which is kept though this be interrupted."""
    kept.append(mmap.mmap(-1, megabytes * MB, flags=mmap.MAP_PRIVATE))
    # In one call, and with no copy: where this is interrupted, all of it is there.
    memory = ctypes.c_char.from_buffer(kept[-1])
    ctypes.memset(ctypes.addressof(memory), 1, megabytes * MB)


def linger(seconds: float = 5.0) -> None:
    """Stay for a while, in Python code that can be interrupted anywhere."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.001)
