"""Decorating a class measures its methods, and gives the class back."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import pytest

from stratatrace import StratatraceError, profile_memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Told


def _names(told: Told) -> list[str]:
    return [m.callsite.name.rpartition(".")[2] for m in told.measurements]


class _Base:
    def inherited(self) -> str:
        return "inherited"


def _described() -> type[Any]:
    class Described(_Base):
        constant = 3

        def method(self) -> str:
            return "method"

        @classmethod
        def of_class(cls) -> type:
            return cls

        @staticmethod
        def static() -> str:
            return "static"

        @property
        def prop(self) -> str:
            return "prop"

        def _private(self) -> str:
            return "private"

        def __len__(self) -> int:
            return 4

        class Nested:
            def method(self) -> str:
                return "nested"

    return Described


def test_the_public_methods_are_measured_by_default(told: Told) -> None:
    """Methods, class and static methods are; private, special, inherited and properties not."""
    bare = _described()
    owner = profile_memory(bare)
    assert owner is bare
    instance = owner()
    assert instance.method() == "method"
    assert owner.of_class() is owner
    assert instance.static() == "static"
    assert (instance.prop, instance._private(), len(instance)) == ("prop", "private", 4)
    assert instance.inherited() == "inherited"
    assert owner.Nested().method() == "nested"
    assert instance.constant == 3
    assert _names(told) == ["method", "of_class", "static"]


def test_the_named_methods_are_measured(told: Told) -> None:
    """`methods=` takes any of them: private, special, properties and inherited ones."""
    owner = profile_memory(methods=["_private", "__len__", "prop", "inherited"])(_described())
    instance = owner()
    assert (instance.prop, instance._private(), len(instance)) == ("prop", "private", 4)
    assert instance.inherited() == "inherited"
    assert instance.method() == "method"
    assert _names(told) == ["prop", "_private", "__len__", "inherited"]
    assert _Base().inherited() == "inherited"
    assert len(told.measurements) == 4, "the base class is not the one that was decorated"


def test_a_name_given_for_a_class_is_a_prefix(told: Told) -> None:
    """Spans of the methods of a named class are told apart."""
    owner = profile_memory(name="store", methods=["method", "static"])(_described())
    owner().method()
    owner().static()
    assert [m.callsite.name for m in told.measurements] == ["store.method", "store.static"]


@pytest.mark.parametrize(
    "methods", [["nonsense"], ["constant"]], ids=["no such member", "not callable"]
)
def test_a_method_that_is_none_is_refused(methods: list[str]) -> None:
    """The error says which name was given, and of which class."""
    with pytest.raises(ValueError, match=f"Described has no method '{methods[0]}'") as caught:
        profile_memory(methods=methods)(_described())
    assert isinstance(caught.value, StratatraceError)


def test_nothing_is_measured_where_one_name_is_wrong(told: Told) -> None:
    """A class that is refused is left as it was."""
    owner = _described()
    with pytest.raises(StratatraceError):
        profile_memory(methods=["method", "nonsense"])(owner)
    owner().method()
    assert not told.measurements


@pytest.mark.parametrize("descriptor", [lambda f: f, classmethod, staticmethod])
def test_a_method_that_is_measured_already_is_not_measured_twice(
    told: Told, descriptor: Callable[[Any], Any]
) -> None:
    """Decorating a class leaves alone what its author decorated with options of its own."""

    class Owner:
        work = descriptor(profile_memory(name="own")(lambda *_: None))

    profile_memory(Owner)().work()
    assert [m.callsite.name for m in told.measurements] == ["own"]


@pytest.mark.filterwarnings("ignore:functools.partial will be a method descriptor")
@pytest.mark.parametrize(
    "callable_of",
    [
        pytest.param(lambda: functools.partial(max, 2), id="partial"),
        pytest.param(lambda: max, id="builtin"),
        pytest.param(type("Handler", (), {"__call__": lambda _self, *a: max(a)}), id="instance"),
    ],
)
def test_callable_attributes_of_a_class_still_work(
    told: Told, callable_of: Callable[[], Any]
) -> None:
    """A callable in the class that is no method gets its arguments, without the instance."""

    class Owner:
        handler = callable_of()

    assert profile_memory(Owner)().handler(5, 1) == 5


def test_classes_of_every_sort_can_be_decorated(told: Told) -> None:
    """Dataclasses with slots, enums and classes with a metaclass keep working."""

    @profile_memory
    @dataclass(frozen=True, slots=True)
    class Point:
        x: int

        def doubled(self) -> int:
            return self.x * 2

    @profile_memory
    class Colour(Enum):
        RED = 1

        def spoken(self) -> str:
            return self.name.lower()

    assert Point(2).doubled() == 4
    assert Point(2) == Point(2)
    assert Colour.RED.spoken() == "red"
    assert list(Colour) == [Colour.RED]
    assert _names(told) == ["doubled", "spoken"]


def test_a_subclass_of_a_decorated_class_is_its_own_affair(told: Told) -> None:
    """What a subclass overrides is not measured; what it inherits is."""
    owner = profile_memory(_described())

    class Child(owner):  # type: ignore[misc, valid-type]
        def method(self) -> str:
            return "child"

    assert Child().method() == "child"
    assert Child.of_class() is Child
    assert _names(told) == ["of_class"]
