"""Lazy values among threads: one computes, the others wait, and nobody waits for ever."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import pytest

from stratatrace import lazy
from stratatrace.errors import CircularValueError
from stratatrace.reuse import lazy_once
from unit.reuse.lazy_classes import SHAPES, Slotted, Value
from unit.reuse.lazy_fixtures import run_strictly  # noqa: F401 -- a fixture of every test

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 20


def in_threads(*functions: Callable[[], Any]) -> list[Future[Any]]:
    """Run each in a thread of its own, and return what came of them when all have ended."""
    outcomes: list[Future[Any]] = [Future() for _ in functions]

    def run(function: Callable[[], Any], outcome: Future[Any]) -> None:
        try:
            outcome.set_result(function())
        except BaseException as error:
            outcome.set_exception(error)

    threads = [
        threading.Thread(target=run, args=pair, daemon=True)
        for pair in zip(functions, outcomes, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive(), "a thread hangs"
    return outcomes


def until_waiting(count: int) -> None:
    """Return when so many threads wait for a computation."""
    for _ in range(SECONDS * 200):
        if len(lazy_once._waiting) >= count:
            return
        threading.Event().wait(0.005)
    pytest.fail("nobody waits")


@pytest.mark.parametrize("shape", SHAPES)
def test_one_computes_for_all(shape: str) -> None:
    """Each thread has the same object, from one computation."""
    instance = SHAPES[shape]()
    together = threading.Barrier(8)

    def read() -> Any:
        together.wait(SECONDS)
        return instance.value

    values = {id(outcome.result()) for outcome in in_threads(*[read] * 8)}
    assert len(values) == 1
    assert instance.computed == [1]


@pytest.mark.parametrize("options", [{}, {"weak": True}, {"evict_under_pressure": True}])
def test_those_who_come_meanwhile_wait(options: dict[str, Any]) -> None:
    """And have the value, also where nobody else keeps it."""
    begun = threading.Event()
    calls = []

    @lazy(**options)
    def slow() -> Value:
        calls.append(1)
        begun.set()
        until_waiting(3)
        return Value(None, 1)

    def late() -> Any:
        assert begun.wait(SECONDS)
        return slow()

    values = [outcome.result() for outcome in in_threads(slow, late, late, late)]
    assert len({id(value) for value in values}) == 1
    assert calls == [1]


def test_two_instances_are_computed_at_the_same_time() -> None:
    """Each computation waits until the other has begun."""
    together = threading.Barrier(2)

    class Owner:
        @lazy
        def value(self) -> int:
            return together.wait(SECONDS)

        @lazy
        def other(self) -> int:
            return together.wait(SECONDS)

    one, two = Owner(), Owner()
    outcomes = in_threads(lambda: one.value, lambda: two.value)
    assert sorted(outcome.result() for outcome in outcomes) == [0, 1]
    outcomes = in_threads(lambda: Owner.other.__get__(one), lambda: Owner.other.__get__(two))
    assert sorted(outcome.result() for outcome in outcomes) == [0, 1]


def test_two_values_of_one_instance_are_computed_at_the_same_time() -> None:
    """Nothing is locked but the value."""
    together = threading.Barrier(2)

    class Owner:
        @lazy
        def one(self) -> int:
            return together.wait(SECONDS)

        @lazy
        def two(self) -> int:
            return together.wait(SECONDS)

    owner = Owner()
    outcomes = in_threads(lambda: owner.one, lambda: owner.two)
    assert sorted(outcome.result() for outcome in outcomes) == [0, 1]


def test_a_value_is_read_while_another_is_computed() -> None:
    """Nobody who has a value waits."""
    begun, end = threading.Event(), threading.Event()

    @lazy
    def quick() -> int:
        return 1

    @lazy
    def slow() -> int:
        begun.set()
        assert end.wait(SECONDS)
        return 2

    def read() -> int:
        assert begun.wait(SECONDS)
        try:
            return quick() + quick()
        finally:
            end.set()

    assert [outcome.result() for outcome in in_threads(slow, read)] == [2, 2]


def test_where_it_fails_the_next_one_tries() -> None:
    """An error is that of the thread whose computation failed."""
    begun = threading.Event()
    calls = []

    @lazy
    def fallible() -> int:
        calls.append(1)
        if len(calls) == 1:
            begun.set()
            until_waiting(2)
            raise KeyError
        return len(calls)

    def late() -> int:
        assert begun.wait(SECONDS)
        return fallible()

    first, *others = in_threads(fallible, late, late)
    assert isinstance(first.exception(), KeyError)
    assert [other.result() for other in others] == [2, 2]


def test_threads_that_need_each_others_values() -> None:
    """An error in at least one of them, and no deadlock."""
    together = threading.Barrier(2)
    first = [True, True]

    class Owner:
        @lazy
        def one(self) -> int:
            if first:
                first.pop()
                together.wait(SECONDS)
            return self.two

        @lazy
        def two(self) -> int:
            if first:
                first.pop()
                together.wait(SECONDS)
            return self.one

    owner = Owner()
    for outcome in in_threads(lambda: owner.one, lambda: owner.two):
        assert isinstance(outcome.exception(), CircularValueError)


def test_reset_while_another_thread_computes() -> None:
    """That thread has its value, and the next one computes anew, without waiting for it."""
    begun, end = threading.Event(), threading.Event()
    numbers = iter((1, 2))

    class Owner:
        @lazy
        def value(self) -> int:
            number = next(numbers)
            if number == 1:
                begun.set()
                assert end.wait(SECONDS)
            return number

    owner = Owner()

    def reset() -> int:
        assert begun.wait(SECONDS)
        Owner.value.reset(owner)
        try:
            return owner.value
        finally:
            end.set()

    first, second = in_threads(lambda: owner.value, reset)
    assert (first.result(), second.result()) == (1, 2)
    assert owner.value == 2


@pytest.mark.parametrize("slots", [(), ("__dict__", "__weakref__"), ("__weakref__",)], ids=str)
def test_what_is_assigned_meanwhile_stays(slots: tuple[str, ...]) -> None:
    """The value that was computed is for those who asked before."""
    begun, end = threading.Event(), threading.Event()

    def slow(_self: object) -> str:
        begun.set()
        assert end.wait(SECONDS)
        return "computed"

    members = {"value": lazy(slow), **({"__slots__": slots} if slots else {})}
    owner: Any = type("Owner", (), members)()

    def assign() -> None:
        assert begun.wait(SECONDS)
        owner.value = "assigned"
        end.set()

    first, second = in_threads(lambda: owner.value, assign)
    second.result()
    assert first.result() == "computed"
    assert owner.value == "assigned"


def test_a_turn_that_is_dropped_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that came between two lines has left the computation to nobody."""
    monkeypatch.setattr(lazy_once, "_LOOK_SECONDS", 0.02)
    slotted = Slotted()
    key = (id(Slotted.value), id(slotted))
    turns: list[Any] = []
    lazy_once._begin_turn(turns, key)
    computation = turns[0].take()
    computation.owner = -1

    def drop() -> None:
        until_waiting(1)
        turns.clear()

    first, _ = in_threads(lambda: slotted.value, drop)
    assert first.result().number == 1
    assert slotted.computed == [1]


