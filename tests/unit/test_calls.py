"""Calls: a failure inside of stratatrace costs the fields that it feeds, and nothing else."""

from __future__ import annotations

import gc
import tracemalloc
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import pytest

from stratatrace import profile_memory
from stratatrace.calls import annotate, prepare
from stratatrace.callsites import Options, describe_function
from stratatrace.config import Config
from stratatrace.recorder import Recorder, active
from stratatrace.telemetry.spans import SpanScope
from stratatrace.testing import ListSink, recording

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.trace import Span

    from stratatrace.measurement import Measurement
    from stratatrace.typing import Scope

KEPT_BYTES = 300_000


class Failing:
    """A sink that fails."""

    def emit(self, measurement: Measurement, scope: Scope | None) -> None:
        """Fail."""
        msg = "sink"
        raise RuntimeError(msg)


class _Break(NamedTuple):
    """A part of stratatrace that fails, and the fields that are lost by it."""

    path: str
    lost: frozenset[str]


HEAP = frozenset({"heap_net_bytes", "heap_peak_bytes", "efficiency_score"})
RSS = frozenset({"rss_before_bytes", "rss_net_bytes", "rss_peak_bytes"})
BREAKS = {
    "span start": _Break("spans.open", frozenset()),
    "span end": _Break("spans.emit", frozenset()),
    "metrics": _Break("metrics.emit", frozenset()),
    "scorer": _Break("judge.scorer.score", frozenset({"efficiency_score"})),
    "heap start": _Break("accounts.heap.probe.start", HEAP),
    "heap stop": _Break("accounts.heap.probe.stop", HEAP),
    "heap mark": _Break("accounts.heap.probe.mark", HEAP),
    "rss charge": _Break("accounts.rss.charge", RSS),
}


