"""The work of the garbage collector, counted for the whole process through `gc.callbacks`."""

from __future__ import annotations

import contextlib
import gc
import time
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CollectorProbe", "Ledger"]


class Ledger(Protocol):
    """Whoever must not be charged for what a collection frees."""

    def hold(self) -> int | None:
        """Stop charging; return the level at which charging must go on."""
        ...

    def unhold(self, level_bytes: int) -> int:
        """Go on charging from that level; return the bytes that were taken meanwhile."""
        ...

    def collected(self, time_ns: int, reclaimed_bytes: int, /) -> None:
        """Learn of a collection that ran in this thread."""


class CollectorProbe:
    """Adds up time, collections and reclaimed bytes; windows take differences of the sums.

    A collection runs in the call that happened to cross the collector's threshold, so what it
    frees is somebody else's: the ledger is held meanwhile.
    """

    #: Who reads the heap and wants what is freed by collections to be seen to go: while there is
    #: somebody, no collection is looked at.
    unheard_by: ClassVar[set[int]] = set()

    def __init__(self, ledger: Ledger | None) -> None:
        self.time_ns = 0
        self.collections = 0
        self.reclaimed_bytes = 0
        self._ledger = ledger
        self._started_ns = 0
        self._level_bytes: int | None = None

    def start(self) -> None:
        """Begin to listen to the collector."""
        if self._on_collection not in gc.callbacks:
            gc.callbacks.append(self._on_collection)

    def stop(self) -> None:
        """End listening."""
        if self._on_collection in gc.callbacks:
            gc.callbacks.remove(self._on_collection)

    def _on_collection(self, phase: str, _info: Mapping[str, Any]) -> None:
        if phase == "start" and not self.unheard_by:
            with contextlib.suppress(Exception):  # The window that reads the probe reports it.
                self._level_bytes = self._ledger.hold() if self._ledger is not None else None
            self._started_ns = time.perf_counter_ns()
        elif self._started_ns:  # Else listening began in the middle of this collection.
            time_ns = time.perf_counter_ns() - self._started_ns
            self.time_ns += time_ns
            self.collections += 1
            self._started_ns = 0
            level_bytes, self._level_bytes = self._level_bytes, None
            if self._ledger is not None and level_bytes is not None:
                with contextlib.suppress(Exception):
                    reclaimed_bytes = -min(0, self._ledger.unhold(level_bytes))
                    self.reclaimed_bytes += reclaimed_bytes
                    self._ledger.collected(time_ns, reclaimed_bytes)
