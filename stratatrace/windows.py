"""Windows: what one call is charged with, from its first step to its last.

A `Window` holds a call's tabs on the accounts, and closing it gives its numbers. No I/O and no
telemetry in this module.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stratatrace.accounts import Account as PythonAccount
from stratatrace.errors import ProbeError
from stratatrace.probes import (
    CollectorProbe,
    HighWaterProbe,
    NativeProbe,
    leftovers,
    native_obstacle,
)

if TYPE_CHECKING:
    from stratatrace.governor import Turns
    from stratatrace.measurement import RssPeakMethod
    from stratatrace.probes import ResidentProbe, TracemallocProbe
    from stratatrace.typing import Account, HeapAccount, Tab

__all__ = ["Accounts", "TimedWindow", "Window"]

# By how much two processor clocks of one process may disagree. A thread takes longer than this only
# to start.
_CLOCKS_NS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """All that a window can be opened on."""

    #: None where no heap is measured.
    heap: HeapAccount | None
    #: None where no resident memory is measured.
    rss: Account | None
    rss_peak_method: RssPeakMethod | None
    collector: CollectorProbe

    @classmethod
    def of(
        cls,
        heap: NativeProbe | TracemallocProbe | None,
        resident: ResidentProbe | None,
    ) -> Accounts:
        """Return accounts of these probes: compiled ones where there are any."""
        account = None if heap is None else _heap_account(heap)
        return cls(
            heap=account,
            rss=None if resident is None else _resident_account(resident),
            rss_peak_method=None if resident is None else resident.method,
            collector=CollectorProbe(account),
        )

    @property
    def compiled(self) -> bool:
        """Whether the compiled part keeps all that there are, the heap's among them."""
        return (
            self.heap is not None
            and self.heap.probe.per_thread
            and not isinstance(self.rss, PythonAccount)
        )

    @property
    def charging(self) -> bool:
        """Whether a window is open on any of them."""
        return any(account is not None and account.charging for account in (self.rss, self.heap))

    def before_fork(self) -> None:
        """Wait until no other thread is in the midst of one."""
        for account in (self.rss, self.heap):
            if account is not None:
                account.before_fork()

    def after_fork_in_parent(self) -> None:
        """Let other threads go on."""
        for account in (self.heap, self.rss):
            if account is not None:
                account.after_fork_in_parent()

    def after_fork_in_child(self) -> None:
        """Make the accounts the child's own."""
        self.collector.unheard_by.clear()  # By threads of the parent.
        for account in (self.rss, self.heap):
            if account is not None:
                account.after_fork_in_child()


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
    )

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        # None until their probes were started.
        self._heap: HeapAccount | None = None
        self._rss: Account | None = None
        self._heap_tab: Any = None if accounts.heap is None else accounts.heap.tab()
        self._rss_tab: Any = None if accounts.rss is None else accounts.rss.tab()
        self._rss_before_bytes = 0
        self._shared = self._closed = False
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
            if rss is not None:
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

    def share(self) -> None:
        """Say that others may be in the heap's numbers, for a reason that is known elsewhere."""
        self._shared = True

    def resume(self, held: object = None) -> None:
        """A step of the call begins.

        Args:
            held: What the heap account's `hold` returned, where it was called.
        """
        accounts = self._accounts
        try:
            if self._rss is not None:
                first = not self._rss_tab.charged
                self._rss.charge(self._rss_tab)
                if first:
                    self._rss_before_bytes = self._rss_tab.base_bytes
        except Exception as error:
            self._fail(self._rss_tab, error)
        self._count_collections(-1)
        # The heap comes last, and first in `pause`, so that no other reading is in its numbers.
        try:
            if self._heap is not None:
                self._resume_heap(self._heap, held)
            elif accounts.heap is not None and held is not None:
                accounts.heap.unhold(held)
        except Exception as error:
            self._fail(self._heap_tab, error)

    def _resume_heap(self, heap: HeapAccount, held: object) -> None:
        if not heap.probe.per_thread:
            self._shared = self._shared or not heap.alone
            self._others_ns = _others_at_most_ns()
        heap.charge(self._heap_tab, held)

    def pause(self) -> object:
        """The step has ended; return the heap account's hold, for `unhold`."""
        held = None
        try:
            if self._heap is not None and self._heap_tab.open:
                held = self._pause_heap(self._heap)
        except Exception as error:
            self._fail(self._heap_tab, error)
        self._count_collections(1)
        try:
            if self._rss is not None and self._rss_tab.open:
                self._rss.release(self._rss_tab)
        except Exception as error:
            self._fail(self._rss_tab, error)
        return held

    def _pause_heap(self, heap: HeapAccount) -> object:
        held = heap.release(self._heap_tab)
        if not heap.probe.per_thread:
            # Processor time of others tells also of threads that came and went unseen.
            others_ns = _others_at_least_ns() - self._others_ns
            self._shared = self._shared or others_ns > _CLOCKS_NS or not heap.alone
        return held

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
        numbers: dict[str, Any] = {
            "duration_ns": self._duration_ns if self._duration_ns >= 0 else None,
            "gc_time_ns": self._gc_time_ns if self._gc_time_ns >= 0 else None,
            "gc_collections": self._collections,
        }
        heap, rss = self._heap, self._rss
        if heap is not None and _is_known(tab := self._heap_tab):
            numbers["probe"] = heap.probe.name
            numbers["attribution"] = "process" if self._shared else "exact"
            numbers["heap_net_bytes"] = tab.net_bytes
            numbers["heap_peak_bytes"] = tab.peak_bytes
            numbers["gc_reclaimed_bytes"] = self._reclaimed_bytes
            if heap.counts_gross:
                numbers["heap_allocated_bytes"] = tab.allocated_bytes
                numbers["heap_allocations"] = tab.allocations
        if rss is not None and _is_known(tab := self._rss_tab):
            before_bytes = self._rss_before_bytes
            numbers["rss_before_bytes"] = before_bytes
            numbers["rss_net_bytes"] = tab.net_bytes
            numbers["rss_peak_bytes"] = before_bytes + tab.peak_bytes
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


