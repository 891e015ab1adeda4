"""Lazy values of coroutine functions: one computation for all tasks, of all loops."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import gc
import inspect
import logging
import pickle
import sys
import threading
import warnings
import weakref
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from stratatrace import lazy
from stratatrace.config import Config
from stratatrace.errors import CircularValueError, InvalidTypeError, NotReadyError
from stratatrace.reuse import lazy_awaiting
from stratatrace.testing import recording
from unit.reuse.lazy_classes import Value
from unit.reuse.lazy_fixtures import run_strictly  # noqa: F401 -- a fixture of every test

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

SECONDS = 20


def run(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run *main* in a loop of its own, for no longer than that."""
    return asyncio.run(asyncio.wait_for(main(), SECONDS))


class Plain:
    """Has a namespace."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    @lazy
    async def value(self) -> Value:
        """Be computed."""
        self.calls.append(1)
        await asyncio.sleep(0)
        return Value(self, len(self.calls))


@dataclass(slots=True, eq=False, weakref_slot=True)
class Slotted:
    """Has none."""

    calls: list[int]

    @lazy
    async def value(self) -> Value:
        """Be computed."""
        self.calls.append(1)
        await asyncio.sleep(0)
        return Value(self, len(self.calls))


class Evictable:
    """Lets its value go."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    @lazy(evict_under_pressure=True)
    async def value(self) -> Value:
        """Be computed."""
        self.calls.append(1)
        await asyncio.sleep(0)
        return Value(self, len(self.calls))


SHAPES: dict[str, Callable[[], Any]] = {
    "plain": Plain,
    "slots": lambda: Slotted([]),
    "evictable": Evictable,
}


@pytest.fixture(params=SHAPES)
def instance(request: pytest.FixtureRequest) -> Any:
    return SHAPES[request.param]()


def test_tasks_have_one_computation(instance: Any) -> None:
    """At the same time and later, in this loop and the next."""

    async def main() -> list[Value]:
        async def read() -> Value:
            return await instance.value  # type: ignore[no-any-return]

        values = await asyncio.gather(*(read() for _ in range(5)), instance.value)
        return [*values, await instance.value]

    assert not type(instance).value.is_computed(instance)
    assert len({id(value) for value in (*run(main), *run(main))}) == 1
    assert instance.calls == [1]
    assert type(instance).value.is_computed(instance)


def test_what_was_read_may_be_awaited_again(instance: Any) -> None:
    """Before and after it was computed."""

    async def main() -> None:
        value = instance.value
        assert await value is await value
        assert await instance.value is await value

    run(main)


def test_it_is_computed_anew(instance: Any) -> None:
    """When it was deleted or reset."""

    async def main() -> None:
        first = await instance.value
        del instance.value
        second = await instance.value
        assert second is not first
        type(instance).value.reset(instance)
        assert await instance.value is not second

    run(main)


def test_nobody_awaits_it() -> None:
    """Nothing is run, and nothing warned of."""
    plain = Plain()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _ = plain.value
        gc.collect()
    assert plain.calls == []


def test_assigning() -> None:
    """An instance's own namespace takes anything; the others refuse."""
    plain: Any = Plain()
    mine = lazy_awaiting.Awaited(5)
    plain.value = mine
    assert plain.value is mine
    with pytest.raises(AttributeError, match="cannot be set"):
        Evictable().value = mine


def test_pickling_and_copying() -> None:
    """What was computed goes with an instance's namespace; what is being computed does not."""
    seen: list[Any] = []

    class Owner:
        @lazy
        async def value(self) -> int:
            seen.append(copy.copy(self))
            await asyncio.sleep(0)
            seen.append(copy.copy(self))
            return 5

    owner = Owner()

    async def main() -> None:
        assert await owner.value == 5

    run(main)
    assert [vars(each) for each in seen] == [{}, {}]
    assert repr(vars(owner)["value"]) == "<lazy value: 5>"
    plain = Plain()

    async def of_plain() -> None:
        first = await plain.value
        again = pickle.loads(pickle.dumps(plain))
        assert (await again.value).number == first.number
        assert again.calls == [1]

    run(of_plain)


