"""What objects take that only the collector could free, in bytes. Runs no code of theirs."""

from __future__ import annotations

import gc
import sys
import types
from collections import Counter
from itertools import filterfalse
from typing import TYPE_CHECKING, Any

from stratatrace.diagnose.inert import flags_of, mro_of, namespace_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["leaves_size", "own_sizes"]

# Flag of a class whose instances keep the values of their attributes beside themselves, where
# nobody has asked for the dictionary: `sys.getsizeof` leaves them out. They have a head.
_BESIDE = 1 << 4
_HEAD_BYTES, _VALUE_BYTES = 24, 8
# What the collector keeps in front of each object.
_COLLECTOR_BYTES = 16
# Tuples and dictionaries of what refers to nothing are not known to the collector; they may have
# such in them again.
_MOST_LEVELS = 4


def own_sizes(objects: Sequence[object], counts: Sequence[int]) -> list[int]:
    """Return what each object takes without what it refers to, in bytes.

    Args:
        objects: Any objects.
        counts: To how many each refers.
    """
    sizers: dict[int, tuple[Callable[[Any], int], int, int]] = {}
    sizes: list[int] = []
    for item, count in zip(objects, counts, strict=True):
        kind = type(item)
        sizer = sizers.get(id(kind))
        if sizer is None:
            sizer = sizers[id(kind)] = _sizer(kind)
        size_of, head_bytes, value_bytes = sizer
        sizes.append(size_of(item) + head_bytes + value_bytes * count)
    return sizes


def _sizer(kind: type) -> tuple[Callable[[Any], int], int, int]:
    """Return what measures objects of a class, what to add, and what to add for each value."""
    beside = (_HEAD_BYTES, _VALUE_BYTES) if flags_of(kind) & _BESIDE else (0, 0)
    for base in mro_of(kind):
        found = namespace_of(base).get("__sizeof__")
        if found is not None:
            if type(found) is types.MethodDescriptorType:
                return sys.getsizeof, *beside
            break  # It is written in Python, may be wrong, and may do anything.
    return object.__sizeof__, beside[0] + _COLLECTOR_BYTES, beside[1]


def leaves_size(objects: list[Any], opened: Sequence[dict[Any, Any]]) -> tuple[int, int]:
    """Return how many objects only *objects* keep that the collector does not know, and their size.

    They are text, bytes, numbers, arrays. Nobody else has them where there are as many references
    as *objects* have.

    Args:
        objects: What the collector knows, and each once.
        opened: Dictionaries that came into being by a look at some of them, and do not count.
    """
    count = size_bytes = 0
    holders = [*objects, *opened]
    uncounted = {id(item) for item in opened}
    for _ in range(_MOST_LEVELS):
        referred = [*filterfalse(gc.is_tracked, gc.get_referents(*holders))]
        # Each of these is referred to from that list as often as by its holders, and from this.
        times = Counter(map(id, referred))
        found = [*{id(item): item for item in referred}.values()]
        references = [*map(sys.getrefcount, found)]
        kept = [
            item
            for item, counted in zip(found, references, strict=True)
            if counted - _LISTED == 2 * times[id(item)] and id(item) not in uncounted
        ]
        del found, referred
        if not kept:
            break
        count += len(kept)
        size_bytes += sum(own_sizes(kept, [0] * len(kept)))
        holders = kept
    return count, size_bytes


# What `sys.getrefcount` counts of an object that nobody but a list has, in a call by `map`.
_LISTED = next(map(sys.getrefcount, [object()]))
