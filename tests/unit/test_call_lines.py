"""The lines of calls: of what they keep and of what they held, each against what is known."""

from __future__ import annotations

import asyncio
import inspect
import threading
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from stratatrace import profile_memory
from stratatrace.config import Config
from stratatrace.errors import InvalidTypeError, InvalidValueError
from stratatrace.probes import native_obstacle
from stratatrace.probes.allocations import AllocationSampler
from stratatrace.testing import recording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stratatrace.measurement import Measurement
    from stratatrace.stacks import LineGrowth

native = pytest.mark.skipif(native_obstacle() is not None, reason="no compiled part")
MIB = 1 << 20


def _sampled() -> Config:
    # Made where it is used: it cannot be, where there is no compiled part.
    return Config(probe="native", sample_allocations=4096)


def _line_of(function: Callable[..., Any], text: str) -> int:
    lines, first = inspect.getsourcelines(inspect.unwrap(function))
    return first + next(number for number, line in enumerate(lines) if text in line)


def _by_line(lines: tuple[LineGrowth, ...] | None) -> dict[int, LineGrowth]:
    assert lines is not None
    return {line.line: line for line in lines if line.file == __file__}


@pytest.fixture
def provider() -> Iterator[TracerProvider]:
    """Have spans that are recorded: the lines of others are not told."""
    provider = TracerProvider(shutdown_on_exit=False)
    yield provider
    provider.shutdown()


@profile_memory(top=3)
def keeps(others: list[Any]) -> list[Any]:
    """Take more than it keeps, from lines that are known."""
    passing = [bytearray(1000) for _ in range(4000)]
    del passing
    kept: list[Any] = [bytes(2000) for _ in range(2000)]
    kept.append(bytearray(MIB))
    others.append(kept)
    return kept


@pytest.mark.parametrize("probe", [pytest.param("native", marks=native), "tracemalloc"])
def test_the_lines_are_those_of_what_is_kept(probe: str, provider: TracerProvider) -> None:
    """What was freed before the end is not among them; errors say how right they are."""
    config = _sampled() if probe == "native" else Config(probe=probe)
    with recording(config, tracer_provider=provider) as sink:
        kept: list[Any] = []
        keeps(kept)
        keeps(kept)
    small, large = (_line_of(keeps, text) for text in ("bytes(2000)", "bytearray(MIB)"))
    for measurement in sink.measurements:
        lines = _by_line(measurement.top_lines)
        assert list(lines) == [small, large]
        for line, truth in ((small, 2000 * 2033), (large, MIB)):
            # Five standard errors, and what a list takes.
            assert lines[line].bytes == pytest.approx(
                truth, abs=lines[line].error_bytes / 1.96 * 5 + 30_000
            )
        assert (lines[small].error_bytes == 0) == (probe == "tracemalloc")
        assert lines[small].error_bytes < 2_000_000


@native
def test_they_are_on_the_span(provider: TracerProvider) -> None:
    """As lists, which have the same order."""
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with recording(_sampled(), tracer_provider=provider) as sink:
        keeps([])
    (span,), (measurement,) = exporter.get_finished_spans(), sink.measurements
    told: Any = span.attributes
    lines = measurement.top_lines or ()
    assert told["stratatrace.lines.top"][0] == (f"{__file__}:{lines[0].line} {lines[0].function}")
    assert lines[0].function.startswith("keeps")
    assert told["stratatrace.lines.top_bytes"] == tuple(line.bytes for line in lines)
    assert told["stratatrace.lines.top_errors"] == tuple(line.error_bytes for line in lines)
    assert measurement.to_dict()["top_lines"][0]["line"] == lines[0].line
    assert "stratatrace.lines.peak" not in told


@native
def test_only_what_the_call_itself_allocates_is_among_them(provider: TracerProvider) -> None:
    """Not what is from before it, and not what a thread allocates beside it."""
    allocated, go_on = threading.Event(), threading.Event()
    others: list[bytearray] = []

    def beside() -> None:
        go_on.wait(30)
        others.append(bytearray(8 * MIB))
        allocated.set()

    @profile_memory(top=50)
    def within() -> bytearray:
        kept = bytearray(2 * MIB)
        go_on.set()
        allocated.wait(30)
        return kept

    with recording(_sampled(), tracer_provider=provider) as sink:
        before = bytearray(4 * MIB)
        thread = threading.Thread(target=beside)
        thread.start()
        within()
        thread.join()
    assert len(before) + len(others[0]) == 12 * MIB
    assert set(_by_line(sink.measurements[-1].top_lines)) == {
        _line_of(within, "bytearray(2 * MIB)")
    }


