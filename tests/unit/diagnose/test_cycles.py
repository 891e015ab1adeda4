"""What a block leaves behind is found; and the collector is as it was, whatever happens."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
import tracemalloc
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk._logs import LoggerProvider, export
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from stratatrace import CycleReport, find_cycles
from stratatrace.diagnose import cycles as module
from stratatrace.diagnose.cycle_capture import Capture
from stratatrace.errors import (
    AlreadyStartedError,
    InvalidTypeError,
    InvalidValueError,
    NotReadyError,
)
from stratatrace.testing import recording

from .garbage import Finalized, Node, Slotted, alive, itself, pair, ring, thawed, tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def test_all_that_a_block_leaves_behind_is_found() -> None:
    """5,000 of 5,000 objects, in one group of one path, with numbers that fit."""
    with find_cycles() as found:
        for _ in range(625):
            tree()  # Four nodes, each with a list.
    assert found.objects == 5000
    (group,) = found
    assert (len(found), found.cycles, group.cycles, bool(found)) == (1, 625, 625, True)
    assert group.path == "Node.parent -> Node.children -> Node"
    # The lists of the leaves are empty, and in no circle.
    assert (group.objects, group.held_objects) == (625 * 5, 625 * 3)
    assert group.size_bytes > 625 * 4 * sys.getsizeof(Node())
    assert found.size_bytes == group.total_bytes == group.size_bytes + group.held_bytes
    assert group.types == (f"{Node.__module__}.Node",) * 2
    assert "weakref.ref" in str(group.advice)
    assert found.complete
    assert not found.not_captured


def test_a_report_is_for_people_and_for_machines() -> None:
    """Its text names types and paths; its dictionary has all that it knows."""
    with find_cycles(name="load") as found:
        tree()
        tree()
    assert str(found).startswith("2 cycles in load: only the collector could free 16 objects, ")
    assert "  2 x Node.parent -> Node.children -> Node\n" in str(found)
    assert "weakref" in str(found)
    told: Any = found.to_dict()
    assert told["name"] == "load"
    assert told["cycles"] == 2
    assert told["groups"][0]["path"] == found[0].path
    assert told["groups"][0]["pattern"] == "back_reference"
    assert repr(found) == "<CycleReport of load: 1 groups, 2 cycles>"


def test_without_cycles_there_is_nothing() -> None:
    """What is freed when it is no longer used is no garbage of the collector's."""
    with find_cycles() as found:
        Slotted().next = Slotted()
    assert not found
    assert list(found) == []
    assert str(found) == f"no cycles in {__name__}.test_without_cycles_there_is_nothing"


def test_what_was_garbage_before_is_not_blamed_on_the_block() -> None:
    """It is collected first; also what its finalizers leave behind."""

    class Leaver:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            pair()

    gc.collect()
    Leaver()
    pair()
    with find_cycles() as found:
        pass
    assert not found


def test_what_is_in_use_is_no_garbage() -> None:
    """Neither what a variable refers to, nor what that leads to."""
    with find_cycles() as found:
        kept = Node()
        kept.parent = kept
        pair()
    assert found.objects == 2
    assert kept.parent is kept


@pytest.mark.parametrize("collect", [gc.collect, lambda: None])
def test_what_is_collected_within_the_block_is_found_as_well(collect: Callable[[], object]) -> None:
    """By the program, or by itself: in all cases once."""
    thresholds = gc.get_threshold()
    gc.set_threshold(100, 5, 5)
    try:
        with find_cycles() as found:
            for _ in range(500):
                pair()
                collect()
    finally:
        gc.set_threshold(*thresholds)
    assert (found.objects, found.cycles) == (1000, 500)


@pytest.fixture
def something_in_garbage() -> Iterator[list[str]]:
    kept = ["somebody else's"]
    gc.garbage.append(kept)
    yield kept
    gc.garbage.remove(kept)


