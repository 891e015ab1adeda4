"""The switch ``chunks``: large inputs are expanded in chunks that become smaller under pressure.

Strataregula makes ten chunks of any input, and sorts the patterns of each. A chunk is sorted here
as it is there, and then expanded in parts: what is generated does not depend on how many there are.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

from stratatrace.streams import adaptive_chunks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import ModuleType

__all__ = ["adaptive_patterns"]

_MAX_BYTES = "16MB"


class _OneChunk:
    """Stands for a processor, to which all patterns are one chunk."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._processor, name)

    def _calculate_chunk_size(self, total_patterns: int) -> int:
        return max(1, total_patterns)


def adaptive_patterns(
    _module: ModuleType, originals: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    """Return a `process_large_patterns` whose chunks fit; None where it has no size to go by.

    While there is no pressure the chunks are those of the original.
    """
    process = originals["process_large_patterns"]
    if "_calculate_chunk_size" not in getattr(getattr(process, "__code__", None), "co_names", ()):
        return None

    @wraps(process)
    def process_large_patterns(self: Any, patterns: Any) -> Iterator[Any]:
        size = self._calculate_chunk_size(len(patterns))
        items = list(patterns.items())
        for start in range(0, len(items), size):
            chunk = items[start : start + size]
            chunk.sort(key=lambda item: self.expander._get_pattern_priority(item[0]))  # noqa: SLF001
            for part in adaptive_chunks(chunk, size, _MAX_BYTES, name="strataregula patterns"):
                yield from process(_OneChunk(self), dict(part))

    return {"process_large_patterns": process_large_patterns}
