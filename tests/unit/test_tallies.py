"""Tallies: which calls they take, and what becomes of their sums."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import pytest
from heap_probes import tallied_of
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from stratatrace import Measurement, measure, profile_memory
from stratatrace.config import Config
from stratatrace.probes import native_obstacle
from stratatrace.recorder import Recorder, active
from stratatrace.testing import ListSink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(
    native_obstacle() is not None, reason="calls are told one by one without the compiled part"
)

KEPT_BYTES = 100_000


class Told:
    """A provider of metrics, and what a reader collects from it."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader], shutdown_on_exit=False)

    def recorder(self, config: Config | None = None, **given: Any) -> Recorder:
        """Return a recorder whose metrics are collected."""
        recorder = Recorder(config or Config(probe="native"), meter_provider=self.provider, **given)
        recorder.guard.strict = True
        return recorder

    def values(self, metric: str) -> list[Any]:
        """Return the points of a metric that are not zero."""
        data = self.reader.get_metrics_data()
        metrics = data.resource_metrics[0].scope_metrics[0].metrics if data is not None else []
        points = [
            p for m in metrics if m.name == f"stratatrace.{metric}" for p in m.data.data_points
        ]
        return [value for point in points if (value := getattr(point, "value", None))]


@pytest.fixture
def told() -> Iterator[Told]:
    """Have metrics that are collected."""
    told = Told()
    yield told
    told.provider.shutdown()


@profile_memory
def keep(kept: list[bytearray]) -> None:
    """Keep a known number of bytes."""
    kept.append(bytearray(KEPT_BYTES))


def test_sums_are_of_all_calls_and_gauges_of_those_since(told: Told) -> None:
    """A second collection tells the counters again, and no peak of calls that it was told of."""
    with active.replaced(told.recorder()):
        kept: list[bytearray] = []
        for _ in range(20):
            keep(kept)
        assert told.values("call.count") == [20]
    with active.replaced(told.recorder()):
        keep(kept)
        assert told.values("heap.net") == [pytest.approx(21 * KEPT_BYTES, rel=0.01)]
        assert told.values("heap.peak") == []  # The collection before has taken it.
        keep(kept)
        assert told.values("heap.peak") == [pytest.approx(KEPT_BYTES, rel=0.01)]
        assert told.values("call.count") == [22]


@pytest.mark.parametrize(
    ("make", "tallied"),
    [
        (lambda told: told.recorder(), True),
        (lambda told: told.recorder(Config(probe="native", rss_peak="off")), True),
        (lambda told: told.recorder(Config(probe="rss")), True),
        (lambda told: told.recorder(sinks=(ListSink(),)), False),
        (lambda told: told.recorder(Config(probe="native", sample_ratio=0.5)), False),
        (lambda told: told.recorder(Config(probe="native", rss_peak="lifetime")), False),
        (lambda told: told.recorder(Config(probe="tracemalloc")), False),
        (lambda told: told.recorder(tracer_provider=TracerProvider(shutdown_on_exit=False)), False),
    ],
    ids=[
        "default",
        "no rss",
        "no heap",
        "sinks",
        "sampled",
        "rss of a lifetime",
        "tracemalloc",
        "spans",
    ],
)
def test_a_call_is_tallied_only_where_nobody_asks_for_more(
    told: Told, make: Callable[[Told], Recorder], tallied: bool
) -> None:
    """Either way it is counted once."""
    recorder = make(told)
    with active.replaced(recorder):
        keep([])
        sums = [tallied.tally.in_flight for tallied in tallied_of(recorder)]
        assert sums == ([0] if tallied else [])
        assert told.values("call.count") == [1]


def test_one_callsite_may_ask_for_less(told: Told) -> None:
    """With a sample ratio of its own below one it is told in full; one is every call."""
    recorder = told.recorder()
    with active.replaced(recorder):
        profile_memory(sample_ratio=0.5)(lambda: None)()
        assert not tallied_of(recorder)
        profile_memory(sample_ratio=1)(lambda: None)()
        assert len(tallied_of(recorder)) == 1


def test_measure_and_blocks_have_their_numbers(told: Told) -> None:
    """They are told in full, and counted with the others."""
    with active.replaced(told.recorder()):
        _, measurement = measure(keep, [])
        with profile_memory("block") as block:
            kept = bytearray(KEPT_BYTES)
        assert measurement.heap_net_bytes is not None
        assert block.measurement.heap_net_bytes == pytest.approx(KEPT_BYTES, rel=0.01)
        del kept
        assert sum(told.values("call.count")) == 3  # `keep` itself is one.


