"""Accounts: who is charged with what a probe counts.

An `Account` is the ledger of one source of numbers. A `Tab` is what one window has run up on one
account.

The kernel and tracemalloc keep one peak each, and whoever resets it for a new window erases it for
all others. So every stretch between two looks is *folded*: its peak is kept in the newest open tab,
and handed down when that tab closes. Tabs may overlap in any order, nested or not; in the nested
case everything here takes constant time.

No I/O and no telemetry in this module.
"""

from __future__ import annotations

import _thread
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from stratatrace.typing import Probe

__all__ = ["Account", "HeapAccounts", "Tab"]

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
        "allocated_bytes",
        "allocations",
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
        #: Gross, where that is counted; less the account's sums while the tab is open.
        self.allocated_bytes = 0
        self.allocations = 0
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
        idle_bytes: Says how much of the probe's level is idle in the interpreter's free lists;
            None where nobody knows, or it does not matter.
        gross: Says the bytes and the blocks that were ever allocated; None where nobody counts.
    """

    def __init__(
        self,
        probe: Probe,
        idle_bytes: Callable[[], int] | None = None,
        gross: Callable[[], tuple[int, int]] | None = None,
    ) -> None:
        self.probe = probe
        self._leftovers = None if idle_bytes is None else _Leftovers(idle_bytes)
        self._gross = None if gross is None else _Gross(gross)
        # Whether our own work goes on; a collection within it is nothing new.
        self._at_own_work = False
        # The first is never closed: a list that is emptied would give its storage back, and take
        # it again while somebody is charged.
        self._tabs = [Tab()]
        self._own_bytes = 0
        self._lock = threading.RLock()
        self._calibrated = False
        self._empty_net_bytes = self._empty_peak_bytes = 0

    def charge(self, tab: Tab, held_bytes: int | None = None) -> None:
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
            if self._gross is not None:
                tab.allocated_bytes -= self._gross.charged_bytes
                tab.allocations -= self._gross.charged_blocks
            if looks_again:
                self._resume(held_bytes)
            self._at_own_work = False
            tab.failed = failed
            tab.open = tab.charged = True
            self._tabs.append(tab)

    def release(self, tab: Tab) -> int:
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
            if self._gross is not None:
                tab.allocated_bytes += self._gross.charged_bytes
                tab.allocations += self._gross.charged_blocks
            tab.net_bytes = level_bytes - tab.base_bytes - self._empty_net_bytes
            top_bytes = tab.top_bytes - tab.base_bytes - self._empty_peak_bytes
            tab.peak_bytes = max(tab.peak_bytes, top_bytes, tab.net_bytes)
            return level_bytes

    def abandon(self, tab: Tab) -> None:
        """Charge *tab* no more, whose numbers nobody can know."""
        with self._lock:
            tab.open, tab.failed = False, True
            self._remove(tab)

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
            net, peak, *gross = (max(0, min(column)) for column in zip(*readings, strict=True))
            self._empty_net_bytes, self._empty_peak_bytes = net, peak
            if self._gross is not None:
                self._gross.empty_bytes, self._gross.empty_blocks = gross

    def _empty_stretch(self) -> tuple[int, int, int, int]:
        tab = Tab()
        self.charge(tab)
        self.release(tab)
        return tab.net_bytes, tab.peak_bytes, tab.allocated_bytes, tab.allocations

    def hold(self) -> int | None:
        """Charge nobody until `unhold`; return the level, or None where no tab is open."""
        if not self.charging:  # Looked at without the lock first: it is so at nearly every call.
            return None
        with self._lock:
            return self._fold() if self.charging else None

    def unhold(self, level_bytes: int, *, dropped_bytes: int = 0) -> int:
        """Go on charging from the level that `hold` returned.

        Args:
            level_bytes: That level.
            dropped_bytes: The size of what else is dropped of our own after this.

        Returns:
            The bytes that were taken while nobody was charged; negative when some were freed.
        """
        with self._lock:
            if not self.charging:
                return 0
            own_bytes = self._own_bytes
            self._resume(level_bytes)
            taken_bytes = self._own_bytes - own_bytes
            self._own_bytes -= _LEVEL_OBJECT_BYTES + dropped_bytes
            return taken_bytes

    def after_fork_in_child(self) -> None:
        """Forget the parent's tabs, and a lock that another of its threads may have held."""
        self._lock = threading.RLock()
        self._tabs = [Tab()]
        self._at_own_work = False
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
        if not self._at_own_work:
            self._at_own_work = True
            if self._leftovers is not None:
                used_bytes = self._leftovers.used()
                self._own_bytes -= used_bytes
                level_bytes += used_bytes
            if self._gross is not None:
                self._gross.charge()
        return level_bytes

    def _resume(self, level_bytes: int) -> None:
        """End a stretch of our own: everything since *level_bytes* was taken by nobody."""
        self._at_own_work = False
        if self._leftovers is not None:
            self._leftovers.leave()
        if self._gross is not None:
            self._gross.pass_by()
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
    def counts_gross(self) -> bool:
        """Whether tabs have their gross sums."""
        return self._gross is not None

    @property
    def alone(self) -> bool:
        """Whether no other Python thread can be in the numbers."""
        # threading.active_count takes a lock.
        return self.probe.per_thread or not _thread._count()  # noqa: SLF001


