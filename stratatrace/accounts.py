"""Accounts: who is charged with what a probe counts.

An `Account` is the ledger of one source of numbers; its tabs and lines are those of `lines`.

The kernel and tracemalloc keep one peak each, and whoever resets it for a new window erases it for
all others. So every stretch between two looks is *folded*: its peak is kept in the newest open tab,
and handed down when that tab closes. Tabs may overlap in any order, nested or not; in the nested
case everything here takes constant time.

These are the accounts of what Python reads. `compiled` has those of what the compiled part reads.

No I/O and no telemetry in this module.
"""

from __future__ import annotations

import _thread
import threading
from typing import TYPE_CHECKING, Any

from stratatrace.fork_lock import ForkLock
from stratatrace.lines import Line, Tab

if TYPE_CHECKING:
    from collections.abc import Callable

    from stratatrace.probes import Leftovers
    from stratatrace.typing import Probe

__all__ = ["Account", "Tab"]

# `hold` gives out a level: an int object of ours, which its holder drops after `unhold`, when the
# program is charged again. It is what the allocator is asked for, for an int of this size.
_LEVEL_OBJECT_BYTES = 32

_CALIBRATIONS = 5

# Where the own bytes of a calibrated account begin. Python keeps one object of each small int, so
# that own bytes near zero would take no memory where all others do.
_NO_SMALL_INT = 1 << 20


