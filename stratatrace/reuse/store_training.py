"""When a store trains a dictionary, from which documents, and whether it takes it.

Knows sizes and samples; entries and keys are the store's.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from stratatrace.measurement import Callsite
from stratatrace.pressure.sources import readings
from stratatrace.recorder import active

if TYPE_CHECKING:
    from stratatrace.reuse.store_compressors import Compressor

__all__ = ["FEWEST_SAMPLES", "SAMPLES", "Training"]

#: How many documents a dictionary is trained on, where nothing else is asked for.
SAMPLES = 1000
#: Fewer tell nothing of what documents have in common.
FEWEST_SAMPLES = 10

# Larger documents repeat themselves: they gain little, and would take all of the samples.
_LARGEST_BYTES = 2**16
# zstd divides by zero, and the process ends, where samples have less than 8 bytes on the average.
_SMALLEST_BYTES = 16
_MOST_SAMPLE_BYTES = 2**22
# Trainings in a store's life; each costs some 50 ms, and a dictionary that is kept for good.
_MOST_TRAININGS = 4
# One of so many samples is not trained on, but tried.
_TRIED = 5
# A dictionary is taken where it saves that share of what documents take without it.
_WORTH = 0.9
# Documents have changed where they take so much more, for a stretch of them, than at first.
_WORSE = 1.25
_CALLSITE = Callsite(name="CompressedStore", function="stratatrace.CompressedStore")


class Training:
    """Looks at what a store is given, and trains dictionaries for its compressor.

    The first samples are trained on. After that, stretches of as many documents are compared with
    the first of them: where they compress much worse, the next samples are trained on, too.

    Args:
        compressor: Whose dictionaries.
        samples: On how many documents to train.
    """

    def __init__(self, compressor: Compressor, samples: int) -> None:
        self._compressor = compressor
        self._wanted = samples
        #: The dictionary for new documents; 0 is none.
        self.dictionary = 0
        #: The lengths of all that are in use.
        self.lengths: list[int] = []
        self._left = _MOST_TRAININGS
        self._usual: float | None = None
        self._renew()

    def dictionary_for(self, data: bytes) -> int:
        """Return the dictionary to compress *data* with."""
        return self.dictionary if len(data) <= _LARGEST_BYTES else 0

    def look_at(self, data: bytes, compressed_bytes: int) -> None:
        """Learn from a document.

        The call that has the last sample trains, and takes longer; nobody waits for it.

        Args:
            data: The document, which is kept until a dictionary is trained.
            compressed_bytes: What it took with `dictionary_for` it.
        """
        if not self._left or not _SMALLEST_BYTES <= len(data) <= _LARGEST_BYTES:
            return
        with self._lock:
            samples = self._note(data, compressed_bytes)
        if samples:
            with active.own_work():
                self._train(samples)
                samples.clear()

    def after_fork_in_child(self) -> None:
        """Have a lock that nobody holds; what a thread of the parent was at begins anew."""
        self._renew()

    def _renew(self) -> None:
        # Reentrant: the collector may run a finalizer that uses the store at any moment.
        self._lock = threading.RLock()
        self._at_it = False
        self._samples: list[bytes] | None = None if self.dictionary else []
        self._sample_bytes = 0
        self._begin_stretch()

    def _begin_stretch(self) -> None:
        self._seen = self._seen_bytes = self._compressed_bytes = 0

    def _note(self, data: bytes, compressed_bytes: int) -> list[bytes] | None:
        """Return the samples where they are enough now."""
        if self._at_it:
            return None
        samples = self._samples
        if samples is None:
            self._watch(data, compressed_bytes)
            return None
        with active.own_work():
            # A copy: what the caller has allocated is not kept by us.
            samples.append(bytes(memoryview(data)))
        self._sample_bytes += len(data)
        enough = len(samples) >= self._wanted or self._sample_bytes >= _MOST_SAMPLE_BYTES
        if not enough or len(samples) < FEWEST_SAMPLES or samples is not self._samples:
            return None
        self._samples = None
        self._sample_bytes = 0
        self._at_it = True
        return samples

    def _watch(self, data: bytes, compressed_bytes: int) -> None:
        """Have samples taken again, where documents are no longer what they were."""
        self._seen += 1
        self._seen_bytes += len(data)
        self._compressed_bytes += compressed_bytes
        if self._seen < self._wanted:
            return
        share = self._compressed_bytes / (self._seen_bytes or 1)
        self._begin_stretch()
        if self._usual is None:
            self._usual = share
        elif share > _WORSE * self._usual:
            self._samples = []

    def _train(self, samples: list[bytes]) -> None:
        self._left -= 1
        try:
            tried = samples[::_TRIED]
            trained_on = [data for place, data in enumerate(samples) if place % _TRIED]
            dictionary = self._compressor.train(trained_on)
            number = self._compressor.add(dictionary)
            if self._takes(tried, number) < _WORTH * self._takes(tried, self.dictionary):
                self.lengths.append(len(dictionary))
                self.dictionary = number
        except Exception as error:
            # zstandard's own say that nothing can be learnt of these samples.
            if type(error).__name__ != "ZstdError":
                readings.guard.caught(_CALLSITE, "train a dictionary")
        with self._lock:
            self._at_it = False
            self._usual = None
            self._begin_stretch()

    def _takes(self, samples: list[bytes], dictionary: int) -> int:
        return sum(len(self._compressor.compress(data, dictionary)) for data in samples)
