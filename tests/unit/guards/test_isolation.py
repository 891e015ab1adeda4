"""`memory_limit(isolation=)`: calls in child processes, and what comes back from them."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from malloc import give_back
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

import stratatrace
from stratatrace import Measurement, MemoryLimitExceeded, memory_limit
from stratatrace.errors import (
    InvalidTypeError,
    InvalidValueError,
    IsolationError,
    IsolationTimeoutError,
)
from stratatrace.guards.isolation import ISOLATIONS
from stratatrace.guards.rlimit import SoftLimit
from stratatrace.testing import recording

from .programs import isolated

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stratatrace.guards.limit import MemoryLimit

MB = 1_000_000

# Python warns of forking where there are threads, such as a test runner's.
pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    """Measure into a list, and fail the test that leaves a child process."""
    with recording():
        yield
    assert not multiprocessing.active_children()


@pytest.fixture(params=["fork", "spawn"])
def limit(request: pytest.FixtureRequest) -> MemoryLimit:
    """Return a limit of 60 MB by each method."""
    return memory_limit("60MB", isolation=request.param)


def test_a_result_comes_back_with_its_measurement(limit: MemoryLimit) -> None:
    """From another process, with arguments of both sorts."""
    (total, pid), measurement = limit.run(isolated.add, 3, other=4)
    assert total == 7
    assert pid != os.getpid()
    assert isinstance(measurement, Measurement)
    assert measurement.callsite.name == "add"
    assert measurement.error_type is None


def test_the_measurement_is_the_childs(limit: MemoryLimit) -> None:
    """Its heap and its resident memory, to which the parent adds nothing."""
    give_back()  # A forked child has what its parent keeps.
    before = resident_bytes()
    result, measurement = limit.run(isolated.take, 40)
    assert result == 40 * MB
    assert measurement.heap_peak_bytes == pytest.approx(40 * MB, rel=0.05)
    grown = (measurement.rss_peak_bytes or 0) - (measurement.rss_before_bytes or 0)
    assert grown == pytest.approx(40 * MB, rel=0.2)
    assert resident_bytes() - before < 20 * MB


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_a_large_result_comes_back() -> None:
    """Larger than any pipe."""
    result, _ = memory_limit("200MB", isolation="spawn").run(isolated.large, 30)
    assert result == b"x" * (30 * MB)


def test_a_result_that_there_is_no_memory_to_send() -> None:
    """The child is held to its limit to the end."""
    with pytest.raises(MemoryLimitExceeded) as caught:
        memory_limit("100MB", isolation="spawn").run(isolated.large, 95)
    assert "MemoryError" in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("how", ["at once", "in small steps"])
def test_a_child_that_takes_too_much_is_ended(how: str, limit: MemoryLimit) -> None:
    """The error comes back with what is known of it, and the child's numbers."""
    with pytest.raises(MemoryLimitExceeded) as caught:
        if how == "at once":
            limit.run(isolated.take, 1000)
        else:
            limit.run(isolated.grow)
    error = caught.value
    assert error.budget_bytes == 60 * MB
    assert error.callsite is not None
    assert error.callsite.name in {"take", "grow"}
    assert error.measurement is not None
    assert error.measurement.error_type == "stratatrace.errors.MemoryLimitExceeded"
    assert "isolated.py" in str(error.__cause__)


@pytest.mark.parametrize("function", [isolated.swallow, isolated.stay_over])
def test_nothing_gets_around_the_parent(function: Any) -> None:
    """Not a child that minds no error, lets no thread of its own run, and takes shared memory."""
    with pytest.raises(MemoryLimitExceeded, match="was ended") as caught:
        memory_limit("60MB", isolation="spawn", timeout=60).run(function)
    assert (caught.value.used_bytes or 0) > 60 * MB


def test_an_exception_comes_back(limit: MemoryLimit) -> None:
    """As it was raised, with the child's traceback as its cause."""
    with pytest.raises(isolated.Trouble) as caught:
        limit.run(isolated.fail, "error")
    assert caught.value.args == ("mine", 7)
    assert 'raise Trouble("mine", 7)' in str(caught.value.__cause__)


def test_other_ends_come_back() -> None:
    """A MemoryError of the function's own, and a call of sys.exit()."""
    limit = memory_limit("60MB", isolation="fork")
    with pytest.raises(MemoryError) as caught:
        limit.run(isolated.fail, "memory error")
    assert type(caught.value) is MemoryError
    with pytest.raises(SystemExit) as ended:
        limit.run(isolated.fail, "exit")
    assert ended.value.code == 5


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("result", "'function', cannot be pickled"),
        ("unpicklable", "Trouble"),
        ("unreadable", "Unreadable"),
    ],
)
def test_what_cannot_be_brought_back_is_told(how: str, text: str) -> None:
    """By an error that has the child's own words."""
    with pytest.raises(IsolationError, match=text):
        memory_limit("60MB", isolation="fork").run(isolated.fail, how)


