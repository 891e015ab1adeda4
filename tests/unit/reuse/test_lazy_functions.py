"""Lazy functions: they run once, and are in every other respect what they were."""

from __future__ import annotations

import copy
import functools
import inspect
import pickle
from typing import Any

import pytest
from tracing import untraced

from stratatrace import lazy, profile_memory
from stratatrace.config import Config
from stratatrace.errors import CircularValueError, InvalidTypeError
from stratatrace.reuse.lazy import LazyFunction
from stratatrace.testing import ListSink, recording
from unit.reuse.lazy_classes import Value
from unit.reuse.lazy_fixtures import run_strictly  # noqa: F401 -- a fixture of every test

_calls: list[str] = []


@lazy
def settings() -> dict[str, int]:
    """Be read once."""
    _calls.append("settings")
    return {"limit": 5}


@pytest.fixture(autouse=True)
def _forget() -> None:
    settings.reset()
    _calls.clear()


def test_it_runs_once() -> None:
    """And gives the very same object after that."""
    assert not settings.is_computed()
    first = settings()
    assert settings() is first
    assert settings.is_computed()
    assert _calls == ["settings"]


def test_it_runs_again_when_it_was_reset() -> None:
    """Reset with nothing to drop, it stays as it is."""
    settings.reset()
    first = settings()
    settings.reset()
    assert not settings.is_computed()
    assert settings() is not first
    assert _calls == ["settings"] * 2


def test_it_is_the_function() -> None:
    """By name, signature, documentation and module."""
    assert settings.__name__ == settings.__qualname__ == "settings"
    assert settings.__doc__ == "Be read once."
    assert settings.__module__ == __name__
    assert str(inspect.signature(settings)) in {"() -> dict[str, int]", "() -> 'dict[str, int]'"}
    assert inspect.isfunction(settings)
    assert isinstance(settings, LazyFunction)
    assert not inspect.iscoroutinefunction(settings)


def test_it_takes_no_arguments() -> None:
    """An error by its own name, and no value for anybody."""
    untyped: Any = settings
    for arguments, keywords in (((1,), {}), ((), {"limit": 3})):
        with pytest.raises(TypeError, match="settings"):
            untyped(*arguments, **keywords)
    assert not settings.is_computed()


def test_it_is_pickled_by_name() -> None:
    """As functions are: its value stays here."""
    assert settings()
    assert pickle.loads(pickle.dumps(settings)) is settings
    assert copy.copy(settings) is settings
    assert copy.deepcopy(settings) is settings


def test_a_partial_is_pickled_by_value() -> None:
    """With its options, and without its value."""
    ten = lazy(name="ten")(functools.partial(len, "0123456789"))
    assert ten() == 10
    again = pickle.loads(pickle.dumps(ten))
    assert isinstance(again, LazyFunction)
    assert not again.is_computed()
    assert again() == 10
    assert again._self_value.recipe.options == ten._self_value.recipe.options


def test_none_is_a_value() -> None:
    """And is computed once."""
    calls = []

    @lazy
    def nothing() -> None:
        calls.append(1)

    assert nothing() is nothing() is None
    assert calls == [1]


def test_an_error_is_not_kept() -> None:
    """It is the user's own, and the next call tries again."""
    error, tries = OSError("not there"), []

    @lazy
    def fallible() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise error
        return len(tries)

    for _ in range(2):
        with pytest.raises(OSError, match="not there") as caught:
            fallible()
        assert caught.value is error
        assert caught.traceback[-1].name == "fallible"
        assert not fallible.is_computed()
    assert fallible() == fallible() == 3


def test_what_is_no_exception_is_not_kept_either() -> None:
    """Nor is anybody left waiting for it."""
    interrupted = [True]

    @lazy
    def slow() -> int:
        if interrupted.pop():
            raise KeyboardInterrupt
        return 5

    with pytest.raises(KeyboardInterrupt):
        slow()
    interrupted.append(False)
    assert slow() == 5


def test_it_needs_itself() -> None:
    """By way of another."""

    @lazy
    def one() -> int:
        return two()

    @lazy
    def two() -> int:
        return one()

    with pytest.raises(CircularValueError, match="one needs its own value"):
        one()
    assert not one.is_computed()
    assert not two.is_computed()


