"""How large the next chunk may be: by items, by bytes, by the pressure, and by what did not fit."""

from __future__ import annotations

from stratatrace.errors import InvalidTypeError, InvalidValueError
from stratatrace.pressure import memory_pressure
from stratatrace.sizes import parse_size

__all__ = ["ChunkPlan"]

# By which part of them sizes are taken.
_SHARES = {"normal": 1, "warning": 2, "critical": 4}
_MOST_PATIENCE = 64


class ChunkPlan:
    """The size of a stream's chunks.

    Args:
        base_size: Items of a chunk where nothing stands against it.
        max_bytes: What the items of a chunk may take: bytes, or text such as ``"100MB"``.

    Raises:
        InvalidTypeError: A size is not a number.
        InvalidValueError: A size is not positive.
    """

    __slots__ = (
        "_base_size",
        "_fit",
        "_limit",
        "_max_bytes",
        "_patience",
        "most_bytes",
        "most_items",
        "splits",
    )

    def __init__(self, base_size: int, max_bytes: int | str) -> None:
        if isinstance(base_size, bool) or not isinstance(base_size, int):
            msg = f"base_size is a number of items, not {base_size!r}"
            raise InvalidTypeError(msg)
        if base_size < 1:
            msg = f"base_size is at least 1, and {base_size!r} is not"
            raise InvalidValueError(msg)
        self._base_size = self._limit = base_size
        self._max_bytes = parse_size(max_bytes)
        self._patience = 1
        self._fit = 0
        #: How often something did not fit, and was divided.
        self.splits = 0
        #: What the chunk that is being made may hold.
        self.most_items = base_size
        self.most_bytes = self._max_bytes

    def begin(self) -> None:
        """A chunk begins: look at the pressure."""
        share = _SHARES[memory_pressure().level]
        self.most_items = max(1, min(self._limit, self._base_size // share))
        self.most_bytes = self._max_bytes // share

    def is_full(self, count: int, weight_bytes: int) -> bool:
        """Tell whether one item more, as large as they are on average, is one too many."""
        return count >= self.most_items or weight_bytes + weight_bytes // count > self.most_bytes

    def fitted(self) -> None:
        """The chunk before was no trouble: after some such, chunks are doubled again."""
        if self._limit >= self._base_size:
            self._patience = max(1, self._patience // 2)
            return
        self._fit += 1
        if self._fit >= self._patience:
            self._fit = 0
            self._limit = min(self._base_size, 2 * self._limit)

    def did_not_fit(self, count: int) -> None:
        """There was no memory for so many items: chunks are halved, and grow again more slowly."""
        self.splits += 1
        self._limit = max(1, min(count, self._base_size) // 2)
        self._fit = 0
        self._patience = min(2 * self._patience, _MOST_PATIENCE)
