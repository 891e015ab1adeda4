"""A lock that a fork may hold without keeping the child's threads."""

from __future__ import annotations

import os
import threading

__all__ = ["ForkLock"]


class ForkLock:
    """A reentrant lock that the thread which forks holds meanwhile.

    In the child nobody is in the midst of what it guards. Before any handler of ours runs there,
    others' may: the SDK's starts threads, and waits for them. They must not wait for this lock,
    which only the thread that waits for them could give back.
    """

    __slots__ = ("_lock", "_process_id")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        #: The process whose fork holds it.
        self._process_id: int | None = None

    def __enter__(self) -> None:
        if self._process_id is not None and self._process_id != os.getpid():
            self._lock, self._process_id = threading.RLock(), None
        self._lock.acquire()

    def __exit__(self, _kind: object, _error: object, _traceback: object) -> None:
        self._lock.release()

    def before_fork(self) -> None:
        """Hold it from here on."""
        self._lock.acquire()
        self._process_id = os.getpid()

    def after_fork_in_parent(self) -> None:
        """Let others have it."""
        self._process_id = None
        self._lock.release()