def test_spans_begin_with_the_provider_that_is_set_later(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program may set its tracer provider after its functions were called."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with active.replaced(told.recorder()):
        keep([])
        monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", provider)
        keep([])
        assert [span.name for span in exporter.get_finished_spans()] == ["keep"]
        assert told.values("call.count") == [2]


def test_errors_have_sums_of_their_own(told: Told) -> None:
    """By their qualified names; to be cancelled or closed is none."""

    @profile_memory
    def fail(error: BaseException) -> None:
        raise error

    with active.replaced(told.recorder()):
        for error in (ValueError(), ValueError(), KeyError(), GeneratorExit()):
            with pytest.raises(type(error)):
                fail(error)
        data = told.reader.get_metrics_data()
        assert data is not None
        (count,) = (
            metric
            for metric in data.resource_metrics[0].scope_metrics[0].metrics
            if metric.name == "stratatrace.call.count"
        )
        points: dict[Any, Any] = {
            (point.attributes or {}).get("error.type"): getattr(point, "value", None)
            for point in count.data.data_points
        }
        assert points == {None: 1, "ValueError": 2, "KeyError": 1}


def test_budgets_and_scores(told: Told) -> None:
    """A broken budget is counted; the score is the mean of the latest calls."""

    @profile_memory(budget="2MB")
    def load(size: int) -> None:
        bytearray(size)

    with active.replaced(told.recorder()):
        for _ in range(16):
            load(4_000_000)
        assert told.values("budget.exceeded") == [16]
        assert told.values("efficiency.score") == []  # Taken by the collection before.
        load(4_000_000)
        load(1_000_000)
        expected = (100 * 0.5**0.7 + 100) / 2
        assert told.values("efficiency.score") == [pytest.approx(expected, rel=0.01)]
        assert told.values("budget.exceeded") == [17]


def test_a_scorer_that_fails_is_guarded(told: Told) -> None:
    """The calls are counted all the same."""

    class Wrong:
        def score(self, measurement: Measurement, budget_bytes: int | None) -> float:
            raise ZeroDivisionError

    recorder = told.recorder(Config(probe="native", scorer=Wrong()))
    recorder.guard.strict = False
    with active.replaced(recorder):
        keep([])
        assert told.values("call.count") == [1]
        assert recorder.guard.failures == 1


def test_calls_that_end_under_another_configuration_are_counted(told: Told) -> None:
    """They end on the recorder that they began with, whose sums go on being collected."""
    first, second = told.recorder(), told.recorder()

    @profile_memory
    def reconfigure() -> bytearray:
        active.install(second)
        return bytearray(KEPT_BYTES)

    before = active._recorder
    with active.replaced(first):
        kept = reconfigure()
        assert told.values("call.count") == [1]
        assert told.values("heap.net") == [pytest.approx(KEPT_BYTES, rel=0.01)]
        assert not [s for totals in first.metrics._totals.values() for s in totals.sources]
        active.install(first)
    assert active._recorder is before
    del kept


def test_the_number_of_tallies_is_bounded(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions that are made anew for ever share one, and none of their calls is lost."""
    monkeypatch.setattr("stratatrace.tallies._MOST_CALLSITES", 10)
    recorder = told.recorder()
    with active.replaced(recorder):
        for number in range(50):
            profile_memory(name=f"call {number}")(lambda: None)()
        assert len(tallied_of(recorder)) <= 11
        assert recorder.tallies is not None
        assert len(recorder.tallies._by_callsite) <= 10
        assert sum(told.values("call.count")) == 50


def test_threads_add_to_the_same_sums(told: Told) -> None:
    """No call is lost, and each has its own memory only."""

    def work() -> None:
        for _ in range(500):
            keep([])

    with active.replaced(told.recorder()):
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert told.values("call.count") == [4000]
        assert told.values("heap.net") == [pytest.approx(4000 * KEPT_BYTES, rel=0.01)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_counts_from_zero(told: Told) -> None:
    """The call that forked is its parent's to tell of."""
    seen: list[int] = []

    @profile_memory
    def fork() -> None:
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                keep([])
                count = sum(
                    sums.calls
                    for tallied in tallied_of(recorder)
                    if (sums := tallied.take()) is not None
                )
                os.write(write, bytes([count]))
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        seen.append(os.read(read, 1)[0])
        os.close(read)
        os.close(write)

    recorder = told.recorder()
    with active.replaced(recorder):
        keep([])
        fork()
        assert seen == [1]
        assert sum(told.values("call.count")) == 2


def test_a_step_in_another_thread_is_counted_without_its_heap(told: Told) -> None:
    """The failure is counted, and nothing of it reaches the program."""
    recorder = told.recorder()
    recorder.guard.strict = False
    with active.replaced(recorder):
        tally = recorder.tally_for(measurable())
        assert tally is not None
        call = tally.begin()
        thread = threading.Thread(target=call.finish)
        thread.start()
        thread.join()
        assert told.values("call.count") == [1]
        assert told.values("heap.allocated") == []
        assert recorder.guard.failures == 1
        call.finish()  # A second end is none.
        assert told.values("call.count") == [1]


def measurable() -> Any:
    """Return a callsite."""
    return keep._self_again[1]  # type: ignore[attr-defined]
