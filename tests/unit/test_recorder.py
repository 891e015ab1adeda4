"""The recorder: when it is made, what it samples and scores, and how it is replaced."""

from __future__ import annotations

import gc
import logging
import threading
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from heap_probes import tallied_of
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from tracing import untraced

from stratatrace import measure, profile_memory
from stratatrace.config import Config
from stratatrace.measurement import Callsite
from stratatrace.probes import native_obstacle
from stratatrace.recorder import Recorder, active
from stratatrace.testing import ListSink, recording

if TYPE_CHECKING:
    from collections.abc import Callable

    from stratatrace.measurement import Measurement

PREFIX = "OTEL_PYTHON_STRATATRACE_"


def _fails(*_args: object, **_kwargs: object) -> None:
    msg = "broken"
    raise RuntimeError(msg)


class TestTheFirstCall:
    """The recorder is made when it is first asked for, inside of a measured call."""

    def test_a_wrong_variable_only_logs_at_the_first_call(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A program that never called `configure` must not die of its environment."""
        monkeypatch.setenv(PREFIX + "PROBE", "memray")
        active.install(None)
        try:
            assert profile_memory(lambda: "result")() == "result"
            assert active.recorder.config == Config()
        finally:
            active.install(None)
        assert [r.levelno for r in caplog.records] == [logging.ERROR]
        assert f"{PREFIX}PROBE='memray'" in caplog.text

    def test_the_disabled_variable_switches_off(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """From the first call on, nothing is measured."""
        monkeypatch.setenv(PREFIX + "DISABLED", "true")
        active.install(None)
        try:
            assert profile_memory(tracemalloc.is_tracing)() is False
            assert not active.enabled
        finally:
            active.install(None)

    def test_a_recorder_that_cannot_be_made_switches_off(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The program runs on, with one warning."""
        monkeypatch.setattr(Recorder, "__init__", _fails)
        active.install(None)
        try:
            call: Callable[[], str] = profile_memory(lambda: "result")
            assert [call(), call()] == ["result"] * 2
        finally:
            active.install(None)
        assert [r.message for r in caplog.records] == ["stratatrace could not start and is off"]


def _traced(config: Config, calls: int, **options: Any) -> list[int]:
    """Return which of so many calls had their heap traced."""
    with recording(config) as sink:
        call: Callable[[], None] = profile_memory(**options)(lambda: None)
        for _ in range(calls):
            call()
    assert len(sink.measurements) == calls
    return _numbers_of_traced(sink.measurements)


def _numbers_of_traced(measurements: list[Measurement]) -> list[int]:
    return [n for n, m in enumerate(measurements) if m.heap_net_bytes is not None]


class TestSampling:
    """Which calls have their heap traced."""

    @pytest.mark.parametrize("one_in", [1, 2, 4, 5, 100])
    def test_one_call_in_so_many(self, one_in: int) -> None:
        """The first is traced, and then every so manieth."""
        config = Config(probe="tracemalloc", sample_ratio=1 / one_in)
        assert _traced(config, 2 * one_in + 1) == [0, one_in, 2 * one_in]

    def test_a_share_that_is_no_fraction_of_one(self) -> None:
        """Of a hundred calls, seventy or thereabouts."""
        traced = _traced(Config(probe="tracemalloc", sample_ratio=0.7), 100)
        assert traced[0] == 0
        assert 69 <= len(traced) <= 71

    @pytest.mark.parametrize("ratio", [0, 0.0])
    def test_a_ratio_of_zero_is_never(self, ratio: float) -> None:
        """Neither from the configuration nor from the callsite."""
        assert _traced(Config(probe="tracemalloc", sample_ratio=ratio), 20) == []
        assert _traced(Config(probe="tracemalloc"), 20, sample_ratio=ratio) == []

    def test_a_callsite_has_the_last_word(self) -> None:
        """Its ratio counts, whatever the configuration's is."""
        assert len(_traced(Config(probe="auto"), 10, sample_ratio=1)) == 10
        assert _traced(Config(probe="tracemalloc"), 3, sample_ratio=0) == []

    def test_rss_never_traces(self) -> None:
        """Where the probe measures no heap, a ratio changes nothing."""
        assert _traced(Config(probe="rss"), 3, sample_ratio=1) == []

    def test_every_callsite_has_its_own_turn(self) -> None:
        """The first call of each is traced."""
        with recording(Config(probe="tracemalloc", sample_ratio=0.01)) as sink:
            for number in range(5):
                call: Callable[[], None] = profile_memory(name=f"call {number}")(lambda: None)
                call()
                call()
        traced = [m.callsite.name for m in sink.measurements if m.heap_net_bytes is not None]
        assert traced == [f"call {number}" for number in range(5)]

    def test_a_call_inside_of_a_traced_one_is_traced(self) -> None:
        """The tracing is on already."""
        with recording(Config(probe="auto")) as sink:
            inner: Callable[[], Any] = profile_memory(name="inner")(lambda: None)
            outer: Callable[[], Any] = profile_memory(name="outer", sample_ratio=1)(
                lambda: [inner() for _ in range(3)]
            )
            never: Callable[[], None] = profile_memory(name="never", sample_ratio=0)(lambda: None)
            outer()
            profile_memory(name="around", sample_ratio=1)(never)()
        assert all(m.heap_net_bytes is not None for m in sink.of("inner"))
        assert sink.of("never")[0].heap_net_bytes is None

    def test_what_was_traced_with_its_caller_is_of_its_own_share(self) -> None:
        """Stages of a call are traced when it is, and not once more when it is not."""
        with recording(Config(probe="tracemalloc", sample_ratio=0.1)) as sink:
            stage: Callable[[], Any] = profile_memory(name="stage")(lambda: None)
            often: Callable[[], Any] = profile_memory(name="often")(lambda: None)
            outer: Callable[[], Any] = profile_memory(name="outer")(
                lambda: (stage(), [often() for _ in range(50)])
            )
            for _ in range(21):
                outer()
        for name in ("outer", "stage"):
            assert _numbers_of_traced(sink.of(name)) == [0, 10, 20], name
        # What is called very often within a traced call has its own turn before long.
        traced = _numbers_of_traced(sink.of("often"))
        assert traced[:50] == list(range(50))
        assert traced[50] < 75

    def test_a_call_that_is_not_traced_starts_no_tracing(self) -> None:
        """Nor does a span that is not sampled: a trace that nobody sees must cost no tracing."""
        seen = []
        with recording(Config(probe="tracemalloc", sample_ratio=0)):
            profile_memory(lambda: seen.append(tracemalloc.is_tracing()))()
        provider = TracerProvider(ALWAYS_OFF, shutdown_on_exit=False)
        config = Config(probe="tracemalloc", sample_ratio=0.5)
        with recording(config, tracer_provider=provider) as sink:
            profile_memory(lambda: seen.append(tracemalloc.is_tracing()))()
        assert seen == [False, False]
        assert sink.last.heap_net_bytes is None
        assert sink.last.rss_before_bytes is not None

    @pytest.mark.skipif(native_obstacle() is not None, reason="the native probe is not here")
    def test_a_call_whose_span_is_not_sampled_is_counted_natively(self) -> None:
        """It costs nothing more, and the metrics are of all calls."""
        provider = TracerProvider(ALWAYS_OFF, shutdown_on_exit=False)
        with recording(Config(probe="native"), tracer_provider=provider) as sink:
            profile_memory(lambda: None)()
        assert sink.last.heap_net_bytes == pytest.approx(0, abs=1000)

    def test_measure_always_traces(self) -> None:
        """Whoever asks for one call's numbers gets them."""
        with recording(Config(probe="auto")):
            measured = [measure(list)[1] for _ in range(3)]
        assert all(m.heap_net_bytes is not None for m in measured)

    def test_what_is_remembered_of_callsites_is_bounded(self) -> None:
        """Callsites without end share one memory past the bound."""
        with recording(Config(probe="rss")):
            recorder = active.recorder
            for number in range(5000):
                recorder.habits.of(Callsite(name="f", function=f"app.f{number}"))
            assert len(recorder.habits) <= 4097


class TestScores:
    """Scores come from a budget, or from what a callsite's calls usually take."""

    def test_a_budget_gives_a_score_at_once(self, sink: ListSink) -> None:
        """The first call has one."""
        profile_memory(budget="1MB")(lambda: bytearray(10))()
        assert sink.last.efficiency_score == 100
        profile_memory(budget="1MB")(lambda: len(bytearray(8_000_000)))()
        assert sink.last.efficiency_score == pytest.approx(23, abs=0.5)
        assert sink.last.budget_exceeded is True

    def test_without_a_budget_a_score_needs_habits(self, sink: ListSink) -> None:
        """None until ten calls were seen; then a call that takes more than usual scores less."""
        sizes = [2_000_000] * 11 + [20_000_000]
        call: Callable[[int], int] = profile_memory(name="call")(lambda size: len(bytearray(size)))
        for size in sizes:
            call(size)
        scores = [m.efficiency_score for m in sink.measurements]
        assert scores[:10] == [None] * 10
        assert scores[10] == pytest.approx(100, abs=1)
        assert scores[11] is not None
        assert scores[11] < 30

    def test_a_scorer_of_ones_own(self) -> None:
        """It is given the numbers and the budget, and may have no opinion."""
        seen = []

        class Mine:
            def score(self, measurement: Measurement, budget_bytes: int | None) -> float | None:
                seen.append((measurement.heap_peak_bytes, budget_bytes))
                return None if len(seen) > 1 else 7.0

        with recording(Config(probe="tracemalloc", scorer=Mine())) as sink:
            for _ in range(2):
                profile_memory(budget=5000)(lambda: None)()
        assert [m.efficiency_score for m in sink.measurements] == [7.0, None]
        assert [budget for _, budget in seen] == [5000, 5000]
        assert all(isinstance(peak, int) for peak, _ in seen)

    @pytest.mark.parametrize("given", [float("nan"), float("inf"), "high"])
    def test_what_is_no_number_is_no_score(self, given: Any) -> None:
        """A scorer that gives nonsense is a failing scorer: the call keeps its numbers."""

        class Wrong:
            def score(self, measurement: Measurement, budget_bytes: int | None) -> Any:
                return given

        with recording(Config(probe="tracemalloc", scorer=Wrong()), strict=False) as sink:
            assert profile_memory(budget=5000)(lambda: "result")() == "result"
            assert active.recorder.guard.failures == 1
        assert sink.last.efficiency_score is None
        assert sink.last.heap_net_bytes is not None


def test_calls_under_way_end_on_the_recorder_they_began_with() -> None:
    """Configuring again in the middle of a call neither loses it nor tells it twice."""
    with recording() as first:

        @profile_memory(name="outer")
        def outer() -> None:
            active.install(second)
            profile_memory(name="inner")(lambda: None)()

        kept = ListSink()
        second = Recorder(Config(probe="tracemalloc"), sinks=(kept,))
        second.guard.strict = True
        before = active._recorder
        outer()
        active.install(before)
    assert [m.callsite.name for m in first.measurements] == ["outer"]
    assert [m.callsite.name for m in kept.measurements] == ["inner"]
    assert first.last.heap_net_bytes is not None


def test_threads_measure_side_by_side(sink: ListSink) -> None:
    """No call of any thread is lost, and none claims to be exact."""
    ready = threading.Barrier(4)

    @profile_memory(name="threaded")
    def call() -> None:
        ready.wait(10)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sink.measurements) == 4
    assert {m.attribution for m in sink.measurements} == {"process"}


