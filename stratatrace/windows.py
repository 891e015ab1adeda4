"""Windows: what one call is charged with, from its first step to its last.

An `Account` is the ledger of one source of numbers. A `Tab` is what one window has run up on one
account. A `Window` holds a call's tabs, and closing it gives its numbers.

The kernel and tracemalloc keep one peak each, and whoever resets it for a new window erases it for
all others. So every stretch between two looks is *folded*: its peak is kept in the newest open tab,
and handed down when that tab closes. Tabs may overlap in any order, nested or not; in the nested
case everything here takes constant time.

No I/O and no telemetry in this module.
"""

from __future__ import annotations

import _thread
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stratatrace.measurement import RssPeakMethod
    from stratatrace.probes.collector import CollectorProbe
    from stratatrace.typing import Probe

__all__ = ["Account", "Accounts", "Tab", "Window"]

# `hold` gives out a level: an int object of ours, which its holder drops after `unhold`, when the
# program is charged again. It is what the allocator is asked for, for an int of this size.
_LEVEL_OBJECT_BYTES = 32

_CALIBRATIONS = 5


class Tab:
    """What one window has run up on one account."""

    __slots__ = ("base_bytes", "failed", "net_bytes", "open", "peak_bytes", "top_bytes")

    def __init__(self) -> None:
        #: The account's level at which this tab stands at zero.
        self.base_bytes = 0
        #: The account's highest level since this tab, and none newer, was open.
        self.top_bytes = 0
        #: What was run up until the last release, and the highest that it ever stood.
        self.net_bytes = 0
        self.peak_bytes = 0
        self.open = False
        #: Whether the probe could not be read at one of its ends: then the rest means nothing.
        self.failed = False


class Account:
    """The ledger of one probe: its level, less what stratatrace itself has taken.

    Thread-safe. The lock is reentrant because a garbage collection may run a finalizer, and that a
    measured function, inside any of these methods.
    """

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self._tabs: list[Tab] = []
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
            tab.failed = True
            if held_bytes is None:
                held_bytes = self._fold()
            # The tab's own numbers are made before the look from which it is charged.
            tab.top_bytes = held_bytes
            tab.base_bytes = held_bytes - tab.net_bytes
            self._resume(held_bytes)
            tab.failed = False
            tab.open = True
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
            tab.net_bytes = level_bytes - tab.base_bytes - self._empty_net_bytes
            top_bytes = tab.top_bytes - tab.base_bytes - self._empty_peak_bytes
            tab.peak_bytes = max(tab.peak_bytes, top_bytes, tab.net_bytes)
            return level_bytes

    def calibrate(self) -> None:
        """Measure what an empty stretch reads, which is taken off every stretch from then on."""
        if self._calibrated:
            return
        self._calibrated = True
        readings = []
        for _ in range(_CALIBRATIONS):
            tab = Tab()
            self.charge(tab)
            self.release(tab)
            readings.append((tab.net_bytes, tab.peak_bytes))
        self._empty_net_bytes, self._empty_peak_bytes = map(min, zip(*readings, strict=True))

    def hold(self) -> int | None:
        """Charge nobody until `unhold`; return the level, or None where no tab is open."""
        with self._lock:
            return self._fold() if self._tabs else None

    def unhold(self, level_bytes: int) -> int:
        """Go on charging from the level that `hold` returned.

        Returns:
            The bytes that were taken while nobody was charged; negative when some were freed.
        """
        with self._lock:
            if not self._tabs:
                return 0
            own_bytes = self._own_bytes
            self._resume(level_bytes)
            taken_bytes = self._own_bytes - own_bytes
            self._own_bytes -= _LEVEL_OBJECT_BYTES
            return taken_bytes

    def after_fork_in_child(self) -> None:
        """Forget the parent's tabs, and a lock that another of its threads may have held."""
        self._lock = threading.RLock()
        self._tabs.clear()
        self._own_bytes = 0
        self.probe.after_fork_in_child()

    def _remove(self, tab: Tab) -> None:
        tabs = self._tabs
        position = len(tabs) - 1
        while tabs[position] is not tab:  # Newer tabs that are still open: their tops are ours too.
            tab.top_bytes = max(tab.top_bytes, tabs[position].top_bytes)
            position -= 1
        del tabs[position]
        if position:
            below = tabs[position - 1]
            below.top_bytes = max(below.top_bytes, tab.top_bytes)

    def _fold(self) -> int:
        """Keep the peak of the stretch that ends here; return the level."""
        level_bytes, peak_bytes = self.probe.mark()
        if self._tabs:
            newest = self._tabs[-1]
            newest.top_bytes = max(newest.top_bytes, peak_bytes - self._own_bytes)
        return level_bytes - self._own_bytes

    def _resume(self, level_bytes: int) -> None:
        """End a stretch of our own: everything since *level_bytes* was taken by nobody."""
        if self.alone:
            self._own_bytes = self.probe.mark().level_bytes - level_bytes
        else:
            # Another thread may have peaked meanwhile, and a peak must not be lost.
            self._own_bytes += self._fold() - level_bytes

    @property
    def charging(self) -> bool:
        """Whether any tab is open."""
        return bool(self._tabs)

    @property
    def alone(self) -> bool:
        """Whether this is the only Python thread of the process."""
        return not _thread._count()  # noqa: SLF001 -- threading.active_count takes a lock


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """All that a window can be opened on."""

    heap: Account | None
    rss: Account | None
    rss_peak_method: RssPeakMethod | None
    collector: CollectorProbe | None

    def after_fork_in_child(self) -> None:
        """Make the accounts the child's own."""
        for account in (self.heap, self.rss):
            if account is not None:
                account.after_fork_in_child()


