"""The keys, values and items of a cache: taken at once, so that they may change meanwhile."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from stratatrace.reuse.cache_bounded import BoundedCache

__all__ = ["CacheItems", "CacheKeys", "CacheValues"]

K = TypeVar("K")
V = TypeVar("V")


class CacheKeys(KeysView[K]):
    """The keys of a cache."""

    def __init__(self, cache: BoundedCache[Any, Any]) -> None:
        super().__init__(cache)
        self._cache = cache

    def __iter__(self) -> Iterator[K]:
        return iter([key for key, _ in self._cache.snapshot()])


class CacheValues(ValuesView[V]):
    """The values of a cache; looking at them is no use of them."""

    def __init__(self, cache: BoundedCache[Any, Any]) -> None:
        super().__init__(cache)
        self._cache = cache

    def __iter__(self) -> Iterator[V]:
        return iter([value for _, value in self._cache.snapshot()])

    def __contains__(self, value: object) -> bool:
        return any(each is value or each == value for each in self)


class CacheItems(ItemsView[K, V]):
    """The keys and values of a cache; looking at them is no use of them."""

    def __init__(self, cache: BoundedCache[Any, Any]) -> None:
        super().__init__(cache)
        self._cache = cache

    def __iter__(self) -> Iterator[tuple[K, V]]:
        return iter(self._cache.snapshot())

    def __contains__(self, item: object) -> bool:
        return any(each == item for each in self)
