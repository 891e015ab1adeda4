"""Resident memory of the whole process, and its peak.

On Linux the kernel keeps a high-water mark of the resident set; writing ``5`` to
``/proc/self/clear_refs`` sets it back to the present level in half a microsecond, whatever the size
of the process. Read, reset and read again, it gives the exact peak of any stretch of time.
See proc(5), ``/proc/pid/clear_refs``.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Protocol

import psutil

from stratatrace.errors import ProbeError
from stratatrace.measurement import Reading, RssPeakMethod
from stratatrace.probes.files import open_high
from stratatrace.probes.peaks import SharedPeak

if sys.platform != "win32":
    import resource

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "RSS_PEAKS",
    "HighWaterProbe",
    "LifetimeProbe",
    "ResidentProbe",
    "SampledProbe",
    "resident_probe",
]

#: What `configure(rss_peak=)` accepts, and what each means.
RSS_PEAKS = {
    "auto": "exact where the kernel's high-water mark can be reset, else sampled by a thread",
    "sampled": "sampled by a thread while a call is measured, which can miss a short spike",
    "lifetime": "the highest of the process's whole life; resets nothing and starts no thread",
    "off": "resident memory is not measured, which saves a call some three microseconds",
}

_RESET_HIGH_WATER_MARK = b"5"
# macOS gives ru_maxrss in bytes, the others in KiB.
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024
# The kernel adds up the resident set from counters that each CPU keeps in batches of pages.
_MARK_SLACK_BYTES = 1 << 20
_SAMPLE_SECONDS = 0.01
_high_water_mark = SharedPeak()


class ResidentProbe(Protocol):
    """A probe of resident memory, which also says what its peaks are worth."""

    @property
    def name(self) -> str:
        """``rss``."""
        ...

    @property
    def per_thread(self) -> bool:
        """Resident memory is the process's."""
        ...

    @property
    def method(self) -> RssPeakMethod:
        """What its peaks are worth."""
        ...

    def start(self) -> None:
        """A window opens."""

    def stop(self) -> None:
        """A window has closed."""

    def mark(self) -> Reading:
        """Return the resident bytes now and their peak."""
        ...

    def after_fork_in_child(self) -> None:
        """Open anew what would go on reading the parent."""


def resident_probe(rss_peak: str = "auto") -> ResidentProbe | None:
    """Return the probe of resident memory that finds its peak in that way; None where none shall.

    Args:
        rss_peak: One of `RSS_PEAKS`.
    """
    if rss_peak == "off":
        return None
    if rss_peak == "lifetime":
        return LifetimeProbe()
    if rss_peak == "auto":
        try:
            return HighWaterProbe()
        except (OSError, ProbeError):
            pass
    return SampledProbe()


class HighWaterProbe:
    """The exact peak of each stretch, by resetting the kernel's high-water mark (Linux).

    The reset is seen by others who read the mark, a parent's ``wait4`` among them, so the highest
    of the whole life is kept in `lifetime_peak_bytes`.

    Raises:
        OSError: The system has no such files, or does not let this process open them.
        ProbeError: The mark cannot be reset (some sandboxes accept the write and ignore it).
    """

    name = "rss"
    per_thread = False
    method: RssPeakMethod = "hwm"

    def __init__(self) -> None:
        #: Of ``/proc/self/clear_refs``, open for writing.
        self.reset_fd = -1
        self._status_fd = -1
        self.lifetime_peak_bytes = 0
        self.missed_bytes = 0
        self._open()
        _high_water_mark.join(self)

    def start(self) -> None:
        """Do nothing: the kernel counts always."""

    def stop(self) -> None:
        """Do nothing."""

    def mark(self) -> Reading:
        """Return the resident bytes now and their exact peak since the last mark."""
        peak_bytes = self._high_water()
        if peak_bytes > self.lifetime_peak_bytes:  # noqa: PLR1730 -- max() costs twice as much
            self.lifetime_peak_bytes = peak_bytes
        os.write(self.reset_fd, _RESET_HIGH_WATER_MARK)
        return Reading(self._high_water(), _high_water_mark.seen(self, peak_bytes))

    def after_fork_in_child(self) -> None:
        """Open the child's own files: the inherited ones read, and reset, the parent."""
        self._close()
        self.missed_bytes = 0
        self._open()

    def _open(self) -> None:
        self.reset_fd = open_high("/proc/self/clear_refs", os.O_WRONLY)
        self._status_fd = open_high("/proc/self/status", os.O_RDONLY)
        self._high_water: Callable[[], int] = _maxrss_bytes
        self.lifetime_peak_bytes = _maxrss_bytes()
        os.write(self.reset_fd, _RESET_HIGH_WATER_MARK)
        high_water_bytes, level_bytes = self._status("VmHWM"), self._status("VmRSS")
        if high_water_bytes > level_bytes + _MARK_SLACK_BYTES:
            msg = f"the high-water mark stayed at {high_water_bytes} bytes when it was reset"
            raise ProbeError(msg)
        # getrusage is ten times cheaper than the text of the status file, but never goes below
        # the peak of the program that this process was before its last exec.
        if _maxrss_bytes() > level_bytes + _MARK_SLACK_BYTES:
            self._high_water = self._status_high_water

    @property
    def by_getrusage(self) -> bool:
        """Whether getrusage tells the mark, and not only the text of the status file."""
        return self._high_water is _maxrss_bytes

    def _close(self) -> None:
        for descriptor in (self.reset_fd, self._status_fd):
            if descriptor >= 0:
                os.close(descriptor)
        self.reset_fd = self._status_fd = -1

    # Not closed by the recorder: calls that are under way may outlive it, and the probe with them.
    __del__ = _close

    def _status_high_water(self) -> int:
        return self._status("VmHWM")

    def _status(self, field: str) -> int:
        text = os.pread(self._status_fd, 4096, 0)
        return int(text.partition(f"\n{field}:".encode())[2].split(None, 1)[0]) * 1024


