"""`track_growth`: marks, what grew between them by both sources, and what it is told wrongly."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import tracemalloc
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

import stratatrace
from stratatrace import track_growth
from stratatrace.config import Config
from stratatrace.diagnose import growth as module
from stratatrace.diagnose.growth_sources import TracemallocSource
from stratatrace.errors import (
    AlreadyStartedError,
    InvalidTypeError,
    InvalidValueError,
    NotReadyError,
    TracesLostError,
)
from stratatrace.guard import outside
from stratatrace.probes import native_obstacle, tracing
from stratatrace.testing import recording

if TYPE_CHECKING:
    from collections.abc import Callable

    from stratatrace.diagnose.growth import GrowthTracker
    from stratatrace.diagnose.telling import Finding

KIB, MIB = 2**10, 2**20

by_native = pytest.mark.skipif(native_obstacle() is not None, reason="nothing is compiled")
traced = partial(track_growth, source="tracemalloc")


def hold(count: int, size_bytes: int = 4 * KIB) -> list[bytearray]:
    return [bytearray(size_bytes) for _ in range(count)]


def line_of(function: Callable[..., object]) -> tuple[str, int]:
    return __file__, function.__code__.co_firstlineno + 1


@pytest.fixture(params=["compiled", "python"])
def each_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Add traces up in the compiled part, and in Python."""
    if request.param == "python":
        monkeypatch.setattr(tracing, "_sum_traces", tracing.sum_traces)
    elif native_obstacle() is not None:
        pytest.skip("nothing is compiled")


@pytest.mark.usefixtures("each_way")
def test_the_line_that_grew() -> None:
    """Bytes and blocks are exact; the function and who called it are known."""
    with traced("work") as tracker:
        kept = hold(100)
    report = tracker.report()
    line = report.lines(1)[0]
    assert (line.file, line.line) == line_of(hold)
    assert line.function == "hold"
    # The list and its blocks: an object and its buffer each.
    assert line.bytes == pytest.approx(100 * 4 * KIB, rel=0.03)
    assert line.blocks == pytest.approx(200, abs=5)
    assert line.error_bytes == 0
    functions = [frame.function for frame in report.tracebacks(1)[0].frames]
    assert functions[0] == "hold"
    assert "test_the_line_that_grew" in functions
    assert report.growth_bytes == pytest.approx(line.bytes, abs=20 * KIB)
    assert kept


@pytest.mark.usefixtures("each_way")
def test_any_two_marks() -> None:
    """What is freed counts against what grew; the other way round, it is the opposite."""
    tracker = traced().start()
    kept = hold(100)
    tracker.mark("full")
    del kept[50:]
    assert tracker.mark() == "mark 2"
    tracker.stop()
    assert tracker.labels == ("start", "full", "mark 2", "stop")
    half = 50 * 4 * KIB
    grown = {
        pair: tracker.between(*pair).growth_bytes
        for pair in (("start", "full"), ("full", "mark 2"), ("mark 2", "full"), ("start", "stop"))
    }
    assert grown["start", "full"] == pytest.approx(2 * half, abs=20 * KIB)
    assert grown["full", "mark 2"] == pytest.approx(-half, abs=20 * KIB)
    assert grown["mark 2", "full"] == -grown["full", "mark 2"]
    assert grown["start", "stop"] == pytest.approx(half, abs=20 * KIB)
    assert not [line for line in tracker.between("full", "mark 2").lines() if line.bytes > KIB]


def test_own_lines_are_a_sum() -> None:
    """What the marks themselves take is in no line, and is told."""
    with traced() as tracker:
        for _ in range(5):
            tracker.mark()
    report = tracker.report()
    assert report.own_bytes > 500
    assert not [line for line in report.lines(100) if "/stratatrace/stratatrace/" in line.file]
    assert abs(report.growth_bytes) < 4 * KIB, str(report)
    assert "of stratatrace's own" in str(report)


def test_trackers_do_not_disturb_each_other() -> None:
    """Nested or crossed, each has its own marks, and tracing ends with the last."""
    outer, inner = traced("outer", depth=5).start(), traced("inner")
    kept = hold(10)
    with inner:
        kept += hold(20)
        outer.stop()
        assert tracemalloc.is_tracing()
        kept += hold(30)
    assert not tracemalloc.is_tracing()
    assert outer.report().growth_bytes == pytest.approx(30 * 4 * KIB, abs=8 * KIB)
    assert inner.report().growth_bytes == pytest.approx(50 * 4 * KIB, abs=8 * KIB)
    # As deep as whoever began.
    assert inner.report().depth == 5


