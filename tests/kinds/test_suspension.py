"""What suspends keeps its protocol, its memory and its context, step by step."""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
import warnings
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import baggage, context, trace

from stratatrace import measure, profile_memory

from .callables import pause
from .endings import Trouble

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterator

    from .conftest import Told

MIB = 2**20
FORMS = [pytest.param(lambda f: f, id="bare"), pytest.param(profile_memory, id="measured")]


def near(expected_bytes: int) -> object:
    """Return what equals a number of bytes to within 1% or 4 KiB."""
    return pytest.approx(expected_bytes, rel=0.01, abs=4096)


@pytest.fixture
def no_collections() -> Iterator[None]:
    """Let nothing be freed but by its last reference."""
    gc.disable()
    yield
    gc.enable()


# The protocol of generators. Every test is also run on the bare one, which says what is expected.


@pytest.mark.parametrize("form", FORMS)
def test_a_generator_gets_what_is_sent_and_thrown(form: Callable[[Any], Any], told: Told) -> None:
    """Values sent, exceptions thrown, and the value returned, go through untouched."""

    def talk() -> Generator[Any, Any, Any]:
        heard = yield "ready"
        try:
            yield ("heard", heard)
        except Trouble as trouble:
            heard = yield ("caught", trouble)
        return ("done", heard)

    steps = form(talk)()
    trouble = Trouble()
    assert next(steps) == "ready"
    assert steps.send(1) == ("heard", 1)
    assert steps.throw(trouble) == ("caught", trouble)
    with pytest.raises(StopIteration) as stop:
        steps.send(2)
    assert stop.value.value == ("done", 2)
    with pytest.raises(StopIteration):
        next(steps)


@pytest.mark.parametrize("form", FORMS)
def test_a_generator_can_be_delegated_to(form: Callable[[Any], Any], told: Told) -> None:
    """`yield from` a measured generator, and inside of one, passes everything on."""

    def inner() -> Generator[Any, Any, str]:
        got = []
        for item in range(2):
            try:
                got.append((yield item))
            except Trouble:
                got.append("trouble")
        return f"got {got}"

    def outer() -> Generator[Any, Any, Any]:
        return (yield from form(inner)())

    steps = form(outer)()
    assert [next(steps), steps.send("sent")] == [0, 1]
    with pytest.raises(StopIteration) as stop:
        steps.throw(Trouble)
    assert stop.value.value == "got ['sent', 'trouble']"


@pytest.mark.parametrize("form", FORMS)
def test_closing_gives_what_the_generator_returns(form: Callable[[Any], Any], told: Told) -> None:
    """From 3.13 close() returns the generator's value; before, None."""

    def closed() -> Generator[Any, Any, str]:
        with suppress(GeneratorExit):
            yield
        return "the value"

    steps: Any = form(closed)()
    next(steps)
    assert steps.close() == ("the value" if sys.version_info >= (3, 13) else None)
    assert [m.error_type for m in told.measurements] in ([], [None])


@pytest.mark.parametrize("form", FORMS)
def test_a_generator_that_will_not_close_says_so(form: Callable[[Any], Any], told: Told) -> None:
    """One that yields on GeneratorExit raises RuntimeError, and can be closed afterwards."""

    def stubborn() -> Iterator[str]:
        try:
            yield "first"
        except GeneratorExit:
            yield "never closing"

    steps: Any = form(stubborn)()
    next(steps)
    with pytest.raises(RuntimeError, match="generator ignored GeneratorExit"):
        steps.close()
    steps.close()
    assert list(steps) == []


@pytest.mark.parametrize("form", FORMS)
def test_a_thrown_generator_exit_can_be_answered(form: Callable[[Any], Any], told: Told) -> None:
    """throw(GeneratorExit), unlike close(), lets the generator yield."""

    def answering() -> Iterator[str]:
        try:
            yield "first"
        except GeneratorExit:
            yield "answer"

    steps: Any = form(answering)()
    next(steps)
    assert steps.throw(GeneratorExit()) == "answer"


