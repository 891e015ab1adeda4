"""Event loops: what must never get an asynchronous exception, and what is cancelled instead.

An exception that is raised in a thread that runs a loop hits the loop, not the coroutine that took
the memory. A task is cancelled instead, as `asyncio.timeout` does it, and the block that it runs
turns the cancellation into the error.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from types import FrameType

__all__ = ["call_soon", "current_task", "is_running_loop", "main_task", "runs_loop"]

# What has event loops; uvloop's is compiled and has no frames of its own.
_LOOPS = frozenset({"asyncio", "uvloop", "trio", "curio", "gevent", "eventlet"})
# Where asyncio keeps the task that a loop was started for: module, function, local variable.
_MAIN_TASKS = {
    ("asyncio.base_events", "run_until_complete"): "future",
    ("asyncio.runners", "run"): "task",
}


def is_running_loop() -> bool:
    """Tell whether this thread runs an asyncio event loop."""
    # A program without asyncio does not import it for us.
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None  # noqa: SLF001


def current_task() -> asyncio.Task[Any] | None:
    """Return the asyncio task that runs in this thread."""
    if not is_running_loop():
        return None
    task: asyncio.Task[Any] | None = sys.modules["asyncio"].current_task()
    return task


def runs_loop(frame: FrameType | None) -> bool:
    """Tell whether a thread whose newest frame is *frame* runs an event loop."""
    while frame is not None:
        name = frame.f_globals.get("__name__")
        if isinstance(name, str) and name.partition(".")[0] in _LOOPS:
            return True
        frame = frame.f_back
    return False


def main_task(frame: FrameType | None) -> asyncio.Task[Any] | None:
    """Return the task that the outermost asyncio loop of a thread was started for."""
    found = None
    while frame is not None:
        place = (frame.f_globals.get("__name__", ""), frame.f_code.co_name)
        local = _MAIN_TASKS.get(place)
        if local is not None:
            task = frame.f_locals.get(local)
            found = task if hasattr(task, "get_loop") and hasattr(task, "cancel") else found
        frame = frame.f_back
    return found


def call_soon(task: asyncio.Task[Any], callback: Callable[[], object]) -> None:
    """Call a function in the thread of a task's loop, while the task is suspended."""
    try:
        task.get_loop().call_soon_threadsafe(callback)
    except RuntimeError:
        return  # The loop is closed.