def test_a_computation_that_was_left_behind_is_not_joined() -> None:
    """Whoever comes later computes at once."""
    slotted = Slotted()
    turns: list[Any] = []
    lazy_once._begin_turn(turns, (id(Slotted.value), id(slotted)))
    turns[0].take()
    turns.clear()
    assert slotted.value.number == 1


def test_interrupted_while_it_waits() -> None:
    """A thread that gives up waiting is not waited for."""
    begun, end = threading.Event(), threading.Event()

    @lazy
    def slow() -> int:
        begun.set()
        assert end.wait(SECONDS)
        return 5

    def gives_up() -> None:
        assert begun.wait(SECONDS)
        try:
            _raise_in_wait(slow)
        finally:
            end.set()

    first, second = in_threads(slow, gives_up)
    assert first.result() == 5
    assert isinstance(second.exception(), KeyboardInterrupt)


def _raise_in_wait(slow: Callable[[], int]) -> None:
    (computation,) = lazy_once._under_way.values()

    class Interrupted:
        def acquire(self, timeout: float) -> bool:
            raise KeyboardInterrupt

    really, computation.computing = computation.computing, Interrupted()  # type: ignore[assignment]
    try:
        slow()
    finally:
        computation.computing = really


def test_many_threads_and_resets() -> None:
    """Whatever is read was computed after the latest reset that its reader has seen."""
    version = [0]

    @lazy
    def value() -> int:
        return version[0]

    stop = threading.Event()

    def change() -> None:
        for _ in range(300):
            version[0] += 1
            value.reset()
        stop.set()

    def read() -> int:
        reads = 0
        while not stop.is_set() and reads < 100_000:
            before = version[0]
            assert value() >= before - 1
            reads += 1
        return reads

    outcomes = in_threads(change, read, read, read)
    for outcome in outcomes:
        outcome.result()
    assert value() == 300
