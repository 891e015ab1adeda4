"""`profile_memory` and `measure`: options, blocks, and what misuse is told."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace

from stratatrace import StratatraceError, measure, profile_memory
from stratatrace.config import Config
from stratatrace.probes import native_obstacle
from stratatrace.recorder import active
from stratatrace.testing import recording

if TYPE_CHECKING:
    from stratatrace.testing import ListSink

MIB = 2**20


def near(expected_bytes: int) -> object:
    """Return what equals a number of bytes to within 1% or 4 KiB."""
    return pytest.approx(expected_bytes, rel=0.01, abs=4096)


class TestMisuse:
    """It raises at once: ours, the fitting builtin, and what to do."""

    @pytest.mark.parametrize(
        ("attempt", "builtin", "says"),
        [
            (lambda: profile_memory(nme="x"), TypeError, "no option 'nme': did you mean name"),  # type: ignore[call-overload]  # misused on purpose
            (lambda: profile_memory(zzz=1), TypeError, "no option 'zzz': it takes name, "),  # type: ignore[call-overload]  # misused on purpose
            (lambda: profile_memory("a", name="b"), TypeError, "two names, 'a' and 'b'"),
            (lambda: profile_memory(5), TypeError, "5 is not callable: to measure a block"),  # type: ignore[call-overload]  # misused on purpose
            (lambda: profile_memory()(5), TypeError, "5 is not callable"),  # type: ignore[type-var]  # misused on purpose
            (lambda: profile_memory(""), ValueError, "must not be empty"),
            (lambda: profile_memory(budget="x"), ValueError, "'x' is not a size"),
            (lambda: profile_memory(methods="run"), TypeError, r"methods=\['run'\]"),
            (lambda: profile_memory(methods=["a"])(len), TypeError, "methods= is for classes"),
            (lambda: measure(5), TypeError, "5 is not callable"),  # type: ignore[call-overload]  # misused on purpose
            (lambda: measure(lambda: (yield)), TypeError, "decorate it with profile_memory"),
        ],
    )
    def test_it_is_told(self, attempt: Any, builtin: type[Exception], says: str) -> None:
        """What was given, what was expected, what to do."""
        with pytest.raises(builtin, match=says) as caught:
            attempt()
        assert isinstance(caught.value, StratatraceError)

    def test_an_async_generator_cannot_be_measured_by_a_call(self) -> None:
        """Its work is done where it is iterated."""

        async def items() -> Any:
            yield

        with pytest.raises(TypeError, match="generator function"):
            measure(items)

    def test_a_block_that_has_not_ended_has_no_numbers(self, sink: ListSink) -> None:
        """Asking within the block says when to ask."""
        with profile_memory("block") as block:
            with pytest.raises(RuntimeError, match="after the with statement") as caught:
                _ = block.measurement
            assert isinstance(caught.value, StratatraceError)


class TestBlock:
    """A `with` block is a call like any other."""

    def test_its_numbers(self, sink: ListSink) -> None:
        """They are there after the block, and are those that the sinks had."""
        with profile_memory("merge", attributes={"team": "search"}, budget="1MB") as block:
            kept = bytearray(MIB)
        assert block.measurement is sink.last
        assert block.measurement.heap_net_bytes == near(MIB)
        assert block.measurement.budget_exceeded is True
        assert block.measurement.attribution == "exact"
        assert block.measurement.callsite.name == "merge"
        assert kept

    def test_its_place(self, sink: ListSink) -> None:
        """A block without a name is called by where it stands."""
        with profile_memory():
            pass
        callsite = sink.last.callsite
        assert callsite.function == f"{__name__}.TestBlock.test_its_place"
        assert callsite.file == __file__
        assert callsite.label is None

    def test_in_a_loop_it_is_one_callsite(self, sink: ListSink) -> None:
        """So that its habits are learnt."""
        for _ in range(12):
            with profile_memory("loop"):
                pass
        assert len({m.callsite for m in sink.measurements}) == 1
        assert sink.last.efficiency_score is not None

    def test_its_exception_goes_on(self, sink: ListSink) -> None:
        """The same object, and its type in the numbers."""
        error = KeyError("own")
        with pytest.raises(KeyError) as caught, profile_memory("block") as block:
            raise error
        assert caught.value is error
        assert block.measurement.error_type == "KeyError"

    def test_one_object_may_be_entered_again(self, sink: ListSink) -> None:
        """One after the other, and one inside of the other."""
        profile = profile_memory("again")
        with profile as outer, profile as inner:
            pass
        with profile as later:
            pass
        assert len({id(b.measurement) for b in (outer, inner, later)}) == 3

    def test_through_an_exit_stack(self, sink: ListSink) -> None:
        """Where somebody else enters it, it is measured all the same."""
        with ExitStack() as stack:
            block = stack.enter_context(profile_memory("stacked"))
        assert block.measurement.callsite.name == "stacked"

    @pytest.mark.parametrize("form", ["with", "async with"])
    def test_in_a_coroutine_it_may_hold_other_tasks(self, sink: ListSink, form: str) -> None:
        """It can be suspended without our knowing, and says so."""

        async def main() -> None:
            if form == "with":
                with profile_memory("block"):
                    await asyncio.sleep(0)
            else:
                async with profile_memory("block"):
                    await asyncio.sleep(0)

        asyncio.run(main())
        assert sink.last.attribution == "process"
        assert sink.last.callsite.function.endswith("main")

    def test_blocks_of_two_tasks_overlap(self, sink: ListSink) -> None:
        """Entered and left in turns, each ends, and the peak of both is in both."""

        async def task(name: str, steps: int) -> None:
            async with profile_memory(name):
                for _ in range(steps):
                    await asyncio.sleep(0)

        async def main() -> None:
            await asyncio.gather(task("long", 5), task("short", 2))

        asyncio.run(main())
        assert [m.callsite.name for m in sink.measurements] == ["short", "long"]

    def test_one_profile_may_be_entered_by_many_tasks(self, sink: ListSink) -> None:
        """Each task has the numbers of its own block."""

        async def task(steps: int) -> Any:
            async with profile_memory(f"task {steps}") as block:
                for _ in range(steps):
                    await asyncio.sleep(0)
            return block.measurement.callsite.name

        async def main() -> Any:
            return await asyncio.gather(task(5), task(2))

        assert asyncio.run(main()) == ["task 5", "task 2"]


class TestMeasure:
    """One call, its result and its numbers."""

    def test_a_function(self, sink: ListSink) -> None:
        """Arguments go through; the numbers are those that the sinks had."""

        def takes(size: int, *, factor: int) -> bytearray:
            return bytearray(size * factor)

        result, measurement = measure(takes, MIB, factor=2)
        assert len(result) == 2 * MIB
        assert measurement is sink.last
        assert measurement.heap_net_bytes == near(2 * MIB)
        assert measurement.callsite.name == takes.__qualname__

    def test_a_coroutine_function(self, sink: ListSink) -> None:
        """It is awaited, and measured step by step."""

        async def takes(size: int) -> bytearray:
            await asyncio.sleep(0)
            return bytearray(size)

        result, measurement = asyncio.run(measure(takes, MIB))
        assert len(result) == MIB
        assert measurement is sink.last
        assert measurement.heap_net_bytes == near(MIB)
        assert measurement.attribution == "exact"

    @pytest.mark.parametrize("kind", ["function", "coroutine"])
    def test_its_exception_goes_on(self, sink: ListSink, kind: str) -> None:
        """The same object, and the call is told of."""
        error = KeyError("own")

        def fails() -> None:
            raise error

        async def fails_later() -> None:
            await asyncio.sleep(0)
            raise error

        def call() -> None:
            if kind == "function":
                measure(fails)
            else:
                asyncio.run(measure(fails_later))

        with pytest.raises(KeyError) as caught:
            call()
        assert caught.value is error
        assert [m.error_type for m in sink.measurements] == ["KeyError"]

    def test_no_span_is_left_current(self, sink: ListSink) -> None:
        """After the call the caller's context is as it was."""
        before = trace.get_current_span()
        measure(len, [])
        assert trace.get_current_span() is before


def test_a_block_that_is_left_twice_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    """The program is not affected, and the block is told of once."""
    with recording(strict=False) as sink:
        recorder = active.recorder
        block = profile_memory("twice")
        with block:
            pass
        for expected in (1, 2):
            block.__exit__(None, None, None)
            assert recorder.guard.failures == expected
    assert [m.callsite.name for m in sink.measurements] == ["twice"]
    assert caplog.text.count("it was not entered, or was left before") == 1


@pytest.mark.skipif(native_obstacle() is not None, reason="threads are not told apart here")
def test_a_block_that_is_left_in_another_thread_has_no_heap(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its heap is that of two threads; it is told of, without."""
    with recording(Config(probe="native"), strict=False) as sink:
        recorder = active.recorder
        block = profile_memory("handed over")
        block.__enter__()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(block.__exit__, None, None, None).result(30)
        assert recorder.guard.failures == 1
    assert (sink.last.heap_net_bytes, sink.last.heap_peak_bytes) == (None, None)
    assert sink.last.attribution is None
    assert sink.last.rss_peak_bytes is not None
    assert "a step began in one thread and ended in another" in caplog.text
