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
from threading import get_ident
from typing import TYPE_CHECKING, Any

from stratatrace.errors import ProbeError

if TYPE_CHECKING:
    from stratatrace.measurement import RssPeakMethod
    from stratatrace.probes.collector import CollectorProbe
    from stratatrace.typing import Probe

__all__ = ["Account", "Accounts", "Tab", "Window"]

# `hold` gives out a level: an int object of ours, which its holder drops after `unhold`, when the
# program is charged again. It is what the allocator is asked for, for an int of this size.
_LEVEL_OBJECT_BYTES = 32

_CALIBRATIONS = 5

# Where the own bytes of a calibrated account begin. Python keeps one object of each small int, so
# that own bytes near zero would take no memory where all others do.
_NO_SMALL_INT = 1 << 20

# By how much two processor clocks of one process may disagree. A thread takes longer than this only
# to start.
_CLOCKS_NS = 2_000


class Tab:
    """What one window has run up on one account."""

    __slots__ = ("base_bytes", "charged", "failed", "net_bytes", "open", "peak_bytes", "top_bytes")

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
    """

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
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
                held_bytes = self._fold()
            tab.top_bytes = held_bytes
            tab.base_bytes = held_bytes - tab.net_bytes
            if looks_again:
                self._resume(held_bytes)
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
            nets, peaks = zip(*readings, strict=True)
            self._empty_net_bytes, self._empty_peak_bytes = max(0, min(nets)), max(0, min(peaks))

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
            return self._fold() if self.charging else None

    def unhold(self, level_bytes: int) -> int:
        """Go on charging from the level that `hold` returned.

        Returns:
            The bytes that were taken while nobody was charged; negative when some were freed.
        """
        with self._lock:
            if not self.charging:
                return 0
            own_bytes = self._own_bytes
            self._resume(level_bytes)
            taken_bytes = self._own_bytes - own_bytes
            self._own_bytes -= _LEVEL_OBJECT_BYTES
            return taken_bytes

    def after_fork_in_child(self) -> None:
        """Forget the parent's tabs, and a lock that another of its threads may have held."""
        self._lock = threading.RLock()
        self._tabs = [Tab()]
        self._own_bytes = _NO_SMALL_INT if self._calibrated else 0
        self.probe.after_fork_in_child()

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
        """Keep the peak of the stretch that ends here; return the level."""
        level_bytes, peak_bytes = self.probe.mark()
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
        return len(self._tabs) > 1

    @property
    def alone(self) -> bool:
        """Whether this is the only Python thread of the process."""
        return not _thread._count()  # noqa: SLF001 -- threading.active_count takes a lock


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """All that a window can be opened on."""

    #: None where no heap is measured.
    heap: Account | None
    rss: Account
    rss_peak_method: RssPeakMethod
    collector: CollectorProbe

    def after_fork_in_child(self) -> None:
        """Make the accounts the child's own."""
        self.rss.after_fork_in_child()
        if self.heap is not None:
            self.heap.after_fork_in_child()