def test_reset_within_the_computation() -> None:
    """The value is the caller's, and is not kept: it was made of what is not true any more."""

    @lazy
    def value() -> Value:
        if resets.pop():
            value.reset()
        return Value(None, len(resets))

    resets = [False, True]
    assert value().number == 1
    assert not value.is_computed()
    assert value().number == 0
    assert value.is_computed()


def test_weak() -> None:
    """Kept while somebody uses it."""
    calls = []

    @lazy(weak=True)
    def table() -> Value:
        calls.append(1)
        return Value(None, len(calls))

    first = table()
    assert table() is first
    assert table.is_computed()
    del first
    assert not table.is_computed()
    assert table().number == 2
    table.reset()


def test_weak_of_what_takes_no_weak_references() -> None:
    """None as well."""

    @lazy(weak=True)
    def nothing() -> None:
        return None

    with pytest.raises(InvalidTypeError, match="nothing gave None, and weak=True cannot keep"):
        nothing()


def _callables() -> dict[str, Any]:
    class Owner:
        def load(self) -> Value:
            return Value(self, 1)

        def __call__(self) -> Value:
            return self.load()

        @lazy
        @staticmethod
        def inside() -> Value:
            return Value(None, 1)

        @staticmethod
        @lazy
        def outside() -> Value:
            return Value(None, 1)

        @classmethod
        def made(cls) -> Value:
            return Value(cls, 1)

    def function() -> Value:
        return Value(None, 1)

    @functools.wraps(function)
    def wrapper() -> Value:
        return function()

    return {
        "function": lazy(function),
        "called": lazy()(function),
        "lambda": lazy(lambda: Value(None, 1)),
        "wrapped": lazy(wrapper),
        "partial": lazy(functools.partial(Value, None, 1)),
        "callable instance": lazy(Owner()),
        "bound method": lazy(Owner().load),
        "class method": lazy(Owner.made),
        "static method, inside": Owner.inside,
        "static method, outside": Owner().outside,
        "measured": lazy(profile_memory(function)),
        "measured outside": profile_memory(lazy(function)),
    }


@pytest.mark.parametrize("kind", _callables())
def test_every_kind_of_callable(kind: str) -> None:
    """Runs once."""
    target = _callables()[kind]
    first = target()
    assert first.number == 1
    assert target() is first
    assert target.is_computed()
    target.reset()
    assert target() is not first


def test_the_computation_is_measured() -> None:
    """Its Measurement is there for whoever asks, whatever the sample ratio; failing ones too."""

    @lazy(name="table")
    def table() -> bytearray:
        if failing:
            raise KeyError
        return bytearray(1_000_000)

    failing: list[int] = []
    with recording(Config(probe="tracemalloc", sample_ratio=0.0)) as sink:
        assert table.measurement is None
        for _ in range(3):
            table()
        assert [m.callsite.name for m in sink.measurements] == ["table"]
        assert table.measurement is sink.last
        assert sink.last.heap_net_bytes == pytest.approx(1_000_000, abs=1000)
        failing.append(1)
        table.reset()
        with pytest.raises(KeyError):
            table()
        assert table.measurement is not None
        assert table.measurement.error_type == "KeyError"


@untraced
def test_the_computation_is_its_callers_too(sink: ListSink) -> None:
    """Nothing of ours is charged with it, and later calls take nothing."""

    @lazy
    def table() -> bytearray:
        return bytearray(1_000_000)

    @profile_memory
    def uses_it() -> bool:
        return bool(table())

    @lazy
    def another() -> None: ...

    another()  # The first in a process makes what serves all others.
    for _ in range(3):
        uses_it()
    first, second, third = (m for m in sink.measurements if m.callsite.name.endswith("uses_it"))
    assert first.heap_net_bytes == pytest.approx(1_000_000, abs=500)
    assert first.heap_peak_bytes == pytest.approx(1_000_000, abs=3_000)
    assert second.heap_net_bytes == third.heap_net_bytes == 0
    assert third.heap_peak_bytes == pytest.approx(0, abs=100)


def test_it_works_where_measuring_is_off() -> None:
    """There are no numbers then."""

    @lazy
    def value() -> int:
        return 5

    with recording(Config(disabled=True)) as sink:
        assert value() == value() == 5
        assert not sink.measurements
    assert value.measurement is None
