"""The words for a way from a root to an object: ``app.CACHE['k'] -> list[3] -> app.Node``."""

from __future__ import annotations

import collections
import threading
import types
from itertools import islice
from typing import Any, NamedTuple

from stratatrace.diagnose.inert import is_one_of, isinstance_of, members, namespace, type_name

__all__ = ["Root", "chain_text"]

_SPOKEN = (str, bytes, int, float, bool, types.NoneType)
_LONGEST_KEY = 40
_FURTHEST = 100_000
_LONGEST_CHAIN = 12


class Root(NamedTuple):
    """Where a way begins."""

    label: str
    item: object
    #: Whether it is the namespace of a module, whose keys are names.
    space: bool = False


class _Way:
    """Puts a way into words, step by step."""

    def __init__(self, root: Root) -> None:
        self.segments: list[str] = []
        #: How the object that was reached is spoken of, and whether that says its type.
        self.current, self.typed = root.label, False
        #: Whose parts come next, where the object before is no more than the storage of them.
        self.inside: str | None = "names" if root.space else None
        self.names: tuple[str, ...] = ()

    def step(self, parent: Any, child: Any) -> None:
        """Go on to what *parent* refers to."""
        if self._enters(parent, child):
            return
        inside, self.inside = self.inside, None
        if inside in {"names", "attributes"}:
            self.current += _name_in(parent, child)
        elif inside == "closure":
            self.current += self._variable(parent, child)
        elif type(parent) is not types.CellType:
            self.current += _part(parent, child)
        if inside in {"names", "closure"} or type(parent) is types.CellType:
            self.typed = False
            return
        self._next(child)

    def text(self, last: object) -> str:
        """Return the words for all of it."""
        if not self.typed:
            self._next(last)
        segments = [*self.segments, self.current]
        if len(segments) > _LONGEST_CHAIN:
            half = _LONGEST_CHAIN // 2
            segments[half:-half] = ["..."]
        return " -> ".join(segments)

    def _next(self, item: Any) -> None:
        self.segments.append(self.current)
        self.current, self.typed = _spoken_of(item), True

    def _enters(self, parent: Any, child: Any) -> bool:
        """Say whether *child* is where the parts of *parent* are stored, and nothing to tell of."""
        if self.inside is None:
            self.inside = _storage(parent, child)
            if self.inside == "closure":
                self.names = parent.__code__.co_freevars
            return self.inside is not None
        if self.inside == "threads" and type(child) is dict:
            self.inside = "names"
            return True
        return False

    def _variable(self, cells: Any, child: object) -> str:
        for name, cell in zip(self.names, cells, strict=False):
            if cell is child:
                return f".{name}"
        return ".__closure__"


def _storage(parent: Any, child: Any) -> str | None:
    """Return what the parts in *child* are to *parent*, where it is the storage of them."""
    if type(parent) is types.FunctionType and child is parent.__closure__:
        return "closure"
    if type(child) is not dict:
        return None
    if type(parent) is threading.local:
        return "names" if child is namespace(parent) else "threads"
    if isinstance_of(parent, type):
        return "names" if _same_names(child, namespace(parent)) else None
    if child is not namespace(parent):
        return None
    return "names" if isinstance_of(parent, types.ModuleType) else "attributes"


def chain_text(root: Root, way: list[object]) -> str:
    """Return a way in words.

    Args:
        root: Where it begins.
        way: The objects, each of which refers to the next; the first is the root's.
    """
    words = _Way(root)
    for place in range(1, len(way)):
        words.step(way[place - 1], way[place])
    return words.text(way[-1])


def _part(parent: Any, child: object) -> str:
    """Return where *parent* has *child*."""
    if isinstance_of(parent, dict):
        return _key_of(parent, child)
    for kind in (list, tuple, collections.deque):
        if isinstance_of(parent, kind):
            place = _place(kind.__iter__(parent), child)
            if place is not None:
                return f"[{place}]"
    if type(parent) is types.MethodType:
        return ".__self__" if parent.__self__ is child else ".__func__"
    if type(parent) is types.FunctionType:
        return _part_of_function(parent, child)
    for name, value in (*(namespace(parent) or {}).items(), *members(parent)):
        if value is child and type(name) is str:
            return f".{name}"
    return ""


def _part_of_function(parent: types.FunctionType, child: object) -> str:
    for name in ("__defaults__", "__kwdefaults__", "__globals__"):
        if getattr(parent, name) is child:
            return f".{name}"
    return ""


def _key_of(parent: Any, child: object) -> str:
    for key, value in islice(dict.items(parent), _FURTHEST):
        if value is child:
            if not is_one_of(type(key), _SPOKEN):
                return f"[a {type_name(type(key))}]"
            shown = repr(key)
            return f"[{shown if len(shown) <= _LONGEST_KEY else shown[:_LONGEST_KEY] + '...'}]"
    return ""  # It is a key itself, or beyond that.


def _name_in(parent: Any, child: object) -> str:
    for name, value in dict.items(parent):
        if value is child:
            return f".{name}" if type(name) is str else f".[a {type_name(type(name))}]"
    return ""


def _place(items: Any, child: object) -> int | None:
    for place, item in enumerate(islice(items, _FURTHEST)):
        if item is child:
            return place
    return None


def _same_names(one: dict[Any, Any], other: dict[Any, Any] | None) -> bool:
    """Say whether two dictionaries have the same keys, the very same objects, in the same order."""
    if other is None or len(one) != len(other):
        return False
    return all(mine is theirs for mine, theirs in zip(one, other, strict=True))


def _spoken_of(item: Any) -> str:
    if isinstance_of(item, type):
        return f"class {type_name(item)}"
    if type(item) is types.FunctionType:
        return f"function {item.__qualname__}"
    if is_one_of(type(item), (types.GeneratorType, types.CoroutineType)):
        return f"{type_name(type(item))} {item.__qualname__}"
    return type_name(type(item))
