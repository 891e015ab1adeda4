"""How much memory the process uses now: what a limit is held against.

Two numbers, of one read where the system has them in one place. *Resident* is what the process
really takes, shared memory and mapped files included. *Data* is its private writable address space,
touched or not, which is what the kernel holds against RLIMIT_DATA.
"""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

import psutil

from stratatrace.probes.files import open_high

if sys.platform != "win32":
    import resource

__all__ = ["Usage", "UsageReader"]

_STATM = "/proc/self/statm"
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if sys.platform != "win32" else 4096
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024


class Usage(NamedTuple):
    """What the process uses."""

    #: Resident memory, in bytes.
    resident_bytes: int
    #: Private writable address space with the stacks, in bytes; None where nobody tells.
    data_bytes: int | None
    #: The whole address space, in bytes; None where nobody tells.
    address_bytes: int | None


class UsageReader:
    """Reads ``/proc/self/statm`` through a kept descriptor; psutil where there is no such file.

    Where neither can be had (a Linux without /proc), the highest resident memory of the process's
    life stands for the present one: a limit then sees only what goes beyond all that was before.
    """

    def __init__(self, path: str = _STATM) -> None:
        self._path = path
        self._statm_fd = -1
        self._process: psutil.Process | None = None

    def read(self) -> Usage:
        """Return what is used now."""
        if self._statm_fd >= 0:
            try:
                return _parsed(os.pread(self._statm_fd, 128, 0))
            except (OSError, ValueError, IndexError):
                self._statm_fd = -1  # Somebody has closed all descriptors: it may be another's.
        try:
            self._statm_fd = open_high(self._path, os.O_RDONLY)
            return _parsed(os.pread(self._statm_fd, 128, 0))
        except (OSError, ValueError, IndexError):
            self.close()
            return self._read_elsewhere()

    def read_other(self) -> int | None:
        """Return the resident memory of the process that the file is of; None where it is gone."""
        try:
            if self._statm_fd < 0:
                self._statm_fd = open_high(self._path, os.O_RDONLY)
            return _parsed(os.pread(self._statm_fd, 128, 0)).resident_bytes
        except (OSError, ValueError, IndexError):
            return None

    def close(self) -> None:
        """Let the descriptor go; the next read opens it again."""
        descriptor, self._statm_fd = self._statm_fd, -1
        if descriptor >= 0:
            try:
                os.close(descriptor)
            except OSError:
                return  # Somebody has closed all descriptors.

    def after_fork_in_child(self) -> None:
        """Open the child's own file: the inherited descriptor reads the parent."""
        self.close()
        self._process = None

    def _read_elsewhere(self) -> Usage:
        try:
            if self._process is None:
                self._process = psutil.Process()
            return Usage(self._process.memory_info().rss, None, None)
        except (psutil.Error, OSError):
            return Usage(_highest_bytes(), None, None)


def _parsed(text: bytes) -> Usage:
    size, resident, _shared, _text, _lib, data = text.split()[:6]
    return Usage(int(resident) * _PAGE_BYTES, int(data) * _PAGE_BYTES, int(size) * _PAGE_BYTES)


if sys.platform == "win32":

    def _highest_bytes() -> int:
        return psutil.Process().memory_info().peak_wset

else:

    def _highest_bytes() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_UNIT