def test_a_finalizer_that_is_measured_does_not_deadlock(sink: ListSink) -> None:
    """A collection inside of our own code may run a measured function."""

    class Finalized:
        def __init__(self) -> None:
            self.me = self

        @profile_memory(name="finalizer")
        def __del__(self) -> None:
            bytearray(100)

    @profile_memory(name="call")
    def call() -> None:
        Finalized()

    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(50):
            call()
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert len(sink.of("call")) == 50
    # Those that the collector ran while stratatrace itself was at work are not measured.
    assert 0 < len(sink.of("finalizer")) <= 50


@untraced
@pytest.mark.skipif(native_obstacle() is not None, reason="there are no tallies")
def test_the_first_call_of_a_function_is_not_charged_to_its_caller() -> None:
    """What is made for a callsite, and for an error, is nobody's."""

    def fails() -> None:
        raise KeyError

    recorder = Recorder(Config(probe="native"))
    gc.disable()
    try:
        with active.replaced(recorder):
            for inner in (lambda: None, fails):
                first = profile_memory(inner)

                @profile_memory(name=f"outer {inner.__name__}")
                def outer(first: Callable[[], None] = first) -> None:
                    try:  # noqa: SIM105 -- what would suppress it takes memory, too
                        first()
                    except KeyError:
                        pass

                outer()
                outer()
    finally:
        gc.enable()
    for tallied in tallied_of(recorder):
        if tallied.callsite.name.startswith("outer"):
            sums = tallied.take()
            assert sums is not None
            first_call, second_call = sums.latest
            assert first_call.heap_net_bytes == second_call.heap_net_bytes == 0
            assert first_call.heap_allocated_bytes == second_call.heap_allocated_bytes