def test_marks_of_many_threads() -> None:
    """Each mark is there, and labels are not lost."""
    tracker = traced(depth=1).start()
    threads = [threading.Thread(target=tracker.mark, args=(str(n),)) for n in range(8)]
    threads += [threading.Thread(target=tracker.mark) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tracker.stop()
    assert len(tracker.labels) == len(set(tracker.labels)) == 18
    assert {str(n) for n in range(8)} < set(tracker.labels)


def test_the_tracing_of_somebody_else_goes_on() -> None:
    """It is as deep as they wanted it, and neither ended nor cleared."""
    tracemalloc.start(3)
    theirs = bytearray(KIB)
    with track_growth(source="auto") as tracker:
        kept = hold(10)
    assert tracker.report().source == "tracemalloc"
    assert tracker.report().depth == tracemalloc.get_traceback_limit() == 3
    assert tracemalloc.get_object_traceback(theirs) is not None
    tracemalloc.stop()
    assert kept


@pytest.mark.parametrize("disturb", [tracemalloc.clear_traces, tracemalloc.stop])
def test_traces_that_somebody_has_cleared(disturb: Callable[[], None]) -> None:
    """Are an error of whoever asks for what cannot be known, and of nobody else."""
    tracemalloc.start()
    tracker = traced().start()
    tracker.mark("before")
    disturb()
    tracker.mark("after")
    tracker.stop()
    assert tracker.between("start", "before").growth_bytes < KIB
    with pytest.raises(TracesLostError, match="stopped or cleared tracemalloc"):
        tracker.report()
    if tracemalloc.is_tracing():
        assert tracker.between("after", "stop").growth_bytes < KIB
        tracemalloc.stop()
    else:
        with pytest.raises(TracesLostError):
            tracker.between("after", "stop")


@by_native
def test_a_sample_has_error_bars() -> None:
    """The truth is within four standard errors, and nothing from before is in it."""
    before = hold(1000)
    with track_growth(source="native", sample="16 KiB", depth=8) as tracker:
        kept = hold(2000)
        del kept[1000:], before
    report = tracker.report()
    assert (report.source, report.depth, report.sample_bytes) == ("native", 8, 16 * KIB)
    assert 0 < report.error_bytes < 2 * MIB
    assert report.growth_bytes == pytest.approx(1000 * 4 * KIB, abs=4 * report.error_bytes / 1.96)
    line = report.lines(1)[0]
    assert (line.file, line.line) == line_of(hold)
    assert line.function.split(".")[0] == "hold"  # Before 3.12, a comprehension is a function.
    assert "±" in str(report)
    assert "a sample of one byte in 16.0 KiB" in str(report)


@by_native
def test_samples_are_shared() -> None:
    """The one who wants fewest bytes between them decides, and reports say so."""
    with track_growth(source="native", sample="8 KiB"), track_growth(source="native") as other:
        pass
    assert other.report().sample_bytes == 8 * KIB


@by_native
def test_a_sample_between_marks() -> None:
    """What is freed counts against it; what is in both marks adds no error."""
    tracker = track_growth(source="native", sample=KIB).start()
    kept = hold(200, 64 * KIB)  # Each is in the sample.
    tracker.mark("full")
    tracker.mark("same")
    del kept[100:]
    tracker.stop()
    same = tracker.between("full", "same")
    assert (same.growth_bytes, same.error_bytes) == pytest.approx((0, 0), abs=32 * KIB)
    freed = tracker.between("same", "stop").growth_bytes
    assert freed == pytest.approx(-100 * 64 * KIB, abs=64 * KIB)


@by_native
def test_a_sampling_that_somebody_has_ended() -> None:
    """By giving back allocators from before: no difference is told across it."""
    tracemalloc.start()
    tracker = track_growth(source="native", sample=KIB).start()
    kept = hold(10)
    tracker.mark("before")
    tracemalloc.stop()
    tracker.mark("ended")
    with track_growth(source="native"):  # It begins anew.
        tracker.mark("anew")
        kept += hold(10, MIB)
        tracker.stop()
    for pair in (("before", "ended"), ("ended", "anew"), ("before", "stop")):
        with pytest.raises(TracesLostError, match=r"tracemalloc\.stop"):
            tracker.between(*pair)
    assert tracker.between("anew", "stop").growth_bytes == pytest.approx(10 * MIB, rel=0.1)


def test_auto_takes_the_sample_where_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    """And tracemalloc where nothing is compiled; asking for the sample is an error there."""
    monkeypatch.setenv("STRATATRACE_NO_EXTENSION", "1")
    with track_growth() as tracker:
        assert tracemalloc.is_tracing()
    assert tracker.report().source == "tracemalloc"
    with pytest.raises(InvalidValueError, match="there is no source 'native' here: STRATATRACE_NO"):
        track_growth(source="native")
    monkeypatch.delenv("STRATATRACE_NO_EXTENSION")
    if native_obstacle() is None:
        with track_growth() as tracker:
            assert not tracemalloc.is_tracing()
        assert tracker.report().source == "native"


def test_an_exception_passes_and_all_is_ended() -> None:
    """The block's own exception is the one that is seen."""
    tracker = traced()
    with pytest.raises(KeyError, match="theirs"), tracker:
        raise KeyError("theirs")  # noqa: EM101 -- not a message
    assert not tracemalloc.is_tracing()
    assert tracker.labels == ("start", "stop")


def test_a_mark_that_fails_is_not_the_program_s_trouble(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged; a report that needs it says so, and others are had."""
    monkeypatch.setattr(outside, "_named", set())
    tracker = traced().start()
    with monkeypatch.context() as broken:
        broken.setattr(TracemallocSource, "mark", lambda _: 1 / 0)
        tracker.mark("failed")
    tracker.stop()
    assert "could not take a mark for stratatrace.track_growth" in caplog.text
    with pytest.raises(TracesLostError, match="'failed' could not be taken"):
        tracker.between("start", "failed")
    assert tracker.report().name == "default"


def test_it_may_be_started_again() -> None:
    """With marks from zero; and the sources of old marks are gone."""
    tracker = traced()
    with tracker:
        tracker.mark("old")
    with tracker:
        assert tracker.running
    assert tracker.labels == ("start", "stop")
    tracker.stop()
    assert not tracker.running


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_left_as_it_is(enabled: bool) -> None:
    """Enabled or not."""
    if not enabled:
        gc.disable()
    try:
        with traced() as tracker:
            pass
        tracker.report()
        assert gc.isenabled() is enabled
    finally:
        gc.enable()


@by_native
def test_marks_within_a_measured_call_are_none_of_its_memory() -> None:
    """The traces that are looked at for a moment would else be its peak."""
    with recording(Config(probe="native")) as sink:

        @stratatrace.profile_memory
        def work(tracker: GrowthTracker) -> list[str]:
            texts = [str(number) for number in range(5000)]
            tracker.mark()
            return texts

        with traced() as tracker:
            kept = work(tracker)
            marked = sink.last.heap_peak_bytes
    assert marked is not None
    assert marked < 500 * KIB  # The traces of the texts alone are more.
    assert len(kept) == 5000


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    """Keep what is told."""
    findings: list[Finding] = []
    monkeypatch.setattr(module, "tell", findings.append)
    return findings


def test_growth_is_told_each_time_that_it_is_enough(told: list[Finding]) -> None:
    """Since it was told last, and never without being asked."""
    kept = []
    with traced("service", tell_over="10 MiB") as tracker, traced("silent"):
        for _ in range(4):
            kept += hold(1500)
            tracker.mark()
    assert [finding.kind for finding in told] == ["growth", "growth"]
    assert told[0].name == "service"
    assert told[0].body.startswith("service grew by 11.")
    assert ", most at " in told[0].body
    attributes: dict[str, Any] = dict(told[0].attributes)
    assert attributes["stratatrace.growth.bytes"] == pytest.approx(3000 * 4 * KIB, rel=0.05)
    assert attributes["stratatrace.growth.error"] == 0
    assert attributes["stratatrace.growth.source"] == "tracemalloc"
    assert f"{__file__}:{line_of(hold)[1]} in hold" in attributes["stratatrace.growth.lines"]


def test_lost_traces_are_not_told_of(told: list[Finding]) -> None:
    """Nor are they an error of the program; growth from then on is told."""
    tracemalloc.start()
    with traced(tell_over="1 MiB") as tracker:
        tracemalloc.clear_traces()
        kept = hold(300)
        tracker.mark()
        assert told == []
        kept += hold(300)
    assert len(told) == 1
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"name": 3}, InvalidTypeError, "takes a name as text, not 3"),
        ({"source": "memray"}, InvalidValueError, "no source 'memray': choose one of 'auto', "),
        ({"sample": "often"}, InvalidValueError, "'often' is not a size"),
        ({"sample": 0.5}, InvalidTypeError, "a size is an int of bytes or text"),
        ({"depth": 0}, InvalidValueError, "depth= is 1 to 128 frames, and 0 is not"),
        ({"depth": 129}, InvalidValueError, "129 is not"),
        ({"depth": True}, InvalidTypeError, "depth= is a number of frames, not True"),
        ({"tell_over": "-1MB"}, InvalidValueError, "'-1MB' is not a size"),
    ],
)
def test_options_that_make_no_sense(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    """Raise at once, and say what to give."""
    with pytest.raises(error, match=message):
        track_growth(**options)


def test_a_function_in_place_of_a_name() -> None:
    """Is what a decorator without brackets gives; the likely question is asked."""
    with pytest.raises(InvalidTypeError, match="did you forget the brackets"):
        track_growth(hold)  # type: ignore[arg-type]


def test_marks_that_make_no_sense() -> None:
    """Too early, twice, of no text, of a name that is taken; all is as it was after them."""
    tracker = traced()
    with pytest.raises(NotReadyError, match=r"no mark 'x' can be taken: start\(\)"):
        tracker.mark("x")
    with pytest.raises(NotReadyError, match="it was never started"):
        tracker.stop()
    with pytest.raises(NotReadyError, match="there are no marks"):
        tracker.between("start", "stop")
    with pytest.raises(NotReadyError, match="no two marks to compare"):
        tracker.report()
    with tracker:
        with pytest.raises(AlreadyStartedError, match="'default' is tracking growth"):
            tracker.start()
        with pytest.raises(NotReadyError, match="no two marks"):
            tracker.report()
        tracker.mark("x")
        for label, error, message in (
            ("x", InvalidValueError, "there is a mark 'x' already"),
            ("start", InvalidValueError, "there is a mark 'start' already"),
            ("stop", InvalidValueError, r"that of the mark that stop\(\) takes"),
            (3, InvalidTypeError, "the label of a mark is text, not 3"),
        ):
            with pytest.raises(error, match=message):
                tracker.mark(label)  # type: ignore[arg-type]
        with pytest.raises(InvalidValueError, match="no mark 'y': choose one of 'start', 'x'"):
            tracker.between("start", "y")
        with pytest.raises(InvalidValueError, match=r"there is no mark \[\]"):
            tracker.between([], "x")  # type: ignore[arg-type]
        with pytest.raises(InvalidValueError, match="between 'x' and itself"):
            tracker.between("x", "x")
        assert tracker.labels == ("start", "x")
    with pytest.raises(NotReadyError, match="start"):
        tracker.mark("late")


def test_what_the_compiled_part_is_given() -> None:
    """Traces that are none are an error and no crash; equal stacks are added up."""
    if native_obstacle() is not None:
        pytest.skip("nothing is compiled")
    from stratatrace.probes import _counters  # noqa: PLC0415 -- it is not always there

    frame = ("a.py", 1)
    traces: list[Any] = [
        (0, 5, (frame,), 1),
        (0, 7, ((*frame,),), 9),
        (1, 2**40, (("b.py", 2),), 1),
    ]
    sums = {(frame,): (12, 2), (("b.py", 2),): (2**40, 1)}
    assert _counters.sum_traces(lambda: traces) == tracing.sum_traces(lambda: traces) == sums
    many: list[Any] = [(0, n, ((str(n), n),), 1) for n in range(5000)]
    assert _counters.sum_traces(lambda: many) == tracing.sum_traces(lambda: many)
    assert _counters.sum_traces(list) == {}
    wrongs: list[Any] = [(), [3], [(0, 1)], [(0, "x", ())], [(0, 2**70, ())], [(0, 1, [])]]
    for wrong in wrongs:
        with pytest.raises((TypeError, OverflowError)):
            _counters.sum_traces(partial(getattr, wrong, "missing", wrong))
    with pytest.raises(ZeroDivisionError):
        _counters.sum_traces(partial(divmod, 1, 0))


@pytest.mark.parametrize("source", ["tracemalloc", pytest.param("native", marks=by_native)])
def test_a_forked_child_goes_on(source: str) -> None:
    """With its parent's marks and its own memory, though a thread was marking at the fork."""
    if not hasattr(os, "fork"):
        pytest.skip("there is no fork here")
    program = f"""
import os, threading, time, tracemalloc
import stratatrace
from stratatrace import profile_memory, track_growth
stratatrace.configure(probe="tracemalloc", sample_ratio=0.5, output={os.devnull!r})
profile_memory(lambda: None)()  # So that a recorder forgets its tracing in the child.
tracker = track_growth(source={source!r}, sample="1 KiB").start()
ended = threading.Event()
def marking():
    with tracker._lock:
        ended.wait(10)
thread = threading.Thread(target=marking)
thread.start()
kept = [bytearray(4096) for _ in range(100)]
pid = os.fork()
if not pid:
    kept += [bytearray(4096) for _ in range(100)]
    tracker.mark("child")
    tracker.stop()
    grown = tracker.between("start", "child").growth_bytes
    os._exit(0 if 700_000 < grown < 1_000_000 and not tracemalloc.is_tracing() else 1)
_, status = os.waitpid(pid, 0)
ended.set()
thread.join()
tracker.stop()
grown = tracker.report().growth_bytes
assert 350_000 < grown < 600_000, grown
assert status == 0, status
"""
    ran = subprocess.run(
        [sys.executable, "-P", "-W", "ignore:This process", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
