"""Threads: told apart for good, and counted.

The id of one that has ended is soon that of another: an exception that is fired at an id must not
end a thread that was started since.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from weakref import ref

__all__ = ["Life", "is_single_threaded", "life_of_this_thread"]

_MOST_LOOKS = 20
_LOOK_SECONDS = 0.001


class Life:
    """What ends with its thread."""

    __slots__ = ("__weakref__",)


class _Local(threading.local):
    def __init__(self) -> None:
        self.life = Life()


_local = _Local()


def life_of_this_thread() -> ref[Life]:
    """Return what leads to nothing once the calling thread has ended."""
    return ref(_local.life)


def is_single_threaded() -> bool:
    """Tell whether this process has one thread, those of C code included; False where unknown."""
    if sys.platform != "linux":
        return False
    try:
        for _ in range(_MOST_LOOKS):
            if len(list(Path("/proc/self/task").iterdir())) == 1:
                return True
            time.sleep(_LOOK_SECONDS)  # One that has ended is there for a moment more.
    except OSError:
        return False
    return False
