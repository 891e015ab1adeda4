"""The memory of this process, or of it and all its descendants together.

Forked processes share pages, and the resident set of each has all of them: added up, they count
many times. The proportional set (PSS) has of each page the share that is one process's own, and can
be added up; the kernel walks all pages to find it, which takes some 15 ms for each GB.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Literal, NamedTuple

import psutil

from stratatrace.errors import ProbeError
from stratatrace.probes.files import read_file

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MemoryMethod", "ProcessReading", "ProcessesProbe"]

MemoryMethod = Literal["rss", "pss", "mixed"]

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if sys.platform != "win32" else 4096
# A tree that is this large is not followed to its end.
_MOST_PROCESSES = 10_000


class ProcessReading(NamedTuple):
    """What processes use together, at about one moment."""

    used_bytes: int
    #: How many processes that is of.
    processes: int
    #: ``rss``: resident sets; ``pss``: proportional sets; ``mixed``: proportional sets, but
    #: resident ones of the processes that do not let theirs be read.
    method: MemoryMethod
    #: The kernel's high-water mark of the resident set, in bytes; None for several processes, and
    #: where there is none.
    high_water_bytes: int | None = None


class ProcessesProbe:
    """Reads the calling process, or it and its descendants.

    A descendant whose parent has ended is no longer one: the system's first process adopts it.

    Args:
        children: Whether descendants count. Then proportional sets are added up where they can be
            read; else it is the resident set, which takes a thousandth of the time.
        root: The folder in which ``proc`` is; another one in tests, where psutil is not asked.
        pid: The process; None for the calling one, whichever that is at the time.
    """

    def __init__(self, *, children: bool = False, root: str = "/", pid: int | None = None) -> None:
        self._children = children
        self._proc = f"{root.rstrip('/')}/proc"
        self._real = root == "/"
        self._pid = pid

    def read(self) -> ProcessReading:
        """Return what is in use now.

        Raises:
            ProbeError: Neither ``/proc`` nor psutil tells.
        """
        pid = os.getpid() if self._pid is None else self._pid
        reading = self._tree(pid) if self._children else self._single(pid)
        if reading is None and self._real:
            reading = _by_psutil(pid, children=self._children)
        if reading is None:
            msg = (
                f"the memory of process {pid} cannot be read, neither in {self._proc} nor by psutil"
            )
            raise ProbeError(msg)
        return reading

    def _single(self, pid: int) -> ProcessReading | None:
        status = read_file(f"{self._proc}/{pid}/status") or ""
        used_bytes = _field(status, "VmRSS:")
        if used_bytes is None:
            used_bytes = self._resident(pid)
        if used_bytes is None:
            return None
        return ProcessReading(used_bytes, 1, "rss", _field(status, "VmHWM:"))

    def _tree(self, pid: int) -> ProcessReading | None:
        used_bytes = processes = proportional = 0
        for each in self._descendants(pid):
            share_bytes = _field(read_file(f"{self._proc}/{each}/smaps_rollup") or "", "Pss:")
            if share_bytes is not None:
                proportional += 1
            else:
                share_bytes = self._resident(each)
            if share_bytes is not None:  # Else it has ended since it was found.
                used_bytes += share_bytes
                processes += 1
            elif each == pid:
                return None
        method: MemoryMethod = "mixed"
        if proportional in {0, processes}:
            method = "pss" if proportional else "rss"
        return ProcessReading(used_bytes, processes, method)

    def _descendants(self, pid: int) -> Iterator[int]:
        """Give the process and all below it."""
        if self._real and read_file(f"{self._proc}/{pid}/task/{pid}/children") is None:
            yield from _descendants_by_psutil(pid)
            return
        waiting, seen = [pid], set[int]()
        while waiting and len(seen) < _MOST_PROCESSES:
            each = waiting.pop()
            if each in seen:
                continue
            seen.add(each)
            yield each
            waiting += self._children_of(each)

    def _children_of(self, pid: int) -> list[int]:
        """Return the children that the threads of a process have started."""
        folder = f"{self._proc}/{pid}/task"
        try:
            with os.scandir(folder) as entries:
                threads = [entry.name for entry in entries]
        except OSError:
            return []
        found: list[int] = []
        for thread in threads:
            text = read_file(f"{folder}/{thread}/children") or ""
            found += [int(word) for word in text.split() if word.isascii() and word.isdigit()]
        return found

    def _resident(self, pid: int) -> int | None:
        fields = (read_file(f"{self._proc}/{pid}/statm") or "").split()
        if len(fields) < 2 or not fields[1].isdigit():  # noqa: PLR2004 -- see proc(5), statm
            return None
        pages = int(fields[1])
        # A process that has ended and is not waited for yet has no memory.
        return pages * _PAGE_BYTES if pages else None


def _field(text: str, name: str) -> int | None:
    """Return the bytes of a line like ``Pss:  466 kB``."""
    for line in text.splitlines():
        if line.startswith(name):
            words = line.removeprefix(name).split()
            if words and words[0].isascii() and words[0].isdigit():
                return int(words[0]) * 1024
    return None


def _by_psutil(pid: int, *, children: bool) -> ProcessReading | None:
    used_bytes = processes = 0
    for each in _descendants_by_psutil(pid) if children else (pid,):
        try:
            used_bytes += psutil.Process(each).memory_info().rss
        except Exception:  # Also OSError, for a system that shows no processes at all.
            if each == pid:
                return None
            continue
        processes += 1
    return ProcessReading(used_bytes, processes, "rss")


def _descendants_by_psutil(pid: int) -> list[int]:
    try:
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except Exception:
        return [pid]
