"""Makers of garbage of known shapes, for the tests of cycles."""

from __future__ import annotations

import functools
import gc
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class Node:
    def __init__(self, parent: Node | None = None) -> None:
        self.parent = parent
        self.children: list[Node] = []
        self.data: object = None
        if parent is not None:
            parent.children.append(self)


class Slotted:
    __slots__ = ("__weakref__", "next", "prev")

    next: Any
    prev: Any


class Derived(Slotted):
    """Has both slots and a dictionary."""


class Button:
    def __init__(self) -> None:
        self.on_click = self.press

    def press(self) -> None: ...


class Cached:
    def __init__(self) -> None:
        self.load = functools.lru_cache(self._load)

    def _load(self) -> None: ...


class Registry:
    def __init__(self) -> None:
        self.entries = {"first": Entry(self)}


class Entry:
    def __init__(self, registry: Registry) -> None:
        self.registry = registry


class Finalized:
    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None: ...


def pair() -> None:
    """Leave two objects behind, that know each other."""
    one, other = Slotted(), Slotted()
    one.next, other.prev = other, one


def tree(children: int = 3) -> None:
    root = Node()
    for _ in range(children):
        Node(root)


def ring(count: int = 100) -> None:
    first = last = Slotted()
    for _ in range(count - 1):
        last.next = Slotted()
        last = last.next
    last.next = first


def linked_list(count: int = 5) -> None:
    last = Slotted()
    for _ in range(count):
        last.next = Slotted()
        last.next.prev = last
        last = last.next


def itself() -> None:
    one = Derived()
    one.next = one


def in_dictionary() -> None:
    one: Any = Derived()
    one.other = Derived()
    one.other.other = one


def recursive_closure() -> None:
    def countdown(number: int) -> int:
        return countdown(number - 1)


def stored_closure() -> None:
    node = Node()
    node.data = lambda: node


def stored_partial() -> None:
    node = Node()
    node.data = functools.partial(print, node)


def exception() -> None:
    kept = None
    try:
        int("x")
    except ValueError as error:
        kept = error
    assert kept is not None


def frame() -> None:
    kept = sys._getframe()
    assert kept is not None


def generator() -> None:
    def numbers(kept: list[Any]) -> Iterator[Any]:
        yield kept

    kept: list[Any] = []
    kept.append(numbers(kept))


def containers() -> None:
    items: list[Any] = []
    items.append({"key": items})


def local_class() -> None:
    class Local: ...


@contextmanager
def thawed() -> Iterator[None]:
    """Have nothing frozen within the block, as in most programs; all is when the tests run."""
    gc.unfreeze()
    try:
        yield
    finally:
        gc.collect()
        gc.freeze()


def alive(kind: type) -> int:
    """Return how many objects of a class there are."""
    return sum(type(item) is kind for item in gc.get_objects())
