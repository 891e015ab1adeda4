"""Runs one program under one tool: a round for each line of input, answered with its time.

A process of its own, because no tool leaves one as it was. It sleeps between two rounds, so that
those of two such processes can be run in turn.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import sys
import tempfile
import time
import tracemalloc
from typing import TYPE_CHECKING

from five_programs import PROGRAMS

if TYPE_CHECKING:
    from collections.abc import Callable

# Nothing listens there: what a tool sends is lost at once.
NOBODY = "http://127.0.0.1:9"


def nothing() -> None:
    """Start no tool; or the tool is the one that runs this file."""


def native() -> None:
    """Count natively from now on."""
    # What the others do without must not be in their numbers.
    from stratatrace.probes.native import NativeProbe  # noqa: PLC0415

    NativeProbe().open()


def sampling() -> None:
    """Count natively and sample, with tracebacks, a block every 512 KiB."""
    from stratatrace.probes.allocations import AllocationSampler  # noqa: PLC0415 -- as above

    AllocationSampler().open()


def ddtrace() -> None:
    """Start ddtrace's memory profiler as its `Profiler` does, with no agent to report to."""
    ddup = importlib.import_module("ddtrace.internal.datadog.profiling.ddup")
    collector = importlib.import_module("ddtrace.profiling.collector.memalloc")
    folder = tempfile.mkdtemp()
    ddup.config(service="bench", env="bench", version="0", output_filename=f"{folder}/profile")
    ddup.start()
    collector.MemoryCollector().start()


def pyroscope() -> None:
    """Start pyroscope's memory profiler alone."""
    importlib.import_module("pyroscope").configure(
        application_name="bench", server_address=NOBODY, mem_enabled=True, cpu_enabled=False
    )


#: What starts each tool.
TOOLS: dict[str, Callable[[], None]] = {
    "bare": nothing,
    "native": native,
    "sampling": sampling,
    "tracemalloc": tracemalloc.start,
    "memray": nothing,
    "ddtrace": ddtrace,
    "pyroscope": pyroscope,
}


def main() -> None:
    """Run a round to warm up, and then one for each line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tool", choices=TOOLS)
    parser.add_argument("program", choices=PROGRAMS)
    parser.add_argument("scale", type=float)
    options = parser.parse_args()
    one_round = PROGRAMS[options.program](options.scale)
    # After numpy was imported, whose arrays the native counters would miss otherwise.
    TOOLS[options.tool]()
    one_round()
    # Collections must not walk what a tool has imported: that is no cost of its hooks.
    gc.collect()
    gc.freeze()
    print("ready", flush=True)
    for _ in sys.stdin:
        gc.collect()
        started = time.process_time_ns()
        one_round()
        print(time.process_time_ns() - started, flush=True)
    if options.tool in {"ddtrace", "pyroscope"}:
        os._exit(0)  # They would wait for an upload that cannot succeed.


if __name__ == "__main__":
    main()
