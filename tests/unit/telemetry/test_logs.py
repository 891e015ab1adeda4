"""The log sink against the real SDK: what is told of a broken budget, and how often."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import context, trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from stratatrace import profile_memory
from stratatrace.config import Config
from stratatrace.exporters.logs import LogProcessor
from stratatrace.measurement import Callsite, Measurement
from stratatrace.probes import native_obstacle
from stratatrace.recorder import Recorder, active
from stratatrace.telemetry.logs import LogSink
from stratatrace.telemetry.providers import MOST_SERIES
from stratatrace.testing import recording

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

LOAD = Callsite(name="load", function="app.load", budget_bytes=10)
OVER = Measurement(callsite=LOAD, heap_peak_bytes=20)


class Clock:
    """Seconds that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Have a clock that stands."""
    return Clock()


@pytest.fixture
def logs(logger_provider: LoggerProvider, clock: Clock) -> LogSink:
    """Have a sink for that provider, by that clock."""
    return LogSink(logger_provider, clock=clock)


@profile_memory(budget="1 MiB", attributes={"tenant": "acme"})
def exceeds(size: int) -> int:
    """Take memory and give it back."""
    return len(bytearray(size))


def _same_trace(record: Any, span: ReadableSpan) -> bool:
    return (record.trace_id, record.span_id) == (span.context.trace_id, span.context.span_id)


def _event_name(record: Any) -> object:
    # An attribute before SDK 1.35.
    return getattr(record, "event_name", None) or record.attributes.get("event.name")


def test_a_broken_budget_is_one_record_in_the_trace_of_the_call(
    tracer_provider: TracerProvider,
    exporter: InMemorySpanExporter,
    logger_provider: LoggerProvider,
    log_records: Callable[[], list[Any]],
) -> None:
    """It has the call's trace and span, its numbers, a severity and a text; no event is made."""
    with recording(tracer_provider=tracer_provider, logger_provider=logger_provider) as sink:
        exceeds(1000)
        exceeds(3 * 2**20)
    (_, span), (record,) = exporter.get_finished_spans(), log_records()
    assert _same_trace(record, span)
    assert record.trace_flags == span.context.trace_flags
    assert span.end_time >= record.timestamp >= span.start_time
    assert not span.events
    assert _event_name(record) == "stratatrace.budget.exceeded"
    assert (record.severity_number, record.severity_text) == (SeverityNumber.WARN, "WARN")
    assert record.body == "the heap of exceeds peaked at 3.0 MiB, and its budget is 1.0 MiB"
    told = {name: value for name, value in record.attributes.items() if name != "event.name"}
    assert told == {**(span.attributes or {}), "stratatrace.budget.untold": 0}
    assert told["stratatrace.heap.peak"] == sink.last.heap_peak_bytes
    assert told["stratatrace.budget"] == 2**20
    assert {"code.function.name", "stratatrace.heap.net", "stratatrace.attribution"} <= told.keys()


def test_it_is_the_span_of_the_call_and_not_one_left_open_in_it(
    tracer_provider: TracerProvider,
    exporter: InMemorySpanExporter,
    logger_provider: LoggerProvider,
    log_records: Callable[[], list[Any]],
) -> None:
    """What the call's own code leaves current in its context is another span."""
    tracer = tracer_provider.get_tracer("app")

    @profile_memory(budget=1000)
    def careless() -> None:
        context.attach(trace.set_span_in_context(tracer.start_span("left open")))
        bytearray(10_000)

    before = context.get_current()
    with recording(tracer_provider=tracer_provider, logger_provider=logger_provider):
        careless()
    assert context.get_current() == before
    (span,), (record,) = exporter.get_finished_spans(), log_records()
    assert _same_trace(record, span)


