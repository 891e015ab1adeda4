"""Calls that are left out: all are counted, and the measured ones stand for them."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tracing import untraced

from stratatrace import measure, profile_memory, wrapping
from stratatrace.config import Config
from stratatrace.probes import native_obstacle
from stratatrace.recorder import Recorder, active
from stratatrace.telemetry.spans import SpanScope
from stratatrace.testing import ListSink

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from stratatrace.governor import Governor, Site
    from stratatrace.measurement import Callsite

compiled_only = pytest.mark.skipif(
    native_obstacle() is not None, reason="the compiled part is not here"
)


class Told:
    """A recorder with a governor, and what a reader collects from it.

    The governor does not look at the clock, so that ratios are those that the test sets.
    """

    def __init__(self, **given: Any) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader], shutdown_on_exit=False)
        self.config = Config(max_overhead=0.5, rss_peak="off", **given)

    def recorder(self, **given: Any) -> Recorder:
        """Return a recorder that measures every call until it is told otherwise."""
        recorder = Recorder(self.config, meter_provider=self.provider, **given)
        recorder.guard.strict = True
        still(governor_of(recorder))
        return recorder

    def points(self, name: str) -> dict[tuple[str, Any], Any]:
        """Return the values of a metric that are not zero, by function's last name and error."""
        data = self.reader.get_metrics_data()
        metrics = data.resource_metrics[0].scope_metrics[0].metrics if data is not None else []
        values: dict[tuple[str, Any], Any] = {}
        for metric in metrics:
            for point in metric.data.data_points if metric.name == f"stratatrace.{name}" else ():
                attributes: Any = point.attributes
                function = attributes.get("code.function.name", "").rpartition(".")[2]
                key = (function, attributes.get("error.type"))
                values[key] = values.get(key, 0) + getattr(point, "value", 0)
        return {key: value for key, value in values.items() if value or name == "self.overhead"}


def governor_of(recorder: Recorder) -> Governor:
    assert recorder.governor is not None
    return recorder.governor


def still(governor: Governor) -> None:
    """Have the governor change nothing by itself, and draw what it always draws."""
    governor._chance = random.Random(1)
    governor._due_ns = governor._enough_ns = 1 << 62


def thin(recorder: Recorder, function: Any, ratio: float) -> Site:
    """Have that share of a function's calls measured."""
    assert recorder.thinnings is not None
    site = recorder.thinnings.site_of(callsite_of(function))
    site.approach(ratio, 1)
    site.draw(governor_of(recorder)._chance)
    return site


def callsite_of(function: Any) -> Callsite:
    callsite: Callsite = function._self_again[1]
    return callsite


