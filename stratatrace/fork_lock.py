"""A lock that a fork may hold without keeping the child's threads."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

__all__ = ["ForkLock"]


class ForkLock:
    """A reentrant lock that the thread which forks holds meanwhile.

    In the child nobody is in the midst of what it guards. Before any handler of ours runs there,
    others' may: the SDK's starts threads, and waits for them. They must not wait for this lock,
    which only the thread that waits for them could give back.

    It is taken by ``with lock.here:``, of the interpreter's own lock: an exception that is thrown
    into a thread within a method of ours would leave it taken.
    """

    __slots__ = ("_lock", "_process_id")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        #: The process whose fork holds it.
        self._process_id: int | None = None

    @property
    def here(self) -> AbstractContextManager[bool]:
        """The lock of this process."""
        if self._process_id is not None and self._process_id != os.getpid():
            self._lock, self._process_id = threading.RLock(), None
        return self._lock

    def before_fork(self) -> None:
        """Hold it from here on."""
        self._lock.acquire()
        self._process_id = os.getpid()

    def after_fork_in_parent(self) -> None:
        """Let others have it."""
        self._process_id = None
        self._lock.release()
