"""Whose a MemoryError (or an OSError that says the same) is: a limit's of ours, or not."""

from __future__ import annotations

import errno
import math
import opcode
from typing import TYPE_CHECKING, Any

import psutil

from stratatrace.guards.rlimit import strictest_elsewhere_bytes

if TYPE_CHECKING:
    from stratatrace.guards.opened import OpenLimit

__all__ = ["is_caused_by"]

_RAISE = opcode.opmap["RAISE_VARARGS"]


def is_caused_by(limit: OpenLimit, error: MemoryError | OSError) -> bool:
    """Tell whether an allocation was refused because of a limit, which is closed by now.

    The kernel does not say why it refuses. What speaks against the limit is looked for: that it
    was not the strictest in force, that Python code raised the error itself, that another limit of
    the process is stricter, or that the whole machine has not got what was asked for.
    """
    if isinstance(error, OSError) and error.errno != errno.ENOMEM:
        return False
    if not limit.binding or _is_raised_on_purpose(error):
        return False
    if limit.address_bytes is not None:
        room_bytes = strictest_elsewhere_bytes(limit.address_bytes)
        if room_bytes is not None and room_bytes < limit.room_left_bytes:
            return False
    wanted_bytes = _wanted_bytes(error)
    return wanted_bytes is None or wanted_bytes < _machine_bytes()


def _is_raised_on_purpose(error: BaseException) -> bool:
    """Tell whether a ``raise`` statement raised it, and not an allocation."""
    traceback = error.__traceback__
    if traceback is None:
        return True
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    code, position = traceback.tb_frame.f_code.co_code, traceback.tb_lasti
    return 0 <= position < len(code) and code[position] == _RAISE


def _wanted_bytes(error: BaseException) -> int | None:
    """Return what was asked for; only numpy's own MemoryError says it."""
    shape: Any = getattr(error, "shape", None)
    item_bytes = getattr(getattr(error, "dtype", None), "itemsize", None)
    if not isinstance(shape, tuple) or not isinstance(item_bytes, int):
        return None
    try:
        return math.prod(shape) * item_bytes
    except TypeError:
        return None


def _machine_bytes() -> float:
    try:
        return psutil.virtual_memory().total + psutil.swap_memory().total
    except (psutil.Error, OSError, RuntimeError):
        return math.inf