@pytest.mark.parametrize("form", FORMS)
def test_stop_iteration_inside_a_generator_is_an_error(
    form: Callable[[Any], Any], told: Told
) -> None:
    """Raised or thrown, StopIteration becomes a RuntimeError whose cause it is."""

    def stopping() -> Iterator[int]:
        yield 1
        raise StopIteration  # noqa: PLR1708 -- the test is about it

    def idle() -> Iterator[int]:
        yield 1

    with pytest.raises(RuntimeError) as raised:
        list(form(stopping)())
    assert isinstance(raised.value.__cause__, StopIteration)
    steps: Any = form(idle)()
    next(steps)
    with pytest.raises(RuntimeError):
        steps.throw(StopIteration())


@pytest.mark.parametrize("form", FORMS)
def test_a_generator_that_runs_already_cannot_be_resumed(
    form: Callable[[Any], Any], told: Told
) -> None:
    """Reentry raises ValueError into whoever tries."""

    def reentrant() -> Iterator[str]:
        try:
            next(steps)
        except ValueError as error:
            yield str(error)

    steps = form(reentrant)()
    assert list(steps) == ["generator already executing"]


def test_a_call_that_never_begins_is_not_told_of(told: Told) -> None:
    """Closing or dropping a generator or coroutine before its first step measures nothing."""

    async def coroutine() -> None: ...

    def generator() -> Iterator[int]:
        yield 1

    profile_memory(generator)().close()  # type: ignore[attr-defined]
    del generator
    profile_memory(coroutine)().close()
    assert not told.measurements
    assert not told.spans


# The protocol of async generators.


@pytest.mark.parametrize("form", FORMS)
def test_an_async_generator_gets_what_is_sent_and_thrown(
    form: Callable[[Any], Any], told: Told
) -> None:
    """asend, athrow and aclose reach the body, and what it answers comes back."""
    closed = []

    async def talk() -> Any:
        try:
            heard = yield "ready"
            await asyncio.sleep(0)
            try:
                yield ("heard", heard)
            except Trouble:
                yield "caught"
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    async def main() -> list[Any]:
        items = form(talk)()
        seen = [await anext(items), await items.asend(1), await items.athrow(Trouble())]
        await items.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(items)
        return seen

    assert asyncio.run(main()) == ["ready", ("heard", 1), "caught"]
    assert closed == [True]
    assert [m.error_type for m in told.measurements] in ([], [None])


@pytest.mark.parametrize("form", FORMS)
def test_an_async_generator_that_will_not_close_says_so(
    form: Callable[[Any], Any], told: Told
) -> None:
    """One that yields on GeneratorExit makes aclose() raise RuntimeError."""

    async def stubborn() -> Any:
        try:
            yield "first"
        except GeneratorExit:
            yield "never closing"

    async def main() -> None:
        items = form(stubborn)()
        await anext(items)
        with pytest.raises(RuntimeError, match="async generator ignored GeneratorExit"):
            await items.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kept", [True, False], ids=["kept", "dropped"])
def test_an_unfinished_async_generator_is_closed_by_its_loop(
    form: Callable[[Any], Any], kept: bool, told: Told
) -> None:
    """Dropped, or alive when the loop ends, it is closed once, cleanly, and told of once."""
    closed: list[str] = []
    complaints: list[object] = []
    alive: list[Any] = []

    async def unfinished() -> Any:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            closed.append("closed")

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, said: complaints.append(said))
        items = form(unfinished)()
        await anext(items)
        if kept:
            alive.append(items)
        del items
        for _ in range(5):
            await asyncio.sleep(0)

    asyncio.run(main())
    assert closed == ["closed"]
    assert complaints == []
    assert [m.error_type for m in told.measurements] in ([], [None])


# The protocol of coroutines.


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("swallows", [False, True])
def test_a_cancelled_task_is_cancelled_as_without_us(
    form: Callable[[Any], Any], swallows: bool, told: Told
) -> None:
    """task.cancel() reaches the body at its await, with its message, and is no error."""
    seen: list[BaseException] = []

    async def waits() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError as cancelled:
            seen.append(cancelled)
            if not swallows:
                raise
        return "swallowed"

    async def main() -> Any:
        task = asyncio.create_task(form(waits)())
        await asyncio.sleep(0)
        task.cancel("enough")
        outcomes = await asyncio.gather(task, return_exceptions=True)
        return outcomes[0], task.cancelled()

    ended, cancelled = asyncio.run(main())
    assert seen[0].args == ("enough",)
    assert cancelled is not swallows
    assert ended == "swallowed" if swallows else isinstance(ended, asyncio.CancelledError)
    assert [m.error_type for m in told.measurements] in ([], [None])