def test_functions() -> None:
    """They stay coroutine functions, and run once."""
    calls = []

    @lazy
    async def table() -> dict[str, int]:
        """Be read."""
        calls.append(1)
        await asyncio.sleep(0)
        return {"a": 1}

    async def main() -> None:
        first, second = await asyncio.gather(table(), asyncio.create_task(table()))
        assert first is second is await table()
        assert table.is_computed()
        table.reset()
        assert await table() is not first

    assert inspect.iscoroutinefunction(table)
    assert asyncio.iscoroutinefunction(table) or calls == []
    coroutine = table()
    assert inspect.iscoroutine(coroutine)
    assert coroutine.__name__ == "table"
    coroutine.close()
    run(main)
    assert calls == [1, 1]
    assert table.measurement is not None
    assert table.measurement.callsite.name.endswith("table")


def test_weak() -> None:
    """Kept while somebody uses it."""
    calls = []

    @lazy(weak=True)
    async def table() -> Value:
        calls.append(1)
        await asyncio.sleep(0)
        return Value(None, len(calls))

    @lazy(weak=True)
    async def number() -> int:
        return 5

    async def main() -> None:
        first = await table()
        assert await table() is first
        del first
        assert not table.is_computed()
        assert (await table()).number == 2
        with pytest.raises(InvalidTypeError, match="weak=True cannot keep"):
            await number()

    run(main)


def test_a_cancelled_awaiter_takes_nobody_with_it() -> None:
    """Not even the first, whose task began the computation."""
    calls, go = [], asyncio.Event()

    @lazy
    async def slow() -> int:
        calls.append(1)
        await go.wait()
        return 5

    async def main() -> None:
        tasks = [asyncio.create_task(slow()) for _ in range(3)]
        await asyncio.sleep(0.01)
        tasks[0].cancel()
        await asyncio.wait(tasks[:1])
        assert tasks[0].cancelled()
        go.set()
        assert await asyncio.gather(*tasks[1:]) == [5, 5]

    run(main)
    assert calls == [1]


def test_a_computation_that_nobody_awaits_any_more_is_not_lost() -> None:
    """It goes on, and the next one has what it gives."""
    calls, go = [], asyncio.Event()

    @lazy
    async def slow() -> int:
        calls.append(1)
        await go.wait()
        return 5

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(slow(), 0.01)
        go.set()
        assert await slow() == 5
        assert slow.is_computed()

    run(main)
    assert calls == [1]


def test_an_error_is_everybodys_and_is_not_kept() -> None:
    """Those who come later try again."""
    calls = []

    @lazy
    async def fallible() -> int:
        calls.append(1)
        await asyncio.sleep(0)
        if len(calls) == 1:
            raise KeyError
        return 5

    async def main() -> None:
        errors = await asyncio.gather(*(fallible() for _ in range(3)), return_exceptions=True)
        assert all(isinstance(error, KeyError) for error in errors)
        assert calls == [1]
        assert not fallible.is_computed()
        assert await fallible() == 5

    run(main)
    assert calls == [1, 1]


def test_an_error_that_nobody_awaits(caplog: pytest.LogCaptureFixture) -> None:
    """It is told by its Measurement, and no loop complains."""
    go = asyncio.Event()

    @lazy
    async def fallible() -> int:
        await go.wait()
        raise KeyError

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(fallible(), 0.01)
        go.set()
        await asyncio.sleep(0.01)

    with caplog.at_level(logging.DEBUG, "asyncio"):
        run(main)
        gc.collect()
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []
    assert fallible.measurement is not None
    assert fallible.measurement.error_type == "KeyError"


def test_an_error_does_not_keep_what_it_passed_through() -> None:
    """No cycle of frames is left for the collector."""

    @lazy
    async def fallible() -> int:
        held = Value(None, 1)
        gone.append(weakref.ref(held))
        await asyncio.sleep(0)
        raise KeyError

    gone: list[weakref.ref[Value]] = []

    async def main() -> None:
        with suppress(KeyError):
            await fallible()
        await asyncio.sleep(0)
        assert gone[0]() is None

    gc.disable()
    try:
        run(main)
    finally:
        gc.enable()