class Account:
    """The ledger of one probe: its level, less what stratatrace itself has taken.

    It counts for the whole process: what other threads do while a thread is on a line is charged
    there, and what is done there to the calls of other threads too. Only one thread at a time can
    be on a line that is not the process's own.

    Thread-safe. The lock is reentrant because a garbage collection may run a finalizer, and that a
    measured function, inside any of these methods.

    Args:
        probe: What counts.
        leftovers: Knows what our own work leaves in the interpreter's free lists; None where nobody
            knows, or it does not matter.
    """

    #: What to charge.
    tab = Tab
    #: Whether tabs have gross sums.
    counts_gross = False

    def __init__(self, probe: Probe, leftovers: Leftovers | None = None) -> None:
        self.probe = probe
        self._leftovers = leftovers
        # How many holds our own work is within; a collection within it is nothing new.
        self._own_depth = 0
        self._base = self._line = Line()
        # The thread that is on a line; 0 while none is.
        self._follower = 0
        self._open = 0
        self._own_bytes = 0
        self._lock = ForkLock()
        self._calibrated = False
        self._empty_net_bytes = self._empty_peak_bytes = 0

    def charge(self, tab: Tab, held_bytes: int | None = None, /) -> None:
        """Charge *tab* from now on.

        Args:
            tab: A new tab, or one that was released before.
            held_bytes: What `hold` returned, where it was called: holding ends here.
        """
        with self._lock.here:
            failed, tab.failed = tab.failed, True
            # The tab's numbers are objects of ours, which a calibrated account charges to nobody.
            looks_again = self._calibrated or held_bytes is not None
            if held_bytes is None:
                if self._leftovers is not None and not self.charging:
                    self._leftovers.forget()
                held_bytes = self._fold()
            line = tab.line = self._line if self.followed else self._base
            tab.thread = threading.get_ident()
            if line is not self._line:  # What came before is not this call's.
                self._line.settle(held_bytes, self._base, self._follower)
            tab.top_bytes = held_bytes if line is self._line else line.level_bytes
            tab.base_bytes = tab.top_bytes - tab.net_bytes
            if looks_again:
                self._resume(held_bytes)
            self._own_depth = 0
            tab.failed = failed
            tab.open = tab.charged = True
            line.open(tab)
            self._open += 1

    def release(self, tab: Tab, /) -> int:
        """Charge *tab* no more; return the account's level, for `unhold`."""
        with self._lock.here:
            tab.open = False
            line = tab.line or self._base
            try:
                level_bytes = at_bytes = self._fold()
                if line is not self._line:  # It stands where it was left; this may work for it.
                    self._line.settle(level_bytes, self._base, self._follower)
                    at_bytes = line.level_bytes
            except Exception:
                tab.failed = True
                raise
            finally:
                line.remove(tab)
                self._open -= 1
            tab.net_bytes = at_bytes - tab.base_bytes - self._empty_net_bytes
            top_bytes = tab.top_bytes - tab.base_bytes - self._empty_peak_bytes
            tab.peak_bytes = max(tab.peak_bytes, top_bytes, tab.net_bytes)
            return level_bytes

    def calibrate(self) -> None:
        """Measure what an empty stretch reads, which is taken off every stretch from then on."""
        with self._lock.here:
            if self._calibrated:
                return
            self._own_bytes += _NO_SMALL_INT
            self._calibrated = True
            try:
                readings = [self._empty_stretch() for _ in range(_CALIBRATIONS)]
            except Exception:
                self._calibrated = False
                raise
            # Never less than nothing: another thread may have freed something meanwhile.
            net, peak = (max(0, min(column)) for column in zip(*readings, strict=True))
            self._empty_net_bytes, self._empty_peak_bytes = net, peak

    def _empty_stretch(self) -> tuple[int, int]:
        tab = Tab()
        self.charge(tab)
        self.release(tab)
        return tab.net_bytes, tab.peak_bytes

    def hold(self) -> int | None:
        """Charge nobody until `unhold`; return the level, or None where no tab is open."""
        if not self.charging:  # Looked at without the lock first: it is so at nearly every call.
            return None
        with self._lock.here:
            if not self.charging:
                return None
            if not self._own_depth:
                return self._fold()
            self._own_depth += 1
            return self.probe.mark().level_bytes - self._own_bytes  # The peak is our own.

    def unhold(self, level_bytes: int, dropped_bytes: int = 0, /) -> int:
        """Go on charging from the level that `hold` returned.

        Args:
            level_bytes: That level.
            dropped_bytes: The size of what else is dropped of our own after this.

        Returns:
            The bytes that were taken while nobody was charged; negative when some were freed.
        """
        with self._lock.here:
            self._own_depth = max(0, self._own_depth - 1)
            if not self.charging:
                return 0
            if self._own_depth:
                return self.probe.mark().level_bytes - self._own_bytes - level_bytes
            own_bytes = self._own_bytes
            self._resume(level_bytes)
            taken_bytes = self._own_bytes - own_bytes
            self._own_bytes -= _LEVEL_OBJECT_BYTES + dropped_bytes
            return taken_bytes

    def line(self) -> Line:
        """Return a new line of execution, on behalf of the one that runs."""
        return Line(self._line if self.followed else self._base)

    def run(self, line: Line, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call *function* as a part of *line*."""
        entered = self._enter(line)
        try:
            return function(*args, **kwargs)
        finally:
            if entered:
                self._leave(line)

    def send(self, line: Line, coroutine: Any, value: Any, /) -> Any:
        """Run the next step of *coroutine* as a part of *line*."""
        return self.run(line, coroutine.send, value)

    def collected(self, time_ns: int, reclaimed_bytes: int, /) -> None:
        """Do nothing: windows take differences of what the collector did in the process."""

    @property
    def followed(self) -> bool:
        """Whether the calling thread is on a line that is not the process's own."""
        return self._follower == threading.get_ident()

    def _enter(self, line: Line) -> bool:
        """Come to a line; return False where the thread stays where it is."""
        with self._lock.here:
            free = not self._follower or self.followed
            if not free or self._own_depth or line is self._base or line.outer is not None:
                return False
            line.outer = self._line
            self._move(line)
            self._follower = threading.get_ident()
            return True

    def _leave(self, line: Line) -> None:
        with self._lock.here:
            outer, line.outer = line.outer, None
            if outer is None or self._line is not line:
                return  # Of a fork's parent.
            self._move(outer)
            if outer is self._base:
                self._follower = 0

    def _move(self, line: Line) -> None:
        """Note where the line stands that is left, and go on from where *line* does."""
        left = self._line
        try:
            if self._open:  # Else nobody asks, and the probe may have nothing to read.
                left.level_bytes = self._fold()
                left.settle(left.level_bytes, self._base, self._follower)
                self._resume(line.level_bytes)
                self._own_depth = 0
        except Exception:
            for tab in (*left.tabs, *line.tabs):
                tab.failed = True
        finally:
            self._line = line

    def before_fork(self) -> None:
        """Have no other thread hold the lock."""
        self._lock.before_fork()

    def after_fork_in_parent(self) -> None:
        """Let others have it."""
        self._lock.after_fork_in_parent()

    def after_fork_in_child(self) -> None:
        """Forget the parent's tabs, and the lock that is held there."""
        self.probe.after_fork_in_child()
        self._lock = ForkLock()
        self._base = self._line = Line()
        self._follower = self._open = 0
        self._own_depth = 0
        self._own_bytes = _NO_SMALL_INT if self._calibrated else 0

    def _fold(self) -> int:
        """Begin a stretch of our own: keep the peak of the one that ends; return the level."""
        level_bytes = self._look()
        if not self._own_depth:
            self._own_depth = 1
            if self._leftovers is not None:
                used_bytes = self._leftovers.used()
                self._own_bytes -= used_bytes
                level_bytes += used_bytes
        return level_bytes

    def _resume(self, level_bytes: int) -> None:
        """End a stretch of our own: everything since *level_bytes* was taken by nobody."""
        if self._leftovers is not None:
            self._leftovers.leave()
        if self.alone:
            self._own_bytes = self.probe.mark().level_bytes - level_bytes
        else:
            # Another thread may have peaked meanwhile, and a peak must not be lost.
            self._own_bytes += self._look() - level_bytes

    def _look(self) -> int:
        level_bytes, peak_bytes = self.probe.mark()
        self._line.fold(peak_bytes - self._own_bytes)
        return level_bytes - self._own_bytes

    @property
    def charging(self) -> bool:
        """Whether any tab is open."""
        return self._open > 0

    @property
    def alone(self) -> bool:
        """Whether no other Python thread can be in the numbers."""
        # threading.active_count takes a lock.
        return not _thread._count()  # noqa: SLF001
