"""Measured functions among other machinery, and what becomes of them."""

# mypy: disable-error-code="untyped-decorator, has-type, arg-type"

from __future__ import annotations

import copy
import functools
import gc
import importlib
import pickle
import sys
import threading
import traceback
import weakref
from typing import Any
from unittest import mock

import pytest
from setting import assert_all_is_well, install, measured  # type: ignore[import-not-found]

from stratatrace.probes import _counters

recorder = install(sys.argv[1])


@measured
def module_function(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


def test_cycles_are_collected() -> None:
    """Through the function, its attributes, its closure, and what began and never went on."""
    for kind in ("function", "generator", "coroutine"):

        def made(kind: str = kind) -> tuple[Any, Any]:
            target: Any
            if kind == "function":
                target = lambda: wrapper  # noqa: E731
            elif kind == "generator":

                def generator() -> object:
                    yield wrapper

                target = generator
            else:

                async def coroutine() -> object:
                    return wrapper

                target = coroutine

            wrapper = measured(target)
            wrapper.itself = wrapper
            wrapper.list = [wrapper, target]
            if kind == "function":
                wrapper()
            elif kind == "generator":
                wrapper.started = wrapper()
                next(wrapper.started)
            return weakref.ref(wrapper), weakref.ref(target)

        references = made()
        gc.collect()
        gc.collect()
        assert [reference() for reference in references] == [None, None], kind


def test_arguments_of_every_kind() -> None:
    """They are passed on as they are."""
    many = tuple(range(100_000))
    assert module_function(*many) == (many, {})
    keywords: Any = {f"name {n}": n for n in range(10_000)}
    assert module_function(*many, **keywords) == (many, keywords)
    with pytest.raises(TypeError, match="keywords must be strings"):
        module_function(**{1: 2})

    @measured
    def positional(a: int, /, b: int = 2, *, c: int = 3) -> tuple[int, int, int]:
        return a, b, c

    assert positional(1, b=4, c=5) == (1, 4, 5)
    with pytest.raises(TypeError, match="positional-only"):
        positional(a=1)


def test_descriptors() -> None:
    """As methods of all kinds."""

    class Owner:
        @measured
        def method(self) -> object:
            return self

        @classmethod
        @measured
        def of_class(cls) -> object:
            return cls

        @staticmethod
        @measured
        def of_nobody() -> object:
            return None

        @property
        @measured
        def attribute(self) -> object:
            return self

    owner = Owner()
    assert owner.method() is owner.attribute is owner
    assert Owner.of_class() is owner.of_class() is Owner
    assert owner.of_nobody() is None


def test_standard_library() -> None:
    """Copies, pickles, patches and dispatches."""
    assert copy.copy(module_function) is copy.deepcopy(module_function) is module_function
    assert pickle.loads(pickle.dumps(module_function)) is module_function
    dispatched = functools.singledispatch(measured(lambda value: "any"))
    dispatched.register(int)(measured(lambda value: "int"))
    assert (dispatched(1), dispatched("")) == ("int", "any")
    with mock.patch(f"{__name__}.module_function") as patched:
        module_function(1)
    patched.assert_called_once_with(1)
    other = measured(lambda: "one")
    other.__wrapped__ = lambda: "other"
    assert other() == "one"  # What is called was decided when it was decorated.
    spied = mock.Mock(wraps=module_function)
    assert spied(1) == ((1,), {})
    cached = functools.lru_cache(measured(lambda n: n))
    assert [cached(n % 3) for n in range(9)] == [0, 1, 2] * 3


def test_members_that_are_taken_away() -> None:
    """A call without them is an error, and no crash; so is one that was never connected."""
    kind = type(module_function)
    if kind.__name__ == "MeasuredFunction":
        lost = measured(lambda: 1)
        del lost._self_callsite
        with pytest.raises(RuntimeError, match="without its function"):
            lost()
        with pytest.raises(TypeError):
            kind(len, len)(1)
        with pytest.raises(TypeError):
            type("Derived", (kind,), {})
    for other in (len, test_descriptors, object(), "".join, type):
        with pytest.raises(TypeError, match="callable_type"):
            _counters.connect(other, len, None)


def test_traceback_and_context_are_the_programs() -> None:
    """The same exception, with the same frames and context; none of ours is in between."""
    error = ValueError("the program's own")

    @measured
    def raises() -> None:
        raise error

    context = KeyError()

    def handles() -> None:
        try:
            raise context
        except KeyError:
            raises()

    with pytest.raises(ValueError, match="own") as caught:
        handles()
    assert caught.value is error
    assert (error.__context__, error.__cause__) == (context, None)
    assert context.__context__ is None
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert names == ["test_traceback_and_context_are_the_programs", "handles", "raises"]


def test_a_call_that_ends_in_another_thread() -> None:
    """It is failed, be the thread that it began in gone, and the new one in its place."""
    for _ in range(20):
        tab = _counters.Tab()
        account = recorder.accounts.heap
        for step in ("charge", "release"):
            errors: list[Exception] = []

            method = getattr(account, step)

            def run(method: Any = method, tab: Any = tab) -> None:
                try:
                    method(tab)
                except RuntimeError as error:
                    errors.append(error)  # noqa: B023 -- it is joined before the next

            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
        assert tab.failed
        assert len(errors) == 1


def test_a_tab_is_on_one_list() -> None:
    """One that another thread has closed is on none, and may be opened in that thread."""
    account = recorder.accounts.heap
    tab, inner, taken = _counters.Tab(), _counters.Tab(), threading.Event()
    over = threading.Event()

    def work() -> None:
        account.charge(tab)
        taken.set()
        over.wait(10)
        account.charge(inner)
        account.unhold(account.release(inner))
        assert not account.charging

    thread = threading.Thread(target=work)
    thread.start()
    taken.wait(10)
    with pytest.raises(RuntimeError):
        account.release(tab)
    assert not account.charging
    account.charge(tab)
    assert account.charging
    with pytest.raises(RuntimeError):
        account.release(tab)
    assert not account.charging
    over.set()
    thread.join()


def test_what_nobody_can_end_is_charged_no_more() -> None:
    """A tab, or a call, that was dropped while it was open."""
    account = recorder.accounts.heap
    account.charge(_counters.Tab())
    assert not account.charging
    account.hold()
    if recorder.tallies is not None:
        tally = recorder.tally_for(module_function._self_callsite)
        tally.begin()
        assert not account.charging
        assert tally.in_flight == 0 or not recorder.accounts.rss.charging


def test_an_enormous_budget() -> None:
    """It cannot be exceeded, and is no error."""
    assert measured(budget=2**70)(lambda: 1)() == 1


def test_modules_that_are_imported_anew() -> None:
    """Functions of both go on."""
    kept = [name for name in sys.modules if name.split(".")[0] == "stratatrace"]
    saved = {name: sys.modules.pop(name) for name in kept}
    again = importlib.import_module("stratatrace")
    assert again.profile_memory(lambda: 1)() == 1
    assert module_function(2) == ((2,), {})
    sys.modules.update(saved)
    # The gate is the newer module's: the older asks for it no more.
    assert module_function(2) == ((2,), {})
    gc.collect()


for name, test in list(globals().items()):
    if name.startswith("test_"):
        test()
        gc.collect()
        assert_all_is_well(recorder)
sys.stdout.write("done\n")
