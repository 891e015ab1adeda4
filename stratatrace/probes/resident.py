"""Resident memory of the whole process, and its peak.

On Linux the kernel keeps a high-water mark of the resident set; writing ``5`` to
``/proc/self/clear_refs`` sets it back to the present level in half a microsecond, whatever the size
of the process. Read, reset and read again, it gives the exact peak of any stretch of time.
See proc(5), ``/proc/pid/clear_refs``.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Protocol

import psutil

from stratatrace.errors import ProbeError
from stratatrace.measurement import Reading, RssPeakMethod

if sys.platform != "win32":
    import resource

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["HighWaterProbe", "LifetimeProbe", "ResidentProbe", "resident_probe"]

_RESET_HIGH_WATER_MARK = b"5"
# macOS gives ru_maxrss in bytes, the others in KiB.
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024
# The kernel adds up the resident set from counters that each CPU keeps in batches of pages.
_MARK_SLACK_BYTES = 1 << 20


class ResidentProbe(Protocol):
    """A probe of resident memory, which also says what its peaks are worth."""

    name: str
    method: RssPeakMethod

    def start(self) -> None:
        """Open what it reads from."""

    def stop(self) -> None:
        """Close it."""

    def mark(self) -> Reading:
        """Return the resident bytes now and their peak."""
        ...

    def after_fork_in_child(self) -> None:
        """Open anew what would go on reading the parent."""


def resident_probe() -> ResidentProbe:
    """Return the most exact probe of resident memory that this system allows."""
    probe = HighWaterProbe()
    with contextlib.suppress(OSError, ProbeError):
        probe.start()
        return probe
    fallback = LifetimeProbe()
    fallback.start()
    return fallback


class HighWaterProbe:
    """The exact peak of each stretch, by resetting the kernel's high-water mark (Linux).

    The reset is seen by others who read the mark, a parent's ``wait4`` among them, so the highest
    of the whole life is kept in `lifetime_peak_bytes`.
    """

    name = "rss"
    method: RssPeakMethod = "hwm"

    def __init__(self) -> None:
        self.lifetime_peak_bytes = 0
        self._reset_fd = -1
        self._status_fd = -1
        self._high_water: Callable[[], int] = _maxrss_bytes

    def start(self) -> None:
        """Open the kernel's files.

        Raises:
            OSError: The system has no such files, or does not let this process open them.
            ProbeError: The mark cannot be reset (some sandboxes accept the write and ignore it).
        """
        self._reset_fd = os.open("/proc/self/clear_refs", os.O_WRONLY)
        self._status_fd = os.open("/proc/self/status", os.O_RDONLY)
        self._high_water = _maxrss_bytes
        self.lifetime_peak_bytes = _maxrss_bytes()
        os.write(self._reset_fd, _RESET_HIGH_WATER_MARK)
        high_water_bytes, level_bytes = self._status("VmHWM"), self._status("VmRSS")
        if high_water_bytes > level_bytes + _MARK_SLACK_BYTES:
            self.stop()
            msg = f"the high-water mark stayed at {high_water_bytes} bytes when it was reset"
            raise ProbeError(msg)
        # getrusage is ten times cheaper than the text of the status file, but never goes below
        # the peak of the program that this process was before its last exec.
        if _maxrss_bytes() > level_bytes + _MARK_SLACK_BYTES:
            self._high_water = lambda: self._status("VmHWM")

    def stop(self) -> None:
        """Close the kernel's files."""
        for descriptor in (self._reset_fd, self._status_fd):
            if descriptor >= 0:
                os.close(descriptor)
        self._reset_fd = self._status_fd = -1

    # Calls that are under way may outlive the recorder's replacement, and the probe with them.
    __del__ = stop

    def mark(self) -> Reading:
        """Return the resident bytes now and their exact peak since the last mark."""
        peak_bytes = self._high_water()
        if peak_bytes > self.lifetime_peak_bytes:  # noqa: PLR1730 -- max() costs twice as much
            self.lifetime_peak_bytes = peak_bytes
        os.write(self._reset_fd, _RESET_HIGH_WATER_MARK)
        return Reading(self._high_water(), peak_bytes)

    def after_fork_in_child(self) -> None:
        """Open the child's own files: the inherited ones read, and reset, the parent."""
        self.stop()
        self.start()

    def _status(self, field: str) -> int:
        text = os.pread(self._status_fd, 4096, 0)
        return int(text.partition(f"\n{field}:".encode())[2].split(None, 1)[0]) * 1024


class LifetimeProbe:
    """The level now, and the highest of the process's whole life: an upper bound for any stretch.

    For systems where the high-water mark cannot be reset. The level is read from
    ``/proc/self/statm`` through a kept descriptor where there is one, else by psutil.
    """

    name = "rss"
    method: RssPeakMethod = "lifetime"

    def __init__(self) -> None:
        self._statm_fd = -1
        self._process: psutil.Process | None = None

    def start(self) -> None:
        """Open the kernel's file, or make ready to ask psutil."""
        try:
            self._statm_fd = os.open("/proc/self/statm", os.O_RDONLY)
        except OSError:
            self._process = psutil.Process()

    def stop(self) -> None:
        """Close the kernel's file."""
        if self._statm_fd >= 0:
            os.close(self._statm_fd)
        self._statm_fd = -1
        self._process = None

    __del__ = stop

    def mark(self) -> Reading:
        """Return the resident bytes now and the highest of the process's life."""
        level_bytes = self._level()
        return Reading(level_bytes, max(level_bytes, self._lifetime_peak()))

    def after_fork_in_child(self) -> None:
        """Open the child's own file."""
        self.stop()
        self.start()

    def _level(self) -> int:
        if self._process is not None:
            return self._process.memory_info().rss
        return int(os.pread(self._statm_fd, 128, 0).split(b" ", 2)[1]) * _PAGE_BYTES

    def _lifetime_peak(self) -> int:
        if sys.platform == "win32":
            return psutil.Process().memory_info().peak_wset
        return _maxrss_bytes()


if sys.platform == "win32":
    _PAGE_BYTES = 4096

    def _maxrss_bytes() -> int:
        return psutil.Process().memory_info().peak_wset

else:
    _PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

    def _maxrss_bytes() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_UNIT
