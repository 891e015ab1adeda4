"""What a cache tells about itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from stratatrace.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CacheStats", "EvictionReason"]

#: Why a cache has dropped a value: its bound of entries or of bytes was reached, it had expired,
#: memory ran short, a change of the cache was not ended, or nobody used it any more.
EvictionReason = Literal["entries", "bytes", "expired", "pressure", "interrupted", "collected"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStats:
    """What has happened to a cache, and what it holds; in a forked child since the fork.

    It is of the whole cache, so all threads that use it are in the numbers.
    """

    #: Look-ups that found a value, or had it from somebody who was computing it.
    hits: int
    #: Look-ups that found none.
    misses: int
    #: Values that are held.
    entries: int
    #: What they take, with their keys and their places, in bytes; None where it is not measured.
    size_bytes: int | None = None
    #: Values that were dropped, by reason; not those that were deleted or replaced.
    evictions: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    #: Values that were not kept, as they are larger than the cache may be.
    refused: int = 0
    #: How often what was to be told of an eviction has raised.
    callback_failures: int = 0

    @property
    def hit_ratio(self) -> float | None:
        """The share of the look-ups that found a value; None before the first."""
        total = self.hits + self.misses
        return self.hits / total if total else None

    def to_dict(self) -> dict[str, object]:
        """Return all numbers for machines."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        return {**plain, "evictions": dict(self.evictions), "hit_ratio": self.hit_ratio}

    def __str__(self) -> str:
        size = "" if self.size_bytes is None else f", {format_size(self.size_bytes)}"
        ratio = "" if self.hit_ratio is None else f" ({self.hit_ratio:.0%})"
        dropped = ", ".join(f"{number} {reason}" for reason, number in self.evictions.items())
        return (
            f"{self.entries} entries{size}; {self.hits} hits{ratio}, {self.misses} misses; "
            f"evicted: {dropped or 'none'}; refused: {self.refused}"
        )
