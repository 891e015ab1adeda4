"""`find_leaks`: its verdict and evidence, what it refuses, and that all is as it was afterwards."""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import re
import threading
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from heap_probes import PROBES
from opentelemetry.sdk._logs import LoggerProvider, export
from opentelemetry.sdk.trace import TracerProvider
from tracing import untraced

from stratatrace import LeakReport, find_leaks, find_leaks_async, measure, profile_memory
from stratatrace.config import Config
from stratatrace.errors import (
    AlreadyStartedError,
    InvalidTypeError,
    InvalidValueError,
    LeakTrialError,
)
from stratatrace.probes import CollectorProbe
from stratatrace.recorder import Recorder, active
from stratatrace.testing import recording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = untraced


class Node:
    """What is leaked."""

    def __init__(self) -> None:
        self.values = [0.5] * 4


class Hostile:
    """An object that lies of itself, and raises when it is asked anything."""

    def __init__(self) -> None:
        object.__setattr__(self, "values", [0.5] * 4)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise RuntimeError

    def __repr__(self) -> str:
        raise RuntimeError

    __str__ = __sizeof__ = __len__ = __iter__ = __repr__  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = __repr__  # type: ignore[assignment]

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError


@pytest.fixture
def thawed() -> Iterator[None]:
    """Have nothing frozen, as in a program of its own."""
    gc.unfreeze()
    yield
    gc.collect()
    gc.freeze()


def leaking() -> Callable[[], None]:
    kept: list[Node] = []

    def work() -> None:
        kept.append(Node())

    return work


@pytest.mark.parametrize("probe", PROBES)
def test_a_leak_is_found_with_its_evidence(probe: str) -> None:
    """Slope, chance, calls; types, lines and who holds it, each for one call."""
    report = find_leaks(leaking(), name="work", probe=probe)
    assert report
    assert report.probe == probe
    size = Node.__basicsize__ + 16 + 88 + 8
    assert report.slope_bytes == pytest.approx(size, rel=0.5)
    assert report.p_value < 0.001
    assert [phase.name for phase in report.phases] == ["first", "second", "long", "traced"]
    assert [phase.calls for phase in report.phases[:2]] == [33, 67]
    assert report.iterations == sum(phase.calls for phase in report.phases[:3])
    by_type = {grown.name: grown.objects / report.culprit_calls for grown in report.culprits.types}
    assert by_type[f"{__name__}.Node"] == pytest.approx(1, abs=0.1)
    line = Node.__init__.__code__.co_firstlineno + 1
    assert (__file__, line) in {(grown.file, grown.line) for grown in report.culprits.lines}
    held = re.compile(r"leaking.<locals>.work.kept\[\d+\] -> .*Node")
    assert any(map(held.fullmatch, report.culprits.chains))
    assert "work leaks" in str(report)
    assert "by line" in str(report)
    assert json.loads(json.dumps(report.to_dict()))["leaks"] is True


def test_none_is_found_where_there_is_none() -> None:
    """And the report is false, with no culprits and a reason."""
    report = find_leaks(lambda: [Node() for _ in range(10)], name="fine")
    assert not report
    assert not report.culprits.types
    assert str(report).startswith("fine does not leak: its heap does not grow (p = ")


@pytest.mark.usefixtures("thawed")
def test_old_objects_are_frozen_only_meanwhile() -> None:
    """Collections of the trial look at what is new alone; then nothing is frozen."""
    frozen = [0]
    before = gc.get_freeze_count()

    def work() -> None:
        frozen[0] = gc.get_freeze_count()

    find_leaks(work, iterations=16)
    assert frozen[0] > 2000
    assert gc.get_freeze_count() <= before + 500  # What is immortal may freeze by itself.


def test_what_others_have_frozen_stays() -> None:
    """The fixtures of all tests have frozen what there was."""
    gc.freeze()
    before = gc.get_freeze_count()
    find_leaks(lambda: None)
    assert gc.get_freeze_count() >= before - 100


class StopError(Exception):
    """What a function raises."""


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.usefixtures("thawed")
def test_what_the_function_raises_comes_out_as_it_is(probe: str, *, enabled: bool) -> None:
    """In the third call: the same object, and the collector, its flags and tracing as before."""
    error, calls = StopError(), []
    threshold, flags = gc.get_threshold(), gc.get_debug()

    def work() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise error

    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    gc.set_debug(gc.DEBUG_UNCOLLECTABLE)
    try:
        with pytest.raises(StopError) as caught:
            find_leaks(work, probe=probe)
        assert gc.isenabled() is enabled
        assert gc.get_debug() == gc.DEBUG_UNCOLLECTABLE
    finally:
        gc.set_debug(flags)
        (gc.enable if before else gc.disable)()
    assert caught.value is error
    assert gc.get_threshold() == threshold
    assert gc.get_freeze_count() < 2000
    assert not tracemalloc.is_tracing()


