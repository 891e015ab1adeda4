"""Notes of streams of chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from stratatrace.instrumentation.strataregula.notes import Noted, given, length, says_failure
from stratatrace.noting import FAILED_RESULT
from stratatrace.telemetry import semconv

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Chunks", "ChunksWithin", "CountedChunks", "Parallel"]


class Chunks(Noted):
    """A stream of results, one for each chunk; those that carry an error are no exceptions."""

    component = "stream"
    #: Whether the chunks are those of another call, which counts them.
    within: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.chunks = self.errors = 0

    def gave(self, item: Any) -> None:
        """Add one more result."""
        self.chunks += 1
        self.errors += says_failure(item)

    def ending(self) -> None:
        """Note what there was."""
        self.note(semconv.STRATAREGULA_CHUNKS, self.chunks)
        if self.errors:
            self.failure = FAILED_RESULT
            self.note(semconv.STRATAREGULA_ERRORS, self.errors)
        if not self.within:
            self.count(semconv.STRATAREGULA_CHUNK_COUNT, self.chunks)
            self.count(semconv.STRATAREGULA_ERROR_COUNT, self.errors)


class ChunksWithin(Chunks):
    """A stream whose chunks come from streams that count them."""

    within = True


class CountedChunks(Noted):
    """A stream of chunks of data, of which nothing but the number is told."""

    each_step = False

    def gave_in_all(self, items: int) -> None:
        """Note how many there were."""
        self.note(semconv.STRATAREGULA_CHUNKS, items)


class Parallel(ChunksWithin):
    """Documents that are processed side by side."""

    def called(self, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        """Note how many there are."""
        documents = given(arguments, keywords, 1, "data_list")
        self.note(semconv.STRATAREGULA_ITEMS, length(documents))

    def returned(self, result: Any) -> None:
        """Look at all results."""
        if isinstance(result, list):
            for item in result:
                self.gave(item)
