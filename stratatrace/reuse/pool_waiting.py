"""Those who wait for an object of a pool: threads, and tasks of an event loop."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stratatrace.reuse.pool_slots import Slot

__all__ = ["CLOSED", "GONE", "TaskWaiter", "ThreadWaiter", "Waiter"]

#: What a waiter is given by a pool that is closed.
CLOSED: Any = object()
#: The outcome for a waiter that has given up.
GONE: Any = object()


class Waiter:
    """One who waits. Who settles the outcome first, by one step that cannot be split, has it."""

    def __init__(self) -> None:
        self._outcome: dict[str, Any] = {}

    @property
    def outcome(self) -> Any:
        """A slot, `CLOSED`, or None where it waits still."""
        return self._outcome.get("outcome")

    def give(self, outcome: Slot) -> bool:
        """Hand over a slot; return whether it was taken."""
        if self._outcome.setdefault("outcome", outcome) is not outcome:
            return False
        try:
            self._wake()
        except RuntimeError:  # Its event loop is closed: nobody will look.
            return False
        return True

    def give_up(self) -> Any:
        """Wait no more; return what was handed over meanwhile, or `GONE`."""
        return self._outcome.setdefault("outcome", GONE)

    def _wake(self) -> None:
        raise NotImplementedError


class ThreadWaiter(Waiter):
    """A thread."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._lock.acquire()

    def wait(self, seconds: float) -> Any:
        """Wait for so long at most; return the outcome, or None."""
        self._lock.acquire(timeout=seconds)
        return self.outcome

    def _wake(self) -> None:
        self._lock.release()


class TaskWaiter(Waiter):
    """A task of the running event loop."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] = self._loop.create_future()

    async def wait(self, seconds: float) -> Any:
        """Wait for so long at most; return the outcome, or None."""
        await asyncio.wait((self._future,), timeout=seconds)
        return self.outcome

    def _wake(self) -> None:
        self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        if not self._future.done():
            self._future.set_result(None)