class Window:
    """One call's stay on the accounts, from open to close.

    A window is made paused. Only what happens between `resume` and `pause` is charged to it.

    Args:
        accounts: Where to open tabs.
        trace_heap: Whether the heap is measured: it makes the probe start.
        porous: Whether the call can be suspended without a word to us, so that other tasks may be
            in its numbers (a ``with`` block in a coroutine).
    """

    __slots__ = (
        "_accounts",
        "_collections",
        "_gc_time_ns",
        "_heap",
        "_opened_ns",
        "_reclaimed_bytes",
        "_rss",
        "_rss_before_bytes",
        "_shared",
    )

    def __init__(self, accounts: Accounts, *, trace_heap: bool, porous: bool = False) -> None:
        self._accounts = accounts
        self._opened_ns = time.perf_counter_ns()
        self._rss = Tab() if accounts.rss is not None else None
        self._rss_before_bytes: int | None = None
        self._heap: Tab | None = None
        self._shared = porous
        self._gc_time_ns = self._collections = self._reclaimed_bytes = 0
        if trace_heap and accounts.heap is not None:
            accounts.heap.probe.start()
            accounts.heap.calibrate()
            self._heap = Tab()

    def resume(self, held_bytes: int | None = None) -> None:
        """A step of the call begins.

        Args:
            held_bytes: What the heap account's `hold` returned, where it was called.

        Raises:
            ProbeError: A probe could not be read; the tabs that were not opened stay unmeasured.
        """
        accounts = self._accounts
        if self._rss is not None and accounts.rss is not None:
            accounts.rss.charge(self._rss)
            if self._rss_before_bytes is None:
                self._rss_before_bytes = self._rss.base_bytes
        if accounts.collector is not None:
            self._count_collections(accounts.collector, -1)
        # The heap comes last, and first in `pause`, so that no other reading is in its numbers.
        if accounts.heap is not None and self._heap is not None:
            self._shared = self._shared or not accounts.heap.alone
            accounts.heap.charge(self._heap, held_bytes)
        elif accounts.heap is not None and held_bytes is not None:
            accounts.heap.unhold(held_bytes)

    def pause(self) -> int | None:
        """The step has ended; return the heap account's level, for `unhold`."""
        accounts = self._accounts
        level_bytes = None
        if self._heap is not None and self._heap.open and accounts.heap is not None:
            level_bytes = accounts.heap.release(self._heap)
            self._shared = self._shared or not accounts.heap.alone
        if accounts.collector is not None:
            self._count_collections(accounts.collector, 1)
        if self._rss is not None and self._rss.open and accounts.rss is not None:
            accounts.rss.release(self._rss)
        return level_bytes

    def close(self) -> dict[str, Any]:
        """Return the fields of the call's Measurement; the window must be paused."""
        accounts = self._accounts
        duration_ns = time.perf_counter_ns() - self._opened_ns
        numbers: dict[str, Any] = {"duration_ns": duration_ns if duration_ns >= 0 else None}
        if self._heap is not None and accounts.heap is not None:
            accounts.heap.probe.stop()
        if self._heap is not None and accounts.heap is not None and not self._heap.failed:
            numbers["probe"] = accounts.heap.probe.name
            numbers["attribution"] = "process" if self._shared else "exact"
            numbers["heap_net_bytes"] = self._heap.net_bytes
            numbers["heap_peak_bytes"] = self._heap.peak_bytes
        if self._rss is not None and self._rss_before_bytes is not None and not self._rss.failed:
            numbers["rss_before_bytes"] = self._rss_before_bytes
            numbers["rss_net_bytes"] = self._rss.net_bytes
            numbers["rss_peak_bytes"] = self._rss_before_bytes + self._rss.peak_bytes
            numbers["rss_peak_method"] = accounts.rss_peak_method
        if accounts.collector is not None:
            numbers["gc_time_ns"] = self._gc_time_ns
            numbers["gc_collections"] = self._collections
            if "heap_net_bytes" in numbers:
                numbers["gc_reclaimed_bytes"] = self._reclaimed_bytes
        return numbers

    def _count_collections(self, collector: CollectorProbe, sign: int) -> None:
        self._gc_time_ns += sign * collector.time_ns
        self._collections += sign * collector.collections
        self._reclaimed_bytes += sign * collector.reclaimed_bytes