class LifetimeProbe:
    """The level now, and the highest of the process's whole life: an upper bound for any stretch.

    The level is read from ``/proc/self/statm`` through a kept descriptor where there is one, else
    by psutil.
    """

    name = "rss"
    per_thread = False
    method: RssPeakMethod = "lifetime"

    def __init__(self) -> None:
        self._statm_fd = -1
        self._process: psutil.Process | None = None
        self._open()

    def start(self) -> None:
        """Do nothing: the kernel counts always."""

    def stop(self) -> None:
        """Do nothing."""

    def mark(self) -> Reading:
        """Return the resident bytes now and the highest of the process's life."""
        level_bytes = self._level()
        return Reading(level_bytes, max(level_bytes, _maxrss_bytes()))

    def after_fork_in_child(self) -> None:
        """Open the child's own file."""
        self._close()
        self._open()

    def _open(self) -> None:
        try:
            self._statm_fd = open_high("/proc/self/statm", os.O_RDONLY)
        except OSError:
            self._process = psutil.Process()

    def _close(self) -> None:
        if self._statm_fd >= 0:
            os.close(self._statm_fd)
        self._statm_fd = -1

    __del__ = _close

    def _level(self) -> int:
        if self._process is not None:
            return self._process.memory_info().rss
        return int(os.pread(self._statm_fd, 128, 0).split(b" ", 2)[1]) * _PAGE_BYTES


class SampledProbe(LifetimeProbe):
    """The level now, and the highest that a thread has seen since the last mark.

    The thread runs while a window is open. It misses a spike that is shorter than its period, or
    that happens while C code keeps other threads from running.
    """

    method: RssPeakMethod = "sampled"

    def __init__(self) -> None:
        super().__init__()
        self._users = 0
        self._highest_bytes = 0
        self._idle = threading.Event()
        self._lock = threading.RLock()

    def start(self) -> None:
        """Begin to sample with the first window."""
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._idle = threading.Event()
                threading.Thread(
                    target=self._sample, args=(self._idle,), name="stratatrace-rss", daemon=True
                ).start()

    def stop(self) -> None:
        """End sampling with the last window."""
        with self._lock:
            self._users -= 1
            if not self._users:
                self._idle.set()

    def mark(self) -> Reading:
        """Return the resident bytes now and the highest that was seen since the last mark."""
        with self._lock:
            level_bytes = self._level()
            peak_bytes = max(level_bytes, self._highest_bytes)
            self._highest_bytes = level_bytes
            return Reading(level_bytes, peak_bytes)

    def after_fork_in_child(self) -> None:
        """Open the child's own file; the thread is started again by the next window."""
        super().after_fork_in_child()
        self._lock = threading.RLock()
        self._users = 0

    def _sample(self, idle: threading.Event) -> None:
        while not idle.wait(_SAMPLE_SECONDS):
            with self._lock:
                self._highest_bytes = max(self._highest_bytes, self._level())


if sys.platform == "win32":
    _PAGE_BYTES = 4096

    def _maxrss_bytes() -> int:
        return psutil.Process().memory_info().peak_wset

else:
    _PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

    def _maxrss_bytes() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_UNIT
