"""`cached`: computed once for all that ask, not kept when it fails; the function otherwise."""

from __future__ import annotations

import asyncio
import gc
import inspect
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from stratatrace import cached, profile_memory
from stratatrace.config import Config
from stratatrace.errors import InvalidTypeError, InvalidValueError
from stratatrace.reuse import cache_flights
from stratatrace.testing import recording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


bounded = cached(max_entries=100)


@cached(max_entries=10)
def squared(number: float, *, factor: int = 1) -> float:
    """Square a number."""
    return number * number * factor


@pytest.fixture(autouse=True)
def nothing_waits() -> Iterator[None]:
    """Have no computation left that waits for another."""
    squared.cache_clear()
    yield
    squared.cache_clear()
    assert cache_flights._waits._of == {}


def in_threads(*functions: Callable[[], Any]) -> list[Any]:
    """Run each in a thread of its own, and return what it returns or raises."""

    def run(function: Callable[[], Any]) -> Any:
        try:
            return function()
        except BaseException as error:
            return error

    with ThreadPoolExecutor(len(functions)) as pool:
        futures = [pool.submit(run, function) for function in functions]
        return [future.result(20) for future in futures]


def until(true: Callable[[], object]) -> None:
    for _ in range(4000):
        if true():
            return
        time.sleep(0.002)
    pytest.fail("it did not come true")


def waiting_for(function: Any) -> int:
    """Tell how many wait for a computation of a cached function."""
    flights = [function.cache._flights, function.cache._async_flights]
    return sum(len(each.wakers) for table in flights for each in table._of_keys.values())


def test_it_remembers() -> None:
    """By the arguments, and counts like functools does."""
    assert [squared(2), squared(2), squared(2, factor=3), squared(number=2)] == [4, 4, 12, 4]
    assert squared.cache_info() == (1, 3, 10, 3)
    assert squared.cache_parameters() == {
        "max_entries": 10,
        "max_bytes": None,
        "ttl": None,
        "typed": False,
    }
    del squared.cache[squared.cache_key(2)]
    assert squared(2) == 4
    assert squared.cache_info() == (1, 4, 10, 3)
    squared.cache_clear()
    assert squared.cache_info() == (0, 0, 10, 0)
    assert squared.cache.stats().misses >= 4  # The metrics go on.


def test_it_is_the_function_otherwise() -> None:
    """Its name, its signature, its kind; pickled by name."""
    assert str(inspect.signature(squared)) == "(number: 'float', *, factor: 'int' = 1) -> 'float'"
    assert (squared.__name__, squared.__doc__) == ("squared", "Square a number.")  # type: ignore[attr-defined]
    assert squared.__wrapped__(3) == 9
    assert squared.cache.name.endswith("test_cache_decorator.squared")
    assert pickle.loads(pickle.dumps(squared)) is squared

    @bounded
    async def later() -> int:
        return 1

    assert inspect.iscoroutinefunction(later)


def test_it_binds_as_a_function() -> None:
    """On methods, whose instances are told apart, and below classmethod and staticmethod."""

    class Table:
        def __init__(self, rows: int) -> None:
            self.rows = rows

        @bounded
        def size(self, scale: int = 1) -> int:
            return self.rows * scale

        @classmethod
        @bounded
        def kind(cls) -> str:
            return cls.__name__

        @staticmethod
        @bounded
        def plain(number: int) -> int:
            return number + 1

    one, other = Table(1), Table(2)
    assert [one.size(), other.size(), one.size(5), one.size(5)] == [1, 2, 5, 5]
    assert Table.size.cache_info()[:2] == (1, 3)
    # mypy binds once more what classmethod and staticmethod have bound already.
    table: Any = Table
    assert (table.kind(), table.plain(1), table(1).plain(1)) == ("Table", 2, 2)


def test_keys_are_made_as_asked() -> None:
    """By the types, too, or by a function."""
    typed = cached(max_entries=5, typed=True)(lambda number: [type(number)])
    assert [typed(1), typed(1.0), typed(1)] == [[int], [float], [int]]

    @cached(max_entries=5, key=lambda rows: (*rows,))
    def total(rows: list[int]) -> int:
        return sum(rows)

    assert [total([1, 2]), total([1, 2])] == [3, 3]
    assert total.cache_info().hits == 1


def test_results_expire_and_are_bounded_by_bytes() -> None:
    """A result that is too large is given, and not kept."""
    runs: list[int] = []

    @cached(max_bytes=10_000)
    def text(size: int) -> str:
        runs.append(size)
        return "x" * size

    for _ in range(2):
        assert (len(text(100)), len(text(20_000))) == (100, 20_000)
    assert runs == [100, 20_000, 20_000]
    assert text.cache.stats().refused == 2
    assert text.cache_info().maxsize is None


