"""A peak that the system keeps once for all, though several probes set it back for themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol
from weakref import ref

if TYPE_CHECKING:
    from collections.abc import MutableSequence

__all__ = ["SharedPeak"]


class _Marking(Protocol):
    """Who sets it back."""

    #: The highest that others have set back since this one last looked, in bytes.
    missed_bytes: int


class SharedPeak:
    """Tells each probe of the peaks that another has set back.

    There are several where one recorder takes over while calls of another run, and where a test is
    measured that measures by itself.
    """

    def __init__(self) -> None:
        # A plain list: to add one, or to take one out, is all that is done to it.
        self._probes: MutableSequence[ref[_Marking]] = []

    def join(self, probe: _Marking) -> None:
        """Tell *probe*, too, for as long as it lives."""
        probe.missed_bytes = 0
        self._probes.append(ref(probe, self._probes.remove))

    def seen(self, probe: _Marking, peak_bytes: int) -> int:
        """Take a peak that *probe* sets back; return the highest since it did so last."""
        if len(self._probes) > 1:
            for reference in self._probes:
                other = reference()
                if other is not None and other is not probe and other.missed_bytes < peak_bytes:
                    other.missed_bytes = peak_bytes
        peak_bytes = max(peak_bytes, probe.missed_bytes)
        probe.missed_bytes = 0
        return peak_bytes
