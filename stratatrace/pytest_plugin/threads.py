"""Threads that a test starts are charged to the test, and what it hands to others: see `following`.

That is for the probe that tells threads apart; the other counts them all.
"""

from __future__ import annotations

import concurrent.futures.thread
import sys
import threading
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

from stratatrace.following import HandedOver, follow_anyio, follow_executor
from stratatrace.patching import PatchTable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stratatrace.typing import HeapAccount

__all__ = ["following_threads"]

# Its threads live longer than what is handed to them, and so do those of every executor.
_ANYIO = "anyio._backends._asyncio"


@contextmanager
def following_threads(heap: HeapAccount | None) -> Iterator[None]:
    """Have threads that are started within the block charged to whoever starts them.

    What such a thread has taken is known when it ends, and so is what was handed to one that others
    have started.

    Args:
        heap: What charges; where it counts for the whole process, there is nothing to do.
    """
    if heap is None or not heap.probe.per_thread:
        yield
        return

    def hand_over(function: Any) -> Any:
        if not heap.charging or not callable(function):
            return function
        held = heap.hold()
        try:
            return HandedOver(function, heap)
        finally:
            heap.unhold(held)

    table = PatchTable()
    _follow_thread(heap, table)
    # It is imported here, or a test that is the first to use one would not be followed.
    follow_executor(concurrent.futures.thread, table, hand_over)
    if _ANYIO in sys.modules:
        follow_anyio(sys.modules[_ANYIO], table, hand_over)
    try:
        yield
    finally:
        table.undo()


def _follow_thread(heap: HeapAccount, table: PatchTable) -> None:
    original = threading.Thread.start

    @wraps(original)
    def start(self: threading.Thread) -> None:
        if table.open and heap.charging and "run" not in vars(self):
            held = heap.hold()
            try:
                vars(self)["run"] = _Followed(self, heap)
            finally:
                heap.unhold(held)
        original(self)

    table.replace(threading.Thread, "start", start)


class _Followed:
    """A thread's `run`, on a line of its own; gone as soon as it begins."""

    def __init__(self, thread: threading.Thread, heap: HeapAccount) -> None:
        self._thread = thread
        self._heap = heap
        self._line = heap.line()

    def __call__(self) -> None:
        thread = self._thread
        vars(thread).pop("run", None)
        self._heap.run(self._line, thread.run)