@native
def test_tasks_that_take_turns_each_have_their_own(provider: TracerProvider) -> None:
    """A coroutine has what its own steps allocate."""

    @profile_memory(top=5)
    async def one(kept: list[bytearray]) -> None:
        for _ in range(5):
            kept.append(bytearray(MIB))
            await asyncio.sleep(0)

    @profile_memory(top=5)
    async def another(kept: list[bytearray]) -> None:
        for _ in range(5):
            kept.append(bytearray(2 * MIB))
            await asyncio.sleep(0)

    async def both() -> None:
        kept: list[bytearray] = []
        await asyncio.gather(one(kept), another(kept))

    with recording(_sampled(), tracer_provider=provider) as sink:
        asyncio.run(both())
    for measurement, function, size in zip(
        sink.measurements, (one, another), (5 * MIB, 10 * MIB), strict=True
    ):
        (line,) = measurement.top_lines or ()
        assert line.line == _line_of(function, "bytearray(")
        assert line.bytes == pytest.approx(size, rel=0.01)


@profile_memory(budget="3 MiB")
def peaks() -> bytes:
    """Hold most in the middle."""
    first = bytearray(MIB)
    middle = bytearray(4 * MIB)
    del middle
    last = bytearray(2 * MIB)
    return bytes(len(first) + len(last) - 3 * MIB)


@native
def test_a_call_that_breaks_its_budget_tells_what_it_held_at_its_peak() -> None:
    """And not what it held before or after."""
    with recording(_sampled()) as sink:
        peaks()
    lines = _by_line(sink.measurements[0].peak_lines)
    assert list(lines) == [
        _line_of(peaks, "middle = bytearray"),
        _line_of(peaks, "first = bytearray"),
    ]
    assert sink.measurements[0].top_lines is None


def _record(calls: list[int], config: Config) -> list[Measurement]:
    @profile_memory
    def holds(size: int) -> int:
        return len(bytearray(size))

    with recording(config) as sink:
        for size in calls:
            holds(size)
    return list(sink.measurements)


@native
def test_a_call_that_breaks_its_own_record_tells_it_too() -> None:
    """Where there were calls to break the record of, and by more than a little."""
    usual = [100_000 + number for number in range(20)]
    told = [m.peak_lines for m in _record([*usual, 110_000, MIB, 900_000], _sampled())]
    assert told[:-2] == [None] * 21
    assert [line.bytes for line in told[-2] or ()] == [pytest.approx(MIB, rel=0.01)]
    assert told[-1] is None


@native
def test_nothing_is_told_where_nothing_is_sampled() -> None:
    """A broken budget alone begins no sampling."""
    with recording(Config(probe="native")) as sink:
        peaks()
    assert sink.measurements[0].peak_lines is None


@native
def test_a_peak_too_long_ago_is_not_known() -> None:
    """Later events have taken the place of its own: no lines are better than some of them."""

    @profile_memory(budget=1)
    def long() -> None:
        peak = bytearray(MIB)
        del peak
        for _ in range(40_000):
            bytearray(5000)

    with recording(Config(probe="native", sample_allocations=64)) as sink:
        long()
    assert sink.measurements[0].peak_lines is None


@native
def test_sampling_begins_with_the_first_call_and_ends_with_the_recorder(
    provider: TracerProvider,
) -> None:
    """Nobody pays for it who has not asked for it."""
    unused = AllocationSampler()
    with recording(Config(probe="native"), tracer_provider=provider):
        assert unused.mean_bytes == 0
        keeps([])
        assert unused.mean_bytes == 512 * 1024
    assert unused.mean_bytes == 0


@pytest.mark.parametrize("top", [0, 51, -1])
def test_a_number_of_lines_that_makes_no_sense(top: int) -> None:
    """It is refused at once, and the bounds are said."""
    with pytest.raises(InvalidValueError, match="1 to 50"):
        profile_memory(top=top)


@pytest.mark.parametrize("top", [True, "5", 2.0])
def test_lines_by_something_that_is_no_number(top: Any) -> None:
    """Likewise."""
    with pytest.raises(InvalidTypeError, match="number of lines"):
        profile_memory(top=top)


def test_a_sample_needs_the_native_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so, and what to do; sizes of the environment may be text."""
    with pytest.raises(InvalidValueError, match="native heap probe"):
        Config(probe="tracemalloc", sample_allocations=4096)
    if native_obstacle() is None:
        monkeypatch.setenv("OTEL_PYTHON_STRATATRACE_SAMPLE_ALLOCATIONS", "64 KiB")
        assert Config.from_environment().sample_allocations == "64 KiB"
        monkeypatch.setenv("OTEL_PYTHON_STRATATRACE_SAMPLE_ALLOCATIONS", "some")
        with pytest.raises(InvalidValueError, match="SAMPLE_ALLOCATIONS='some'"):
            Config.from_environment()
