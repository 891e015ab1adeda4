"""What the items of a chunk take: measured where something measures, else told by their sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stratatrace.deep_sizes import deep_size, own_size
from stratatrace.probes.live import live_bytes_source
from stratatrace.recorder import active

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SIZES", "Weigher"]

#: What numbers are called that no probe has measured.
SIZES = "sizes"

_FIRST_SAMPLES = 4
_SAMPLE_EVERY = 256
# Older samples count half when there are so many, so that the ratio follows the stream.
_MOST_SAMPLES = 8


class Weigher:
    """Weighs the items of one chunk after the other.

    Where the heap is counted, by the native counters or by tracemalloc, they weigh what the heap
    grew by while they were pulled. Items cannot weigh less than their own sizes: where they do,
    they were made before or in another thread, and sizes tell, as where nothing counts. Each
    item's own size is taken, and that of what it refers to is sampled.
    """

    __slots__ = (
        "_begun_bytes",
        "_live",
        "_live_name",
        "_own_bytes",
        "_sampled_deep",
        "_sampled_own",
        "_samples",
        "_seen",
        "source",
        "weight_bytes",
    )

    def __init__(self) -> None:
        #: ``native``, ``tracemalloc`` or ``sizes``; None before the first item.
        self.source: str | None = None
        #: What the items of this chunk take.
        self.weight_bytes = 0
        self._own_bytes = self._begun_bytes = 0
        self._live: Callable[[], int] | None = None
        self._live_name = SIZES
        self._seen = self._samples = 0
        self._sampled_own = self._sampled_deep = 0.0

    def begin(self) -> None:
        """A chunk begins."""
        self.weight_bytes = self._own_bytes = 0
        found = live_bytes_source()
        self._live_name, self._live = (SIZES, None) if found is None else found
        self._begun_bytes = self._live() if self._live is not None else 0

    def add(self, item: object) -> None:
        """Weigh the chunk with one item more, which was pulled just now."""
        self._own_bytes += own_size(item)
        if self._live is not None:
            taken = self._live() - self._begun_bytes
            if taken >= self._own_bytes:
                self.source = self._live_name
                self.weight_bytes = taken
                return
        if self._samples < _FIRST_SAMPLES or not self._seen % _SAMPLE_EVERY:
            self._sample(item)
        self._seen += 1
        self.source = SIZES
        ratio = self._sampled_deep / self._sampled_own if self._sampled_own else 1.0
        self.weight_bytes = int(self._own_bytes * ratio)

    def _sample(self, item: object) -> None:
        with active.own_work():
            if self._samples >= _MOST_SAMPLES:
                self._samples //= 2
                self._sampled_own /= 2
                self._sampled_deep /= 2
            self._samples += 1
            own = own_size(item)
            self._sampled_own += own
            self._sampled_deep += max(deep_size(item), own)