@pytest.fixture(params=["compiled", "spans", "plain"])
def told(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    """Have calls added up by the compiled part, told one by one, and all without that part."""
    if request.param != "plain" and native_obstacle() is not None:
        pytest.skip("the compiled part is not here")
    if request.param == "plain":
        monkeypatch.setenv("STRATATRACE_NO_EXTENSION", "1")
        monkeypatch.setattr(wrapping, "_CompiledFunction", None)
    told = Told(probe="tracemalloc" if request.param == "plain" else "native")
    if request.param == "spans":
        provider = TracerProvider(shutdown_on_exit=False)
        monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", provider)
    yield told
    told.provider.shutdown()


def test_counts_are_exact_and_sums_are_of_all(told: Told) -> None:
    """Also where calls alternate: by a quarter of the calls, the bytes of all are known."""
    kept: list[bytearray] = []

    @profile_memory(budget=20_000)
    def keep(size: int) -> None:
        kept.append(bytearray(size))

    calls = 4000
    with active.replaced(recorder := told.recorder()):
        site = thin(recorder, keep, 0.25)
        for number in range(calls):
            keep(30_000 if number % 2 else 10_000)
            if number % 500 == 499:
                kept.clear()
        assert site.measured == pytest.approx(calls / 4, rel=0.1)
        assert told.points("call.count") == {("keep", None): calls}
        assert told.points("heap.net")["keep", None] == pytest.approx(20_057 * calls, rel=0.08)
        assert told.points("budget.exceeded")["keep", None] == pytest.approx(calls / 2, rel=0.1)
        heap_peak = told.points("heap.peak")
    assert heap_peak == {}  # It is of the calls since the collection before.


def test_sums_lose_nothing_however_often_they_are_collected(told: Told) -> None:
    """What is not whole is not rounded away each time."""

    @profile_memory(budget=1000)
    def exceed() -> int:
        return len(bytearray(5000))

    with active.replaced(recorder := told.recorder()):
        thin(recorder, exceed, 0.7)
        for _ in range(300):
            exceed()
            told.points("budget.exceeded")
        assert told.points("budget.exceeded")["exceed", None] == pytest.approx(300, rel=0.12)


@untraced
def test_gauges_are_not_scaled(told: Told) -> None:
    """The highest peak is one that was reached."""

    @profile_memory
    def take(size: int) -> int:
        return len(bytearray(size))

    with active.replaced(recorder := told.recorder()):
        thin(recorder, take, 0.2)
        for _ in range(100):
            take(50_000)
        assert told.points("heap.peak")["take", None] == pytest.approx(50_057, rel=0.02)


def test_errors_are_counted_by_their_names(told: Told) -> None:
    """Each of them, measured or not; to be cancelled or closed is none; they pass as they are."""
    raised = [ValueError("a"), KeyError("b"), GeneratorExit(), None]

    @profile_memory
    def fail(error: BaseException | None) -> str:
        if error is not None:
            raise error
        return "result"

    with active.replaced(recorder := told.recorder()):
        thin(recorder, fail, 0.3)
        for number in range(200):
            error = raised[number % 4]
            if error is None:
                assert fail(None) == "result"
                continue
            with pytest.raises(type(error)) as caught:
                fail(error)
            assert caught.value is error
        assert told.points("call.count") == {
            ("fail", None): 100,
            ("fail", "ValueError"): 50,
            ("fail", "KeyError"): 50,
        }


def test_what_can_be_suspended_is_counted(told: Told) -> None:
    """Coroutines, generators and async generators, ended, failed and closed early."""

    @profile_memory
    async def coroutine(number: int) -> int:
        await asyncio.sleep(0)
        return number

    @profile_memory
    def generator(number: int) -> Iterator[int]:
        yield number
        if number % 3 == 0:
            raise ValueError(number)

    @profile_memory
    async def items(number: int) -> AsyncIterator[int]:
        yield number
        yield number

    async def run(number: int) -> None:
        assert await coroutine(number) == number
        assert [item async for item in items(number)] == [number] * 2

    with active.replaced(recorder := told.recorder()), asyncio.Runner() as runner:
        sites = [thin(recorder, each, 0.3) for each in (coroutine, generator, items)]
        for number in range(60):
            runner.run(run(number))
            if number % 3 == 0:
                with pytest.raises(ValueError, match=str(number)):
                    list(generator(number))
            elif number % 3 == 1:
                assert list(generator(number)) == [number]
            else:
                steps = generator(number)
                assert next(steps) == number
                del steps
                gc.collect()
        assert all(0 < site.measured < 40 for site in sites)
        assert told.points("call.count") == {
            ("coroutine", None): 60,
            ("generator", None): 40,
            ("generator", "ValueError"): 20,
            ("items", None): 60,
        }


def test_whoever_asks_for_numbers_gets_them(told: Told) -> None:
    """By `measure`, by a block; they stand for themselves alone."""

    @profile_memory
    def work() -> bytearray:
        return bytearray(10_000)

    @profile_memory
    async def pause() -> None:
        await asyncio.sleep(0)

    with active.replaced(recorder := told.recorder()):
        thin(recorder, work, 1e-9)
        thin(recorder, pause, 1e-9)
        for _ in range(20):
            _, measurement = measure(work)
            assert measurement.heap_net_bytes == pytest.approx(10_057, rel=0.05)
            assert measurement.sample_ratio is None
            with profile_memory("block") as block:
                kept = bytearray(1000)
            assert block.measurement.heap_net_bytes is not None
            _, measurement = asyncio.run(measure(pause))
            assert measurement.heap_net_bytes is not None
            del kept
        assert governor_of(recorder).fixed.own_ns > 0
        # `measure` and the function itself are each a call of that name.
        assert sum(told.points("call.count").values()) == 100


@untraced
def test_an_outer_call_is_not_charged_for_those_that_are_left_out(told: Told) -> None:
    """Neither what it takes to decide, nor to count: its numbers are those of its own work."""

    @profile_memory
    def inner() -> None: ...

    def outer() -> bytearray:
        for _ in range(250):
            inner()
        return bytearray(10_000)

    def bare() -> bytearray:
        return bytearray(10_000)

    with active.replaced(recorder := told.recorder()):
        thin(recorder, inner, 0.01)
        measure(outer)
        _, measurement = measure(outer)
        _, expected = measure(bare)
    assert measurement.heap_net_bytes == pytest.approx(expected.heap_net_bytes, abs=100)
    assert measurement.heap_peak_bytes == pytest.approx(expected.heap_peak_bytes, abs=500)


@untraced
def test_an_outer_call_is_not_charged_for_the_first_error_that_is_left_out(told: Told) -> None:
    """What is made to count it stays, and is nobody's."""

    @profile_memory
    def inner(error: Exception) -> None:
        raise error

    def outer(error: Exception) -> None:
        try:  # noqa: SIM105 -- what would suppress it takes memory, too
            inner(error)
        except (ValueError, KeyError):
            pass

    with active.replaced(recorder := told.recorder()):
        thin(recorder, inner, 1e-9)
        measure(outer, ValueError())
        _, first = measure(outer, KeyError())
        _, second = measure(outer, KeyError())
    assert first.heap_net_bytes == pytest.approx(second.heap_net_bytes, abs=150)


def test_our_own_work_is_not_in_the_duration_of_a_call(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a call stands for many, that would be told many times over."""

    @profile_memory
    def work() -> None: ...

    @profile_memory
    def steps() -> Iterator[int]:
        yield 1

    sink = ListSink()
    with active.replaced(recorder := told.recorder(sinks=(sink,))):
        make_slow(monkeypatch, recorder, "wants_heap")  # Before the call begins;
        make_slow(monkeypatch, recorder, "judge")  # when it is told of;
        list(steps())
        make_slow(monkeypatch, SpanScope, "leave")  # and just after it, where it has a span.
        work()
        assert recorder.thinnings is not None
        own_ns = [
            recorder.thinnings.site_of(callsite_of(each)).turns.own_ns for each in (steps, work)
        ]
        assert own_ns[0] > 100_000_000
        assert own_ns[1] > (100_000_000 if recorder.spans.silent else 150_000_000)
    assert all(0 < (m.duration_ns or 0) < 40_000_000 for m in sink.measurements)


@pytest.mark.parametrize("probe", ["rss", "tracemalloc"])
def test_the_time_that_a_call_was_suspended_is_in_its_duration(probe: str) -> None:
    """Whatever else is measured of it."""
    told = Told(probe=probe)

    @profile_memory
    def steps() -> Iterator[int]:
        yield 1
        yield 2

    with active.replaced(told.recorder()):
        for _ in steps():
            time.sleep(0.02)
        assert told.points("call.time")["steps", None] >= 0.04
    told.provider.shutdown()


def make_slow(monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> None:
    """Have something of ours take 50 ms more."""
    real = getattr(owner, name)

    def slow(*args: Any) -> Any:
        time.sleep(0.05)
        return real(*args)

    monkeypatch.setattr(owner, name, slow)


def test_what_is_measured_by_stratatrace_is_no_call(told: Told) -> None:
    """A sink that is measured itself is not counted, left out or not."""
    emitted = 0

    class Measured:
        @profile_memory
        def emit(self, measurement: object, scope: object) -> None:
            nonlocal emitted
            emitted += 1

    @profile_memory
    def work() -> None: ...

    sink = Measured()
    with active.replaced(recorder := told.recorder(sinks=(sink,))):
        thin(recorder, Measured.__dict__["emit"], 1e-9)
        sink.emit(None, None)  # By the program, which is a call; and nobody is told of it.
        for _ in range(10):
            work()
        assert emitted == 11
        assert told.points("call.count") == {("work", None): 10, ("emit", None): 1}


def test_calls_that_are_under_way_are_counted_by_whom_they_began_with(told: Told) -> None:
    """The next configuration knows nothing of them; and leaves nothing out yet."""
    first, second = told.recorder(), told.recorder()

    @profile_memory
    def reconfigure() -> None:
        active.install(second)
        assert told.points("call.count") == {}  # Now nobody looks for more any longer.

    @profile_memory
    def work() -> None: ...

    with active.replaced(first):
        thin(first, reconfigure, 1e-9)
        thin(first, work, 1e-9)
        reconfigure()
        assert told.points("call.count") == {("reconfigure", None): 1}
        work()
        assert governor_of(second).sites()[0].measured == 1
        assert told.points("call.count") == {("reconfigure", None): 1, ("work", None): 1}
        active.install(first)
    sources = [s for totals in first.metrics._totals.values() for s in totals.sources]
    assert not [s for s in sources if not s.ended]


def test_nothing_is_left_out_where_nothing_is_measured(told: Told) -> None:
    """Turned off, calls are bare; turned on without a bound, all are measured."""

    @profile_memory
    def work() -> None: ...

    with active.replaced(recorder := told.recorder()):
        thin(recorder, work, 1e-9)
        work()
        with active.replaced(Recorder(Config(disabled=True))):
            work()
        sink = ListSink()
        with active.replaced(Recorder(Config(probe="rss"), sinks=(sink,))):
            work()
        assert len(sink.measurements) == 1
        assert told.points("call.count") == {("work", None): 1}


def test_a_failing_governor_does_not_reach_the_program(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failure is counted."""

    @profile_memory
    def work() -> str:
        return "result"

    def fails(*_args: object) -> bool:
        msg = "broken"
        raise RuntimeError(msg)

    with active.replaced(recorder := told.recorder()):
        recorder.guard.strict = False
        monkeypatch.setattr(recorder.governor, "admits", fails)
        assert work() == "result"
        assert recorder.guard.failures == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_begins_anew(told: Told) -> None:
    """It counts its own calls, all measured; those under way are its parent's to tell of."""
    seen: list[tuple[int, int]] = []

    @profile_memory
    def work() -> None: ...

    @profile_memory
    def fork() -> None:
        read, write = os.pipe()
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
            seen.append(tuple(os.read(read, 2)))  # type: ignore[arg-type]
            os.close(read)
            os.close(write)
            return
        children.append(write)

    children: list[int] = []
    with active.replaced(recorder := told.recorder()):
        thin(recorder, work, 1e-9)
        thin(recorder, fork, 1e-9)
        work()
        fork()
        if children:
            try:
                work()
                count = sum(told.points("call.count").values())
                os.write(children[0], bytes([count, governor_of(recorder).sites()[0].measured]))
            finally:
                os._exit(0)
        assert seen == [(1, 1)]
        assert told.points("call.count") == {("work", None): 1, ("fork", None): 1}


def test_threads_lose_no_call(told: Told) -> None:
    """Neither of those that are measured nor of the others."""

    @profile_memory
    def work() -> None: ...

    def run() -> None:
        for _ in range(500):
            work()

    with active.replaced(recorder := told.recorder()):
        thin(recorder, work, 0.05)
        threads = [threading.Thread(target=run) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert told.points("call.count") == {("work", None): 3000}


@untraced
def test_a_hot_function_is_thinned_and_a_rare_one_is_not(told: Told) -> None:
    """By the real clock; the overhead and the ratios are told, those of the thinned alone."""

    @profile_memory
    def hot() -> None: ...

    @profile_memory
    def rare() -> None: ...

    recorder = Recorder(
        Config(probe=told.config.probe, max_overhead=0.01, rss_peak="off"),
        meter_provider=told.provider,
    )
    recorder.guard.strict = True
    calls = 0
    with active.replaced(recorder):
        rare()
        deadline = time.monotonic() + 20
        assert recorder.thinnings is not None
        site = recorder.thinnings.site_of(callsite_of(hot))
        while site.ratio > 0.5 and time.monotonic() < deadline:
            hot()
            calls += 1
        rare()
        ratio = site.ratio
        assert told.points("sample.ratio") == {("hot", None): pytest.approx(ratio, rel=0.3)}
        assert 0 < ratio < 0.5
        overhead = told.points("self.overhead")
        assert list(overhead) == [("", None)]
        assert told.points("call.count") == {("hot", None): calls, ("rare", None): 2}
    assert told.points("self.overhead") == told.points("sample.ratio") == {}


def test_spans_carry_the_ratio() -> None:
    """One span for each measured call, with the ratio where it is below one."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    @profile_memory
    def work() -> None: ...

    recorder = Recorder(Config(max_overhead=0.5, rss_peak="off"), tracer_provider=provider)
    recorder.guard.strict = True
    with active.replaced(recorder):
        still(governor_of(recorder))
        work()
        site = thin(recorder, work, 0.2)
        for _ in range(100):
            work()
    first, *others = exporter.get_finished_spans()
    assert site.measured == len(others) + 1
    assert "stratatrace.sample.ratio" not in (first.attributes or {})
    assert {(span.attributes or {})["stratatrace.sample.ratio"] for span in others} == {0.2}


def test_a_ratio_that_was_told_goes_on_being_told(told: Told) -> None:
    """As 1, where it would else be taken for unchanged."""

    @profile_memory
    def work() -> None: ...

    with active.replaced(recorder := told.recorder()):
        work()
        assert told.points("sample.ratio") == {}
        site = thin(recorder, work, 0.2)
        assert told.points("sample.ratio") == {("work", None): 0.2}
        site.approach(1.0, 10)
        assert told.points("sample.ratio") == {("work", None): 1.0}


def test_callsites_past_the_bound_are_counted(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """Together; none is lost, and what is remembered stays bounded."""
    monkeypatch.setattr("stratatrace.governor._MOST_SITES", 10)
    monkeypatch.setattr("stratatrace.thinning._MOST_CALLSITES", 10)
    with active.replaced(recorder := told.recorder()):
        for number in range(50):
            work: Any = profile_memory(name=f"call {number}")(lambda: None)
            thin(recorder, work, 1e-9)
            work()
        assert recorder.thinnings is not None
        assert len(recorder.thinnings._by_callsite) <= 10
        assert len(governor_of(recorder).sites()) == 11
        assert sum(told.points("call.count").values()) == 50


def test_calls_that_are_left_out_leave_nothing_behind(told: Told) -> None:
    """Not a block for each of them."""

    @profile_memory
    def work() -> None: ...

    with active.replaced(recorder := told.recorder()):
        thin(recorder, work, 1e-9)
        work()
        gc.collect()
        before = sys.getallocatedblocks()
        for _ in range(5000):
            work()
        gc.collect()
        assert sys.getallocatedblocks() - before < 500


@compiled_only
def test_the_compiled_part_asks_nobody_for_a_call_that_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """But once for as many as are left out in a row."""
    told = Told(probe="native")
    asked = 0

    @profile_memory
    def work() -> None: ...

    with active.replaced(recorder := told.recorder()):
        thin(recorder, work, 1e-9)
        work()
        assert recorder.thinnings is not None
        passes = recorder.thinnings.passes

        def counting(callsite: Callsite) -> object:
            nonlocal asked
            asked += 1
            return passes(callsite)

        monkeypatch.setattr(recorder.thinnings, "passes", counting)
        for _ in range(1000):
            work()
        assert asked == 10
    told.provider.shutdown()


def test_another_part_asks_by_a_key_of_its_own() -> None:
    """What measures spans, for one: it is told the ratio, or that a call is left out."""
    recorder = Recorder(Config(probe="rss", max_overhead=0.5))
    governor = governor_of(recorder)
    still(governor)
    key = ("some.scope", "GET /")
    assert governor.takes(key) == 1
    governor.spent(key, 1000)
    site = governor.site_of(key)
    assert site.turns.own_ns == 1000
    site.approach(0.5, 1)
    site.draw(governor._chance)
    assert {governor.takes(key) for _ in range(100)} == {None, 0.5}
    assert recorder.thinnings is not None
    assert list(recorder.thinnings.ratios()) == []