def test_of_what_is_suspended_it_is_the_span_of_all_steps(
    tracer_provider: TracerProvider,
    exporter: InMemorySpanExporter,
    logger_provider: LoggerProvider,
    log_records: Callable[[], list[Any]],
) -> None:
    """Of a coroutine and of a generator that is closed in another span."""

    @profile_memory(budget=1000)
    async def waits() -> None:
        bytearray(10_000)
        await asyncio.sleep(0)

    @profile_memory(budget=1000)
    def yields() -> Generator[int]:
        yield len(bytearray(10_000))

    with recording(tracer_provider=tracer_provider, logger_provider=logger_provider):
        asyncio.run(waits())
        items = yields()
        next(items)
        with tracer_provider.get_tracer("app").start_as_current_span("another"):
            items.close()
    spans = [s for s in exporter.get_finished_spans() if s.name != "another"]
    for record, span in zip(log_records(), spans, strict=True):
        assert _same_trace(record, span)


def test_a_call_of_a_trace_that_is_not_sampled_is_told_as_well(
    logger_provider: LoggerProvider, log_records: Callable[[], list[Any]]
) -> None:
    """By the id of that trace, and the flag that says so."""
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    logs = LogSink(logger_provider)
    with recording(tracer_provider=provider, logger_provider=logger_provider) as sink:
        exceeds(3 * 2**20)  # Of which tracemalloc measures no heap: there is nothing to tell.
        assert not sink.last.budget_exceeded
        scope = active.recorder.spans.open(LOAD, None)
        assert scope is not None
        logs.emit(OVER, scope)
    (record,) = log_records()
    assert record.trace_id == scope.span.get_span_context().trace_id
    assert not record.trace_flags & 1, "the bit for sampled"


def test_without_a_span_it_is_in_the_current_trace(
    logs: LogSink, tracer_provider: TracerProvider, log_records: Callable[[], list[Any]]
) -> None:
    """Of a call that is measured, and has no span of its own."""
    with tracer_provider.get_tracer("app").start_as_current_span("request") as span:
        logs.emit(OVER, None)
    (record,) = log_records()
    assert record.span_id == span.get_span_context().span_id


@pytest.mark.parametrize(
    "measurement",
    [
        Measurement(callsite=LOAD, heap_peak_bytes=10),
        Measurement(callsite=LOAD),
        Measurement(callsite=Callsite(name="f", function="f"), heap_peak_bytes=10**9),
    ],
    ids=["kept", "not measured", "no budget"],
)
def test_who_keeps_to_a_budget_is_not_told_of(
    measurement: Measurement, logs: LogSink, log_records: Callable[[], list[Any]]
) -> None:
    """Nor who has none, or was not measured."""
    logs.emit(measurement, None)
    assert log_records() == []


def test_a_hot_callsite_has_one_record_a_second(
    logs: LogSink, clock: Clock, log_records: Callable[[], list[Any]]
) -> None:
    """The next one says how many calls have none; another callsite has turns of its own."""
    for _ in range(1000):
        logs.emit(OVER, None)
    clock.now += 0.999
    logs.emit(OVER, None)
    assert len(log_records()) == 1
    clock.now += 0.001
    logs.emit(OVER, None)
    nightly = Callsite(name="n", function="app.load", label="n", budget_bytes=10)
    logs.emit(Measurement(callsite=nightly, heap_peak_bytes=20), None)
    clock.now += 60
    logs.emit(OVER, None)
    untold = [record.attributes["stratatrace.budget.untold"] for record in log_records()]
    assert untold == [0, 1000, 0, 0]


def test_threads_lose_no_call(
    logs: LogSink, clock: Clock, log_records: Callable[[], list[Any]]
) -> None:
    """Each call has a record or is counted by one."""

    def call() -> None:
        for _ in range(500):
            logs.emit(OVER, None)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    clock.now += 1
    logs.emit(OVER, None)
    untold = [record.attributes["stratatrace.budget.untold"] for record in log_records()]
    assert sum(untold) + len(untold) == 4 * 500 + 1
    assert len(untold) == 2


