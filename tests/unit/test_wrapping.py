"""The kinds of callable, as they are decided once; what is done with them is in `tests/kinds`."""

from __future__ import annotations

import functools
import types
from typing import TYPE_CHECKING, Any

import pytest

from stratatrace.measurement import Callsite
from stratatrace.wrapping import MeasuredFunction, kind_of, measured, measured_member

if TYPE_CHECKING:
    from collections.abc import Callable

    from stratatrace.testing import ListSink

CALLSITE = Callsite(name="f", function="f")


def plain() -> None:
    """Do nothing."""


async def coroutine() -> None:
    """Do nothing."""


def generator() -> Any:
    """Yield nothing."""
    yield


async def async_generator() -> Any:
    """Yield nothing."""
    yield


@types.coroutine
def old_coroutine() -> Any:
    """Be awaited as before `async def`."""
    yield


FUNCTIONS = {
    "function": plain,
    "coroutine": coroutine,
    "generator": generator,
    "async generator": async_generator,
}
AROUND: dict[str, Callable[[Any], Any]] = {
    "itself": lambda f: f,
    "partial": functools.partial,
    "partial of a partial": lambda f: functools.partial(functools.partial(f)),
    "bound method": lambda f: types.MethodType(f, object()),
    "instance": lambda f: type("Owner", (), {"__call__": f})(),
    "measured": lambda f: measured(f, CALLSITE),
}


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
@pytest.mark.parametrize(("kind", "function"), FUNCTIONS.items())
def test_the_kind_is_seen_through_what_is_around(
    kind: str, function: Any, around: Callable[[Any], Any]
) -> None:
    """A partial, a bound method or an instance is of the kind of its function."""
    assert kind_of(around(function)) == kind


def test_other_callables() -> None:
    """Builtins and classes are functions; a generator that is awaited is a coroutine."""
    assert kind_of(len) == kind_of(dict) == "function"
    assert kind_of(old_coroutine) == "coroutine"


@pytest.mark.parametrize("descriptor", [classmethod, staticmethod])
def test_a_descriptor_stays_what_it_is(descriptor: Any) -> None:
    """Subclasses of classmethod and staticmethod too."""
    mine: Any = type("Mine", (descriptor,), {})
    member = measured_member(mine(plain), lambda _f: CALLSITE)
    assert type(member) is mine
    assert isinstance(member.__func__, MeasuredFunction)


def test_a_property_keeps_what_it_has() -> None:
    """Accessors that are missing stay missing."""
    without_self: Any = plain
    member = measured_member(property(without_self, doc="Told."), lambda _f: CALLSITE)
    assert isinstance(member.fget, MeasuredFunction)
    assert (member.fset, member.fdel, member.__doc__) == (None, None, "Told.")


def test_calls_are_told_by_their_callsite(sink: ListSink) -> None:
    """The very object that described the function."""
    measured(plain, CALLSITE)()
    assert sink.last.callsite is CALLSITE


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_measured_function_looks_like_its_function(function: Any) -> None:
    """Its representation names what it wraps."""
    assert function.__name__ in repr(measured(function, CALLSITE).__wrapped__)
