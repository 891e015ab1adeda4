"""What measuring a call costs: each line is a ratio of two loops, timed in turn in one process."""

from __future__ import annotations

import functools
import gc
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from stratatrace import profile_memory
from stratatrace.config import Config
from stratatrace.recorder import Recorder, active
from stratatrace.testing import recording

if TYPE_CHECKING:
    from collections.abc import Callable

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


if __name__ == "__main__":
    main()