def test_an_interrupt_at_the_beginning_leaves_nothing_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There is no block yet whose end would put things back; the next one is looked at."""

    def interrupted() -> bool:
        raise KeyboardInterrupt

    before = gc.get_debug(), list(gc.callbacks), gc.get_freeze_count()
    with monkeypatch.context() as patched:
        patched.setattr("stratatrace.diagnose.cycle_capture._in_event_loop", interrupted)
        with pytest.raises(KeyboardInterrupt), find_cycles():
            pass
    assert (gc.get_debug(), list(gc.callbacks), gc.get_freeze_count()) == before
    with find_cycles() as found:
        pair()
    assert len(found) == 1


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("flags", [0, gc.DEBUG_UNCOLLECTABLE])
@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_the_collector_is_as_it_was(
    enabled: bool,
    flags: int,
    error: type[BaseException] | None,
    something_in_garbage: list[str],
) -> None:
    """Flags, `gc.garbage` and what was in it, callbacks, on or off; also where the block raises."""
    garbage, callbacks, frozen = gc.garbage, list(gc.callbacks), gc.get_freeze_count()
    was_enabled = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    gc.set_debug(flags)
    raised: BaseException | None = None
    try:
        with find_cycles() as found:
            pair()
            assert gc.isenabled() == enabled
            if error is not None:
                raise error
    except (ValueError, KeyboardInterrupt) as caught:
        raised = caught
    finally:
        assert gc.isenabled() == enabled
        assert gc.get_debug() == flags
        gc.set_debug(0)
        (gc.enable if was_enabled else gc.disable)()
    assert type(raised) is (error or type(None))
    assert found.objects == 2
    assert gc.garbage is garbage
    assert garbage == [something_in_garbage]
    assert gc.callbacks == callbacks
    assert gc.get_freeze_count() == pytest.approx(frozen, abs=100)
    assert not alive(Slotted)


def test_flags_that_are_set_within_the_block_stay() -> None:
    """All but the one that was set for the look."""
    with find_cycles() as found:
        gc.set_debug(gc.get_debug() | gc.DEBUG_UNCOLLECTABLE)
        pair()
    assert gc.get_debug() == gc.DEBUG_UNCOLLECTABLE
    gc.set_debug(0)
    assert found


def test_who_has_all_garbage_saved_has_it_still() -> None:
    """It is found, and it is in `gc.garbage`."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        with find_cycles(keep=True) as found:
            pair()
        assert gc.get_debug() == gc.DEBUG_SAVEALL
        assert [type(item) for item in gc.garbage] == [Slotted, Slotted]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    assert found.objects == 2


def test_what_cannot_be_freed_at_all_stays_in_garbage() -> None:
    """It would be there without us: it is the last of what a collection leaves there."""
    capture = Capture(10, "test")
    freed, not_freed = ["can be freed"], ["cannot"]
    with thawed():
        capture.begin()
        capture._on_collection("start", {})
        gc.garbage.extend([freed, not_freed])
        capture._on_collection("stop", {"collected": 1, "uncollectable": 1})
        captured = capture.end()
    assert gc.garbage == [not_freed]
    gc.garbage.clear()
    assert captured.objects == [freed]


def test_one_at_a_time() -> None:
    """In one thread and in two; and the one that is running goes on."""
    errors: list[Exception] = []

    def look() -> None:
        try:
            find_cycles.now()
        except AlreadyStartedError as error:
            errors.append(error)

    with find_cycles(name="outer") as found:
        pair()
        with (
            pytest.raises(AlreadyStartedError, match="running already, for 'outer'"),
            find_cycles(),
        ):
            pass
        other = threading.Thread(target=look)
        other.start()
        other.join()
        pair()
    assert len(errors) == 1
    assert found.objects == 4
    with find_cycles() as found:
        pair()
    assert found.objects == 2


def test_a_finder_can_be_used_again() -> None:
    """Each block has a report of its own."""
    finder = find_cycles()
    with finder as first:
        pair()
    with finder as second:
        itself()
    assert (first.objects, second.objects) == (2, 1)


