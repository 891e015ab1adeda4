"""What a compile expands to, packed: keys compressed by the thousand, until they are written."""

from __future__ import annotations

from array import array
from collections.abc import ItemsView, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from stratatrace.reuse.store import CompressedStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["PackedPairs"]

_CHUNK = 2048
_SEPARATOR = "\n"
_BUCKETS = 16


class PackedPairs(Mapping[Any, Any]):
    """A mapping in the order in which its pairs came, to be read from the first to the last."""

    def __init__(self) -> None:
        self._keys: CompressedStore[int, str] = CompressedStore(level=1, name="expanded patterns")
        self._values: list[list[Any]] = []
        #: Keys that cannot be kept as a text, by chunk.
        self._odd: dict[int, list[Any]] = {}
        # Equal keys have equal hashes, which take a tenth of what the keys do. In buckets, as
        # all of them at once in a set would take as much again.
        self._hashes = [array("q") for _ in range(_BUCKETS)]
        self._texts = True
        self._count = 0
        self._whole: dict[Any, Any] | None = None

    def take(self, pairs: Iterable[tuple[Any, Any]]) -> None:
        """Take all pairs, after those that came before."""
        remaining, hashes = iter(pairs), self._hashes
        while chunk := list(islice(remaining, _CHUNK)):
            keys = [key for key, _ in chunk]
            for each in map(hash, keys):
                hashes[each % _BUCKETS].append(each)
            self._pack(keys, [value for _, value in chunk])

    def _pack(self, keys: list[Any], values: list[Any]) -> None:
        texts = all(type(key) is str for key in keys)
        self._texts = self._texts and texts
        joined = _SEPARATOR.join(keys) if texts else ""
        number = len(self._values)
        try:
            if texts and joined.count(_SEPARATOR) == len(keys) - 1:
                self._keys[number] = joined
            else:
                self._odd[number] = keys
        except UnicodeEncodeError:  # Half of a surrogate pair, which no file can have.
            self._odd[number] = keys
        self._values.append(values)
        self._count += len(keys)

    def settled(self) -> PackedPairs | dict[Any, Any]:
        """Return itself where all keys are different texts, and else what `dict` makes of it."""
        once = all(len(set(bucket)) == len(bucket) for bucket in self._hashes)
        self._hashes = []
        return self if once and self._texts else dict(self.pairs())

    def chunks(self) -> Iterator[dict[Any, Any]]:
        """Yield the mapping in parts."""
        for number, values in enumerate(self._values):
            yield dict(zip(self._keys_of(number), values, strict=True))

    def pairs(self) -> Iterator[tuple[Any, Any]]:
        """Yield all pairs that came, in their order."""
        for number, values in enumerate(self._values):
            yield from zip(self._keys_of(number), values, strict=True)

    def _keys_of(self, number: int) -> list[Any]:
        return self._odd.get(number) or self._keys[number].split(_SEPARATOR)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Any]:
        return (key for key, _ in self.pairs())

    def __getitem__(self, key: Any) -> Any:
        if self._whole is None:  # Nobody that is known to us looks a key up.
            self._whole = dict(self.pairs())
        return self._whole[key]

    def items(self) -> ItemsView[Any, Any]:
        """Return a view, by which all are read without a look-up of each."""
        return _Items(self)

    def __repr__(self) -> str:
        # Not joined: that has all parts beside the whole.
        text, before = "{", ""
        for chunk in self.chunks():
            text += before + repr(chunk)[1:-1]
            before = ", "
        text += "}"
        return text


class _Items(ItemsView[Any, Any]):
    def __init__(self, of: PackedPairs) -> None:
        super().__init__(of)
        self._of = of

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return self._of.pairs()
