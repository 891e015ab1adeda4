"""What measuring a call costs: each line is a ratio of two loops, timed in turn in one process."""

from __future__ import annotations

import asyncio
import functools
import gc
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from stratatrace import MemorySpanProcessor, profile_memory
from stratatrace.config import Config
from stratatrace.recorder import Recorder, active
from stratatrace.testing import recording

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

ROUNDS = 25


def bare() -> None:
    """Do nothing: the cost of a call is all there is."""


@functools.wraps(bare)
def closure(*args: Any, **kwargs: Any) -> None:
    """Call through the thinnest decorator that there is."""
    return bare(*args, **kwargs)


measured = profile_memory(bare)


class Holder:
    """Methods, for what binding adds."""

    def bare(self) -> None:
        """Do nothing."""

    measured = profile_memory(bare)

    def wrapped(self, *args: Any, **kwargs: Any) -> None:
        """Call through a closure."""
        return self.bare(*args, **kwargs)


def per_call_ns(function: Callable[[], object], calls: int) -> float:
    """Return the mean time of a call in a loop, in ns."""
    started = time.perf_counter_ns()
    for _ in range(calls):
        function()
    return (time.perf_counter_ns() - started) / calls


def compare(
    title: str, ours: Callable[[], object], theirs: Callable[[], object], calls: int, goal: str
) -> None:
    """Print the medians of both, and the median of the ratios pair by pair."""
    pairs = []
    for _ in range(ROUNDS):
        theirs_ns = per_call_ns(theirs, calls)
        pairs.append((per_call_ns(ours, calls), theirs_ns))
    ours_ns, theirs_ns = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"{title:58} {ours_ns:9,.0f} ns {theirs_ns:9,.0f} ns {ratio:7.2f}x  {goal}")


def hand_written_span(provider: TracerProvider) -> Callable[[], None]:
    """Return a call with a span written by hand, with as many attributes as ours."""
    tracer = provider.get_tracer("bench")
    numbers = {f"app.number{index}": index for index in range(11)}

    def call() -> None:
        with tracer.start_as_current_span(
            "bare",
            attributes={
                "code.function.name": "bare",
                "code.file.path": "bench.py",
                "code.line.number": 1,
            },
        ) as span:
            bare()
            span.set_attributes(numbers)

    return call


class Dropping(SpanExporter):
    """An exporter that costs nothing: what is compared is what a span costs before it."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Drop them."""
        return SpanExportResult.SUCCESS


def bare_span(provider: TracerProvider) -> Callable[[], None]:
    """Return a call that makes a span as an instrumentation does."""
    tracer = provider.get_tracer("bench")
    attributes: dict[str, str | int | bool] = {
        "http.request.method": "GET",
        "url.path": "/",
        "server.port": 80,
        "app.cached": True,
    }

    def call() -> None:
        with tracer.start_as_current_span("bare", attributes=attributes):
            bare()

    return call


def exporting_provider(*processors: MemorySpanProcessor) -> TracerProvider:
    """Return a provider with such processors, and then a batch that is dropped."""
    provider = TracerProvider(shutdown_on_exit=False)
    for processor in (*processors, BatchSpanProcessor(Dropping())):
        provider.add_span_processor(processor)
    return provider


def compare_spans() -> None:
    """Print what `MemorySpanProcessor` makes of a span, and of a task's step."""
    with active.replaced(Recorder(Config())):
        alone = exporting_provider()
        for title, processor, goal in (
            ("span with all numbers / span alone", MemorySpanProcessor(), "1.35x"),
            ("span with heap and gc / span alone", MemorySpanProcessor(numbers=["heap", "gc"]), ""),
        ):
            measuring = exporting_provider(processor)
            compare(title, bare_span(measuring), bare_span(alone), 1000, goal)
            measuring.shutdown()
        alone.shutdown()
        processor = MemorySpanProcessor()
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            compare(
                "100 steps of a task that is followed / not",
                lambda: loop.run_until_complete(loop.create_task(steps())),
                lambda: loop.run_until_complete(asyncio.Task(steps(), loop=loop)),
                100,
                "",
            )
        processor.shutdown()


async def steps() -> None:
    """Let others have their turn again and again."""
    for _ in range(100):
        await asyncio.sleep(0)


def main() -> None:
    """Print the table."""
    gc.disable()
    print(f"CPython {sys.version.split()[0]}; median of {ROUNDS} pairs")
    print(f"{'':58} {'ours':>12} {'other':>12} {'ratio':>8}  budget")
    holder = Holder()
    with recording(Config(disabled=True)):
        compare("disabled function / functools.wraps closure", measured, closure, 50_000, "1.3x")
        compare(
            "disabled method / closure method", holder.measured, holder.wrapped, 50_000, "(1.3x)"
        )
    for title, config, goal in (
        ("heap", Config(rss_peak="off"), "2,000 ns"),
        ("heap and exact peak RSS", Config(), "5,000 ns"),
        ("exact peak RSS", Config(probe="rss"), ""),
    ):
        with active.replaced(Recorder(config)):
            compare(f"measured, no span, {title} / bare", measured, bare, 20_000, goal)
    for share in (0.02, 0.001):
        with active.replaced(Recorder(Config(max_overhead=share))):
            per_call_ns(measured, 10_000_000)  # Until the ratio has settled.
            assert active.recorder.governor is not None
            active.recorder.governor.take_overhead()
            title = f"max_overhead={share}, most calls left out / closure"
            compare(title, measured, closure, 50_000, "1.3x")
            ratio = min(site.ratio for site in active.recorder.governor.sites())
            overhead = active.recorder.governor.take_overhead()
            print(f"{'':4}measured 1 call in {1 / ratio:,.0f}; overhead {overhead:.2%}")
    provider = TracerProvider(shutdown_on_exit=False)
    exporter = InMemorySpanExporter()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    for probe in ("rss", "auto", "tracemalloc"):
        with recording(Config(probe=probe), tracer_provider=provider, strict=False):
            compare(
                f"measured with a span, {probe} probe / span by hand",
                measured,
                hand_written_span(provider),
                400,
                "1.5x" if probe != "tracemalloc" else "",
            )
    provider.shutdown()
    compare_spans()


if __name__ == "__main__":
    main()
