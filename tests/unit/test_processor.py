"""The span processor: spans of others carry memory, and nothing that goes wrong reaches them."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from heap_probes import PROBES
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import (
    ConcurrentMultiSpanProcessor,
    SpanLimits,
    SpanProcessor,
    TracerProvider,
)
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, Status, StatusCode
from tracing import untraced

from stratatrace import profile_memory
from stratatrace.config import Config
from stratatrace.errors import InvalidTypeError, InvalidValueError
from stratatrace.processor import MemorySpanProcessor
from stratatrace.recorder import active
from stratatrace.testing import recording

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Tracer

MB = 1_000_000
PEAK, NET = "stratatrace.heap.peak", "stratatrace.heap.net"
ATTRIBUTION = "stratatrace.attribution"
ALL = {
    "stratatrace.heap.net",
    "stratatrace.heap.peak",
    "stratatrace.attribution",
    "stratatrace.probe",
    "stratatrace.rss.before",
    "stratatrace.rss.net",
    "stratatrace.rss.peak",
    "stratatrace.rss.peak_method",
    "stratatrace.gc.time",
    "stratatrace.gc.collections",
    "stratatrace.gc.reclaimed",
}


class Spans:
    """A provider with the processor, and the spans that came out of it."""

    def __init__(self, processor: MemorySpanProcessor, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.processor = processor
        self.provider = TracerProvider(shutdown_on_exit=False, **options)
        self.provider.add_span_processor(processor)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    @property
    def tracer(self) -> Tracer:
        """Return a tracer of some instrumentation."""
        return self.provider.get_tracer("shop")

    def of(self, name: str) -> ReadableSpan:
        """Return the exported span of that name."""
        (span,) = (span for span in self.exporter.get_finished_spans() if span.name == name)
        return span

    def numbers(self, name: str) -> dict[str, Any]:
        """Return what the span of that name carries of ours."""
        attributes = self.of(name).attributes or {}
        return {key: value for key, value in attributes.items() if key.startswith("stratatrace.")}


@contextmanager
def spans(
    probe: str = PROBES[0],
    *,
    strict: bool = True,
    config: Config | None = None,
    meter_provider: MeterProvider | None = None,
    provider: dict[str, Any] | None = None,
    **options: Any,
) -> Iterator[Spans]:
    """Measure spans within the block."""
    config = config or Config(probe=probe)
    with recording(config, strict=strict, meter_provider=meter_provider):
        # A list of Measurements would be one more who looks at each call.
        made = Spans(MemorySpanProcessor(**options), **(provider or {}))
        try:
            yield made
        finally:
            made.provider.shutdown()


def irregular(reader: InMemoryMetricReader) -> dict[str, int]:
    """Return the count of irregular spans by what was wrong with them."""
    data = reader.get_metrics_data()
    return {
        str((point.attributes or {})["stratatrace.span.irregularity"]): int(point.value)
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "stratatrace.span.irregular"
        for point in metric.data.data_points
        if isinstance(point, NumberDataPoint)
    }


@untraced
@pytest.mark.parametrize("probe", PROBES)
def test_a_span_carries_its_memory(probe: str) -> None:
    """All numbers, with the heap's to the byte but for what the span itself is made of."""
    with spans(probe) as made:
        with made.tracer.start_as_current_span("work") as span:
            kept = bytearray(2 * MB)
            bytearray(3 * MB)
        assert not span.is_recording()
        numbers = made.numbers("work")
    assert numbers.keys() >= ALL
    assert numbers[NET] == pytest.approx(len(kept), abs=4000)
    assert numbers[PEAK] == pytest.approx(5 * MB, abs=4000)
    assert numbers[ATTRIBUTION] == "exact"
    assert numbers["stratatrace.probe"] == probe
    assert numbers["stratatrace.rss.peak"] >= numbers["stratatrace.rss.before"] > MB
    assert ("stratatrace.heap.allocated" in numbers) == (probe == "native")


@pytest.mark.parametrize("probe", PROBES)
def test_nested_spans_have_what_is_in_them(probe: str) -> None:
    """An inner span's memory is in the outer's, and not the other way round."""
    with spans(probe) as made:
        with made.tracer.start_as_current_span("outer"):
            bytearray(4 * MB)
            with made.tracer.start_as_current_span("inner"):
                kept = bytearray(MB)
                bytearray(2 * MB)
            del kept
        assert made.numbers("inner")[PEAK] == pytest.approx(3 * MB, rel=0.02)
        assert made.numbers("outer")[PEAK] == pytest.approx(4 * MB, rel=0.02)
        assert abs(made.numbers("outer")[NET]) < 20_000


