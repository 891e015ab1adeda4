"""Forks in the middle of measured calls; prints, as JSON, what parent and child have measured.

``python forking.py PROBE``.

The child writes through a pipe, so that neither buffers nor exit handlers are shared.
"""

from __future__ import annotations

import json
import os
import sys
import tracemalloc
from typing import TYPE_CHECKING, Any

from stratatrace import profile_memory
from stratatrace.config import Config
from stratatrace.recorder import Recorder, active
from stratatrace.testing import ListSink

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 2**20

sink = ListSink()
recorder = Recorder(Config(probe=sys.argv[1]), sinks=(sink,))
active.install(recorder)


@profile_memory(name="grows")
def grows() -> bytearray:
    """Take and use memory, so that the resident set grows by it."""
    return bytearray(b"x") * (64 * MIB)


@profile_memory(name="suspended")
def suspended() -> Iterator[int]:
    """Be suspended while the process forks."""
    for number in range(4):
        kept = bytearray(MIB)
        yield number
        del kept


@profile_memory(name="forks")
def forks() -> int:
    """Fork in the middle of a call."""
    return os.fork()


def totals() -> dict[str, int]:
    """Return how many calls the metrics count, by the name that was given."""
    return {
        str(t.attributes.get("stratatrace.callsite")): t.calls
        for t in recorder.metrics._totals.values()
        if t.calls
    }


def told() -> dict[str, Any]:
    """Return what this process knows of its own measurements."""
    heap, rss = recorder.accounts.heap, recorder.accounts.rss
    assert heap is not None
    assert rss is not None
    return {
        "names": [m.callsite.name for m in sink.measurements],
        "totals": totals(),
        "failures": recorder.guard.failures,
        "tracing": tracemalloc.is_tracing(),
        "heap charging": heap.charging,
        "rss charging": rss.charging,
    }


def child(steps: Iterator[int], write_to: int) -> None:
    """Measure in the forked process, and tell the parent."""
    inherited = told()
    rest = list(steps)
    before = sink.measurements[:]
    kept = grows()
    grown = sink.last
    active.install(None)
    text = json.dumps(
        {
            "inherited": inherited,
            "rest": rest,
            "names": [m.callsite.name for m in sink.measurements[len(before) :]],
            "heap": grown.heap_net_bytes,
            "rss growth": (grown.rss_peak_bytes or 0) - (grown.rss_before_bytes or 0),
            "after": told(),
            "kept": len(kept),
        }
    )
    os.write(write_to, text.encode())
    os._exit(0)


def main() -> None:
    """Fork within one call and between the steps of another."""
    grows()
    steps = suspended()
    next(steps)
    read_from, write_to = os.pipe()
    pid = forks()
    if not pid:
        child(steps, write_to)
    os.close(write_to)
    with os.fdopen(read_from) as pipe:
        from_child = json.load(pipe)
    os.waitpid(pid, 0)
    rest = list(steps)
    active.install(None)
    json.dump({"child": from_child, "parent": {**told(), "rest": rest}}, sys.stdout)


if __name__ == "__main__":
    main()
