"""Classes of every shape that can have a lazy value, each of which counts its computations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stratatrace import lazy

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SHAPES", "Value"]


class Value:
    """Something that takes weak references, and is equal to nothing but itself."""

    def __init__(self, owner: object, number: int) -> None:
        self.owner_id = id(owner)
        self.number = number


class Plain:
    """Has a namespace."""

    def __init__(self) -> None:
        self.computed: list[int] = []

    @lazy
    def value(self) -> Value:
        """Be computed."""
        self.computed.append(1)
        return Value(self, len(self.computed))


class Slotted:
    """Has slots, and takes weak references."""

    __slots__ = ("__weakref__", "computed")

    def __init__(self) -> None:
        self.computed: list[int] = []

    @lazy
    def value(self) -> Value:
        """Be computed."""
        self.computed.append(1)
        return Value(self, len(self.computed))


class SlottedNamespace:
    """Has slots with a namespace, and takes no weak references."""

    __slots__ = ("__dict__", "computed")

    def __init__(self) -> None:
        self.computed: list[int] = []

    @lazy
    def value(self) -> Value:
        """Be computed."""
        self.computed.append(1)
        return Value(self, len(self.computed))


class Mixin:
    """Has no storage at all: its subclasses do."""

    __slots__ = ()
    computed: list[int]

    @lazy
    def value(self) -> Value:
        """Be computed."""
        self.computed.append(1)
        return Value(self, len(self.computed))


class Mixed(Mixin):
    """Has a namespace of its own."""

    def __init__(self) -> None:
        self.computed = []


class Heir(Slotted):
    """Has a namespace that its base has not."""


@dataclass
class Data:
    """A dataclass, whose instances are equal and cannot be hashed."""

    computed: list[int] = field(default_factory=list)

    @lazy
    def value(self) -> Value:
        """Be computed."""
        self.computed.append(1)
        return Value(self, len(self.computed))


@dataclass(frozen=True)
class Frozen:
    """A dataclass that refuses assignment."""

    computed: list[int] = field(default_factory=list)

    @lazy
    def value(self) -> Value:
        """Be computed."""
        self.computed.append(1)
        return Value(self, len(self.computed))


@dataclass(slots=True, weakref_slot=True)
class SlottedData:
    """A dataclass with slots, which is a class made twice."""

    computed: list[int] = field(default_factory=list)

    @lazy
    def value(self) -> Value:
        """Be computed."""
        self.computed.append(1)
        return Value(self, len(self.computed))


@dataclass(slots=True, frozen=True, weakref_slot=True)
class SlottedFrozen:
    """A dataclass with slots that refuses assignment."""

    computed: list[int] = field(default_factory=list)

    @lazy
    def value(self) -> Value:
        """Be computed."""
        self.computed.append(1)
        return Value(self, len(self.computed))


class Evictable:
    """Lets its value go under pressure."""

    def __init__(self) -> None:
        self.computed: list[int] = []

    @lazy(evict_under_pressure=True)
    def value(self) -> Value:
        """Be computed."""
        self.computed.append(1)
        return Value(self, len(self.computed))


class Guarded:
    """Has a __getattr__ and a __setattr__ of its own."""

    def __init__(self) -> None:
        object.__setattr__(self, "computed", [])

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)

    def __setattr__(self, name: str, value: object) -> None:
        raise AssertionError(name)

    @lazy
    def value(self) -> Value:
        """Be computed."""
        self.computed.append(1)
        return Value(self, len(self.computed))


class Meta(type):
    """Its instances are classes."""

    @lazy
    def value(cls) -> Value:
        """Be computed."""
        computed: list[int] = vars(cls)["computed"]
        computed.append(1)
        return Value(cls, len(computed))


def _class() -> Any:
    return Meta("Made", (), {"computed": []})


#: What makes an instance of each.
SHAPES: dict[str, Callable[[], Any]] = {
    "plain": Plain,
    "slots": Slotted,
    "slots with a namespace": SlottedNamespace,
    "mixin": Mixed,
    "heir of slots": Heir,
    "dataclass": Data,
    "frozen dataclass": Frozen,
    "dataclass with slots": SlottedData,
    "frozen dataclass with slots": SlottedFrozen,
    "evictable": Evictable,
    "guarded": Guarded,
    "class of a metaclass": _class,
}
