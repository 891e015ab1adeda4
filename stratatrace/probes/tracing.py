"""The heap as the standard library's tracemalloc counts it.

It counts for the whole process: the memory of two threads cannot be told apart by it.
"""

from __future__ import annotations

import threading
import tracemalloc

from stratatrace.errors import ProbeError
from stratatrace.measurement import Reading

__all__ = ["TracemallocProbe"]


class TracemallocProbe:
    """Traces while at least one window needs it, or always.

    Only what is always traced can see that memory from before a call is freed in it.

    A tracing that somebody else started is used and never stopped or cleared; only its peak, which
    tracemalloc keeps once for the process, is reset by every mark.
    """

    name = "tracemalloc"

    def __init__(self, *, always: bool = False) -> None:
        self._always = always
        self._users = 0
        self._started_here = False
        self._lock = threading.RLock()

    def open(self) -> None:
        """Begin to trace for good, where that is wanted."""
        if self._always:
            self.start()

    def close(self) -> None:
        """End what `open` began."""
        if self._always:
            self.stop()

    def start(self) -> None:
        """Begin tracing, unless it is on already."""
        with self._lock:
            if not self._users and not tracemalloc.is_tracing():
                # One frame a trace: more would cost more and no number here would show it.
                tracemalloc.start(1)
                self._started_here = True
            self._users += 1

    def stop(self) -> None:
        """End tracing with its last user, if it was begun here."""
        with self._lock:
            self._users -= 1
            if not self._users and self._started_here:
                self._started_here = False
                tracemalloc.stop()

    def mark(self) -> Reading:
        """Return the traced bytes now and their highest since the last mark.

        Raises:
            ProbeError: Tracing was stopped by somebody else.
        """
        level_bytes, peak_bytes = tracemalloc.get_traced_memory()
        if not level_bytes and not tracemalloc.is_tracing():
            msg = "tracemalloc was stopped while a call was being measured"
            raise ProbeError(msg)
        tracemalloc.reset_peak()
        return Reading(level_bytes, peak_bytes)

    def after_fork_in_child(self) -> None:
        """Forget the parent's windows, and the tracing that was for them."""
        self._lock = threading.RLock()
        self._users = min(self._users, 1) if self._always else 0
        if self._started_here and not self._users:
            self._started_here = False
            tracemalloc.stop()