def test_garbage_is_no_leak_where_calls_are_measured() -> None:
    """A recorder charges nobody for what collections free; they are seen to free it even so."""

    @profile_memory
    def circles() -> None:
        for _ in range(20):
            node: Any = Node()
            node.itself = node

    provider = TracerProvider(shutdown_on_exit=False)
    with active.replaced(Recorder(Config(probe=PROBES[0]), tracer_provider=provider)):
        report = find_leaks(circles)
        _, measurement = measure(gc.collect)
    assert report.reason == "its heap does not grow"
    assert measurement.gc_collections == 1  # They are told again.


def test_a_forked_child_is_told_of_collections() -> None:
    """Though a thread of its parent was looking for leaks, which is not there any more."""
    recorder = Recorder(Config(probe=PROBES[0]))
    with active.replaced(recorder):
        CollectorProbe.unheard_by.add(0)
        recorder.after_fork_in_child()
        _, measurement = measure(gc.collect)
    assert measurement.gc_collections == 1


def test_garbage_that_is_kept_for_debugging_is_no_leak() -> None:
    """Somebody else's DEBUG_SAVEALL is off meanwhile, and on again afterwards."""
    flags = gc.get_debug()
    gc.set_debug(gc.DEBUG_SAVEALL)

    def work() -> None:
        loop: list[object] = []
        loop.append(loop)

    try:
        assert not find_leaks(work)
        assert gc.get_debug() == gc.DEBUG_SAVEALL
    finally:
        gc.set_debug(flags)
        gc.garbage.clear()


def test_a_leak_is_found_while_the_collector_is_disabled() -> None:
    """It stays disabled; what only a collection frees is no leak."""
    gc.disable()
    try:
        assert find_leaks(leaking(), culprits=False)
        assert not find_leaks(lambda: [Node()], culprits=False)
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize("probe", PROBES)
def test_somebody_elses_tracing_is_used_and_left_alone(probe: str) -> None:
    """Neither stopped nor cleared; its traces tell the lines."""
    tracemalloc.start(2)
    try:
        witness = bytearray(100)
        report = find_leaks(leaking(), probe=probe)
        assert report
        assert report.culprits.lines
        assert {g.name for g in report.culprits.types} & {f"{__name__}.Node", "list"}
        assert tracemalloc.get_object_traceback(witness) is not None
        assert tracemalloc.get_traceback_limit() == 2
    finally:
        tracemalloc.stop()


def test_who_stops_the_tracing_is_told() -> None:
    """Its numbers would mean nothing."""

    def work() -> None:
        tracemalloc.stop()

    with pytest.raises(LeakTrialError, match="has stopped or cleared tracemalloc"):
        find_leaks(work, probe="tracemalloc")
    assert not tracemalloc.is_tracing()


HELD: list[object] = []


def test_no_code_of_the_objects_is_run() -> None:
    """What raises when it is asked anything is found, counted and named by its true type."""
    HELD.clear()

    def work() -> None:
        HELD.append(Hostile())

    report = find_leaks(work)
    assert report
    assert f"{__name__}.Hostile" in {grown.name for grown in report.culprits.types}
    assert any(chain.endswith(f"{__name__}.Hostile") for chain in report.culprits.chains)
    HELD.clear()


def test_what_another_thread_frees_is_no_leak() -> None:
    """The heap of the process has the last word."""
    handed: list[Node] = []

    def in_thread(act: Callable[[], object]) -> None:
        thread = threading.Thread(target=act)
        thread.start()
        thread.join()

    def hand_over() -> None:
        handed.append(Node())
        in_thread(handed.clear)

    assert not find_leaks(hand_over, culprits=False)


def test_what_only_another_thread_keeps_is_found() -> None:
    """The heap of the thread that calls stays as it is."""
    kept: list[Node] = []
    go, done = threading.Lock(), threading.Lock()
    go.acquire()
    done.acquire()
    ending: list[bool] = []

    def serve() -> None:
        while True:
            go.acquire()
            if ending:
                return
            kept.append(Node())
            done.release()

    def ask() -> None:
        go.release()
        done.acquire()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        report = find_leaks(ask, culprits=False)
    finally:
        ending.append(True)
        go.release()
        thread.join()
    assert report
    assert report.probe == "tracemalloc"