def test_what_is_remembered_is_bounded(
    logs: LogSink, clock: Clock, log_records: Callable[[], list[Any]]
) -> None:
    """Past 2000 callsites the rest take their turns together, and no call is lost."""
    extra = 50
    for number in range(MOST_SERIES + extra):
        callsite = Callsite(name="f", function=f"app.f{number}", budget_bytes=1)
        logs.emit(Measurement(callsite=callsite, heap_peak_bytes=2), None)
    assert len(logs._turns) == MOST_SERIES + 1
    assert len(log_records()) == MOST_SERIES + 1
    clock.now += 1
    logs.emit(Measurement(callsite=callsite, heap_peak_bytes=2), None)
    assert log_records()[-1].attributes["stratatrace.budget.untold"] == extra - 1


def test_a_forked_child_tells_its_own(logs: LogSink, log_records: Callable[[], list[Any]]) -> None:
    """It does not count its parent's calls, nor wait for a lock that a thread of it held."""
    logs.emit(OVER, None)
    logs.emit(OVER, None)
    holder = threading.Thread(target=logs._lock.acquire)
    holder.start()
    holder.join()
    logs.after_fork_in_child()
    logs.emit(OVER, None)
    assert [r.attributes["stratatrace.budget.untold"] for r in log_records()] == [0, 0]


def test_without_a_provider_nothing_is_told_and_no_turn_is_taken() -> None:
    """The application's is looked for when there is something to tell."""
    logs = LogSink()
    logs.emit(OVER, None)
    assert not logs._turns


def test_what_fails_is_counted_and_the_call_is_not_affected(
    tracer_provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    """A processor that raises does so into the guard; the span and the result are there."""

    def take(_record: object) -> None:
        msg = "broken"
        raise RuntimeError(msg)

    provider: Any = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(LogProcessor(take, lambda: None))
    with recording(tracer_provider=tracer_provider, logger_provider=provider, strict=False):
        assert exceeds(3 * 2**20) == 3 * 2**20
        assert active.recorder.guard.failures == 1
    assert len(exporter.get_finished_spans()) == 1


def test_telling_goes_round_in_no_circle_and_is_charged_to_nobody(
    tracer_provider: TracerProvider, logger_provider: LoggerProvider
) -> None:
    """Where a processor logs, breaks a budget itself, and takes memory while it is at it."""
    depth: list[int] = []

    def take(_record: object) -> None:
        depth.append(1)
        logging.getLogger("app").warning("told")
        exceeds(5 * 2**20)

    class Bridge(logging.Handler):
        """What brings records of `logging` to OpenTelemetry, in short."""

        def emit(self, record: logging.LogRecord) -> None:
            depth.append(1)
            exceeds(len(record.getMessage()) * 2**20)

    @profile_memory(budget="64 MiB")
    def outer() -> None:
        exceeds(3 * 2**20)

    provider: Any = logger_provider
    provider.add_log_record_processor(LogProcessor(take, lambda: None))
    handler = Bridge()
    logging.getLogger("app").addHandler(handler)
    try:
        with recording(tracer_provider=tracer_provider, logger_provider=provider) as sink:
            outer()
    finally:
        logging.getLogger("app").removeHandler(handler)
    assert len(depth) == 2
    assert [m.callsite.name.rpartition(".")[2] for m in sink.measurements] == ["exceeds", "outer"]
    assert sink.last.heap_peak_bytes == pytest.approx(3 * 2**20, rel=0.01)


@pytest.mark.skipif(native_obstacle() is not None, reason="calls are added up by compiled code")
def test_a_call_that_is_only_added_up_is_in_the_metric_alone(
    logger_provider: LoggerProvider, log_records: Callable[[], list[Any]]
) -> None:
    """It has no span and so no trace; the path of such a call does not look for a record."""
    with active.replaced(Recorder(Config(probe="native"), logger_provider=logger_provider)):
        recorder = active.recorder
        exceeds(3 * 2**20)
        assert recorder.tallies is not None
        (tallied,) = recorder.tallies.tallied.values()
        sums = tallied.take()
    assert sums is not None
    assert sums.exceeded == 1
    assert log_records() == []
