"""Whether the heap of a process rises all along; told of once for each rise."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from stratatrace.rising import RisingWindow, RisingWindows
from stratatrace.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SHORTEST_SECONDS", "HeapSource", "LeakAlert", "LeakRise"]

#: The shortest time over which a rise is looked for, in seconds: a service takes some minutes to
#: warm up, and to fill its caches.
SHORTEST_SECONDS = 1800.0

HeapSource = Literal["tracemalloc", "blocks", "malloc"]

#: What a unit of each source is taken for, in bytes. A small block has 512 bytes at most; in most
#: programs it has about 64.
_UNIT_BYTES: dict[HeapSource, int] = {"tracemalloc": 1, "blocks": 64, "malloc": 1}
# A rise is over when it was not seen for so many of the shortest windows.
_REST = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakAlert:
    """That the heap of the process rises all along."""

    #: The watch's name.
    name: str
    #: When it was found, in seconds since the watch was started.
    seconds: float
    #: How fast it rises. All threads are in it.
    bytes_per_second: float
    #: By how much it has risen, and in what time, for as long as the rise was looked at.
    growth_bytes: int
    window_seconds: float
    #: By what it was seen: ``tracemalloc``, exact; ``blocks``: small blocks of the interpreter, of
    #: which each is taken for 64 bytes; ``malloc``: bytes of the C library, for what is larger and
    #: for extensions.
    sources: tuple[HeapSource, ...]

    @property
    def text(self) -> str:
        """What has happened, in one line."""
        return (
            f"{self.name} leaks {format_size(round(self.bytes_per_second * 3600))} an hour: "
            f"{format_size(self.growth_bytes)} in {self.window_seconds / 60:.0f} min "
            f"({', '.join(self.sources)})"
        )

    def to_dict(self) -> dict[str, object]:
        """Return all of it for machines."""
        return asdict(self) | {"sources": list(self.sources), "text": self.text}

    def __str__(self) -> str:
        return self.text


class LeakRise:
    """Looks for a steady rise of the heap, over minutes and over days, in bounded memory.

    Args:
        name: The watch's name.
        sources: What is looked at.
        least_bytes: A rise that has not grown by so much is none.
        shortest_seconds: How long the shortest window is.
    """

    def __init__(
        self,
        name: str,
        sources: tuple[HeapSource, ...],
        *,
        least_bytes: int,
        shortest_seconds: float = SHORTEST_SECONDS,
    ) -> None:
        self._name = name
        self._least_bytes = least_bytes
        self._rest_seconds = _REST * shortest_seconds
        self._windows: dict[HeapSource, RisingWindows[RisingWindow]] = {
            source: RisingWindows(RisingWindow, shortest_seconds) for source in sources
        }
        #: When a rise was last seen that was told of; None where none goes on.
        self._told_seconds: float | None = None

    @property
    def sources(self) -> tuple[HeapSource, ...]:
        """What is looked at."""
        return tuple(self._windows)

    def add(self, seconds: float, levels: Mapping[HeapSource, int]) -> LeakAlert | None:
        """Take one more look; return an alert where a rise has become clear.

        Args:
            seconds: When; never less than the time before.
            levels: The levels of all sources.
        """
        rising: list[tuple[HeapSource, float, int, float]] = []
        for source, windows in self._windows.items():
            windows.add(seconds, levels[source])
            fastest = self._fastest(source, windows)
            if fastest is not None:
                rising.append((source, *fastest))
        told_seconds = self._told_seconds
        if not rising:
            if told_seconds is not None and seconds - told_seconds > self._rest_seconds:
                self._told_seconds = None
            return None
        self._told_seconds = seconds
        if told_seconds is not None:
            return None
        return LeakAlert(
            name=self._name,
            seconds=seconds,
            bytes_per_second=sum(rate for _, rate, _, _ in rising),
            growth_bytes=sum(growth for _, _, growth, _ in rising),
            window_seconds=max(span for _, _, _, span in rising),
            sources=tuple(source for source, _, _, _ in rising),
        )

    def _fastest(
        self, source: HeapSource, windows: RisingWindows[RisingWindow]
    ) -> tuple[float, int, float] | None:
        """Return rate, growth and time of the first window that rises by enough."""
        unit_bytes = _UNIT_BYTES[source]
        for window in windows.windows:
            if window.lasting is None:
                continue
            rate = window.lasting.slope * unit_bytes
            growth_bytes = round(rate * window.span_seconds)
            if growth_bytes >= self._least_bytes:
                return rate, growth_bytes, window.span_seconds
        return None