def test_it_may_call_itself() -> None:
    """For other arguments; and for its own, where nothing else ends that."""

    @cached(max_entries=500)
    def fibonacci(number: int) -> int:
        return number if number < 2 else fibonacci(number - 1) + fibonacci(number - 2)

    assert fibonacci(150) == 9969216677189303386214405760200
    assert fibonacci.cache_info().misses == 151
    depth = 0

    @bounded
    def again(name: str) -> int:
        nonlocal depth
        depth += 1
        return depth if depth == 3 else again(name)

    assert again("a") == 3
    assert again("a") == 3
    assert depth == 3


def test_threads_compute_once() -> None:
    """All have the same object, and nobody computes another's."""
    runs: list[str] = []
    go = threading.Event()

    @bounded
    def slow(name: str) -> object:
        runs.append(name)
        go.wait(10)
        return object()

    def let_go() -> None:
        until(lambda: waiting_for(slow) == 4)
        go.set()

    *results, _ = in_threads(*[lambda: slow("a")] * 3, *[lambda: slow("b")] * 3, let_go)
    assert len(set(results[:3])) == len(set(results[3:])) == 1
    assert sorted(runs) == ["a", "b"]
    assert slow.cache_info()[:2] == (4, 2)


def test_exceptions_are_shared_and_not_kept() -> None:
    """Those who wait have the same one; who comes later computes."""
    runs = 0
    go = threading.Event()

    @bounded
    def fails() -> int:
        nonlocal runs
        runs += 1
        go.wait(10)
        if runs == 1:
            raise ZeroDivisionError
        return 5

    def let_go() -> None:
        until(lambda: waiting_for(fails) == 2)
        go.set()

    *errors, _ = in_threads(fails, fails, fails, let_go)
    assert [type(error) for error in errors] == [ZeroDivisionError] * 3
    assert len(set(errors)) == 1
    assert (runs, fails()) == (1, 5)


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_what_is_of_one_thread_is_not_shared(error: type[BaseException]) -> None:
    """The next of those who wait computes."""
    runs = 0
    go = threading.Event()

    @bounded
    def fails() -> int:
        nonlocal runs
        runs += 1
        go.wait(10)
        if runs == 1:
            raise error
        return 5

    def let_go() -> None:
        until(lambda: waiting_for(fails) == 2)
        go.set()

    *results, _ = in_threads(fails, fails, fails, let_go)
    assert sorted(map(str, results)) == sorted([str(error()), "5", "5"])
    assert runs == 2


def test_two_that_wait_for_each_other_do_not() -> None:
    """One of them computes what the other one is at."""
    both = threading.Barrier(2)
    levels = threading.local()

    @bounded
    def crossed(name: str) -> str:
        level = getattr(levels, "level", 0)
        levels.level = level + 1
        if level == 0:
            both.wait(10)
            return name + crossed("b" if name == "a" else "a")
        return name

    results = in_threads(lambda: crossed("a"), lambda: crossed("b"))
    assert sorted(map(len, results)) in ([2, 2], [2, 3], [1, 2])


def test_a_failure_leaves_no_cycle() -> None:
    """What the exception's frames hold goes with the exception."""
    gone: list[int] = []

    class Large:
        def __del__(self) -> None:
            gone.append(1)

    @bounded
    def fails() -> None:
        _large = Large()
        raise ZeroDivisionError

    gc.collect()
    gc.disable()
    try:
        with suppress(ZeroDivisionError):
            fails()
        assert gone == [1]
    finally:
        gc.enable()


# Coroutine functions.


def test_tasks_compute_once() -> None:
    """And coroutines of many tasks have the same result."""
    runs: list[str] = []

    @bounded
    async def fetch(name: str) -> object:
        runs.append(name)
        await asyncio.sleep(0.01)
        return object()

    async def main() -> None:
        results = await asyncio.gather(*(fetch(name) for name in "aabbab"))
        assert len(set(results)) == 2
        assert await fetch("a") in results

    asyncio.run(main())
    assert runs == ["a", "b"]
    assert fetch.cache_info()[:2] == (5, 2)


def test_a_task_that_is_cancelled_does_not_take_the_others_with_it() -> None:
    """The next one computes."""
    runs = 0

    @bounded
    async def fetch() -> int:
        nonlocal runs
        runs += 1
        await asyncio.sleep(10 if runs == 1 else 0)
        return runs

    async def main() -> list[int]:
        first = asyncio.create_task(fetch())
        await asyncio.sleep(0)
        others = [asyncio.create_task(fetch()) for _ in range(3)]
        quitter = asyncio.create_task(fetch())
        await asyncio.sleep(0)
        quitter.cancel()
        await asyncio.sleep(0)
        first.cancel()
        return await asyncio.wait_for(asyncio.gather(*others), 5)

    assert asyncio.run(main()) == [2, 2, 2]


def test_exceptions_of_coroutines_are_shared_and_not_kept() -> None:
    """As those of functions."""
    runs = 0

    @bounded
    async def fetch() -> int:
        nonlocal runs
        runs += 1
        await asyncio.sleep(0)
        if runs == 1:
            raise ZeroDivisionError
        return 5

    async def main() -> None:
        errors = await asyncio.gather(fetch(), fetch(), return_exceptions=True)
        assert [type(error) for error in errors] == [ZeroDivisionError] * 2
        assert await fetch() == 5

    asyncio.run(main())


