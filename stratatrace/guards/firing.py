"""Exceptions that are raised in another thread, by the interpreter, at its next opportunity.

CPython makes the exception there, with no arguments, so what it says is *announced* beforehand:
see `MemoryLimitExceeded`. An announcement that is gone was delivered.
"""

from __future__ import annotations

import ctypes
import threading
from typing import TYPE_CHECKING, Any

from stratatrace.errors import MemoryLimitExceeded

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["fire", "is_measuring", "is_pending", "is_starting_thread", "withdraw"]

_announced = MemoryLimitExceeded._announced  # noqa: SLF001 -- the one place that fills it
_OWN = __name__.partition(".")[0] + "."
_OF_LIMITS = __name__.rpartition(".")[0] + "."
_START = threading.Thread.start.__code__
# How far below itself `Thread.start` waits for the new thread to begin.
_START_DEPTH = 4
_set_async_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_async_exception.argtypes = (ctypes.c_ulong, ctypes.py_object)
_set_async_exception.restype = ctypes.c_int


def fire(thread: int, told: dict[str, Any]) -> bool:
    """Have a `MemoryLimitExceeded` raised in a thread.

    Args:
        thread: Its id.
        told: The attributes of the exception, ``message`` and ``key``, the number of the limit.

    Returns:
        Whether there is such a thread.
    """
    _announced[thread] = told
    if _set_async_exception(thread, MemoryLimitExceeded):
        return True
    _announced.pop(thread, None)
    return False


def is_pending(thread: int) -> bool:
    """Tell whether what was fired at a thread has not arrived yet."""
    return thread in _announced


def withdraw(thread: int, key: int, *, ended: bool = False) -> None:
    """Take back what was fired at a thread for one limit, unless it has arrived.

    Args:
        thread: Its id.
        key: The number of the limit.
        ended: Whether the thread has, and the id may be that of another one.
    """
    told = _announced.get(thread)
    if told is not None and told.get("key") == key:
        _announced.pop(thread, None)
        if not ended:  # A null object clears what is pending.
            _set_async_exception(thread, ctypes.py_object())


def is_measuring(frame: FrameType) -> bool:
    """Tell whether a thread is just now in our own code, which should not be torn in the middle.

    The code of limits is made for that, and does not count.
    """
    name = frame.f_globals.get("__name__")
    return isinstance(name, str) and name.startswith(_OWN) and not name.startswith(_OF_LIMITS)


def is_starting_thread(frame: FrameType) -> bool:
    """Tell whether a thread is just now starting another, which must not be torn in the middle.

    CPython 3.11 knows a new thread by the id of the one that starts it, until it runs: what is
    fired at the one ends the other, for which the first then waits for ever.
    """
    outer: FrameType | None = frame
    for _ in range(_START_DEPTH):
        if outer is None:
            return False
        if outer.f_code is _START:
            return True
        outer = outer.f_back
    return False
