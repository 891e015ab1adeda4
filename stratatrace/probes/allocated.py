"""What the whole process has allocated and not freed, as its allocators tell.

The interpreter knows how many small blocks, of 512 bytes at most, are in use. What is larger, and
what extensions allocate, comes from the C library, which knows its bytes where it is glibc.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["malloc_bytes_source", "small_blocks"]

#: Returns how many small blocks of the interpreter are in use, in all threads.
small_blocks: Callable[[], int] = sys.getallocatedblocks

_FIELDS = (
    *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
    *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
)


@lru_cache(maxsize=1)
def malloc_bytes_source() -> Callable[[], int] | None:
    """Return what tells the bytes in use of the C library; None where that does not tell."""
    import ctypes  # noqa: PLC0415 -- it is not cheap, and few ask

    class Mallinfo2(ctypes.Structure):
        _fields_ = [(name, ctypes.c_size_t) for name in _FIELDS]

    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2  # glibc 2.33
    except (AttributeError, OSError, TypeError):
        return None
    mallinfo2.restype = Mallinfo2

    def in_use() -> int:
        told = mallinfo2()
        return int(told.uordblks + told.hblkhd)

    return in_use