@untraced
@pytest.mark.skipif(PROBES[0] != "native", reason="only then it is known to the byte")
def test_our_own_work_is_not_in_the_numbers() -> None:
    """A span around a thousand empty spans has what the SDK keeps of them, and nothing of ours."""

    def outer_net(processors: list[SpanProcessor]) -> int:
        exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        for processor in processors:
            provider.add_span_processor(processor)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        tracer = provider.get_tracer("shop")
        with profile_memory("outer") as block:
            for _ in range(1000):
                tracer.start_span("inner").end()
        assert block.measurement.heap_net_bytes is not None
        return block.measurement.heap_net_bytes

    with recording(Config(probe=PROBES[0])):
        outer_net([])
        alone = outer_net([])
        processor = MemorySpanProcessor()
        both = outer_net([processor])
        processor.shutdown()
    assert abs(both - alone) < 1000 * 16


@pytest.mark.parametrize("probe", PROBES)
def test_interleaved_tasks_each_have_their_own(probe: str) -> None:
    """Fifty tasks that take turns; the span around them has them all."""
    sizes = [(1 + n % 10) * MB // 4 for n in range(50)]
    with spans(probe) as made:

        async def work(number: int) -> None:
            with made.tracer.start_as_current_span(f"task {number}"):
                kept = []
                for _ in range(4):
                    kept.append(bytearray(sizes[number]))
                    await asyncio.sleep(0)
                bytearray(sizes[number])
                await asyncio.sleep(0)

        async def main() -> None:
            with made.tracer.start_as_current_span("all"):
                await asyncio.gather(*map(work, range(50)))

        asyncio.run(main())
        for number, size in enumerate(sizes):
            numbers = made.numbers(f"task {number}")
            assert numbers[PEAK] == pytest.approx(5 * size, rel=0.02)
            assert numbers[NET] == pytest.approx(4 * size, rel=0.02)
            assert numbers[ATTRIBUTION] == "exact"
        # All hold all that they keep at once, and the last one its last besides.
        assert made.numbers("all")[PEAK] == pytest.approx(4 * sum(sizes) + sizes[0], rel=0.02)


@pytest.mark.parametrize("probe", PROBES)
def test_tasks_that_are_not_followed_are_said_to_be_mixed(probe: str) -> None:
    """Never is what others have taken in `exact`."""
    with spans(probe, follow_tasks=False) as made:

        async def work(name: str, size: int) -> None:
            with made.tracer.start_as_current_span(name):
                kept = bytearray(size)
                await asyncio.sleep(0)
                assert len(kept) == size

        async def main() -> None:
            await asyncio.gather(work("small", MB), work("large", 9 * MB))

        asyncio.run(main())
        assert made.numbers("small")[PEAK] > 9 * MB
        assert made.numbers("small")[ATTRIBUTION] == "process"


def test_a_task_from_before_is_said_to_be_mixed() -> None:
    """And those that it begins are followed."""

    async def main() -> None:
        with spans() as made:
            with made.tracer.start_as_current_span("before"):
                await asyncio.sleep(0)

            async def work() -> None:
                with made.tracer.start_as_current_span("after"):
                    await asyncio.sleep(0)

            await asyncio.create_task(work())
            assert made.numbers("before")[ATTRIBUTION] == "process"
            assert made.numbers("after")[ATTRIBUTION] == "exact"

    with recording(Config(probe=PROBES[0])):
        asyncio.run(main())


@pytest.mark.skipif(PROBES[0] != "native", reason="threads cannot be told apart by tracemalloc")
def test_work_for_threads_is_charged_to_its_span() -> None:
    """By executors, `to_thread` and futures; what other threads do is not."""
    with spans() as made, ThreadPoolExecutor(2) as executor:
        with made.tracer.start_as_current_span("sync"):
            assert executor.submit(bytearray, MB).result()
            assert sum(len(part) for part in executor.map(bytearray, [MB, MB])) == 2 * MB

        async def main() -> None:
            with made.tracer.start_as_current_span("async"):
                kept = await asyncio.to_thread(bytearray, 5 * MB)
                loop = asyncio.get_running_loop()
                assert len(await loop.run_in_executor(None, bytearray, 2 * MB)) == 2 * MB
                assert len(kept) == 5 * MB

        stop = threading.Event()

        def others() -> None:
            while not stop.is_set():
                bytearray(20 * MB)

        thread = threading.Thread(target=others)
        thread.start()
        asyncio.run(main())
        stop.set()
        thread.join()
    numbers = made.numbers("async")
    assert numbers[PEAK] == pytest.approx(7 * MB, rel=0.02)
    assert numbers[ATTRIBUTION] == "exact"
    assert made.numbers("sync")[PEAK] == pytest.approx(3 * MB, rel=0.02)


@pytest.mark.skipif(PROBES[0] != "native", reason="threads cannot be told apart by tracemalloc")
def test_work_that_is_not_followed_to_threads_is_not_in_the_span() -> None:
    """It is somebody else's then, and nobody says otherwise."""
    with spans(follow_threads=False) as made, ThreadPoolExecutor(1) as executor:
        with made.tracer.start_as_current_span("work"):
            kept = executor.submit(bytearray, MB).result()
        assert len(kept) == MB
    assert made.numbers("work")[PEAK] < MB / 2


def test_the_spans_of_decorated_functions_are_left_alone() -> None:
    """They carry numbers of their own, on the same provider."""
    with spans() as made:
        with recording(Config(probe=PROBES[0]), tracer_provider=made.provider):

            @profile_memory(budget="1MB")
            def work() -> bytearray:
                return bytearray(2 * MB)

            work()
        (span,) = made.exporter.get_finished_spans()
        assert (span.attributes or {})["stratatrace.budget.exceeded"] is True
        assert type(span).__module__.startswith("opentelemetry.")


def test_spans_are_chosen_by_scope_name_and_kind() -> None:
    """All that is asked for must hold; patterns are of the whole name."""
    with spans(scopes=["sh*", "none"], names="GET *", kinds=["server", SpanKind.CLIENT]) as made:
        other = made.provider.get_tracer("warehouse")
        made.tracer.start_span("GET /a", kind=SpanKind.SERVER).end()
        made.tracer.start_span("GET /b", kind=SpanKind.CLIENT).end()
        made.tracer.start_span("GET /c").end()
        made.tracer.start_span("POST /d", kind=SpanKind.SERVER).end()
        made.tracer.start_span("no GET /e", kind=SpanKind.SERVER).end()
        other.start_span("GET /f", kind=SpanKind.SERVER).end()
        measured = {s.name for s in made.exporter.get_finished_spans() if s.attributes}
        assert measured == {"GET /a", "GET /b"}


def test_short_spans_carry_nothing() -> None:
    """By their own duration."""
    with spans(min_duration_seconds=0.05) as made:
        made.tracer.start_span("short").end()
        span = made.tracer.start_span("long")
        threading.Event().wait(0.06)
        span.end()
        assert not made.numbers("short")
        assert made.numbers("long").keys() >= ALL


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("kind", ["heap", "rss", "gc"])
def test_numbers_are_chosen(probe: str, kind: str) -> None:
    """Those that were asked for, all of them, and no others."""
    with spans(probe, numbers=[kind]) as made:
        made.tracer.start_span("work").end()
        names = made.numbers("work").keys()
    of_heap = {"stratatrace.attribution", "stratatrace.probe"}
    expected = {name for name in ALL if f".{kind}." in name} | (
        of_heap if kind == "heap" else set()
    )
    assert names - {"stratatrace.heap.allocated", "stratatrace.heap.allocations"} == expected


def test_without_a_heap_the_rest_is_there() -> None:
    """By the probe that measures none."""
    with spans("rss") as made:
        made.tracer.start_span("work").end()
        assert made.numbers("work").keys() == {
            name for name in ALL if ".rss." in name or ".gc." in name
        } - {"stratatrace.gc.reclaimed"}


@pytest.mark.parametrize("probe", PROBES)
def test_a_share_of_the_spans_has_a_heap(probe: str) -> None:
    """Where the configuration samples; each name for itself."""
    with spans(config=Config(probe=probe, sample_ratio=0.25)) as made:
        for name in ("often", "seldom", "often", "often", "often", "often"):
            made.tracer.start_span(name).end()
        heaps = [
            (span.name, PEAK in (span.attributes or {}))
            for span in made.exporter.get_finished_spans()
        ]
    assert heaps == [
        ("often", True),
        ("seldom", True),
        ("often", False),
        ("often", False),
        ("often", False),
        ("often", True),
    ]


def test_hot_spans_are_left_alone_to_stay_within_a_share_of_the_time() -> None:
    """Those that are measured say how they were chosen; rare ones are, each of them."""
    with spans(config=Config(probe=PROBES[0], max_overhead=0.02)) as made:
        rare = 0
        for number in range(6000):
            made.tracer.start_span("hot").end()
            if number % 1000 == 0:
                made.tracer.start_span("rare").end()
                rare += 1
        exported = made.exporter.get_finished_spans()
        attributes: list[dict[str, Any]] = [
            dict(span.attributes or {}) for span in exported if span.name == "hot"
        ]
        measured = [numbers for numbers in attributes if PEAK in numbers]
        assert len(attributes) == 6000
        assert 0 < len(measured) < 5000
        ratios = [numbers.get("stratatrace.sample.ratio", 1) for numbers in measured]
        assert min(ratios) < 0.5
        # How near it comes is for the simulations: here a busy machine has its say.
        assert 1500 < sum(1 / ratio for ratio in ratios) < 24_000
        of_rare = [span.attributes or {} for span in exported if span.name == "rare"]
        assert [PEAK in numbers for numbers in of_rare] == [True] * rare


def test_attributes_of_the_program_are_never_pushed_out() -> None:
    """Ours are written where there is room, the most important first; the rest is dropped."""
    reader = InMemoryMetricReader()
    meter_provider = MeterProvider([reader], shutdown_on_exit=False)
    limits = {"span_limits": SpanLimits(max_span_attributes=5)}
    with spans(meter_provider=meter_provider, provider=limits) as made:
        made.tracer.start_span("work", attributes={"a": 1, "b": 2, "c": 3}).end()
        made.tracer.start_span("full", attributes=dict.fromkeys("abcde", 1)).end()
        assert (made.of("work").attributes or {}).keys() == {"a", "b", "c", PEAK, NET}
        assert made.of("work").dropped_attributes > 5
        assert (made.of("full").attributes or {}).keys() == set("abcde")
        assert irregular(reader) == {"full": 2}
    meter_provider.shutdown()


def test_a_span_that_is_ended_twice_is_counted() -> None:
    """The SDK warns of it as it does without us, and the first end's numbers stay."""
    reader = InMemoryMetricReader()
    meter_provider = MeterProvider([reader], shutdown_on_exit=False)
    with spans(meter_provider=meter_provider) as made:
        span = made.tracer.start_span("work")
        span.end()
        before = made.numbers("work")
        span.end()
        span.end()
        assert made.numbers("work") == before
        assert irregular(reader) == {"ended_twice": 2}
    meter_provider.shutdown()


@pytest.mark.parametrize("probe", PROBES)
def test_a_span_that_another_thread_ends_says_so(probe: str) -> None:
    """Its heap is the process's; after its thread's death it is its thread's own."""
    reader = InMemoryMetricReader()
    meter_provider = MeterProvider([reader], shutdown_on_exit=False)
    with spans(probe, meter_provider=meter_provider) as made:
        started: list[Any] = []
        begun, ended = threading.Event(), threading.Event()

        def work() -> None:
            started.append((made.tracer.start_span("alive"), bytearray(3 * MB)))
            begun.set()
            ended.wait(10)

        thread = threading.Thread(target=work)
        thread.start()
        begun.wait(10)
        started[0][0].end()
        ended.set()
        thread.join()
        assert made.numbers("alive")[ATTRIBUTION] == "process"
        assert made.numbers("alive")[PEAK] == pytest.approx(3 * MB, rel=0.02)
        assert irregular(reader) == {"ended_elsewhere": 1}

        thread = threading.Thread(
            target=lambda: started.append((made.tracer.start_span("dead"), bytearray(2 * MB)))
        )
        thread.start()
        thread.join()
        started[1][0].end()
        assert made.numbers("dead")[PEAK] == pytest.approx(2 * MB, rel=0.02)
        assert made.numbers("dead")[ATTRIBUTION] == ("exact" if probe == "native" else "process")
        late = {"ended_late": 1} if probe == "native" else {"ended_elsewhere": 2}
        assert irregular(reader) == {"ended_elsewhere": 1} | late
    meter_provider.shutdown()


def test_a_span_that_another_task_ends_has_its_own_tasks_memory() -> None:
    """Up to when it is ended, and nothing of who ends it."""
    with spans() as made:

        async def main() -> None:
            async def begin() -> Any:
                span = made.tracer.start_span("work")
                kept = bytearray(2 * MB)
                await asyncio.sleep(0)
                return span, kept

            span, kept = await asyncio.create_task(begin())
            more = bytearray(7 * MB)
            span.end()
            assert len(kept) + len(more) == 9 * MB

        asyncio.run(main())
        assert made.numbers("work")[PEAK] == pytest.approx(2 * MB, rel=0.02)


def test_processors_in_threads_of_their_own_cost_the_heap() -> None:
    """It cannot be seen from there: it is absent, and never somebody else's."""
    reader = InMemoryMetricReader()
    meter_provider = MeterProvider([reader], shutdown_on_exit=False)
    concurrent = ConcurrentMultiSpanProcessor(2)
    options = {"active_span_processor": concurrent}
    with spans(meter_provider=meter_provider, provider=options) as made:
        with made.tracer.start_as_current_span("work"):
            bytearray(MB)
        assert made.numbers("work").keys() >= {"stratatrace.rss.peak", "stratatrace.rss.net"}
        assert not {PEAK, NET, ATTRIBUTION} & made.numbers("work").keys()
        assert irregular(reader) == {"aside": 1}
    concurrent._executor.shutdown()
    meter_provider.shutdown()


def test_a_span_that_fails_is_what_it_was() -> None:
    """Status, events and the exception itself, with the numbers besides."""
    with spans() as made:
        error = ValueError("wrong")
        with (
            pytest.raises(ValueError, match="wrong") as caught,
            made.tracer.start_as_current_span("work"),
        ):
            raise error
        assert caught.value is error
        span = made.of("work")
        assert span.status.status_code is StatusCode.ERROR
        assert [event.name for event in span.events] == ["exception"]
        assert made.numbers("work").keys() >= ALL


def test_a_measured_span_is_a_span() -> None:
    """Of its own class, by name and by descent, with all that it can do."""
    with spans() as made, spans() as others:
        ours, theirs = made.tracer.start_span("a"), TracerProvider().get_tracer("x").start_span("a")
        assert isinstance(ours, type(theirs))
        assert repr(type(ours)) == repr(type(theirs))
        ours.set_status(Status(StatusCode.OK))
        ours.update_name("b")
        ours.end(end_time=12345)
        assert made.of("b").end_time == 12345
        assert made.of("b").status.is_ok
        assert others.exporter.get_finished_spans() == ()


def test_two_processors_on_a_provider_measure_once() -> None:
    """The first that wants a span has it."""
    with spans() as made:
        second = MemorySpanProcessor()
        made.provider.add_span_processor(second)
        with made.tracer.start_as_current_span("work"):
            bytearray(MB)
        assert made.numbers("work")[PEAK] == pytest.approx(MB, rel=0.02)
        second.shutdown()


def test_spans_that_are_not_recorded_are_not_measured() -> None:
    """The SDK does not show them to anybody."""
    with spans(provider={"sampler": ALWAYS_OFF}) as made:
        with made.tracer.start_as_current_span("work") as span:
            assert not span.is_recording()
        assert not made.exporter.get_finished_spans()


def test_ten_thousand_names_take_no_more_memory_than_some() -> None:
    """What is remembered of names is bounded; those that have no place are counted."""
    reader = InMemoryMetricReader()
    meter_provider = MeterProvider([reader], shutdown_on_exit=False)
    config = Config(probe=PROBES[0], sample_ratio=0.5)
    with spans(names="*", config=config, meter_provider=meter_provider) as made:
        made.exporter.shutdown()
        for number in range(10_000):
            made.tracer.start_span(f"GET /order/{number}").end()
        assert len(made.processor._wanted) <= 4096
        assert irregular(reader) == {"names": 10_000 - 4096}
        assert len(active.recorder.habits) <= 4097
    meter_provider.shutdown()


@pytest.mark.parametrize("probe", PROBES)
def test_spans_that_are_never_ended_are_forgotten(probe: str) -> None:
    """With their objects; those that are open beside them are measured as ever."""
    with spans(probe) as made:
        for number in range(100):
            made.tracer.start_span(f"lost {number}")
        gc.collect()
        assert not active.recorder.accounts.charging
        with made.tracer.start_as_current_span("work"):
            bytearray(MB)
        assert made.numbers("work")[PEAK] == pytest.approx(MB, rel=0.02)


def test_after_its_end_it_measures_no_more() -> None:
    """Spans that are open then still get their numbers."""
    with spans() as made:
        span = made.tracer.start_span("open")
        made.processor.shutdown()
        made.processor.shutdown()
        made.tracer.start_span("late").end()
        span.end()
        assert made.numbers("open").keys() >= ALL
        assert not made.numbers("late")
        assert made.processor.force_flush()


def test_where_measuring_is_off_spans_are_bare() -> None:
    """By configuration, at any time."""
    with spans(config=Config(disabled=True)) as made:
        made.tracer.start_span("work").end()
        assert not made.numbers("work")


@pytest.mark.parametrize("probe", PROBES)
def test_a_recorder_that_is_replaced_ends_what_it_began(probe: str) -> None:
    """A span that is open while `configure` is called has the numbers of the earlier one."""
    with spans(probe) as made:
        span = made.tracer.start_span("work")
        kept = bytearray(MB)
        with recording(Config(probe="rss")):
            span.end()
        assert made.numbers("work")[NET] == pytest.approx(len(kept), rel=0.02)


class Broken:
    """Accounts that cannot be had."""

    @property
    def heap(self) -> Any:
        """Fail."""
        msg = "broken"
        raise RuntimeError(msg)


def test_what_fails_in_us_does_not_reach_the_program(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a span starts, and when it ends: it is logged once, and counted."""
    with spans(strict=False) as made:
        with monkeypatch.context() as patched:
            patched.setattr("stratatrace.span_stays.takes_turns", lambda _: 1 / 0)
            made.tracer.start_span("start").end()
        with monkeypatch.context() as patched:
            patched.setattr(made.processor._stays, "_names", None)
            made.tracer.start_span("end").end()
        assert {span.name for span in made.exporter.get_finished_spans()} == {"start", "end"}
        assert not made.numbers("start")
        assert not made.numbers("end")
        assert active.recorder.guard.failures == 2
        assert not active.recorder.accounts.charging
    assert len(re.findall("stratatrace could not", caplog.text)) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_span_from_before_a_fork_is_the_parents() -> None:
    """In the child it ends without numbers, and new ones are measured."""
    with spans() as made:
        with made.tracer.start_as_current_span("before"):
            bytearray(MB)
            child = os.fork()
            if not child:
                code = 1
                try:
                    span: Any = made.tracer.start_span("child")
                    kept = bytearray(2 * MB)
                    span.end()
                    child_ok = abs(made.numbers("child")[NET] - len(kept)) < 10_000
                finally:
                    parent: Any = made.provider.get_tracer("shop")
                    del parent
                    code = 0 if child_ok else 1
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert made.numbers("before")[PEAK] == pytest.approx(MB, rel=0.02)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"scopes": 5}, InvalidTypeError, "scopes= takes patterns as text"),
        ({"names": [b"x"]}, InvalidTypeError, "names= takes patterns as text"),
        ({"names": ["ok", " "]}, InvalidValueError, "a pattern of names= is empty"),
        ({"kinds": "sever"}, InvalidValueError, "there is no kind 'sever'"),
        ({"kinds": [3]}, InvalidTypeError, "kinds= takes kinds of spans"),
        ({"min_duration_seconds": "1"}, InvalidTypeError, "a number of seconds"),
        ({"min_duration_seconds": -1}, InvalidValueError, "from 0 on"),
        ({"min_duration_seconds": float("nan")}, InvalidValueError, "from 0 on"),
        ({"numbers": ["heap", "cpu"]}, InvalidValueError, "takes any of 'heap', 'rss', 'gc'"),
        ({"numbers": []}, InvalidValueError, "needs one"),
    ],
)
def test_misuse_raises(options: dict[str, Any], error: type[Exception], words: str) -> None:
    """At once, and says what was given and what is expected; nothing is patched then."""
    with pytest.raises(error, match=re.escape(words)):
        MemorySpanProcessor(**options)