@pytest.mark.parametrize("form", FORMS)
def test_a_timeout_is_an_error_only_where_it_becomes_one(
    form: Callable[[Any], Any], told: Told
) -> None:
    """asyncio.timeout around a measured call cancels it and raises TimeoutError outside of it."""

    async def waits() -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        async with asyncio.timeout(0.001):
            await form(waits)()

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    assert [m.error_type for m in told.measurements] in ([], [None])


def test_a_coroutine_that_nobody_awaits_is_warned_of_once() -> None:
    """The RuntimeWarning names the user's function, and comes once, as without us."""

    @profile_memory
    async def forgotten() -> None: ...

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        forgotten()  # type: ignore[unused-coroutine]  # forgotten on purpose
        gc.collect()
    assert [str(w.message) for w in told] == [
        f"coroutine '{forgotten.__qualname__}' was never awaited"
    ]


def test_a_measure_that_nobody_awaits_is_warned_of_once() -> None:
    """The same for `measure` of a coroutine function."""

    async def forgotten() -> None: ...

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        measure(forgotten)  # type: ignore[unused-coroutine]  # forgotten on purpose
        gc.collect()
    assert [str(w.message) for w in told] == [
        f"coroutine '{forgotten.__qualname__}' was never awaited"
    ]


def test_an_awaitable_that_is_no_coroutine_is_not_closed(told: Told) -> None:
    """What a marked coroutine function returns is the user's: we do not close it after the call."""
    if sys.version_info < (3, 12):
        pytest.skip("inspect.markcoroutinefunction came with 3.12")
    closed = []

    class Reply:
        def __await__(self) -> Iterator[Any]:
            yield from ()
            return self

        def close(self) -> None:
            closed.append(self)

    def request() -> Reply:
        return Reply()

    call = profile_memory(inspect.markcoroutinefunction(request))

    async def main() -> Any:
        return await call()

    assert isinstance(asyncio.run(main()), Reply)
    gc.collect()
    assert not closed


# Memory: whose it is, and how long it lives.


def test_memory_taken_across_yields_is_the_generators(told: Told) -> None:
    """What a generator takes in several steps adds up, and its peak is over all of them."""

    @profile_memory
    def across() -> Iterator[None]:
        first = bytearray(MIB)
        yield
        second = bytearray(2 * MIB)
        yield
        del first
        yield
        assert second

    steps = across()
    for _ in range(3):
        next(steps)
        bytearray(5 * MIB)
    with suppress(StopIteration):
        next(steps)
    assert told.sink.last.heap_peak_bytes == near(3 * MIB)
    assert told.sink.last.heap_net_bytes == near(0)


def test_what_a_closed_generator_lets_go_is_not_kept(told: Told) -> None:
    """The locals of a generator that is closed early are freed, and are not in its net."""

    @profile_memory
    def closed() -> Iterator[None]:
        own = bytearray(MIB)
        yield
        assert own

    steps: Any = closed()
    next(steps)
    steps.close()
    assert told.sink.last.heap_peak_bytes == near(MIB)
    assert told.sink.last.heap_net_bytes == near(0)


@pytest.mark.parametrize("kind", ["coroutine", "generator", "async generator"])
def test_suspended_time_belongs_to_nobody(kind: str, told: Told) -> None:
    """What others take and free while a call is suspended is not in its numbers."""
    kept = []

    def own() -> None:
        kept.append(bytearray(MIB))

    @profile_memory
    async def coroutine() -> None:
        own()
        await pause()
        await pause()

    @profile_memory
    def generator() -> Iterator[None]:
        own()
        yield
        yield

    @profile_memory
    async def async_generator() -> AsyncIterator[None]:
        own()
        yield
        yield

    if kind == "async generator":
        items = async_generator()

        def advance() -> None:
            with suppress(StopIteration):
                anext(items).send(None)  # type: ignore[attr-defined]

        def close() -> None:
            with suppress(StopIteration):
                items.aclose().send(None)  # type: ignore[attr-defined]
    else:
        steps: Any = coroutine() if kind == "coroutine" else generator()

        def advance() -> None:
            steps.send(None)

        def close() -> None:
            steps.close()

    advance()
    others = [bytearray(7 * MIB)]
    advance()
    others.clear()
    close()
    measurement = told.sink.last
    assert measurement.heap_net_bytes == near(MIB)
    assert measurement.heap_peak_bytes == near(MIB)