def test_arguments_are_passed_on_and_partials_are_named() -> None:
    """Every call has the same."""
    seen: list[tuple[int, str]] = []

    def work(number: int, *, text: str) -> None:
        seen[:] = [(number, text)]

    report = find_leaks(functools.partial(work, 5), kwargs={"text": "a"}, iterations=16)
    assert seen == [(5, "a")]
    assert report.name.endswith("work")


def test_a_coroutine_function_runs_in_a_loop_of_its_own() -> None:
    """And a loop that was set stays set."""
    kept: list[Node] = []

    async def work() -> None:
        await asyncio.sleep(0)
        kept.append(Node())

    mine = asyncio.new_event_loop()
    asyncio.set_event_loop(mine)
    try:
        report = find_leaks(work)
        assert asyncio.get_event_loop_policy().get_event_loop() is mine
    finally:
        asyncio.set_event_loop(None)
        mine.close()
    assert report
    assert any("kept[" in chain for chain in report.culprits.chains)


def test_within_a_loop_it_is_awaited() -> None:
    """`find_leaks` says so, and `find_leaks_async` does it."""
    kept: list[Node] = []

    async def work() -> None:
        kept.append(Node())

    async def main() -> LeakReport:
        with pytest.raises(AlreadyStartedError, match="await find_leaks_async"):
            find_leaks(work)
        with pytest.raises(InvalidTypeError, match="no coroutine function"):
            await find_leaks_async(lambda: None)  # type: ignore[arg-type, return-value]
        return await find_leaks_async(work, culprits=False)

    assert asyncio.run(main())


def generator() -> Iterator[int]:
    yield 1


async def coroutine() -> None: ...


@pytest.mark.parametrize(
    ("func", "options", "error", "message"),
    [
        (5, {}, InvalidTypeError, "not an object of int: give it without brackets"),
        (Node.__init__, {}, InvalidTypeError, "missing a required argument: 'self'"),
        (leaking, {"args": [1]}, InvalidTypeError, "too many positional arguments"),
        (leaking, {"args": "ab"}, InvalidTypeError, "args= is a tuple or a list"),
        (leaking, {"kwargs": {1: 2}}, InvalidTypeError, "kwargs= is a dictionary"),
        (leaking, {"iterations": 0}, InvalidValueError, "from 16 to"),
        (leaking, {"iterations": 20.0}, InvalidTypeError, "iterations= is an int"),
        (leaking, {"iterations": True}, InvalidTypeError, "iterations= is an int"),
        (leaking, {"warmup": -1}, InvalidValueError, "warmup= is a number from 0"),
        (leaking, {"least": 0}, InvalidValueError, "greater than zero"),
        (leaking, {"least": "many"}, InvalidValueError, "is not a size"),
        (leaking, {"probe": "rss"}, InvalidValueError, "reads no heap"),
        (leaking, {"probe": "smell"}, InvalidValueError, "no probe 'smell'"),
        (leaking, {"name": 5}, InvalidTypeError, "name= is text"),
        (generator, {}, InvalidTypeError, "is a generator function"),
        (
            functools.partial(type(coroutine).__call__, coroutine),
            {},
            InvalidTypeError,
            "the coroutine function itself",
        ),
    ],
)
def test_misuse_is_refused(
    func: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    """At once, with what to do."""
    with pytest.raises(error, match=message):
        find_leaks(func, **options)


def test_a_coroutine_in_place_of_a_function_is_closed() -> None:
    """Nobody would await it."""
    with pytest.raises(InvalidTypeError, match="the coroutine function itself"):
        find_leaks(coroutine())  # type: ignore[arg-type]


def test_a_leak_is_told() -> None:
    """As a log record with its numbers; what does not leak is not."""
    kept: Any = getattr(export, "InMemoryLogRecordExporter", None) or export.InMemoryLogExporter
    exporter = kept()
    logs = LoggerProvider(shutdown_on_exit=False)
    logs.add_log_record_processor(export.SimpleLogRecordProcessor(exporter))
    with recording(Config(probe="rss"), logger_provider=logs):
        report = find_leaks(leaking(), name="app.work")
        find_leaks(lambda: None)
    (finished,) = exporter.get_finished_logs()
    told = dict(finished.log_record.attributes)
    assert finished.log_record.body == report.summary
    assert told["stratatrace.finding.name"] == "app.work"
    assert told["stratatrace.leak.slope"] == report.slope_bytes
    assert told["stratatrace.leak.iterations"] == report.iterations
    assert told["stratatrace.leak.location"].startswith(__file__)
    logs.shutdown()
