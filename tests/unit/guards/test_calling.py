"""Every kind of callable under a limit: what it stays, and that it ends where it takes too much."""

from __future__ import annotations

import asyncio
import functools
import inspect
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from tracing import untraced

from stratatrace import MemoryLimitExceeded, memory_limit, profile_memory
from stratatrace.guards.calling import LimitedFunction
from stratatrace.guards.watchdog import watchdog
from stratatrace.wrapping import is_measured

from .growing import MB, grow, take

if TYPE_CHECKING:
    import mmap
    from collections.abc import AsyncIterator, Generator, Iterator

    from stratatrace.testing import ListSink


@memory_limit("60MB")
def function(megabytes: int, *, kept: list[Any] | None = None) -> int:
    """Take memory."""
    kept = [] if kept is None else kept
    take(kept, megabytes)
    return megabytes


@memory_limit("60MB")
async def coroutine(megabytes: int) -> int:
    """Take memory in steps."""
    kept: list[mmap.mmap] = []
    for _ in range(megabytes // 10):
        take(kept, 10)
        await asyncio.sleep(0)
    return len(kept)


@memory_limit("60MB")
def generator(megabytes: int) -> Generator[int, None, None]:
    """Take memory between items."""
    kept: list[mmap.mmap] = []
    for number in range(megabytes // 10):
        take(kept, 10)
        yield number


@memory_limit("60MB")
async def async_generator(megabytes: int) -> AsyncIterator[int]:
    """Take memory between items."""
    kept: list[mmap.mmap] = []
    for number in range(megabytes // 10):
        take(kept, 10)
        await asyncio.sleep(0)
        yield number


async def _listed(items: AsyncIterator[int]) -> list[int]:
    return [item async for item in items]


CALLS: dict[str, Any] = {
    "function": function,
    "coroutine": lambda megabytes: asyncio.run(coroutine(megabytes)),
    "generator": lambda megabytes: list(generator(megabytes)),
    "async generator": lambda megabytes: asyncio.run(_listed(async_generator(megabytes))),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_call_that_stays_below_returns(call: Any) -> None:
    """What it would without a limit."""
    assert call(20) in (20, 2, [0, 1])
    assert call(20) in (20, 2, [0, 1])


@pytest.mark.parametrize(("kind", "call"), CALLS.items(), ids=CALLS)
def test_a_call_that_takes_too_much_is_ended(kind: str, call: Any) -> None:
    """By an error that names the function."""
    with pytest.raises(MemoryLimitExceeded) as caught:
        call(300)
    assert caught.value.callsite is not None
    assert caught.value.callsite.name == kind.replace(" ", "_")
    assert caught.value.budget_bytes == 60 * MB


def test_a_function_keeps_what_it_is() -> None:
    """Its signature, its name, its kind, and how it is pickled and copied."""
    assert str(inspect.signature(function)).startswith("(megabytes: ")
    assert (function.__name__, function.__doc__) == ("function", "Take memory.")
    assert inspect.iscoroutinefunction(coroutine)
    assert inspect.isgeneratorfunction(generator)
    assert inspect.isasyncgenfunction(async_generator)
    assert pickle.loads(pickle.dumps(function)) is function


def test_a_partial_is_pickled_by_value() -> None:
    """With its limit."""
    limited = memory_limit("60MB")(functools.partial(bytearray, 7))
    again = pickle.loads(pickle.dumps(limited))
    assert isinstance(again, LimitedFunction)
    assert again() == bytearray(7)


def test_methods() -> None:
    """Bound as they were, in the descriptor that they came in."""

    class Store:
        @memory_limit("60MB")
        def method(self, size: int) -> bytearray:
            return bytearray(size)

        @memory_limit("60MB")
        @classmethod
        def of_class(cls, size: int) -> bytearray:
            return bytearray(size)

        @staticmethod
        @memory_limit("60MB")
        def static(size: int) -> bytearray:
            return bytearray(size)

        @memory_limit("60MB")  # type: ignore[prop-decorator] # mypy knows none on a property
        @property
        def large(self) -> bytearray:
            return bytearray(1000 * MB)

    store = Store()
    for method in (store.method, store.of_class, store.static, Store.of_class):
        assert len(method(7)) == 7
        with pytest.raises(MemoryLimitExceeded):
            method(1000 * MB)
    with pytest.raises(MemoryLimitExceeded):
        _ = store.large


def test_one_limit_decorates_many() -> None:
    """And each is described for itself."""
    limit = memory_limit("60MB")
    for function, name in ((functools.partial(bytearray, 1000 * MB), "bytearray"), (huge, "huge")):
        with pytest.raises(MemoryLimitExceeded, match=name):
            limit(function)()


def huge() -> bytearray:
    """Ask for too much."""
    return bytearray(1000 * MB)


def test_a_recursion_is_limited_at_each_level() -> None:
    """The innermost level that is exceeded is named, and all are closed."""

    @memory_limit("60MB")
    def descend(levels: int) -> int:
        return descend(levels - 1) if levels else len(grow())

    with pytest.raises(MemoryLimitExceeded):
        descend(5)


def test_beside_measuring(sink: ListSink) -> None:
    """In either order, the call is measured and ended, and fails in its numbers too."""

    @profile_memory(name="outside")
    @memory_limit("60MB")
    def inner() -> None:
        bytearray(1000 * MB)

    @memory_limit("60MB")
    @profile_memory(name="inside")
    def outer() -> None:
        bytearray(1000 * MB)

    for call in (inner, outer):
        with pytest.raises(MemoryLimitExceeded):
            call()
    assert [m.error_type for m in sink.measurements] == [
        "stratatrace.errors.MemoryLimitExceeded",
        "MemoryError",
    ]
    assert is_measured(inner)
    assert not is_measured(outer)


@untraced
def test_what_the_limit_takes_is_not_charged(sink: ListSink) -> None:
    """An empty limit reads as nothing."""

    @memory_limit("60MB")
    def nothing() -> None:
        pass

    @profile_memory
    def blocks(count: int) -> None:
        for _ in range(count):
            with memory_limit("60MB"):
                nothing()

    for count in (1, 1, 20):
        blocks(count)
    watchdog.rest()
    one, twenty = (m.heap_net_bytes or 0 for m in sink.measurements[1:])
    assert abs(one) < 500
    assert abs(twenty - one) < 500


def test_a_generators_consumer_is_not_counted() -> None:
    """What is taken while it is suspended is not its growth."""
    consumed: list[mmap.mmap] = []
    for _ in generator(30):
        take(consumed, 40)
    assert len(consumed) == 3


def test_a_generator_loses_no_item() -> None:
    """The step that took too much has yielded; the next one raises, in the generator."""
    seen: list[str] = []

    @memory_limit("20MB")
    def pages() -> Iterator[str]:
        kept: list[mmap.mmap] = []
        try:
            take(kept, 30)
            yield "page"
            yield "never"
        except MemoryLimitExceeded:
            seen.append("raised inside")
            raise

    with pytest.MonkeyPatch.context() as patch, pytest.raises(MemoryLimitExceeded):
        patch.setattr(watchdog, "_look", lambda: None)
        for page in pages():
            seen.append(page)  # noqa: PERF402 -- to see how far it came
    assert seen == ["page", "raised inside"]


def test_a_generator_that_is_dropped_leaves_nothing() -> None:
    """Closed early, or never begun."""
    items = generator(30)
    next(items)
    items.close()
    del items
    generator(30)
    assert not watchdog._open
