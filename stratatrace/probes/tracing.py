"""The heap as the standard library's tracemalloc counts it.

It counts for the whole process: the memory of two threads cannot be told apart by it.
"""

from __future__ import annotations

import contextlib
import threading
import tracemalloc
from array import array
from collections import defaultdict
from typing import TYPE_CHECKING, cast

from stratatrace.errors import ProbeError
from stratatrace.measurement import Reading
from stratatrace.probes.native import native_obstacle
from stratatrace.probes.peaks import SharedPeak

if TYPE_CHECKING:
    from collections.abc import Callable

with contextlib.suppress(ImportError):  # Then there is a `native_obstacle`.
    from stratatrace.probes import _counters

__all__ = ["TracemallocProbe", "held_by_stack"]

_RawFrames = tuple[tuple[str, int], ...]
_Trace = tuple[int, int, _RawFrames, int]


def held_by_stack() -> dict[_RawFrames, tuple[int, int]]:
    """Return the bytes and the blocks that are held of each stack, the innermost frame first.

    Empty without tracing.
    """
    return _sum_traces(_bare_traces)


def _bare_traces() -> list[_Trace]:
    """Return all traces as tuples; an object for each would take several times as long."""
    return cast("list[_Trace]", tracemalloc._get_traces())  # type: ignore[attr-defined]  # noqa: SLF001


def sum_traces(get_traces: Callable[[], list[_Trace]]) -> dict[_RawFrames, tuple[int, int]]:
    """Return bytes and blocks by stack, as the compiled part does where it is there.

    Nothing is made for each block: it would be traced, too, which takes twenty times as long. So
    sizes are listed, and added up in one go. Neighbours are often of one stack, whose look-up takes
    most of the time.
    """
    sizes: dict[_RawFrames, list[int]] = defaultdict(list)
    last: _RawFrames | None = None
    append = [0].append
    for _domain, size, frames, _depth in get_traces():
        if frames is not last:
            last = frames
            append = sizes[frames].append
        append(size)
    return {frames: (sum(each), len(each)) for frames, each in sizes.items()}


_sum_traces = sum_traces if native_obstacle() is not None else _counters.sum_traces


class _Tracing:
    """The one tracing of the process, shared by all probes: counted, and ended by the last user."""

    def __init__(self) -> None:
        self.users = 0
        #: Those of the users who last beyond a fork, in the child as well.
        self.lasting = 0
        self._started_here = False
        # An object whose trace is lost when somebody else stops tracing, or starts it anew.
        self._witness = bytearray()
        self.lock = threading.RLock()

    def acquire(self, frames: int, *, lasting: bool = False) -> None:
        """Begin tracing, unless it is on already.

        Args:
            frames: How many a trace has, where tracing begins here.
            lasting: Whether a forked child needs it as well.
        """
        with self.lock:
            self.users += 1
            self.lasting += lasting
            if not tracemalloc.is_tracing():
                tracemalloc.start(frames)
                self._started_here = True
            if not self._intact():
                self._witness = bytearray()

    def release(self, *, lasting: bool = False) -> bool:
        """Take one user off; return whether the traces are those that it began with.

        Args:
            lasting: What `acquire` was told.
        """
        with self.lock:
            self.users -= 1
            self.lasting -= lasting
            intact = self._intact()
            self._started_here = self._started_here and intact
            self.end_if_unused()
            return intact

    def end_if_unused(self) -> None:
        """Stop tracing where nobody needs it and nobody else began it."""
        if not self.users and self._started_here:
            self._started_here = False
            tracemalloc.stop()

    def after_fork_in_child(self) -> None:
        """Forget the users who were threads of the parent, and the tracing that was for them."""
        self.lock = threading.RLock()
        self.users = self.lasting
        self.end_if_unused()

    def _intact(self) -> bool:
        return tracemalloc.get_object_traceback(self._witness) is not None


_tracing = _Tracing()
_peak = SharedPeak()


class TracemallocProbe:
    """Traces while at least one window needs it, or always.

    Only what is always traced can see that memory from before a call is freed in it.

    A tracing that somebody else started is used and never stopped or cleared; only its peak, which
    tracemalloc keeps once for the process, is reset by every mark. Probes tell each other of it.

    Args:
        always: Whether tracing goes on between windows, from `open` to `close`.
        frames: How many frames a trace has where tracing is begun here. More cost more, and no
            number of a window would show it.
    """

    name = "tracemalloc"
    per_thread = False

    def __init__(self, *, always: bool = False, frames: int = 1) -> None:
        self._always = always
        self.missed = array("q", [0])
        _peak.join(self)
        self._frames = frames

    def open(self) -> None:
        """Begin to trace for good, where that is wanted."""
        if self._always:
            _tracing.acquire(self._frames, lasting=True)

    def close(self) -> None:
        """End what `open` began."""
        if self._always:
            _tracing.release(lasting=True)

    def start(self) -> None:
        """Begin tracing, unless it is on already."""
        _tracing.acquire(self._frames)

    def stop(self) -> None:
        """End tracing with its last user, if it was begun here.

        Raises:
            ProbeError: Since the matching start, somebody else has stopped or cleared the traces.
        """
        if not _tracing.release():
            msg = "somebody else stopped or cleared tracemalloc while a call was being measured"
            raise ProbeError(msg)

    def mark(self) -> Reading:
        """Return the traced bytes now and their highest since the last mark.

        Raises:
            ProbeError: Tracing was stopped by somebody else.
        """
        level_bytes, peak_bytes = tracemalloc.get_traced_memory()
        if not level_bytes and not tracemalloc.is_tracing():
            msg = "somebody else stopped tracemalloc while a call was being measured"
            raise ProbeError(msg)
        tracemalloc.reset_peak()
        return Reading(level_bytes, _peak.seen(self, peak_bytes))

    def after_fork_in_child(self) -> None:
        """Forget the parent's windows, and the tracing that was for them."""
        _tracing.after_fork_in_child()
