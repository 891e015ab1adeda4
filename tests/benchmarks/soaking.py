"""Whether measuring a million spans leaves anything behind: the memory after each tenth of them.

Spans of all kinds in turn, through a processor and a batch of the SDK's, whose exporter drops them:
plain, nested, in tasks, in threads that die, never ended, ended twice, of ten thousand names.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from stratatrace import MemorySpanProcessor
from stratatrace.config import Config
from stratatrace.recorder import Recorder, active

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Tracer

MOST_NAMES = 10_000
SPANS = 1_000_000
LOOKS = 10
TASKS = 10


class Dropping(SpanExporter):
    """An exporter that keeps nothing."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Drop them."""
        return SpanExportResult.SUCCESS


class Look(NamedTuple):
    """How much memory the process has after so many spans."""

    spans: int
    blocks: int
    resident_bytes: int
    seconds: float


class Soak:
    """Makes spans of all kinds in turn.

    Args:
        tracer: What makes them.
        names: How many different names they have.
    """

    def __init__(self, tracer: Tracer, *, names: int) -> None:
        self._tracer = tracer
        self._names = names
        self.spans = 0

    def _name(self) -> str:
        self.spans += 1
        return f"span {self.spans % self._names}"

    def plain(self) -> None:
        """Make one that takes some memory and gives it back."""
        with self._tracer.start_as_current_span(self._name(), attributes={"app.number": 1}):
            bytearray(1000)

    def nested(self) -> None:
        """Make three, each within another."""
        start = self._tracer.start_as_current_span
        with start(self._name()), start(self._name()), start(self._name()):
            bytearray(1000)

    def twice(self) -> None:
        """Make one that is ended twice."""
        span = self._tracer.start_span(self._name())
        span.end()
        span.end()

    def never(self) -> None:
        """Make one that nobody ends."""
        self._tracer.start_span(self._name())

    def threaded(self) -> None:
        """Make some in a thread that dies, with one open, and one that another thread ends."""
        left = []

        def work() -> None:
            self.plain()
            self.nested()
            self.never()
            left.append(self._tracer.start_span(self._name()))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        left[0].end()

    async def tasks(self) -> None:
        """Make some in tasks that take turns, which one span has begun."""

        async def task() -> None:
            with self._tracer.start_as_current_span(self._name()):
                held = bytearray(1000)
                await asyncio.sleep(0)
                self.nested()
                del held
            self.never()

        with self._tracer.start_as_current_span(self._name()):
            await asyncio.gather(*(task() for _ in range(TASKS)))

    def run(self, spans: int) -> None:
        """Make so many, or a few more."""
        goal = self.spans + spans

        async def in_tasks() -> None:
            for _ in range(10):
                await self.tasks()

        while self.spans < goal:
            asyncio.run(in_tasks())
            for _ in range(100):
                self.plain()
                self.nested()
                self.never()
            for _ in range(10):
                self.twice()
                self.threaded()


def soak(spans: int, *, looks: int = LOOKS, names: int = MOST_NAMES) -> Iterator[Look]:
    """Make so many spans, and look after each part of them."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(MemorySpanProcessor())
    provider.add_span_processor(BatchSpanProcessor(Dropping()))
    work = Soak(provider.get_tracer("soak"), names=names)
    started = time.perf_counter()
    for _ in range(looks):
        work.run(spans // looks)
        provider.force_flush()
        gc.collect()
        yield Look(
            work.spans, sys.getallocatedblocks(), _resident_bytes(), time.perf_counter() - started
        )
    provider.shutdown()


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Print the table, for one probe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=int, default=SPANS)
    parser.add_argument("--probe", default="native", choices=("native", "tracemalloc"))
    arguments = parser.parse_args()
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)  # It warns of each second end.
    # Tracing is sampled, so that most of what is there was never traced.
    ratio = None if arguments.probe == "native" else 0.01
    with active.replaced(Recorder(Config(probe=arguments.probe, sample_ratio=ratio))):
        print(f"CPython {sys.version.split()[0]}, {arguments.probe}")
        print(f"{'spans':>10} {'blocks':>10} {'resident':>12} {'seconds':>8}")
        taken = []
        for look in soak(arguments.spans):
            taken.append(look)
            print(
                f"{look.spans:10,} {look.blocks:10,} {look.resident_bytes / 1e6:9.2f} MB"
                f" {look.seconds:8.1f}"
            )
    first, last = taken[0], taken[-1]
    hundred_thousands = (last.spans - first.spans) / 100_000
    blocks = (last.blocks - first.blocks) / hundred_thousands
    resident = (last.resident_bytes - first.resident_bytes) / hundred_thousands
    print(f"growth per 100,000 after the first: {blocks:+,.1f} blocks, {resident / 1e3:+,.1f} kB")


if __name__ == "__main__":
    main()
