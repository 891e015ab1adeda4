"""The heap as the compiled counters see it: each thread's own, to the byte, and cheap.

They count in every thread of the process at once; what is read is always the calling thread's.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Any, Protocol

from stratatrace.errors import ProbeError
from stratatrace.measurement import Reading

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "NO_EXTENSION_VARIABLE",
    "Leftovers",
    "NativeProbe",
    "advance",
    "count_arrays",
    "leftovers",
    "native_obstacle",
]

#: Set to 1, it keeps the extension from being built when installing, and from being used later.
NO_EXTENSION_VARIABLE = "STRATATRACE_NO_EXTENSION"

_import_error: ImportError | None = None
try:
    # Not from the package, which is being imported: that it has none would be told as a mistake.
    import stratatrace.probes._counters as _counters  # noqa: PLR0402
except ImportError as error:
    _import_error = error


def native_obstacle() -> str | None:
    """Return why native counting cannot be had here, or None where it can."""
    if os.environ.get(NO_EXTENSION_VARIABLE) == "1":
        return f"{NO_EXTENSION_VARIABLE}=1 turns the native heap probe off"
    if isinstance(_import_error, ModuleNotFoundError):
        return (
            "this installation has no native heap probe: install a wheel for this platform, or "
            "install where there is a C compiler (CPython only, no free-threaded build)"
        )
    return None if _import_error is None else str(_import_error)


class Leftovers(Protocol):
    """What our own work leaves in the interpreter's free lists, for the program to use next.

    There a dropped dict, list, float or tuple waits for the next of its kind, which then allocates
    nothing. A program that keeps a dict for each row, and calls a measured function for each row,
    would have all its dicts from what our own work let go, and none of them in its numbers.
    """

    def used(self) -> int:
        """Our work begins: return the bytes that the program has used of it."""
        ...

    def leave(self) -> None:
        """Our work has ended."""

    def forget(self) -> None:
        """Begin anew: what is idle now is the program's."""


def leftovers() -> Leftovers | None:
    """Return what knows of our leftovers; None where the free lists cannot be read."""
    if native_obstacle() is not None or _counters.free_list_bytes() is None:
        return None
    return _FreeLists()


class _FreeLists:
    def used(self) -> int:
        return _counters.leftovers_used()

    def leave(self) -> None:
        _counters.leftovers_leave()

    def forget(self) -> None:
        _counters.leftovers_forget()


def _advance(
    call: Any, steps: Any, box: list[Any], send: Callable[[Any, list[Any]], bool] | None
) -> bool:
    sys._getframe()  # noqa: SLF001 -- the frame object that an exception would make when measured
    call.resume()
    ended = False
    try:
        if send is None:
            box.append(steps.send(box.pop()))
        else:
            ended = send(steps, box)
    except StopIteration as stop:
        box.append(stop.value)
        ended = True
    except BaseException as error:
        if isinstance(error, GeneratorExit):
            error.__traceback__ = None  # It would keep what the closed generator lets go.
        call.suspend()
        raise
    call.suspend()
    return ended


#: Runs a step between a call's `resume` and `suspend`: sends the item of a list of one to a
#: generator or iterator, puts there what it answers, returns whether it has ended; the last
#: argument does so where it is not None. Compiled, it needs no StopIteration, which would be in
#: the step's numbers, and nothing that is thrown into the thread comes between the step and its
#: end.
advance: Callable[[Any, Any, list[Any], Callable[[Any, list[Any]], bool] | None], bool] = (
    _counters.advance if native_obstacle() is None else _advance
)


class _Counting:
    """The one counting of the process, shared by all probes and ended with the last."""

    def __init__(self) -> None:
        self.probes = 0
        # A new one in a forked child: another thread of the parent may have held it.
        self.lock = threading.RLock()

    def begin(self) -> None:
        """Count for one more probe."""
        self.probes += 1
        _counters.start()
        _counters.count_numpy()

    def end(self) -> None:
        """Count for one probe less."""
        self.probes -= 1
        if not self.probes:
            _counters.forget_numpy()
            _counters.stop()


_counting = _Counting()


class NativeProbe:
    """Counts from `open` to `close`, between calls too.

    Only what always counts can see that memory from before a call is freed in it.

    Raises:
        ProbeError: Native counting cannot be had here.
    """

    name = "native"
    per_thread = True

    def __init__(self) -> None:
        obstacle = native_obstacle()
        if obstacle is not None:
            raise ProbeError(obstacle)
        self._opened = False

    def open(self) -> None:
        """Begin to count; a second time does nothing."""
        with _counting.lock:
            if not self._opened:
                self._opened = True
                _counting.begin()

    def close(self) -> None:
        """End what `open` began, once no call is being charged."""
        with _counting.lock:
            if self._opened:
                self._opened = False
                _counting.end()

    def start(self) -> None:
        """Do nothing: it counts always."""

    def stop(self) -> None:
        """Do nothing."""

    def mark(self) -> Reading:
        """Return this thread's live bytes, and their highest since this thread's last mark.

        Only the difference of two levels of one thread means something.
        """
        return Reading(*_counters.mark())

    def after_fork_in_child(self) -> None:
        """Go on: the forking thread's numbers are the child's; those of the others are gone."""
        _counting.lock = threading.RLock()


def count_arrays() -> bool:
    """Count numpy's arrays, to be called when numpy was imported; return whether that is done."""
    with _counting.lock:
        return _counters.is_counting() and _counters.count_numpy()
