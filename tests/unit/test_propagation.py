"""Work that is handed to other processes and threads stays in its trace, measured."""

from __future__ import annotations

import functools
import json
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import TracerProvider

from stratatrace import profile_memory, propagate
from stratatrace.config import Config
from stratatrace.propagation import carrying
from stratatrace.recorder import active
from stratatrace.testing import recording

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from stratatrace import Measurement

PROGRAMS = Path(__file__).parent / "programs"
MIB = 2**20


class Written(NamedTuple):
    """A span as it stands in the file."""

    name: str
    trace: str
    parent: str | None
    process: int
    attributes: dict[str, Any]


def written(path: Path) -> list[Written]:
    """Return all spans of an OTLP file."""
    return [
        Written(
            span["name"],
            span["traceId"],
            span.get("parentSpanId"),
            int(_attributes(resource["resource"])["process.pid"]),
            _attributes(span),
        )
        for line in path.read_text().splitlines()
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


def _attributes(part: dict[str, Any]) -> dict[str, Any]:
    return {a["key"]: next(iter(a["value"].values())) for a in part["attributes"]}


def run(program: str, *arguments: object) -> Any:
    """Run a program, which must print nothing but its JSON."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(PROGRAMS / program), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return json.loads(ran.stdout)


@pytest.mark.parametrize("start_method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("way", ["executor", "pool", "process", "event loop"])
def test_workers_join_the_trace(way: str, start_method: str, tmp_path: Path) -> None:
    """Each task has one span, of its worker, below the call that handed it out."""
    output = tmp_path / "spans.jsonl"
    told = run("workers.py", way, start_method, output)

    spans = [span for span in written(output) if span.name == "work"]
    assert {(span.trace, span.parent) for span in spans} == {(told["trace"], told["span"])}
    assert all(tenant == "acme" for _, _, tenant in told["results"])
    # The memory is that of the worker which says that it held it.
    done = sorted((process, size) for process, size, _ in told["results"])
    measured = sorted(
        (span.process, int(span.attributes["stratatrace.heap.peak"]) // 1024 * 1024)
        for span in spans
    )
    assert [process for process, _ in measured] == [process for process, _ in done]
    assert told["pid"] not in dict(measured)
    assert [size for _, size in measured] == pytest.approx([s for _, s in done], abs=4096)


def test_a_server_that_forks_its_workers_first(tmp_path: Path) -> None:
    """Every request is told of once, by its worker, in its client's trace, after SIGTERM too."""
    output = tmp_path / "spans.jsonl"
    told = run("preforking.py", 3, 24, output)

    assert told["exits"] == [0, 0, 0]
    first, *spans = sorted(written(output), key=lambda span: int(span.trace, 16) >> 64 == 0)
    assert first.process == told["master"]
    spans.sort(key=lambda span: span.trace)
    assert [(span.trace, span.process) for span in spans] == [
        (trace_id, process) for trace_id, process, _ in told["answers"]
    ]
    assert [int(span.attributes["stratatrace.heap.peak"]) for span in spans] == pytest.approx(
        [size for _, _, size in told["answers"]], rel=0.01
    )


def test_a_thread_works_in_the_same_trace() -> None:
    """And has all of the context, not only what a carrier holds."""
    provider = TracerProvider(shutdown_on_exit=False)
    tracer = provider.get_tracer("app")
    with tracer.start_as_current_span("request") as span, ThreadPoolExecutor(1) as pool:
        token = context.attach(context.set_value("only here", object()))
        current = context.get_current()
        seen = pool.submit(propagate(context.get_current)).result(30)
        context.detach(token)
        assert seen == current
        assert trace.get_current_span(seen) is span
    provider.shutdown()


def test_a_workers_own_context_is_put_back() -> None:
    """After each call, also one that raises; the error is the same object."""
    error = LookupError("no")

    def fail() -> None:
        raise error

    token = context.attach(baggage.set_baggage("tenant", "acme"))
    work, failing = propagate(baggage.get_all), propagate(fail)
    context.detach(token)

    before = context.get_current()
    assert dict(work()) == {"tenant": "acme"}
    with pytest.raises(LookupError) as caught:
        failing()
    assert caught.value is error
    assert context.get_current() is before


def pure(first: int, *, second: int) -> int:
    """Return the sum."""
    return first + second


def test_it_is_called_and_named_as_the_function() -> None:
    """Arguments and results pass through, here and after any number of picklings."""
    work = propagate(pure)
    for _ in range(3):
        assert work(1, second=2) == 3
        assert (work.__name__, work.__doc__) == ("pure", "Return the sum.")
        work = pickle.loads(pickle.dumps(work))
    assert propagate(functools.partial(pure, second=5))(1) == 6


async def coroutine() -> None:
    """Do nothing, later."""


def generator() -> Iterator[int]:
    """Do nothing, later."""
    yield 1


async def async_generator() -> AsyncIterator[int]:
    """Do nothing, later."""
    yield 1


@pytest.mark.parametrize(
    ("func", "said"),
    [
        (3, "for a worker to call, not 3"),
        (coroutine, r"\(coroutine\) is not: propagate the function that runs it"),
        (profile_memory(coroutine), r"\(coroutine\)"),
        (generator, r"\(generator\)"),
        (async_generator, r"\(async generator\)"),
    ],
)
def test_what_is_not_done_when_it_returns_is_refused(func: Any, said: str) -> None:
    """At once, where the mistake is made."""
    with pytest.raises(TypeError, match=said):
        propagate(func)


class Unpicklable:
    """A scorer that cannot leave its process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def score(self, measurement: Measurement, budget_bytes: int | None) -> None:
        """Judge nothing."""


def test_a_configuration_that_cannot_be_pickled_stays_here(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The work goes all the same, and a warning says what does not."""
    with recording(Config(scorer=Unpicklable())):
        pickled = pickle.dumps(propagate(pure))
    assert "workers do not measure as this process does" in caplog.text
    assert pickle.loads(pickled)(1, second=2) == 3
    assert not active.configured


def test_an_executor_that_carries_is_the_executor_that_it_is() -> None:
    """Its work joins the trace of who submits it, and what it refuses it still refuses."""
    executor = carrying(ThreadPoolExecutor)
    assert issubclass(executor, ThreadPoolExecutor)
    assert (executor.__name__, executor.__module__) == (
        ThreadPoolExecutor.__name__,
        ThreadPoolExecutor.__module__,
    )
    provider = TracerProvider(shutdown_on_exit=False)
    with executor(max_workers=1) as pool:
        with provider.get_tracer("test").start_as_current_span("outer") as span:
            seen = pool.submit(trace.get_current_span).result()
            added = pool.submit(pure, 1, second=2).result()
            nothing: Any = None
        refused = pool.submit(nothing)
        assert seen.get_span_context() == span.get_span_context()
        assert added == 3
        assert isinstance(refused.exception(), TypeError)
        assert pool.submit(trace.get_current_span).result() is trace.INVALID_SPAN
    provider.shutdown()


@pytest.mark.parametrize("breaks", ["inject", "extract"])
def test_a_propagator_that_fails_does_not_reach_the_program(
    breaks: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The work is done without its trace."""

    def fail(*_args: object) -> None:
        msg = "broken propagator"
        raise RuntimeError(msg)

    monkeypatch.setattr(f"opentelemetry.propagate.{breaks}", fail)
    assert pickle.loads(pickle.dumps(propagate(pure)))(1, second=2) == 3
    assert "broken propagator" in caplog.text


def test_a_setup_that_fails_in_a_worker_does_not_reach_the_program(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is tried once, told of once, and the work is done."""
    work = propagate(pure)
    vars(work)["_setup"] = b"no pickle"
    try:
        assert [work(1, second=2) for _ in range(2)] == [3, 3]
    finally:
        active.configured = False
    assert caplog.text.count("is not set up in this worker") == 1


def test_a_worker_that_has_configured_itself_is_left_alone() -> None:
    """What came with the work is for workers that have not."""
    with recording(Config(probe="rss")):
        pickled = pickle.dumps(propagate(pure))
    with recording(Config(probe="tracemalloc")) as sink:
        assert pickle.loads(pickled)(1, second=2) == 3
        assert pickle.loads(pickled)(1, second=2) == 3
        recorder = active.recorder
        profile_memory(pure)(1, second=2)
        assert active.recorder is recorder
        assert sink.last.heap_net_bytes is not None