def test_a_result_that_cannot_be_read_is_told() -> None:
    """Though it could be pickled."""
    with pytest.raises(IsolationError, match="could not be read"):
        memory_limit("60MB", isolation="fork").run(isolated.unloadable)


def test_what_cannot_be_sent_is_told() -> None:
    """A function or an argument, and what to do."""
    limit = memory_limit("60MB", isolation="spawn")
    with pytest.raises(IsolationError, match="because it cannot be pickled"):
        limit.run(lambda: None)
    with pytest.raises(IsolationError, match="because its arguments cannot be pickled"):
        limit.run(isolated.add, threading.Lock())  # type: ignore[arg-type] # that is the case
    result, _ = memory_limit("60MB", isolation="fork").run(lambda: 7)
    assert result == 7


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGTERM", "SIGKILL"])
def test_a_child_that_is_killed_is_told(name: str) -> None:
    """By the signal's name; of the one that the kernel uses, that it does."""
    with pytest.raises(IsolationError, match=name) as caught:
        memory_limit("60MB", isolation="fork").run(isolated.fail, name)
    assert caught.value.exit_code == -getattr(signal, name)
    assert ("out of memory" in str(caught.value)) is (name == "SIGKILL")


def test_a_child_that_leaves_is_told() -> None:
    """With its exit status."""
    with pytest.raises(IsolationError, match="status 3") as caught:
        memory_limit("60MB", isolation="fork").run(isolated.fail, "leave")
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("how", ["sleep", "spin"])
def test_a_child_that_takes_too_long_is_ended(how: str) -> None:
    """Whether it waits, or computes and lets nobody run."""
    limit = memory_limit("60MB", isolation="fork", timeout=0.3)
    with pytest.raises(IsolationTimeoutError, match=r"0\.3 s") as caught:
        limit.run(isolated.fail, how)
    assert isinstance(caught.value, TimeoutError)


def test_a_function_that_was_wrapped_under_another_name() -> None:
    """Its own name leads to the function alone, which is what is sent."""
    limited = memory_limit("100MB", isolation="spawn")(isolated.add)
    assert limited(3, 4)[0] == 7


def test_a_decorated_function() -> None:
    """Each call is one child; the function keeps its name, and is run once."""
    size, pid = isolated.decorated(20)
    assert (size, isolated.decorated.__name__) == (20 * MB, "decorated")
    assert pid != os.getpid()
    with pytest.raises(MemoryLimitExceeded) as caught:
        isolated.decorated(1000)
    assert caught.value.callsite is not None
    assert caught.value.callsite.label == "decorated"


def test_a_decorated_method() -> None:
    """With the object that it is bound to."""
    number, pid = isolated.Store(6).scale(7)
    assert number == 42
    assert pid != os.getpid()


def test_a_child_of_a_child() -> None:
    """What is isolated may call what is isolated."""
    (size, _), _ = memory_limit("90MB", isolation="spawn").run(isolated.nested)
    assert size == MB


def test_what_a_forked_child_shares_is_not_its_growth(tmp_path: Path) -> None:
    """The pages of mapped files are its parent's, though it has to touch them again."""
    file = tmp_path / "mapped"
    with file.open("wb") as written:
        written.write(bytes(100 * MB))
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as pages:

        def read() -> int:
            return sum(pages[start] for start in range(0, len(pages), mmap.PAGESIZE))

        assert read() == 0
        result, _ = memory_limit("60MB", isolation="fork").run(read)
    assert result == 0


def test_a_child_within_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Is not under its parent's limits, but under its own, from its start."""
    monkeypatch.setattr(SoftLimit, "release_children", lambda _self: None)
    with memory_limit("60MB"):
        result, _ = memory_limit("300MB", isolation="spawn").run(isolated.take, 250)
    assert result == 250 * MB


