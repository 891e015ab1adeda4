"""The switch ``cache``: expansions are remembered by what they were made of.

Strataregula's `PatternCache` keeps the dictionary of each expansion. Here a pattern without
wildcards is its value, and one with a single wildcard its value and what stood for the wildcard,
which thousands have in common. All others are held compressed, and past a bound in a temporary
file.

Nothing is forgotten that the original would remember: how many entries it has is part of what is
generated, and what it remembers may differ from what a pattern expands to by now.
"""

from __future__ import annotations

import tempfile
from collections.abc import MutableMapping
from functools import wraps
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from stratatrace.reuse.store import CompressedStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import ModuleType

__all__ = ["Expansions", "remember_compactly"]

_MAX_BYTES = 8_000_000
_WILDCARD = "*"


class _Single(NamedTuple):
    """An expansion of one wildcard, each with the same value."""

    items: tuple[str, ...]
    value: Any


class _Stored(NamedTuple):
    """An expansion that is in the store."""

    number: int


class _Whole(NamedTuple):
    """An expansion that is kept as it came."""

    expansion: Any


class Expansions(MutableMapping[str, Any]):
    """A mapping from ``pattern:hash`` to expansions, each made anew when it is asked for."""

    def __init__(self) -> None:
        self._held: dict[str, Any] = {}
        #: What stood for a wildcard, by how many there were, the last time.
        self._items: dict[int, tuple[str, ...]] = {}
        self._store: CompressedStore[int, Any] | None = None
        self._stored = 0

    def __setitem__(self, key: str, expansion: Any) -> None:
        held = self._compact(key, expansion)
        self._forget(self._held.get(key))
        self._held[key] = held

    def __getitem__(self, key: str) -> Any:
        return self._expansion(key, self._held[key])

    def get(self, key: str, default: Any = None) -> Any:
        """Return the expansion of a key, or *default*."""
        held = self._held.get(key, self)
        if held is self:
            return default
        try:
            return self._expansion(key, held)
        except Exception:  # What cannot be read any more is expanded again
            return default

    def __delitem__(self, key: str) -> None:
        self._forget(self._held.pop(key))

    def __contains__(self, key: object) -> bool:
        return key in self._held

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def clear(self) -> None:
        """Forget everything."""
        self._held.clear()
        self._items.clear()
        store, self._store = self._store, None
        if store is not None:
            store.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Be copied and pickled as what it stands for."""
        return dict, (dict(self),)

    def drop_oldest(self, count: int) -> None:
        """Forget those that came first."""
        for key in list(islice(self._held, count)):
            del self[key]

    def _compact(self, key: str, expansion: Any) -> Any:
        if type(expansion) is not dict or not expansion:
            return _Whole(expansion)
        pattern = _pattern_of(key)
        value = next(iter(expansion.values()))
        if len(expansion) == 1 and pattern in expansion:
            return _Whole(expansion) if isinstance(value, (_Single, _Stored, _Whole)) else value
        if pattern.count(_WILDCARD) == 1 and len(set(map(id, expansion.values()))) == 1:
            items = self._items_of(pattern, expansion)
            if items is not None:
                return _Single(items, value)
        return self._put_away(expansion)

    def _items_of(self, pattern: str, expansion: dict[Any, Any]) -> tuple[str, ...] | None:
        """Return what stands for the wildcard of a pattern; None where that is not all there is."""
        keys, around = list(expansion), _around(pattern)
        items = self._items.get(len(keys))  # Most probably what it was the last time.
        if items is None or _keys_of(around, items) != keys:
            before, after = map(len, around)
            items = tuple(key[before : len(key) - after] for key in keys if type(key) is str)
            if _keys_of(around, items) != keys:
                return None
            self._items[len(keys)] = items
        return items

    def _put_away(self, expansion: dict[Any, Any]) -> Any:
        try:
            if self._store is None:
                self._store = CompressedStore(
                    codec="pickle",
                    level=1,
                    max_bytes=_MAX_BYTES,
                    spill=tempfile.gettempdir(),
                    name="expansions",
                )
            self._stored += 1
            self._store[self._stored] = expansion
        except Exception:  # It cannot be pickled, or there is no place for a file
            return _Whole(expansion)
        return _Stored(self._stored)

    def _expansion(self, key: str, held: Any) -> Any:
        kind = type(held)
        if kind is _Single:
            return dict.fromkeys(_keys_of(_around(_pattern_of(key)), held.items), held.value)
        if kind is _Stored and self._store is not None:
            return self._store[held.number]
        return held.expansion if kind is _Whole else {_pattern_of(key): held}

    def _forget(self, held: Any) -> None:
        if type(held) is _Stored and self._store is not None:
            self._store.pop(held.number, None)


def _pattern_of(key: str) -> str:
    return key.rpartition(":")[0]


def _around(pattern: str) -> tuple[str, str]:
    before, _, after = pattern.partition(_WILDCARD)
    return before, after


def _keys_of(around: tuple[str, str], items: tuple[str, ...]) -> list[str]:
    before, after = around
    return [f"{before}{item}{after}" for item in items]


def remember_compactly(_module: ModuleType, originals: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the methods of a cache that remembers in this way."""
    init, bare_set = originals["__init__"], originals["set"]

    @wraps(init)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        init(self, *args, **kwargs)
        if type(vars(self).get("_cache")) is dict and not self._cache:
            self._cache = Expansions()

    @wraps(bare_set)
    def set(self: Any, key: Any, value: Any) -> Any:  # noqa: A001 -- its name
        # The original copies what it keeps, which is then a dictionary.
        if type(self._cache) is Expansions and len(self._cache) >= self.max_size:
            self._cache.drop_oldest(len(self._cache) // 2)
        return bare_set(self, key, value)

    return {"__init__": __init__, "set": set}