class TimedWindow(Window):
    """A window of a call of which it is known how long our own work for it takes.

    Our work ends just before the heap is charged, and begins when it is charged no more: what the
    clock itself takes is in no number of the call. Nor is our work at either end in its duration,
    which would be told many times over where the call stands for many.

    Args:
        accounts: Where to open tabs.
        turns: Where to add the time.
        sample_ratio: What the Measurement tells of it.
        began_ns: When our work for the call began.
    """

    __slots__ = ("_began_ns", "_sample_ratio", "_stepped", "_turns")

    def __init__(
        self, accounts: Accounts, turns: Turns, sample_ratio: float | None, began_ns: int
    ) -> None:
        super().__init__(accounts)
        self._turns = turns
        self._sample_ratio = sample_ratio
        self._began_ns = began_ns
        self._stepped = False

    def begin_own(self) -> None:
        """Our work begins; nothing where it has begun."""
        self._began_ns = self._began_ns or time.perf_counter_ns()

    def end_own(self) -> None:
        """Our work ends; nothing where it has ended."""
        if self._began_ns:
            self._turns.own_ns += time.perf_counter_ns() - self._began_ns
            self._began_ns = 0

    def close(self) -> None:
        """Let the probes go."""
        ended_ns = self._began_ns
        try:
            super().close()
        finally:
            if ended_ns and self._stepped:
                self._duration_ns = ended_ns - self._opened_ns

    def numbers(self) -> dict[str, Any]:
        """Return the fields of the call's Measurement, once the window is closed."""
        return {**super().numbers(), "sample_ratio": self._sample_ratio}

    def _count_collections(self, sign: int) -> None:
        super()._count_collections(sign)
        if sign > 0:
            self.begin_own()
            return
        self.end_own()
        if not self._stepped:
            self._stepped = True
            self._opened_ns = time.perf_counter_ns()


def _heap_account(probe: NativeProbe | TracemallocProbe) -> HeapAccount:
    if isinstance(probe, NativeProbe):
        from stratatrace.compiled import NativeAccount  # noqa: PLC0415 -- it is not always there

        return NativeAccount(probe)
    return PythonAccount(probe, leftovers())


def _resident_account(probe: ResidentProbe) -> Account:
    if isinstance(probe, HighWaterProbe) and probe.by_getrusage and native_obstacle() is None:
        from stratatrace.compiled import HighWaterAccount  # noqa: PLC0415 -- it is not always there

        return HighWaterAccount(probe)
    return PythonAccount(probe)


def _is_known(tab: Tab) -> bool:
    return tab.charged and not tab.failed


def _others_at_least_ns() -> int:
    """Return the processor time that the other threads have taken so far, or a little less."""
    return time.process_time_ns() - time.thread_time_ns()


def _others_at_most_ns() -> int:
    """Return the processor time that the other threads have taken so far, or a little more."""
    return -time.thread_time_ns() + time.process_time_ns()