def test_the_hard_limit_of_the_parent_is_its_own(limit: MemoryLimit) -> None:
    """Only the child's is lowered."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    (inside, _) = limit.run(resource.getrlimit, resource.RLIMIT_DATA)
    assert inside[1] != resource.RLIM_INFINITY
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_a_forkserver_does_as_well() -> None:
    """As its name says."""
    (total, _), _ = memory_limit("60MB", isolation="forkserver").run(isolated.add, 1)
    assert total == 1


@pytest.mark.parametrize(("started", "method"), [(0, "fork"), (1, "spawn")])
def test_it_forks_only_where_there_is_one_thread(started: int, method: str) -> None:
    """Else a child might wait for a lock for ever; the watchdog's thread does not count."""
    program = f"""
import threading
from stratatrace import memory_limit
from stratatrace.guards.isolation import Isolation
with memory_limit("60MB"):
    pass
gate = threading.Event()
threads = [threading.Thread(target=gate.wait) for _ in range({started})]
for thread in threads:
    thread.start()
print(Isolation(10**6, "process", None)._chosen_method())
gate.set()
"""
    folder = str(Path(stratatrace.__file__).parents[1])
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "PYTHONPATH": folder},
    )
    assert ran.stdout.strip() == method


def test_a_daemonic_process_has_no_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool's worker is one."""
    config: Any = multiprocessing.process.current_process()._config  # type: ignore[attr-defined]
    monkeypatch.setitem(config, "daemon", True)  # noqa: FBT003 -- its signature
    with pytest.raises(IsolationError, match="daemonic"):
        memory_limit("60MB", isolation="fork").run(isolated.add, 1)


def test_it_is_one_span_with_the_childs_numbers(limit: MemoryLimit) -> None:
    """And one call in the metrics; an error is its status."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with recording(tracer_provider=provider) as sink:
        limit.run(isolated.take, 40)
        with pytest.raises(MemoryLimitExceeded):
            limit.run(isolated.take, 1000)
        with pytest.raises(isolated.Trouble):
            limit.run(isolated.fail, "error")
    spans = exporter.get_finished_spans()
    assert [span.name for span in spans] == ["take", "take", "fail"]
    assert [m.callsite.name for m in sink.measurements] == ["take", "take", "fail"]
    peak = (spans[0].attributes or {})["stratatrace.heap.peak"]
    assert peak == pytest.approx(40 * MB, rel=0.05)
    assert [span.status.status_code for span in spans] == [
        StatusCode.UNSET,
        StatusCode.ERROR,
        StatusCode.ERROR,
    ]
    assert (spans[1].attributes or {})["stratatrace.limit.exceeded"] is True
    assert sink.measurements[2].error_type is not None
    provider.shutdown()


def test_a_child_that_died_has_a_span_without_numbers() -> None:
    """It ends, all the same."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with recording(tracer_provider=provider) as sink, pytest.raises(IsolationError):
        memory_limit("60MB", isolation="fork").run(isolated.fail, "leave")
    (span,) = exporter.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert sink.last.error_type == "stratatrace.errors.IsolationError"
    assert sink.last.rss_peak_bytes is None
    provider.shutdown()


def test_a_block_cannot_be_isolated() -> None:
    """It has no name by which a child could find it."""
    with (
        pytest.raises(InvalidTypeError, match="a block cannot"),
        memory_limit("60MB", isolation="process"),
    ):
        pytest.fail("it must not be entered")


def test_what_suspends_cannot_be_isolated() -> None:
    """Its work is not done when it returns."""

    async def coroutine() -> None:
        pass

    def generator() -> Iterator[int]:
        yield 1

    limit = memory_limit("60MB", isolation="process")
    for function in (coroutine, generator):
        with pytest.raises(InvalidTypeError, match="to its end"):
            limit(function)
        with pytest.raises(InvalidTypeError, match="to its end"):
            limit.run(function)


def test_misuse_is_answered() -> None:
    """With what was given, and what to do."""
    wrong: Any = memory_limit
    with pytest.raises(InvalidValueError, match=r"'thread'.*'process'"):
        memory_limit("1MB", isolation="thread")
    with pytest.raises(InvalidTypeError, match="on_exceed"):
        memory_limit("1MB", isolation="process", on_exceed="warn")
    with pytest.raises(InvalidTypeError, match="'3'"):
        wrong("1MB", isolation="process", timeout="3")
    for timeout in (0, -1, float("inf"), float("nan")):
        with pytest.raises(InvalidValueError, match="greater than zero"):
            memory_limit("1MB", isolation="process", timeout=timeout)
    with pytest.raises(InvalidTypeError, match="isolation='process'"):
        memory_limit("1MB").run(isolated.add, 1)
    with pytest.raises(InvalidTypeError, match="not callable"):
        wrong("1MB", isolation="process").run(7)
    assert {"process", "fork", "spawn", "forkserver"} == set(ISOLATIONS)