def _break(recorder: Recorder, broken: _Break, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a part of *recorder* fail from now on."""
    *path, name = broken.path.split(".")
    owner: Any = recorder
    for step in path:
        owner = getattr(owner, step)
    real = getattr(owner, name)

    def fails(*args: object, **kwargs: object) -> Any:
        if name == "stop":  # The probe is given back all the same: the test leaves no trace.
            real(*args, **kwargs)
        msg = "broken"
        raise RuntimeError(msg)

    monkeypatch.setattr(owner, name, fails)


@pytest.mark.parametrize("broken", BREAKS.values(), ids=BREAKS)
@pytest.mark.parametrize("kind", ["function", "generator", "block"])
@pytest.mark.parametrize("raising", [False, True], ids=["returning", "raising"])
def test_a_failure_inside_costs_only_its_own_fields(
    broken: _Break,
    kind: str,
    raising: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The program has its result or its own error; all that does not depend on it is right.

    The call is told of once, with its error type, and one warning is logged.
    """
    own = ZeroDivisionError("the program's own")
    kept = []

    def work() -> str:
        kept.append(bytearray(KEPT_BYTES))
        if raising:
            raise own
        return "result"

    def items() -> Iterator[str]:
        yield work()

    def run() -> Any:
        if kind == "function":
            return profile_memory(budget=5000)(work)()
        if kind == "generator":
            return next(iter(list(profile_memory(budget=5000)(items)())))
        with profile_memory(budget=5000):
            return work()

    with recording(strict=False) as sink:
        recorder = active.recorder
        _break(recorder, broken, monkeypatch)
        if raising:
            with pytest.raises(ZeroDivisionError) as caught:
                run()
            assert caught.value is own
        else:
            assert run() == "result"
        monkeypatch.undo()
        assert recorder.guard.failures >= 1
        assert recorder.accounts.heap is not None
        assert recorder.accounts.rss is not None
        assert not recorder.accounts.heap.charging
        assert not recorder.accounts.rss.charging
    assert not tracemalloc.is_tracing()
    assert [m.error_type for m in sink.measurements] == ["ZeroDivisionError" if raising else None]
    for field in sorted(HEAP | RSS | {"efficiency_score", "duration_ns"}):
        assert (getattr(sink.last, field) is None) is (field in broken.lost), field
    if sink.last.heap_net_bytes is not None:
        assert sink.last.heap_net_bytes == pytest.approx(KEPT_BYTES, rel=0.01, abs=4096)
    assert len([r for r in caplog.records if r.name == "stratatrace"]) == 1


@pytest.mark.parametrize("error", [RuntimeError, OSError, MemoryError])
def test_a_probe_that_breaks_under_an_open_call_does_not_reach_the_program(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it raises, at whichever of its looks, inner and outer calls have their results."""

    def fails() -> Any:
        raise error

    with recording(strict=False) as sink:
        heap = active.recorder.accounts.heap
        assert heap is not None

        def breaks() -> str:
            monkeypatch.setattr(heap.probe, "mark", fails)
            return profile_memory(name="inner")(lambda: "result")()

        assert profile_memory(name="outer")(breaks)() == "result"
        monkeypatch.undo()
        assert not heap.charging
    assert [m.callsite.name for m in sink.measurements] == ["inner", "outer"]
    assert [m.heap_net_bytes for m in sink.measurements] == [None, None]


@pytest.mark.parametrize("error", [RuntimeError, OSError])
def test_a_probe_that_breaks_in_a_collection_does_not_reach_the_program(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is it printed as an exception that was ignored in a callback."""

    def fails() -> Any:
        raise error

    with recording(strict=False) as sink:
        heap = active.recorder.accounts.heap
        assert heap is not None

        def collects() -> str:
            with monkeypatch.context() as patched:
                patched.setattr(heap.probe, "mark", fails)
                gc.collect()
            return "result"

        assert profile_memory(collects)() == "result"
    assert sink.last.gc_collections == 1


def test_a_failing_sink_does_not_keep_the_others_from_theirs() -> None:
    """Sinks are handed the Measurement one by one, each behind its own guard."""
    kept = ListSink()
    recorder = Recorder(Config(probe="rss"), sinks=(Failing(), kept))
    with active.replaced(recorder):
        assert profile_memory(lambda: 5)() == 5
    assert len(kept.measurements) == 1
    assert recorder.guard.failures == 1


def test_strict_lets_failures_through() -> None:
    """For tests, by an explicit hook."""
    recorder = Recorder(Config(probe="rss"), sinks=(Failing(),))
    recorder.guard.strict = True
    with active.replaced(recorder), pytest.raises(RuntimeError, match="sink"):
        profile_memory(lambda: 5)()


def test_a_base_exception_in_a_sink_is_not_swallowed() -> None:
    """KeyboardInterrupt and SystemExit are for the program, wherever they strike."""

    class Interrupted:
        def emit(self, measurement: Measurement, scope: Scope | None) -> None:
            raise KeyboardInterrupt

    with (
        active.replaced(Recorder(Config(probe="rss"), sinks=(Interrupted(),))),
        pytest.raises(KeyboardInterrupt),
    ):
        profile_memory(lambda: 5)()


def test_tracing_that_is_stopped_by_the_call_itself() -> None:
    """The heap is lost, everything else is there, and nothing stays open."""
    with recording(strict=False) as sink:
        profile_memory(tracemalloc.stop)()
        accounts = active.recorder.accounts
        assert accounts.rss is not None
        assert not accounts.rss.charging
    assert sink.last.heap_net_bytes is None
    assert sink.last.rss_net_bytes is not None


def test_a_sink_that_is_measured_itself_does_not_go_round_in_circles() -> None:
    """What stratatrace calls is not measured while it is at work."""
    calls = []

    class Measured:
        @profile_memory
        def emit(self, measurement: Measurement, scope: Scope | None) -> None:
            calls.append(measurement.callsite.name)

    recorder = Recorder(Config(probe="rss"), sinks=(Measured(),))
    recorder.guard.strict = True
    with active.replaced(recorder):
        assert profile_memory(name="outer")(lambda: "result")() == "result"
    assert calls == ["outer"]
    assert not recorder.work.threads


class Annotated:
    """A span that takes no attributes."""

    def is_recording(self) -> bool:
        """Say that it would."""
        return True

    def set_attributes(self, attributes: object) -> None:
        """Fail."""
        msg = "attributes"
        raise RuntimeError(msg)


def test_what_cannot_be_put_on_a_span_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the call goes on; where measuring is off there is nothing to describe."""
    with recording(strict=False) as sink:
        call = prepare(describe_function(describe_function, Options()))
        failures = []
        for scope in (None, SpanScope(cast("Span", Annotated()))):
            monkeypatch.setattr(call, "_scope", scope)
            annotate(call, {"size": 1})
            failures.append(active.recorder.guard.failures)
        assert failures == [0, 1]
        monkeypatch.setattr(call, "_scope", None)
        call.finish()
        assert sink.last is not None
    with recording(Config(disabled=True)):
        annotate(prepare(describe_function(describe_function, Options())), {"size": 1})