def test_interleaved_tasks_do_not_see_each_other(told: Told) -> None:
    """Fifty tasks that take turns each have their own numbers, and only those."""
    kept = []

    @profile_memory
    async def task(number: int) -> None:
        for _ in range(3):
            kept.append(bytearray(number * 10_000))
            bytearray(100_000)
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(task(number) for number in range(1, 51)))

    gc.disable()
    try:
        asyncio.run(main())
    finally:
        gc.enable()
    measured = sorted(m.heap_net_bytes or 0 for m in told.measurements)
    assert measured == [near(3 * number * 10_000) for number in range(1, 51)]
    peaks = sorted(m.heap_peak_bytes or 0 for m in told.measurements)
    assert peaks == [near(3 * number * 10_000 + 100_000) for number in range(1, 51)]
    assert {m.attribution for m in told.measurements} == {"exact"}


def test_interleaved_generators_do_not_see_each_other(told: Told) -> None:
    """Generators that are consumed in step, and left in any order, each have their own numbers."""

    @profile_memory
    def own(size: int) -> Iterator[None]:
        kept = []
        for _ in range(3):
            kept.append(bytearray(size))
            yield

    generators = [own(size * MIB) for size in (1, 2, 3)]
    for _ in range(3):
        for steps in generators:
            next(steps)
    for steps in (generators[1], generators[0], generators[2]):
        steps.close()  # type: ignore[attr-defined]
    assert [m.heap_peak_bytes for m in told.measurements] == [
        near(6 * MIB),
        near(3 * MIB),
        near(9 * MIB),
    ]


class Chunk:
    """Something large that a weak reference can watch."""


@pytest.mark.usefixtures("no_collections")
@pytest.mark.parametrize("form", FORMS)
def test_a_yielded_item_lives_no_longer_than_its_consumer(
    form: Callable[[Any], Any], told: Told
) -> None:
    """We keep nothing that is yielded: streaming must not hold two chunks instead of one."""

    def chunks() -> Iterator[Chunk]:
        yield Chunk()
        yield Chunk()

    steps = form(chunks)()
    watched = weakref.ref(next(steps))
    alive = watched() is not None
    list(steps)
    assert not alive


@pytest.mark.usefixtures("no_collections")
@pytest.mark.parametrize("form", FORMS)
def test_an_item_of_an_async_generator_lives_no_longer_than_its_consumer(
    form: Callable[[Any], Any], told: Told
) -> None:
    """The same for async generators."""

    async def chunks() -> AsyncIterator[Chunk]:
        yield Chunk()
        yield Chunk()

    async def main() -> bool:
        items = form(chunks)()
        watched = weakref.ref(await anext(items))
        alive = watched() is not None
        await items.aclose()
        return alive

    assert asyncio.run(main()) is False


@pytest.mark.usefixtures("no_collections")
@pytest.mark.parametrize("form", FORMS)
def test_a_sent_value_lives_no_longer_than_the_generator_keeps_it(
    form: Callable[[Any], Any], told: Told
) -> None:
    """We keep nothing that is sent into a generator."""

    def sink() -> Generator[None, Chunk, None]:
        got = yield
        del got
        yield

    steps = form(sink)()
    next(steps)
    chunk = Chunk()
    watched = weakref.ref(chunk)
    steps.send(chunk)
    del chunk
    alive = watched() is not None
    steps.close()
    assert not alive


@pytest.mark.usefixtures("no_collections")
@pytest.mark.parametrize("kind", ["coroutine", "generator"])
@pytest.mark.parametrize("form", FORMS)
def test_an_exception_thrown_in_leaves_no_cycle(
    form: Callable[[Any], Any], kind: str, told: Told
) -> None:
    """After a cancellation the locals of the call go with the exception, without the collector."""
    watched: list[weakref.ref[Chunk]] = []

    async def coroutine() -> None:
        chunk = Chunk()
        watched.append(weakref.ref(chunk))
        await pause()

    def generator() -> Iterator[None]:
        chunk = Chunk()
        watched.append(weakref.ref(chunk))
        yield

    steps: Any = form(coroutine if kind == "coroutine" else generator)()
    steps.send(None)
    with suppress(asyncio.CancelledError):
        steps.throw(asyncio.CancelledError())
    del steps
    assert watched[0]() is None


