"""Accounts that the compiled part keeps: of each thread's heap, and of the resident memory.

They say of a tab what `accounts.Account` says, at a tenth of its price. To be imported only where
the compiled part is there: see `stratatrace.probes.native_obstacle`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stratatrace.probes import _counters

if TYPE_CHECKING:
    from stratatrace.probes import HighWaterProbe, NativeProbe

__all__ = ["HighWaterAccount", "NativeAccount"]


class _Unlocked:
    """An account that no thread can be in the midst of: it is changed while the GIL is held."""

    def before_fork(self) -> None:
        """Do nothing."""

    def after_fork_in_parent(self) -> None:
        """Do nothing."""


class NativeAccount(_Unlocked, _counters.HeapAccount):
    """The ledger of the heap of whichever thread uses it.

    Our own work is left out: the thread's counters are put back to where they stood before it.
    """

    tab = _counters.Tab
    counts_gross = True
    #: No other thread can be in the numbers.
    alone = True

    def __init__(self, probe: NativeProbe) -> None:
        self.probe = probe

    def calibrate(self) -> None:
        """Do nothing: an empty stretch reads zero."""

    def after_fork_in_child(self) -> None:
        """Forget the parent's tabs."""
        self.probe.after_fork_in_child()
        _counters.after_fork_in_child()


class HighWaterAccount(_Unlocked, _counters.ResidentAccount):
    """The ledger of the process's resident memory, by the kernel's high-water mark (Linux)."""

    tab = _counters.Tab

    def __init__(self, probe: HighWaterProbe) -> None:
        self.probe = probe
        self.descriptor = probe.reset_fd

    def after_fork_in_child(self) -> None:
        """Forget the parent's tabs, and read the child's own memory."""
        self.probe.after_fork_in_child()
        self.descriptor = self.probe.reset_fd
        _counters.after_fork_in_child()