def test_a_loop_that_ends_takes_its_computation_with_it() -> None:
    """The next loop computes anew."""
    calls = []

    @lazy
    async def slow() -> int:
        calls.append(1)
        if len(calls) == 1:
            await asyncio.sleep(SECONDS)
        return len(calls)

    async def gives_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(slow(), 0.01)

    run(gives_up)
    assert not slow.is_computed()
    assert run(slow) == 2


def test_the_computation_is_cancelled_by_the_loop() -> None:
    """Who awaits it is told, and nothing is kept."""

    @lazy
    async def slow() -> int:
        await asyncio.sleep(SECONDS)
        return 5

    async def main() -> None:
        waiting = asyncio.create_task(slow())
        await asyncio.sleep(0.01)
        (task,) = (t for t in asyncio.all_tasks() if t.get_name().startswith("lazy "))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not slow.is_computed()

    run(main)


def test_cancelled_before_its_first_step() -> None:
    """Nobody waits for a task that has never run."""
    calls = []

    @lazy
    async def value() -> int:
        calls.append(1)
        return 5

    async def main() -> None:
        waiting = asyncio.create_task(value())
        asyncio.get_running_loop().call_soon(cancel)
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await value() == 5

    def cancel() -> None:
        (shared,) = lazy_awaiting._under_way.values()
        assert shared.task is not None
        shared.task.cancel()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # Python's own, of a coroutine not begun.
        run(main)
    assert calls == [1]


@pytest.mark.parametrize("stops", ["paused", "closed"])
def test_a_loop_that_stands_still_is_not_waited_for(stops: str) -> None:
    """Another loop computes by itself, and its value is the one that is kept."""
    calls: list[int] = []

    @lazy
    async def slow() -> int:
        number = len(calls)
        calls.append(1)
        if number == 0:
            await first_go.wait()
        return number

    first_go = asyncio.Event()
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(slow())
    loop.run_until_complete(asyncio.sleep(0.01))
    if stops == "closed":
        (shared,) = lazy_awaiting._under_way.values()
        for task in (waiting, shared.task):
            assert task is not None
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()
    assert run(slow) == 1
    if stops == "paused":
        first_go.set()
        assert loop.run_until_complete(waiting) == 0
        loop.close()
    assert run(slow) == 1


def test_loops_of_other_threads_wait() -> None:
    """One of them computes."""
    together = threading.Barrier(4)
    calls: list[int] = []

    @lazy
    async def slow() -> Value:
        calls.append(1)
        await asyncio.sleep(0.05)
        return Value(None, 1)

    async def main() -> Value:
        together.wait(SECONDS)
        return await slow()

    values: list[Future[Value]] = [Future() for _ in range(4)]
    threads = [
        threading.Thread(target=lambda f=future: f.set_result(run(main)), daemon=True)
        for future in values
    ]
    for thread in threads:
        thread.start()
    assert len({id(value.result(SECONDS)) for value in values}) == 1
    for thread in threads:
        thread.join(SECONDS)
    assert calls == [1]