def test_whether_others_have_run_is_told() -> None:
    """Alone, all is the block's own; otherwise it may not be."""
    with find_cycles() as found:
        pair()
    assert found.attribution == "exact"
    assert "other threads" not in str(found)

    with find_cycles() as found:
        other = threading.Thread(target=pair)
        other.start()
        other.join()
    assert (found.attribution, found.objects) == ("process", 2)
    assert "other threads" in str(found)


def test_what_is_from_before_the_block_is_told_apart() -> None:
    """And found where the block has let it go; nothing is frozen after."""
    with thawed():
        old = [Node()]
        old[0].parent = old[0]
        with find_cycles() as found:
            pair()
            old.clear()
        assert gc.get_freeze_count() < 1000  # Python 3.12 has some of its own there.
    assert {group.path: group.origin for group in found} == {
        "Node.parent -> Node": "before",
        "Slotted.prev -> Slotted.next -> Slotted": "block",
    }
    assert "from before the block" in str(found)


def test_who_freezes_what_there_is_keeps_it_so() -> None:
    """Before the block or within it; then it cannot be told apart."""
    frozen = gc.get_freeze_count()
    assert frozen > 1000
    with find_cycles() as found:
        pair()
    assert gc.get_freeze_count() == pytest.approx(frozen, abs=100)
    assert found[0].origin == "unknown"
    with thawed():
        with find_cycles() as found:
            pair()
            gc.freeze()
            pair()
        assert gc.get_freeze_count() == pytest.approx(frozen, rel=0.5)
    assert found.objects == 2  # Those that were frozen are nobody's business.
    assert found[0].origin == "unknown"


def test_who_thaws_within_the_block_is_let() -> None:
    """Then it is not known what is from before."""
    with thawed(), find_cycles() as found:
        gc.unfreeze()
        pair()
    assert found[0].origin == "unknown"


def test_no_more_is_kept_than_was_said() -> None:
    """What is more is freed as usual, and counted."""
    with find_cycles(max_objects=100) as found:
        for _ in range(10):
            ring(30)
            gc.collect()
        assert alive(Slotted) <= 120
        ring(30)
    assert (found.objects, found.not_captured) == (100, 230)
    assert not found.complete
    assert "230 more objects were freed as usual" in str(found)
    assert not alive(Slotted)
    assert not gc.get_debug()


def test_nothing_is_kept_that_was_not_asked_for() -> None:
    """What was found is freed when the block ends, and a report that keeps it lets it go."""
    with find_cycles() as found:
        tree()
    assert not alive(Node)
    with pytest.raises(NotReadyError, match=r"find_cycles\(keep=True\)"):
        found[0].members()
    with find_cycles(keep=True) as found:
        tree()
    assert found.kept
    assert alive(Node) == 4
    assert sorted(type(item).__name__ for item in found[0].members()[0]) == [
        *["Node"] * 4,
        "list",
    ]
    found.release()
    gc.collect()
    assert not alive(Node)
    assert not found.kept
    assert found[0].objects == 5
    with pytest.raises(NotReadyError):
        found[0].members()


def test_a_report_keeps_no_class_alive() -> None:
    """Classes that are made in functions are garbage as well."""

    def make() -> weakref.ref[type]:
        class Local:
            def __init__(self) -> None:
                self.itself = self

        Local()
        return weakref.ref(Local)

    with find_cycles() as found:
        made = make()
    assert made() is None
    assert found.cycles == 2
    assert not any(isinstance(item, type) and item.__name__ == "Local" for item in gc.get_objects())


def test_finding_leaves_nothing_behind() -> None:
    """As many objects after 60 looks as after 10, and no block of memory more for each."""
    gc.disable()
    try:
        counts = []
        for number in range(60):
            with find_cycles() as found:
                tree()
                itself()
            assert found.cycles == 2
            del found
            if number in {9, 59}:
                counts.append((len(gc.get_objects()), sys.getallocatedblocks()))
        assert not gc.collect()
    finally:
        gc.enable()
    (objects, blocks), (later_objects, later_blocks) = counts
    assert later_objects <= objects + 1
    assert later_blocks <= blocks + 25


