"""Accounts: who is charged with what a probe counts.

An `Account` is the ledger of one source of numbers. A `Tab` is what one window has run up on one
account.

The kernel and tracemalloc keep one peak each, and whoever resets it for a new window erases it for
all others. So every stretch between two looks is *folded*: its peak is kept in the newest open tab,
and handed down when that tab closes. Tabs may overlap in any order, nested or not; in the nested
case everything here takes constant time.

These are the accounts of what Python reads. `compiled` has those of what the compiled part reads.

No I/O and no telemetry in this module.
"""

from __future__ import annotations

import _thread
from typing import TYPE_CHECKING

from stratatrace.fork_lock import ForkLock

if TYPE_CHECKING:
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


class Tab:
    """What one window has run up on one account."""

    __slots__ = (
        "base_bytes",
        "charged",
        "failed",
        "net_bytes",
        "open",
        "peak_bytes",
        "top_bytes",
    )

    def __init__(self) -> None:
        #: The account's level at which this tab stands at zero.
        self.base_bytes = 0
        #: The account's highest level since this tab, and none newer, was open.
        self.top_bytes = 0
        #: What was run up until the last release, and the highest that it ever stood.
        self.net_bytes = 0
        self.peak_bytes = 0
        self.open = False
        #: Whether it was ever open.
        self.charged = False
        #: Whether the probe could not be read at one of its ends: then the rest means nothing.
        self.failed = False


class Account:
    """The ledger of one probe: its level, less what stratatrace itself has taken.

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
        # The first is never closed: a list that is emptied would give its storage back, and take
        # it again while somebody is charged.
        self._tabs = [Tab()]
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
        with self._lock:
            failed, tab.failed = tab.failed, True
            # The tab's numbers are objects of ours, which a calibrated account charges to nobody.
            looks_again = self._calibrated or held_bytes is not None
            if held_bytes is None:
                if self._leftovers is not None and not self.charging:
                    self._leftovers.forget()
                held_bytes = self._fold()
            tab.top_bytes = held_bytes
            tab.base_bytes = held_bytes - tab.net_bytes
            if looks_again:
                self._resume(held_bytes)
            self._own_depth = 0
            tab.failed = failed
            tab.open = tab.charged = True
            self._tabs.append(tab)

    def release(self, tab: Tab, /) -> int:
        """Charge *tab* no more; return the account's level, for `unhold`."""
        with self._lock:
            tab.open = False
            try:
                level_bytes = self._fold()
            except Exception:
                tab.failed = True
                raise
            finally:
                self._remove(tab)
            tab.net_bytes = level_bytes - tab.base_bytes - self._empty_net_bytes
            top_bytes = tab.top_bytes - tab.base_bytes - self._empty_peak_bytes
            tab.peak_bytes = max(tab.peak_bytes, top_bytes, tab.net_bytes)
            return level_bytes

    def calibrate(self) -> None:
        """Measure what an empty stretch reads, which is taken off every stretch from then on."""
        with self._lock:
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
        with self._lock:
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
        with self._lock:
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
        self._tabs = [Tab()]
        self._own_depth = 0
        self._own_bytes = _NO_SMALL_INT if self._calibrated else 0

    def _remove(self, tab: Tab) -> None:
        tabs = self._tabs
        position = len(tabs) - 1
        while tabs[position] is not tab:  # Newer tabs that are still open: their tops are ours too.
            tab.top_bytes = max(tab.top_bytes, tabs[position].top_bytes)
            position -= 1
        del tabs[position]
        below = tabs[position - 1]
        below.top_bytes = max(below.top_bytes, tab.top_bytes)

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
        newest = self._tabs[-1]
        newest.top_bytes = max(newest.top_bytes, peak_bytes - self._own_bytes)
        return level_bytes - self._own_bytes

    @property
    def charging(self) -> bool:
        """Whether any tab is open."""
        return len(self._tabs) > 1

    @property
    def alone(self) -> bool:
        """Whether no other Python thread can be in the numbers."""
        # threading.active_count takes a lock.
        return not _thread._count()  # noqa: SLF001
