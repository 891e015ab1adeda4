"""About what an object takes with all that it refers to, found out by looking at some of it."""

from __future__ import annotations

import gc
import sys
import types
from collections import deque
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["deep_size", "own_size"]

# What is looked at: so many objects in all, and so many of one distance from the first.
_MOST_OBJECTS = 5000
_MOST_OF_A_LEVEL = 1000
# What has no slices is gone through to reach some of it, and no further than this.
_FURTHEST = 20_000
# Shifts what is chosen by what is no part of anything, so that a repeating order has no effect.
_GOLDEN = 0.6180339887498949
# Has no part in the other, so that what is chosen in one has none in what is chosen of all.
_SILVER = 0.4142135623730951
# What many objects refer to, and none of them owns.
_SHARED = (
    type,
    types.ModuleType,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.CodeType,
    types.FrameType,
    types.NoneType,
    types.EllipsisType,
    bool,
)
# Flag of a class whose instances keep the values of their attributes beside themselves, where
# nobody has asked for the dictionary; as measured, they take so much with their head.
_BESIDE = 1 << 4
_HEAD_BYTES, _VALUE_BYTES = 24, 8
# What refers to nothing.
_LEAVES = frozenset({str, bytes, int, float})
# Of these the interpreter has one each.
_SMALL_INTS = range(-5, 257)


class _Found:
    """An object that was found, and how many of its kind it stands for."""

    __slots__ = ("base", "depth", "factor", "item", "parent", "weight")

    def __init__(self, item: object, parent: _Found | None, factor: float) -> None:
        self.item = item
        self.parent = parent
        self.depth: int = 0 if parent is None else parent.depth + 1
        #: It stands for so many in each of what this one stands for.
        self.base = parent
        self.factor = factor
        self.weight = 1.0

    def seen_again(self, other: _Found) -> None:
        """Another one refers to it, too: it is there once in what holds both of them."""
        above: _Found | None = other
        while above is not None and above.depth > self.depth:
            above = above.parent
        if above is self or self.base is None:
            return  # It refers to what it is in itself: a cycle.
        one: _Found | None = self.base
        while one is not None and above is not None and one is not above:
            if one.depth >= above.depth:
                one = one.parent
            else:
                above = above.parent
        self.base, self.factor = one, 1.0


def deep_size(item: object) -> int:
    """Return about what an object takes with all that it refers to, in bytes.

    What is shared within the object is counted once; what several objects share is counted for
    each. Up to some hundreds of objects all are looked at. Beyond that, each level of what is
    nested is sampled, and what is seen stands for the rest; it takes some milliseconds at most.
    """
    if type(item) in _LEAVES:
        return own_size(item)
    level = [_Found(item, None, 1.0)]
    found = {id(item): level[0]}
    total = 0.0
    looked = 0
    while level:
        looked += len(level)
        for one in level:
            if one.base is not None:
                one.weight = one.base.weight * one.factor
            total += one.weight * (own_size(one.item) + _values_size(one.item))
        if looked >= _MOST_OBJECTS:
            break
        level = _next_level(level, found)
    return int(total)


def own_size(item: object) -> int:
    """Return what an object takes without what it refers to, in bytes."""
    try:
        return sys.getsizeof(item)
    except Exception:
        return 0  # It has a __sizeof__ of its own, which is wrong.


def _values_size(item: object) -> int:
    """Return what the values of attributes take that `sys.getsizeof` leaves out."""
    try:
        if type(item).__flags__ & _BESIDE:
            return _HEAD_BYTES + _VALUE_BYTES * len(gc.get_referents(item))
    except Exception:
        return 0  # Its class has a class that is wrong.
    return 0


def _next_level(level: list[_Found], found: dict[int, _Found]) -> list[_Found]:
    """Return what a level refers to and was not found before, or some of it that stands for all."""
    below: list[_Found] = []
    most = max(2, _MOST_OF_A_LEVEL // len(level))
    for number, one in enumerate(level):
        try:
            parts, count = _parts(one.item, most, number * _SILVER)
        except Exception:  # noqa: S112 -- it changes just now, or its class forbids to look
            continue
        for part in parts:
            if isinstance(part, _SHARED) or (type(part) is int and part in _SMALL_INTS):
                continue
            known = found.get(id(part))
            if known is not None:
                known.seen_again(one)
                continue
            new = found[id(part)] = _Found(part, one, count / len(parts))
            below.append(new)
    if len(below) <= _MOST_OF_A_LEVEL:
        return below
    chosen = [below[place] for place in _places(len(below), _MOST_OF_A_LEVEL)]
    for one in chosen:
        one.factor *= len(below) / len(chosen)
    return chosen


def _parts(item: Any, most: int, phase: float) -> tuple[list[Any], int]:
    """Return some of what *item* refers to, and how much there is. Runs no code of its class.

    Args:
        item: Anything.
        most: So many of them.
        phase: Another number for each of those that are alike, so that not the same is chosen.
    """
    if isinstance(item, dict):
        count = dict.__len__(item)
        pairs = _spread(dict.items(item), count, max(1, most // 2), phase)
        return list(chain.from_iterable(pairs)), 2 * count
    if isinstance(item, list):
        return _chosen(list.__getitem__, item, list.__len__(item), most, phase)
    if isinstance(item, tuple):
        return _chosen(tuple.__getitem__, item, tuple.__len__(item), most, phase)
    if isinstance(item, set | frozenset | deque):
        kind: Any = next(base for base in (set, frozenset, deque) if isinstance(item, base))
        count = kind.__len__(item)
        return _spread(kind.__iter__(item), count, most, phase), count
    if type(item) in _LEAVES:
        return [], 0
    # Not the attributes' dictionary, which would be made by asking for it, and then stay.
    parts = [part for part in gc.get_referents(item) if not isinstance(part, _SHARED)]
    return _chosen(list.__getitem__, parts, len(parts), most, phase)


def _chosen(
    get: Callable[[Any, int], Any], item: Any, count: int, most: int, phase: float
) -> tuple[list[Any], int]:
    return [get(item, place) for place in _places(count, most, phase)], count


def _spread(items: Any, count: int, most: int, phase: float) -> list[Any]:
    """Return some of what can only be iterated."""
    if count <= most:
        return list(items)
    some: list[Any] = []
    iterator = iter(items)
    at = 0
    for place in _places(min(count, _FURTHEST), most, phase):
        some.extend(islice(iterator, place - at, place - at + 1))
        at = place + 1
    return some


def _places(count: int, most: int, phase: float = 0.0) -> Sequence[int]:
    """Return *most* places of *count*, in order and evenly spread but for a jitter."""
    if count <= most:
        return range(count)
    stride = count / most
    return [int((place + (place * _GOLDEN + phase) % 1) * stride) for place in range(most)]