def test_finalizers_and_callbacks_run_as_ever() -> None:
    """Once each, and when the collector comes by."""
    called: list[str] = []

    class Finalizing:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            called.append("__del__")

    def make() -> weakref.ref[Finalizing]:
        return weakref.ref(Finalizing(), lambda _: called.append("callback"))

    with find_cycles() as found:
        reference = make()
        gc.collect()
        assert reference() is None
        assert sorted(called) == ["__del__", "callback"]
    gc.collect()
    assert sorted(called) == ["__del__", "callback"]
    assert found[0].has_finalizer
    assert "__del__" in str(found)


def test_what_its_finalizer_brings_back_is_no_garbage() -> None:
    """It is in use."""
    saved: list[Any] = []

    class Phoenix:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            saved.append(self)

    with find_cycles() as found:
        Phoenix()
    assert len(saved) == 1
    assert not found


def test_what_a_collection_of_another_thread_finds_is_waited_for() -> None:
    """It may be in a finalizer at the moment when the block ends."""
    begun, go_on = threading.Event(), threading.Event()

    class Slow:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            begun.set()
            go_on.wait(5)

    def collect() -> None:
        Slow()
        gc.collect()

    def let_go() -> None:
        time.sleep(0.05)
        go_on.set()

    threads = [threading.Thread(target=collect), threading.Thread(target=let_go)]
    with find_cycles() as found:
        threads[0].start()
        assert begun.wait(5)
        threads[1].start()
    for thread in threads:
        thread.join()
    assert [group.path for group in found] == ["Slow.itself -> Slow"]
    assert not gc.garbage


def test_the_lines_are_told_where_they_are_traced() -> None:
    """Tracing is begun for the block, and ended after it."""
    with find_cycles(traced=True) as found:
        for _ in range(3):
            pair()
    assert not tracemalloc.is_tracing()
    (line,) = found[0].lines
    assert line.filename == pair.__code__.co_filename
    assert line.lineno == pair.__code__.co_firstlineno + 2
    assert line.cycles == 3
    assert f"made at {line.filename}:{line.lineno}" in str(found)
    with find_cycles() as found:
        pair()
    assert found[0].lines == ()


def test_the_tracing_of_others_is_used_and_left_on() -> None:
    """Its frames and its traces stay as they are."""
    tracemalloc.start(3)
    mine = bytearray(100)
    with find_cycles() as found:
        pair()
    assert found[0].lines
    with find_cycles(traced=True) as found:
        pair()
    assert found[0].lines
    assert tracemalloc.is_tracing()
    assert tracemalloc.get_traceback_limit() == 3
    assert tracemalloc.get_object_traceback(mine)
    with find_cycles(traced=True) as found:
        tracemalloc.stop()
        pair()
    assert found[0].lines == ()


def test_garbage_at_present() -> None:
    """Whoever has made it, and whenever."""
    gc.collect()
    pair()
    found = find_cycles.now()
    assert found.objects == 2
    assert found.name == f"{__name__}.test_garbage_at_present"
    assert not find_cycles.now(name="again")
    assert not gc.get_debug()


def test_a_block_is_called_by_its_function() -> None:
    """Or by the name that it was given."""
    with find_cycles() as found:
        pass
    assert found.name == f"{__name__}.test_a_block_is_called_by_its_function"
    with find_cycles(name="mine") as found:
        pass
    assert found.name == "mine"


@pytest.mark.parametrize(
    ("misuse", "error", "match"),
    [
        (lambda: find_cycles(pair), InvalidTypeError, "takes no function: call what"),  # type: ignore[arg-type]
        (lambda: find_cycles(name=1), InvalidTypeError, "name= is text"),  # type: ignore[arg-type]
        (lambda: find_cycles(traced=1), InvalidTypeError, "traced= is True or False"),  # type: ignore[arg-type]
        (lambda: find_cycles(keep="no"), InvalidTypeError, "keep= is True or False"),  # type: ignore[arg-type]
        (lambda: find_cycles(max_objects="1"), InvalidTypeError, "max_objects= is an int"),  # type: ignore[arg-type]
        (lambda: find_cycles(max_objects=True), InvalidTypeError, "max_objects= is an int"),
        (lambda: find_cycles.now(max_objects=0), InvalidValueError, "greater than zero"),
    ],
)
def test_misuse_is_told_at_once(
    misuse: Callable[[], object], error: type[Exception], match: str
) -> None:
    """With what was given, and what to do."""
    with pytest.raises(error, match=match):
        misuse()


