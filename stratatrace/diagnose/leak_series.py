"""The heap between calls: readings that keep nothing of what they read, and take no more memory."""

from __future__ import annotations

import gc
import tracemalloc
from array import array
from typing import TYPE_CHECKING

from stratatrace.diagnose.leak_report import LeakPhase
from stratatrace.errors import InvalidValueError, LeakTrialError, ProbeError
from stratatrace.probes import CollectorProbe, TracemallocProbe, count_arrays, heap_probe
from stratatrace.probes.live import live_bytes_by
from stratatrace.trends import mann_kendall, theil_sen

if TYPE_CHECKING:
    from collections.abc import Callable

    from stratatrace.probes import NativeProbe

__all__ = ["FRAMES", "HeapReader", "HeapSeries", "phase_of"]

# All pairs of readings are compared.
_MOST_READINGS = 96
#: How many frames of an allocation are kept where tracing is begun for this.
FRAMES = 8


class HeapReader:
    """Reads the live heap by one probe, from `open` to `close`.

    Args:
        probe: ``auto``, ``native`` or ``tracemalloc``.

    Raises:
        InvalidValueError: There is no such probe, or not here, or it reads no heap.
    """

    def __init__(self, probe: str) -> None:
        # Always, as memory from before is freed between calls too.
        made = heap_probe(probe, always=True)
        if made is None:
            msg = (
                f"probe={probe!r} reads no heap, and resident memory does not tell of leaks: "
                "choose 'auto', 'native' or 'tracemalloc'"
            )
            raise InvalidValueError(msg)
        if isinstance(made, TracemallocProbe):
            made = TracemallocProbe(always=True, frames=FRAMES)
        self._probe: NativeProbe | TracemallocProbe = made
        #: ``native``, of the calling thread, or ``tracemalloc``, of the process.
        self.name: str = made.name
        self.read: Callable[[], int] = _nothing
        # An object whose trace is lost when somebody else stops tracing, or begins it anew.
        self._witness = bytearray()

    def open(self) -> None:
        """Begin to count; a tracing that is on is used as it is.

        Calls that are measured have none of their collections told meanwhile.
        """
        # Where a recorder is in force, what they free would not be seen to go.
        CollectorProbe.unheard_by.add(id(self))
        self._probe.start()
        self._probe.open()
        read = live_bytes_by(self.name)
        if read is not None:
            self.read = read
        self._witness = bytearray()

    def close(self) -> None:
        """End what was begun."""
        CollectorProbe.unheard_by.discard(id(self))
        self._probe.close()
        try:
            self._probe.stop()
        except ProbeError:
            return  # `intact` has said so, where it matters.

    @property
    def intact(self) -> bool:
        """Whether it has counted all the time."""
        if self.name == "native":
            return live_bytes_by(self.name) is not None
        return tracemalloc.get_object_traceback(self._witness) is not None

    def check(self) -> None:
        """See whether it has counted all the time.

        Raises:
            LeakTrialError: Somebody else has ended that.
        """
        if not self.intact:
            msg = (
                "what is looked at for leaks has stopped or cleared tracemalloc, and with it the "
                "counting of its heap: have it leave a tracemalloc alone that it has not started"
            )
            raise LeakTrialError(msg)

    def settle(self) -> None:
        """Count what was imported meanwhile, too."""
        if self.name == "native":
            count_arrays()


class HeapSeries:
    """The live heap after calls: all of them, or each second, fourth and so on of many.

    A reading follows a full collection, so that what only waits for the collector is not in it. All
    memory is taken at the beginning.

    Args:
        reader: What reads the heap.
        beside: What else to read, if anything.
    """

    def __init__(self, reader: HeapReader, beside: Callable[[], int] | None = None) -> None:
        self._read = reader.read
        self._beside = beside
        self._values = array("q", bytes(8 * (_MOST_READINGS + 1)))
        self._others = array("q", bytes(8 * (_MOST_READINGS + 1)))
        self._used = 0
        self.calls = 0
        self.every = 1
        self._take()

    def called(self) -> None:
        """Take a reading where one is due after this call."""
        self.calls += 1
        if self.calls % self.every:
            return
        if self._used > _MOST_READINGS:
            self._halve()
            if self.calls % self.every:
                return
        self._take()

    @property
    def growth_bytes(self) -> int:
        """From the first reading to the last."""
        return self._values[self._used - 1] - self._values[0]

    @property
    def values(self) -> array[int]:
        """The readings; the first is from before the first call."""
        return self._values[: self._used]

    @property
    def others(self) -> array[int]:
        """What else was read, as often."""
        return self._others[: self._used]

    def _take(self) -> None:
        gc.collect()
        self._values[self._used] = self._read()
        if self._beside is not None:
            self._others[self._used] = self._beside()
        self._used += 1

    def _halve(self) -> None:
        for place in range((self._used + 1) // 2):
            self._values[place] = self._values[2 * place]
            self._others[place] = self._others[2 * place]
        self._used = (self._used + 1) // 2
        self.every *= 2


def phase_of(name: str, values: array[int], every: int) -> LeakPhase:
    """Return what a stretch of readings says.

    Args:
        name: What it is called.
        values: The readings, in bytes.
        every: How many calls are between two of them.
    """
    times = range(0, len(values) * every, every)
    enough = len(values) > 1
    return LeakPhase(
        name=name,
        calls=(len(values) - 1) * every,
        readings=len(values),
        slope_bytes=theil_sen(times, values) if enough else 0.0,
        p_value=mann_kendall(values).p_rising,
        growth_bytes=values[-1] - values[0],
    )


def _nothing() -> int:
    return 0