def test_a_loop_that_is_closed_while_another_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one computes by itself."""
    monkeypatch.setattr(lazy_awaiting, "_LOOK_SECONDS", 0.02)
    begun, waits = threading.Event(), threading.Event()
    calls: list[int] = []

    @lazy
    async def slow() -> int:
        calls.append(1)
        if len(calls) == 1:
            begun.set()
            await asyncio.sleep(SECONDS)
        return len(calls)

    left: list[Any] = []

    def abandons() -> None:
        loop = asyncio.new_event_loop()
        left.append(loop.create_task(slow()))
        loop.run_until_complete(asyncio.to_thread(waits.wait, SECONDS))
        left.extend(asyncio.all_tasks(loop))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    thread = threading.Thread(target=abandons, daemon=True)
    thread.start()
    assert begun.wait(SECONDS)

    async def main() -> int:
        asyncio.get_running_loop().call_later(0.05, waits.set)
        return await slow()

    try:
        assert run(main) == 2
    finally:
        thread.join(SECONDS)
        for task in left:
            task._log_destroy_pending = False
            task.get_coro().close()


def test_it_needs_itself() -> None:
    """An error and no deadlock; by way of another, too."""

    @lazy
    async def one() -> int:
        return await two()

    @lazy
    async def two() -> int:
        return await one()

    @lazy
    async def itself() -> int:
        return await itself()

    async def main() -> None:
        for function in (itself, one, two):
            with pytest.raises(CircularValueError, match="needs its own value"):
                await function()
            assert not function.is_computed()

    run(main)


def test_a_task_that_it_starts_may_wait_for_it() -> None:
    """That is no circle."""
    tasks: list[asyncio.Task[int]] = []

    @lazy
    async def value() -> int:
        tasks.append(asyncio.create_task(later()))
        await asyncio.sleep(0.01)
        return 5

    async def later() -> int:
        return await value() + 1

    async def main() -> None:
        assert await value() == 5
        assert await tasks[0] == 6

    run(main)


def test_without_a_loop() -> None:
    """A value that is there needs none."""

    @lazy
    async def value() -> int:
        return 5

    with pytest.raises(NotReadyError, match="none is running"):
        value().send(None)
    run(value)
    with pytest.raises(StopIteration) as stopped:
        value().send(None)
    assert stopped.value.value == 5


def test_it_runs_in_the_context_of_the_first() -> None:
    """Its span is within the first one's, and its context variables are there."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("user")
    user = contextvars.ContextVar("user", default="nobody")
    seen = []

    @lazy(name="compute")
    async def value() -> int:
        seen.append((user.get(), trace.get_current_span()))
        await asyncio.sleep(0)
        return 5

    async def main() -> None:
        user.set("somebody")
        with tracer.start_as_current_span("request"):
            await asyncio.gather(value(), value())

    with recording(Config(probe="tracemalloc"), tracer_provider=provider):
        run(main)
    spans = {span.name: span for span in exporter.get_finished_spans()}
    provider.shutdown()
    assert set(spans) == {"compute", "request"}
    parent = spans["compute"].parent
    assert parent is not None
    assert parent.span_id == spans["request"].context.span_id
    ((name, span),) = seen
    assert name == "somebody"
    assert span.get_span_context().span_id == spans["compute"].context.span_id


def test_reset_while_it_is_computed() -> None:
    """Who waits has it, and it is not kept."""
    go, numbers = asyncio.Event(), iter((1, 2))

    @lazy
    async def value() -> int:
        number = next(numbers)
        if number == 1:
            await go.wait()
        return number

    async def main() -> None:
        first = asyncio.create_task(value())
        await asyncio.sleep(0.01)
        value.reset()
        assert await value() == 2
        go.set()
        assert await first == 1
        assert await value() == 2

    run(main)


def test_super_of_a_coroutine() -> None:
    """The base's value is its own."""

    class Heir(Plain):
        @lazy
        async def value(self) -> Value:
            return Value(self, (await super().value).number + 10)

    async def main() -> None:
        heir = Heir()
        assert (await heir.value).number == 11
        assert (await heir.value).number == 11
        assert (await Plain.value.__get__(heir)).number == 1
        assert heir.calls == [1]

    run(main)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks begin later there")
def test_tasks_that_begin_at_once() -> None:
    """Where a loop's tasks take their first step when they are made."""
    calls = []

    @lazy
    async def quick() -> int:
        calls.append(1)
        return 5

    @lazy
    async def slow() -> int:
        calls.append(1)
        await asyncio.sleep(0)
        return await quick()

    @lazy
    async def itself() -> int:
        return await itself()

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(vars(asyncio)["eager_task_factory"])
        assert list(await asyncio.gather(slow(), slow(), quick())) == [5, 5, 5]
        with pytest.raises(CircularValueError):
            await itself()

    run(main)
    assert calls == [1, 1]


def test_a_computation_that_was_interrupted() -> None:
    """What ends the loop ends those who wait, and nothing is kept."""

    @lazy
    async def value() -> int:
        await asyncio.sleep(0)
        if interrupted.pop():
            raise KeyboardInterrupt
        return 5

    interrupted = [False, True]
    with pytest.raises(KeyboardInterrupt):
        run(value)
    assert not value.is_computed()
    assert run(value) == 5
