"""What measures tests: accounts of its own, so that nobody's configuration is touched.

Neither the recorder of the program under test is asked or replaced, nor one made, and no telemetry
is emitted. Tests that measure by themselves do so within, as if nobody else did.
"""

from __future__ import annotations

import os
import weakref
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from stratatrace.errors import NotReadyError
from stratatrace.following import takes_turns
from stratatrace.measurement import Callsite, Measurement
from stratatrace.probes import (
    CollectorProbe,
    count_arrays,
    heap_probe,
    native_obstacle,
    resident_probe,
)
from stratatrace.pytest_plugin.threads import following_threads
from stratatrace.recorder import active
from stratatrace.sizes import format_size
from stratatrace.windows import Accounts, Window

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from stratatrace.typing import HeapAccount

__all__ = ["Measured", "Meter", "Reading"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one call of a test, or a block of one, has taken."""

    measurement: Measurement
    #: Why there is less than there should be; None where there is all.
    obstacle: str | None = None

    @property
    def heap_peak_bytes(self) -> int | None:
        """The highest that the heap stood above its level at the start."""
        return self.measurement.heap_peak_bytes

    @property
    def rss_peak_growth_bytes(self) -> int | None:
        """By how much the process's resident memory rose above its level at the start, at most."""
        peak_bytes, before_bytes = (
            self.measurement.rss_peak_bytes,
            self.measurement.rss_before_bytes,
        )
        if peak_bytes is None or before_bytes is None:
            return None
        return peak_bytes - before_bytes

    def told(self) -> str:
        """Return a line on how it was measured."""
        measurement = self.measurement
        if measurement.probe is None:
            return f"the heap was not measured: {self.obstacle or 'nothing here can tell it'}"
        whose = (
            "the test's own, and of threads that it started"
            if measurement.attribution == "exact" and measurement.probe == "native"
            else "the test's own"
            if measurement.attribution == "exact"
            else "other threads or tasks may be in it"
        )
        kept = "" if measurement.heap_net_bytes is None else _kept(measurement.heap_net_bytes)
        return f"heap by {measurement.probe}: {whose}{kept}"


class Meter:
    """Measures from `open` to `close`; windows may be nested.

    It counts between windows too, so that memory from a fixture is seen to go when a test frees it.
    """

    def __init__(self) -> None:
        self._heap_probe = heap_probe("auto", always=True)
        accounts = Accounts.of(self._heap_probe, resident_probe())
        ledger = None if accounts.heap is None else _Ledger(accounts.heap)
        self.accounts = replace(accounts, collector=CollectorProbe(ledger))
        self._opened = 0
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_forked(weakref.ref(self)))

    @property
    def probe(self) -> str:
        """What counts the heap: ``native`` or ``tracemalloc``."""
        return "none" if self._heap_probe is None else self._heap_probe.name

    def open(self) -> None:
        """Begin to count, once more."""
        self._opened += 1
        if self._opened == 1:
            self.accounts.collector.start()
            if self._heap_probe is not None:
                self._heap_probe.open()

    def close(self) -> None:
        """End what `open` began."""
        self._opened -= 1
        if not self._opened:
            self.accounts.collector.stop()
            if self._heap_probe is not None:
                self._heap_probe.close()

    def begin(self, name: str, *, dropped_bytes: int = 0) -> Reading:
        """Return what measures from now on.

        Args:
            name: What is measured.
            dropped_bytes: The size of what was there before, and is dropped when it ends.
        """
        return Reading(self.accounts, name, dropped_bytes)

    def following_threads(self) -> AbstractContextManager[None]:
        """Have threads that are started within the block charged to whoever starts them."""
        return following_threads(self.accounts.heap)


class Reading:
    """A stretch that is measured from when this is made until `end`, in the same thread."""

    def __init__(self, accounts: Accounts, name: str, dropped_bytes: int) -> None:
        self._heap = heap = accounts.heap
        self._name = name
        self._measured: Measured | None = None
        if native_obstacle() is None:
            count_arrays()  # Who imports numpy has imported it by now, or does so uncounted.
        held = None if heap is None else heap.hold()
        self._window: Window | None = Window(accounts)
        porous = heap is not None and takes_turns(heap)
        self._window.open(trace_heap=True, porous=porous)
        self._window.resume(held)
        if heap is not None and dropped_bytes:
            heap.unhold(heap.hold(), dropped_bytes)

    def end(self) -> Measured:
        """End measuring.

        Raises:
            NotReadyError: It has ended before.
        """
        window, self._window = self._window, None
        if window is None:
            msg = f"{self._name} was measured to its end before"
            raise NotReadyError(msg)
        held: Any = window.pause()
        if held is None and self._heap is not None:
            held = self._heap.hold()
        obstacle = None
        try:
            window.close()
        except Exception as error:
            obstacle = str(error)
        callsite = Callsite(name=self._name, function=self._name)
        measured = Measured(
            measurement=Measurement(callsite=callsite, **window.numbers()), obstacle=obstacle
        )
        if self._heap is not None and held is not None:
            self._heap.unhold(held)
        return measured


class _Ledger:
    """Keeps what a collection frees away from the test that it happens to run in.

    Where the program's own recorder counts natively too, its collector has that done already, for
    both: whoever holds within another's hold would take its numbers.
    """

    def __init__(self, heap: HeapAccount) -> None:
        self._heap = heap

    def hold(self) -> Any:
        """Stop charging, unless somebody else does."""
        if self._heap.probe.per_thread and active.enabled and active.started:
            theirs = active.recorder.accounts.heap
            if theirs is not None and theirs.probe.per_thread:
                return None
        return self._heap.hold()

    def unhold(self, held: Any) -> int:
        """Go on charging."""
        return self._heap.unhold(held)

    def collected(self, time_ns: int, reclaimed_bytes: int, /) -> None:
        """Do nothing: this tells the sums of the program's own recorder."""


def _forked(reference: weakref.ref[Meter]) -> Any:
    def in_child() -> None:
        meter = reference()
        if meter is not None:
            meter.accounts.after_fork_in_child()

    return in_child


def _kept(net_bytes: int) -> str:
    return f"; {format_size(net_bytes)} was kept" if net_bytes > 0 else ""
