"""The look at all sources together: which are there, and how long a look is kept."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from kernel_trees import MIB, Tree, container_v2, stall_text

import stratatrace
from stratatrace import memory_pressure
from stratatrace.errors import InvalidTypeError, InvalidValueError
from stratatrace.pressure import MemoryScope, PressureThresholds
from stratatrace.pressure.reading import Look
from stratatrace.pressure.sources import Sources, readings
from stratatrace.probes.psi import Stall
from stratatrace.recorder import active

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Counting:
    """A source that counts how often it is read, and says what it is told to."""

    def __init__(self, used: int = 1, error: BaseException | None = None) -> None:
        self.reads = 0
        self.used = used
        self.error = error

    def read(self) -> Look:
        self.reads += 1
        if self.error is not None:
            raise self.error
        return Look((MemoryScope("machine", self.used, 10),))


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Counting:
    """Have a source that counts, and no look that is fresh."""
    counting = Counting()
    monkeypatch.setattr(readings, "source", counting)
    monkeypatch.setattr(readings, "_latest", None)
    return counting


def test_a_container(tmp_path: Path) -> None:
    """Its own limit and waiting, and the machine."""
    tree = container_v2(
        tmp_path, current=900, most=1000, high="max", inactive=50, stall=stall_text(2)
    )
    tree.write("proc/pressure/memory", stall_text(99))
    assert Sources(tree.root).read() == Look(
        (
            MemoryScope("cgroup /", 850, 1000),
            MemoryScope("machine", 4000 * MIB, 16_000 * MIB),
        ),
        Stall(2, 0, 0),
        "cgroup",
    )


def test_where_groups_do_not_count_waiting_the_system_does(tmp_path: Path) -> None:
    """It is said whose it is."""
    tree = Tree(tmp_path)
    tree.machine()
    tree.write("proc/pressure/memory", stall_text(99))
    look = Sources(tree.root).read()
    assert (look.stall, look.stall_of) == ((99, 0, 0), "system")


def test_an_ancestor_that_does_not_tell_its_use(tmp_path: Path) -> None:
    """It uses at least what the group below uses."""
    tree = Tree(tmp_path)
    tree.mount("cgroup2", "/sys/fs/cgroup")
    tree.member_of("0::/a/b")
    tree.group("sys/fs/cgroup/a/b", current=70, most="max\n")
    tree.group("sys/fs/cgroup/a", most=100)
    assert Sources(tree.root).read().scopes == (MemoryScope("cgroup /a", 70, 100),)


def test_nothing_can_be_read(tmp_path: Path) -> None:
    """No source, no number, no error."""
    assert Sources(str(tmp_path)).read() == Look()


def test_this_machine() -> None:
    """There is memory, and some of it is in use."""
    pressure = memory_pressure(max_age_seconds=0)
    assert pressure.ratio is not None
    assert pressure.ratio > 0
    assert pressure.headroom_bytes is not None
    assert stratatrace.memory_pressure is memory_pressure


def test_a_look_is_kept(source: Counting) -> None:
    """Asking again reads nothing while it is fresh."""
    first = memory_pressure()
    assert memory_pressure() is first
    assert source.reads == 1
    memory_pressure(max_age_seconds=0)
    assert source.reads == 2


def test_other_thresholds_make_another_level_of_the_same_look(source: Counting) -> None:
    """The files are not read again for them."""
    source.used = 6
    strict = PressureThresholds(warning_ratio=0.5, critical_ratio=0.6)
    assert [memory_pressure(thresholds=t).level for t in (None, strict, None, strict)] == [
        "normal",
        "critical",
        "normal",
        "critical",
    ]
    assert source.reads == 1


def test_a_look_gets_old_though_it_is_asked_for(
    source: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is made of it for other thresholds is as old as it was."""
    now = [100.0]
    monkeypatch.setattr("stratatrace.pressure.sources.time.monotonic", lambda: now[0])
    memory_pressure()
    now[0] += 0.4
    memory_pressure(thresholds=PressureThresholds(warning_ratio=0.1))
    now[0] += 0.2
    memory_pressure()
    assert source.reads == 2


def test_without_memory_for_the_look(source: Counting) -> None:
    """That is pressure enough."""
    source.error = MemoryError()
    pressure = memory_pressure()
    assert pressure.level == "critical"
    assert pressure.reasons == ("there was no memory left to read it",)


def test_a_source_that_is_replaced_while_it_is_read(
    source: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its look is not kept for the one that came in its place."""
    other = Counting(used=9)

    def read() -> Look:
        monkeypatch.setattr(readings, "source", other)
        return Look((MemoryScope("machine", 1, 10),))

    monkeypatch.setattr(source, "read", read)
    assert memory_pressure().level == "normal"
    assert memory_pressure().level == "critical"


def test_a_failure_goes_no_further(
    source: Counting, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is logged once, and counted."""
    monkeypatch.setattr(readings.guard, "_named", set())
    before = readings.guard.failures
    source.error = KeyError("broken")
    assert memory_pressure().level == memory_pressure().level == "normal"
    assert readings.guard.failures == before + 2
    assert [r.args for r in caplog.records] == [
        ("read the pressure", "stratatrace.memory_pressure")
    ]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_age_seconds": "1"}, InvalidTypeError),
        ({"max_age_seconds": True}, InvalidTypeError),
        ({"max_age_seconds": -1}, InvalidValueError),
        ({"max_age_seconds": float("nan")}, InvalidValueError),
        ({"thresholds": 0.8}, InvalidTypeError),
    ],
)
def test_misuse_raises(options: dict[str, Any], error: type[Exception]) -> None:
    """At once, and names what was given."""
    with pytest.raises(error, match=next(iter(options))):
        memory_pressure(**options)


def test_a_measured_call_is_not_charged(source: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look is our own work; one that is fresh takes nothing that would have to be held."""
    told: list[str] = []

    @contextmanager
    def own_work() -> Iterator[None]:
        told.append(f"begin {source.reads}")
        yield
        told.append(f"end {source.reads}")

    monkeypatch.setattr(readings, "own_work", own_work)
    memory_pressure()
    memory_pressure()
    assert told == ["begin 0", "end 1"]
    memory_pressure(thresholds=PressureThresholds(warning_ratio=0.5))
    assert told[2:] == ["begin 1", "end 1"]


def test_the_recorder_says_what_our_own_work_is() -> None:
    """It stands above, and has set it."""
    assert readings.own_work == active.own_work