class _Leftovers:
    """What stratatrace has left in the interpreter's free lists, for the program to use next.

    There a dropped dict, list, float or tuple waits for the next of its kind, which then allocates
    nothing. A program that keeps a dict for each row, and calls a measured function for each row,
    would have all its dicts from what our own work let go, and none of them in its numbers.
    """

    __slots__ = ("_idle_bytes", "_left_bytes", "_lent_bytes", "_then_bytes")

    def __init__(self, idle_bytes: Callable[[], int]) -> None:
        self._idle_bytes = idle_bytes
        self.forget()

    def forget(self) -> None:
        """Begin anew: what is idle now is the program's."""
        self._then_bytes = self._idle_bytes()
        #: What we left and nobody has used yet; what the program has of it.
        self._left_bytes = self._lent_bytes = 0

    def used(self) -> int:
        """Our work begins: return what the program has used of it, less what it gave back."""
        change_bytes = self._change()
        if change_bytes < 0:
            used_bytes = min(self._left_bytes, -change_bytes)
        else:
            used_bytes = -min(self._lent_bytes, change_bytes)
        self._left_bytes -= used_bytes
        self._lent_bytes += used_bytes
        return used_bytes

    def leave(self) -> None:
        """Our work has ended."""
        self._left_bytes = max(0, self._left_bytes + self._change())

    def _change(self) -> int:
        now_bytes = self._idle_bytes()
        change_bytes = now_bytes - self._then_bytes
        self._then_bytes = now_bytes
        return change_bytes


class _Gross:
    """What the program has allocated in all, without what stratatrace has."""

    __slots__ = (
        "_counts",
        "_then",
        "charged_blocks",
        "charged_bytes",
        "empty_blocks",
        "empty_bytes",
    )

    def __init__(self, counts: Callable[[], tuple[int, int]]) -> None:
        self._counts = counts
        self._then = counts()
        self.charged_bytes = self.charged_blocks = 0
        #: What an empty stretch reads.
        self.empty_bytes = self.empty_blocks = 0

    def charge(self) -> None:
        """Our work begins: what was allocated since it last ended is the program's."""
        bytes_now, blocks_now = self._counts()
        bytes_then, blocks_then = self._then
        self.charged_bytes += bytes_now - bytes_then - self.empty_bytes
        self.charged_blocks += blocks_now - blocks_then - self.empty_blocks

    def pass_by(self) -> None:
        """Our work has ended: what was allocated in it is nobody's."""
        self._then = self._counts()


class HeapAccounts:
    """The heap account of every thread; one for all where the probe counts for the process.

    Args:
        probe: What counts.
        make: Makes an account of it.
    """

    def __init__(self, probe: Probe, make: Callable[[Probe], Account] = Account) -> None:
        self.probe = probe
        self._make = make
        self._shared = None if probe.per_thread else make(probe)
        self._own = threading.local()

    @property
    def current(self) -> Account:
        """The account of this thread."""
        if self._shared is not None:
            return self._shared
        try:
            account: Account = self._own.account
        except AttributeError:
            account = self._own.account = self._make(self.probe)
        return account

    def hold(self) -> int | None:
        """Charge nobody of this thread until `unhold`; see `Account.hold`."""
        return self.current.hold()

    def unhold(self, level_bytes: int) -> int:
        """Go on charging; see `Account.unhold`."""
        return self.current.unhold(level_bytes)

    def after_fork_in_child(self) -> None:
        """Make the accounts the child's own, which has one thread."""
        self.probe.after_fork_in_child()
        self.current.after_fork_in_child()