def test_within_the_block_nothing_is_known() -> None:
    """Numbers are an error, text is not."""
    with find_cycles(name="load") as found:
        asked: list[Callable[[], object]] = [
            lambda: len(found),
            lambda: found.cycles,
            lambda: list(found),
            found.to_dict,
        ]
        for ask in asked:
            with pytest.raises(NotReadyError, match="when the block has ended"):
                ask()
        assert str(found) == "cycles in load: the block has not ended"
        assert "has not ended" in repr(found)
        assert not found.kept
        found.release()
        del asked, ask


def test_what_fails_in_the_look_is_not_raised(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The report says that it does not have all; nothing is kept, and all is as it was."""

    def broken(*_args: Any, **_kwargs: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(module, "found_in", broken)
    with recording(strict=False), find_cycles(name="load", keep=True) as found:
        pair()
    assert "could not look for cycles for load" in caplog.text
    caplog.clear()
    assert not found
    assert not found.complete
    assert "not all could be looked at" in str(found)
    assert not gc.get_debug()
    gc.collect()
    assert not alive(Slotted)


def test_cycles_are_told_to_telemetry() -> None:
    """As a log record with the numbers and the path, and as many findings as groups."""
    kept: Any = getattr(export, "InMemoryLogRecordExporter", None) or export.InMemoryLogExporter
    exporter = kept()
    logs = LoggerProvider(shutdown_on_exit=False)
    logs.add_log_record_processor(export.SimpleLogRecordProcessor(exporter))
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    with recording(logger_provider=logs, meter_provider=meters):
        with find_cycles(name="load") as found:
            tree()
            tree()
            itself()
        with find_cycles(name="nothing"):
            pass
    (finished,) = exporter.get_finished_logs()
    record = finished.log_record
    assert str(record.body).startswith("3 cycles in load: ")
    assert str(record.body).endswith("; mostly by Node.parent -> Node.children -> Node")
    attributes = dict(record.attributes)
    assert attributes["stratatrace.finding.name"] == "load"
    assert attributes["stratatrace.cycles.count"] == 3
    assert attributes["stratatrace.cycles.objects"] == found.objects
    assert attributes["stratatrace.cycles.bytes"] == found.size_bytes
    assert attributes["stratatrace.cycles.path"] == "Node.parent -> Node.children -> Node"
    data: Any = reader.get_metrics_data()
    points = [
        point
        for of_scope in data.resource_metrics[0].scope_metrics
        for metric in of_scope.metrics
        if metric.name == "stratatrace.finding.count"
        for point in metric.data.data_points
    ]
    assert [point.value for point in points] == [2]
    meters.shutdown()
    logs.shutdown()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_a_collector_as_it_was() -> None:
    """Where it forks within a block: it looks no more, and can look anew."""
    callbacks = list(gc.callbacks)
    with find_cycles() as found:
        child = os.fork()
        if not child:
            as_before = gc.get_debug() == 0 and gc.callbacks == callbacks and not gc.garbage
        pair()
    if not child:
        looks = False
        if not found and not found.complete:
            anew = find_cycles.now()
            looks = anew.objects == 2
        os._exit(0 if as_before and looks else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert found.objects == 2
    assert found.complete


def test_a_finalizer_on_the_path_is_told() -> None:
    """It runs when the collector comes by, which may be late."""
    with find_cycles() as found:
        Finalized()
    assert found[0].has_finalizer


def test_the_report_is_public() -> None:
    """By the name that annotations want."""
    with find_cycles() as found:
        pass
    assert isinstance(found, CycleReport)