# The context: spans, baggage, and what else is in contextvars.


def test_a_span_opened_before_an_await_is_current_after_it(told: Told) -> None:
    """The user's own span inside a measured coroutine stays current over its awaits."""

    @profile_memory
    async def inner() -> None: ...

    @profile_memory
    async def outer() -> list[bool]:
        seen = []
        with told.tracer.start_as_current_span("own") as own:
            for _ in range(2):
                await asyncio.sleep(0)
                seen.append(trace.get_current_span() is own)
            await inner()
        await asyncio.sleep(0)
        seen.append(trace.get_current_span() is own)
        return seen

    assert asyncio.run(outer()) == [True, True, False]
    own = told.spans["own"]
    assert own.parent == told.spans[outer.__qualname__].get_span_context()
    assert told.spans[inner.__qualname__].parent == own.get_span_context()


def test_a_span_opened_in_a_generator_does_not_leak_into_its_consumer(told: Told) -> None:
    """The user's own span inside a generator is current in its steps, and only there."""

    @profile_memory
    def items() -> Iterator[trace.Span]:
        with told.tracer.start_as_current_span("own"):
            yield trace.get_current_span()
            yield trace.get_current_span()

    with told.tracer.start_as_current_span("consumer") as consumer:
        current = []
        names = []
        for span in items():
            names.append(span.name)  # type: ignore[attr-defined]
            current.append(trace.get_current_span())
    assert names == ["own", "own"]
    assert current == [consumer, consumer]
    assert told.spans[items.__qualname__].parent == consumer.get_span_context()


def test_baggage_set_in_a_coroutine_lasts_over_its_awaits(told: Told) -> None:
    """Anything attached to the context in a measured coroutine is still there after an await."""

    @profile_memory
    async def call() -> list[object]:
        token = context.attach(baggage.set_baggage("tenant", "a"))
        await asyncio.sleep(0)
        seen = [baggage.get_baggage("tenant")]
        context.detach(token)
        await asyncio.sleep(0)
        return [*seen, baggage.get_baggage("tenant")]

    async def main() -> list[object]:
        seen = await call()
        return [*seen, baggage.get_baggage("tenant")]

    assert asyncio.run(main()) == ["a", None, None]


def test_tasks_started_in_a_measured_coroutine_are_its_children(told: Told) -> None:
    """create_task and gather inside of a call put their spans below it, side by side."""

    @profile_memory
    async def child(number: int) -> int:
        await asyncio.sleep(0)
        return number

    @profile_memory
    async def parent() -> list[int]:
        return await asyncio.gather(*(asyncio.create_task(child(n)) for n in range(3)))

    assert asyncio.run(parent()) == [0, 1, 2]
    above = told.spans[parent.__qualname__].get_span_context()
    parents = [s.parent for s in told.exporter.get_finished_spans() if s.name == child.__qualname__]
    assert parents == [above] * 3


def test_the_loop_sees_no_span_while_a_call_is_suspended(told: Told) -> None:
    """Callbacks that run between the steps of a measured task are not in its span."""
    seen = []

    @profile_memory
    async def call() -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    async def main() -> None:
        task = asyncio.create_task(call())
        for _ in range(3):
            await asyncio.sleep(0)
            seen.append(trace.get_current_span().get_span_context().is_valid)
        await task

    asyncio.run(main())
    assert seen == [False] * 3


def test_an_async_block_is_a_span_over_its_awaits(told: Told) -> None:
    """`async with` keeps its span current over awaits and says that other tasks may be in it."""

    async def main() -> Any:
        async with profile_memory("block") as block:
            await asyncio.sleep(0)
            inside = trace.get_current_span()
        return inside, block

    inside, block = asyncio.run(main())
    assert told.spans["block"].get_span_context() == inside.get_span_context()
    assert block.measurement is told.sink.last
    assert block.measurement.attribution == "process"
