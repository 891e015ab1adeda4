"""The memory of the whole machine, and what of it could be had without swapping."""

from __future__ import annotations

from typing import NamedTuple

import psutil

from stratatrace.probes.files import read_file

__all__ = ["MachineProbe", "MachineUse"]


class MachineUse(NamedTuple):
    """The memory of a machine, in bytes."""

    total_bytes: int
    available_bytes: int


class MachineProbe:
    """Reads ``/proc/meminfo``; where there is none, psutil is asked.

    Args:
        root: The folder in which ``proc`` is; another one in tests, where psutil is not asked.
    """

    def __init__(self, root: str = "/") -> None:
        self._path = f"{root.rstrip('/')}/proc/meminfo"
        self._real = root == "/"

    def read(self) -> MachineUse | None:
        """Return total and available memory; None where neither source knows them."""
        text = read_file(self._path)
        use = _parsed(text) if text is not None else None
        if use is None and self._real:
            try:
                memory = psutil.virtual_memory()
            except Exception:  # Also RuntimeError and KeyError, for files that look otherwise.
                return None
            use = MachineUse(memory.total, memory.available)
        return use


def _parsed(text: str) -> MachineUse | None:
    fields: dict[str, int] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        number = value.removesuffix("kB").strip()
        if number.isascii() and number.isdigit():
            fields[name] = int(number) * 1024
    total_bytes = fields.get("MemTotal", 0)
    available_bytes = fields.get("MemAvailable")
    if available_bytes is None and "MemFree" in fields:
        # Kernels before 3.14, and some sandboxes, leave the estimate to us.
        reclaimable = (fields.get(name, 0) for name in ("Buffers", "Cached", "SReclaimable"))
        available_bytes = fields["MemFree"] + sum(reclaimable) - fields.get("Shmem", 0)
    if not total_bytes or available_bytes is None:
        return None
    return MachineUse(total_bytes, min(max(available_bytes, 0), total_bytes))