def test_a_task_that_one_has_begun_does_not_wait_for_it() -> None:
    """Else the two would wait for each other."""
    depth = 0

    @bounded
    async def fetch(name: str) -> int:
        nonlocal depth
        depth += 1
        if depth == 1:
            await asyncio.gather(fetch(name), fetch("other"))
        return depth

    assert asyncio.run(asyncio.wait_for(fetch("a"), 5)) == 3


def test_loops_of_several_threads_share_it() -> None:
    """Who waits is woken in the loop that it waits in."""
    runs: list[int] = []

    @bounded
    async def fetch() -> object:
        runs.append(1)
        for _ in range(2000):
            if waiting_for(fetch) == 2:
                break
            await asyncio.sleep(0.005)
        return object()

    results = in_threads(*[lambda: asyncio.run(fetch())] * 3)
    assert (len(runs), len(set(results))) == (1, 1)


def test_a_coroutine_that_nobody_ends_lets_the_others_go_on() -> None:
    """It ends when it is dropped."""
    runs = 0

    @bounded
    async def fetch() -> int:
        nonlocal runs
        runs += 1
        await asyncio.sleep(0)
        return runs

    coroutine = fetch()
    coroutine.send(None)
    del coroutine
    assert asyncio.run(fetch()) == 2


def test_a_lead_that_is_dropped_has_ended() -> None:
    """As one whose frame was left by an exception that came before anything could catch it."""
    table: dict[Any, Any] = {}
    lead: cache_flights.Lead[int] = cache_flights.Lead(table, "a")
    assert lead.join() is None
    other: cache_flights.Lead[int] = cache_flights.Lead(table, "a")
    flight = other.join()
    assert flight is not None
    del other
    assert not flight.ended
    del lead
    assert flight.ended
    assert table == {}


def test_outside_of_asyncio_it_is_computed_by_each() -> None:
    """There is nothing to wait with."""

    class Turn:
        def __await__(self) -> Any:
            yield

    @bounded
    async def fetch() -> int:
        await Turn()
        return 5

    one, other = fetch(), fetch()
    one.send(None)
    other.send(None)
    for coroutine in (other, one):
        with pytest.raises(StopIteration) as ended:
            coroutine.send(None)
        assert ended.value.value == 5


# Misuse.


async def _coroutine() -> None: ...


def _generator() -> Any:
    yield 1


def _of_class(_owner: Any) -> None: ...


async def _async_generator() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (5, "functions and coroutine functions, not 5"),
        (dict, "functions and coroutine functions"),
        (staticmethod(_generator), "cached goes below @staticmethod"),
        (classmethod(_of_class), "cached goes below @classmethod"),
        (property(_of_class), "cached goes below @property"),
        (_generator, "is a generator, which can be used only once"),
        (_async_generator, "is an async generator, which"),
    ],
)
def test_what_cannot_be_cached(target: Any, words: str) -> None:
    """Is told where it is decorated."""
    with pytest.raises(InvalidTypeError, match=words):
        bounded(target)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({}, InvalidTypeError, "without a bound"),
        ({"max_entries": 0}, InvalidValueError, "at least 1"),
        ({"max_entires": 5}, InvalidTypeError, "did you mean max_entries?"),
        ({"max_entries": 5, "key": 5}, InvalidTypeError, "key is a function"),
        ({"max_entries": 5, "on_evict": 5}, InvalidTypeError, "on_evict is a function"),
        ({"max_entries": 5, "name": ""}, InvalidValueError, "must not be empty"),
    ],
)
def test_misuse(options: dict[str, Any], error: type[Exception], words: str) -> None:
    """Is told before anything is decorated."""
    with pytest.raises(error, match=words):
        cached(**options)


def test_the_brackets_are_needed() -> None:
    """As there is no bound that would suit all."""
    with pytest.raises(InvalidTypeError, match=r"write @cached\(max_entries=1000\)"):
        cached(squared)  # type: ignore[arg-type]


def test_arguments_that_are_no_keys() -> None:
    """Are told, with what to do."""
    wrong: Any = [1]
    with pytest.raises(InvalidTypeError, match=r"unhashable type: 'list'; .* make the key by key="):
        squared(wrong)


def test_a_function_that_returns_a_coroutine_is_told() -> None:
    """It is no coroutine function, so its result would be awaited twice."""
    hidden: Any = bounded(lambda: (_coroutine(), 1)[0])
    with pytest.raises(InvalidTypeError, match="a coroutine can be used only once"):
        hidden()


def test_it_stands_with_the_other_decorator() -> None:
    """Above it only what is computed is measured."""

    @bounded
    @profile_memory
    def rows(count: int) -> list[int]:
        return list(range(count))

    with recording(Config(probe="tracemalloc")) as sink:
        assert rows(1_000) is rows(1_000)
    assert len(sink.measurements) == 1
