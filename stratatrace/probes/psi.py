"""Pressure stall information (Linux): the share of time that tasks have waited for memory.

Use tells how near a limit is; waiting tells that it is felt already, because the kernel takes back
pages which are needed again. See the kernel's description of PSI.
"""

from __future__ import annotations

import contextlib
from typing import NamedTuple

from stratatrace.probes.files import read_file

__all__ = ["Stall", "StallProbe", "parse_stall"]

_ALL = 100.0


class Stall(NamedTuple):
    """Shares of wall time, in percent, averaged by the kernel over 10 and over 60 seconds."""

    #: At least one task waited.
    some_avg10_percent: float
    some_avg60_percent: float
    #: No task could run, because all waited; None where the kernel does not say.
    full_avg10_percent: float | None


class StallProbe:
    """Reads how long the tasks of the whole system have waited for memory.

    Args:
        root: The folder in which ``proc`` is; another one in tests.
    """

    def __init__(self, root: str = "/") -> None:
        self._path = f"{root.rstrip('/')}/proc/pressure/memory"

    def read(self) -> Stall | None:
        """Return the shares now; None where the kernel does not count them."""
        return parse_stall(read_file(self._path))


def parse_stall(text: str | None) -> Stall | None:
    """Return the shares that are written in *text*; None where they are not."""
    shares: dict[str, float] = {}
    for line in (text or "").splitlines():
        kind, _, rest = line.strip().partition(" ")
        for field in rest.split():
            name, _, value = field.partition("=")
            with contextlib.suppress(ValueError):
                shares[f"{kind} {name}"] = float(value)
    some10, some60 = shares.get("some avg10"), shares.get("some avg60")
    if some10 is None or some60 is None or not 0 <= some10 <= _ALL or not 0 <= some60 <= _ALL:
        return None
    full10 = shares.get("full avg10")
    return Stall(some10, some60, full10 if full10 is not None and 0 <= full10 <= _ALL else None)
