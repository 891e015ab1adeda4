"""About what an object takes with all that it refers to, found out by looking at some of it."""

from __future__ import annotations

import gc
import sys
import types
from collections import deque
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["deep_size", "own_size"]

_MOST_OBJECTS = 1000
_MOST_PARTS = 50
# What many objects refer to, and none of them owns.
_SHARED = (
    type,
    types.ModuleType,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.CodeType,
    types.FrameType,
)


def deep_size(item: object) -> int:
    """Return about what an object takes with all that it refers to, in bytes.

    Large containers are sampled. What is shared within the object is counted once; what several
    objects share is counted for each.
    """
    total = 0.0
    seen: set[int] = set()
    stack: list[tuple[object, float]] = [(item, 1.0)]
    while stack and len(seen) < _MOST_OBJECTS:
        found, weight = stack.pop()
        if id(found) in seen or isinstance(found, _SHARED):
            continue
        seen.add(id(found))
        total += weight * own_size(found)
        try:
            parts, count = _parts(found)
        except Exception:  # noqa: S112 -- it changes just now, or its class forbids to look
            continue
        if parts:
            share = weight * count / len(parts)
            stack.extend((part, share) for part in parts)
    return int(total)


def own_size(item: object) -> int:
    """Return what an object takes without what it refers to, in bytes."""
    try:
        return sys.getsizeof(item)
    except Exception:
        return 0  # It has a __sizeof__ of its own, which is wrong.


def _parts(item: Any) -> tuple[list[Any], int]:
    """Return some of what *item* refers to, and how much there is. Runs no code of its class."""
    if isinstance(item, dict):
        some = islice(dict.items(item), _MOST_PARTS // 2)
        return list(chain.from_iterable(some)), 2 * dict.__len__(item)
    if isinstance(item, list):
        return _spread(list.__getitem__, item, list.__len__(item))
    if isinstance(item, tuple):
        return _spread(tuple.__getitem__, item, tuple.__len__(item))
    if isinstance(item, set | frozenset | deque):
        kind: Any = next(base for base in (set, frozenset, deque) if isinstance(item, base))
        return list(islice(kind.__iter__(item), _MOST_PARTS)), kind.__len__(item)
    # Not the attributes' dictionary, which would be made by asking for it, and then stay.
    parts = gc.get_referents(item)
    return parts[:_MOST_PARTS], len(parts)


def _spread(get: Callable[[Any, slice], Any], item: Any, count: int) -> tuple[list[Any], int]:
    return list(get(item, slice(None, None, count // _MOST_PARTS + 1))), count