class Window:
    """One call's stay on the accounts: opened, resumed and paused any number of times, closed.

    Only what happens between `resume` and `pause`, both in one thread, is charged to it. A probe
    that fails costs the fields that it feeds; its error is raised by `close`, when the call has
    ended.

    Args:
        accounts: Where to open tabs.
    """

    __slots__ = (
        "_accounts",
        "_closed",
        "_collections",
        "_duration_ns",
        "_error",
        "_gc_time_ns",
        "_heap",
        "_heap_tab",
        "_opened_ns",
        "_others_ns",
        "_reclaimed_bytes",
        "_rss",
        "_rss_before_bytes",
        "_rss_tab",
        "_shared",
        "_thread",
    )

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        # None until their probes were started.
        self._heap: Account | None = None
        self._rss: Account | None = None
        self._heap_tab = Tab()
        self._rss_tab = Tab()
        self._rss_before_bytes: int | None = None
        self._shared = self._closed = False
        self._thread = 0
        self._others_ns = 0
        self._gc_time_ns = self._collections = self._reclaimed_bytes = 0
        self._error: Exception | None = None
        self._duration_ns = 0
        self._opened_ns = time.perf_counter_ns()

    def open(self, *, trace_heap: bool, porous: bool = False) -> None:
        """Make the probes ready.

        Args:
            trace_heap: Whether the heap is measured: it makes the probe start.
            porous: Whether the call can be suspended without a word to us, so that other tasks may
                be in its numbers (a ``with`` block in a coroutine).
        """
        self._shared = porous
        rss, heap = self._accounts.rss, self._accounts.heap
        try:
            rss.probe.start()
            self._rss = rss
        except Exception as error:
            self._fail(self._rss_tab, error)
        if trace_heap and heap is not None:
            try:
                heap.probe.start()
                self._heap = heap
                heap.calibrate()
            except Exception as error:
                self._fail(self._heap_tab, error)

    def resume(self, held_bytes: int | None = None) -> None:
        """A step of the call begins.

        Args:
            held_bytes: What the heap account's `hold` returned, where it was called.
        """
        accounts, heap = self._accounts, self._heap
        try:
            if self._rss is not None:
                self._rss.charge(self._rss_tab)
                if self._rss_before_bytes is None:
                    self._rss_before_bytes = self._rss_tab.base_bytes
        except Exception as error:
            self._fail(self._rss_tab, error)
        self._count_collections(-1)
        # The heap comes last, and first in `pause`, so that no other reading is in its numbers.
        try:
            if heap is not None:
                self._shared = self._shared or not heap.alone
                self._others_ns = _others_at_most_ns()
                self._thread = get_ident()
                heap.charge(self._heap_tab, held_bytes)
            elif accounts.heap is not None and held_bytes is not None:
                accounts.heap.unhold(held_bytes)
        except Exception as error:
            self._fail(self._heap_tab, error)

    def pause(self) -> int | None:
        """The step has ended; return the heap account's level, for `unhold`."""
        heap = self._heap
        level_bytes = None
        try:
            if heap is not None and self._heap_tab.open:
                level_bytes = heap.release(self._heap_tab)
                if self._thread != get_ident():
                    msg = "a step began in one thread and ended in another: whose heap is it?"
                    self._fail(self._heap_tab, ProbeError(msg))
                # Processor time of others tells also of threads that came and went unseen.
                others_ns = _others_at_least_ns() - self._others_ns
                self._shared = self._shared or others_ns > _CLOCKS_NS or not heap.alone
        except Exception as error:
            self._fail(self._heap_tab, error)
        self._count_collections(1)
        try:
            if self._rss is not None and self._rss_tab.open:
                self._rss.release(self._rss_tab)
        except Exception as error:
            self._fail(self._rss_tab, error)
        return level_bytes

    def close(self) -> None:
        """Let the probes go; the window must be paused.

        Raises:
            ProbeError: It was closed before, or a clock has stepped back.
            Exception: The first failure of a probe since the window was opened.
        """
        if self._closed:
            msg = "a window was closed twice"
            raise ProbeError(msg)
        self._closed = True
        self._duration_ns = time.perf_counter_ns() - self._opened_ns
        for account, tab in ((self._rss, self._rss_tab), (self._heap, self._heap_tab)):
            if account is not None:
                try:
                    account.probe.stop()
                except Exception as error:
                    self._fail(tab, error)
        if self._error is not None:
            raise self._error
        if self._duration_ns < 0 or self._gc_time_ns < 0:
            msg = "the clock has stepped back during the call"
            raise ProbeError(msg)

    def numbers(self) -> dict[str, Any]:
        """Return the fields of the call's Measurement, once the window is closed."""
        heap_tab, rss_tab = self._heap_tab, self._rss_tab
        numbers: dict[str, Any] = {
            "duration_ns": self._duration_ns if self._duration_ns >= 0 else None,
            "gc_time_ns": self._gc_time_ns if self._gc_time_ns >= 0 else None,
            "gc_collections": self._collections,
        }
        if self._heap is not None and heap_tab.charged and not heap_tab.failed:
            numbers["probe"] = self._heap.probe.name
            numbers["attribution"] = "process" if self._shared else "exact"
            numbers["heap_net_bytes"] = heap_tab.net_bytes
            numbers["heap_peak_bytes"] = heap_tab.peak_bytes
            numbers["gc_reclaimed_bytes"] = self._reclaimed_bytes
        if self._rss_before_bytes is not None and not rss_tab.failed:
            numbers["rss_before_bytes"] = self._rss_before_bytes
            numbers["rss_net_bytes"] = rss_tab.net_bytes
            numbers["rss_peak_bytes"] = self._rss_before_bytes + rss_tab.peak_bytes
            numbers["rss_peak_method"] = self._accounts.rss_peak_method
        return numbers

    def _fail(self, tab: Tab, error: Exception) -> None:
        tab.failed = True
        if self._error is None:
            self._error = error

    def _count_collections(self, sign: int) -> None:
        collector = self._accounts.collector
        self._gc_time_ns += sign * collector.time_ns
        self._collections += sign * collector.collections
        self._reclaimed_bytes += sign * collector.reclaimed_bytes


def _others_at_least_ns() -> int:
    """Return the processor time that the other threads have taken so far, or a little less."""
    return time.process_time_ns() - time.thread_time_ns()


def _others_at_most_ns() -> int:
    """Return the processor time that the other threads have taken so far, or a little more."""
    return -time.thread_time_ns() + time.process_time_ns()
