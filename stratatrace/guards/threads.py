"""Threads, told apart for good: the id of one that has ended is soon that of another.

An exception that is fired at an id must not end a thread that was started since.
"""

from __future__ import annotations

import threading
from weakref import ref

__all__ = ["Life", "life_of_this_thread"]


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
