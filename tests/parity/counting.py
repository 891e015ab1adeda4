"""What a program takes, as the native counters and as tracemalloc see it."""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
import threading
import tracemalloc
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "Taken",
    "compared",
    "counters",
    "counting",
    "in_thread",
    "native",
    "no_collections",
    "run_python",
    "settled",
    "traced",
    "tracing",
]

if TYPE_CHECKING:
    from stratatrace.probes import _counters as counters
else:
    counters = pytest.importorskip(
        "stratatrace.probes._counters",
        reason="the native heap probe is not built here",
        exc_type=ImportError,
    )

# The first runs fill caches and free lists. What is compared is what so many runs agree on.
AGREEING_RUNS = 5
MOST_RUNS = 100


class Taken(NamedTuple):
    """What a program keeps, the highest it had in between, and what is left without that."""

    net_bytes: int
    peak_bytes: int
    left_bytes: int = 0


@contextlib.contextmanager
def counting() -> Iterator[None]:
    """Count natively, numpy too where it is imported."""
    counters.start()
    counters.count_numpy()
    try:
        yield
    finally:
        counters.forget_numpy()
        counters.stop()


@contextlib.contextmanager
def no_collections() -> Iterator[None]:
    """Have the garbage collector free nothing in between."""
    if not gc.isenabled():
        yield
        return
    gc.freeze()  # Nothing of the test run itself has to be looked through.
    gc.collect()  # The program's garbage, and what is in the free lists.
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def native(program: Callable[[], object]) -> Taken:
    """Return what the program takes by the native counters, which are counting."""
    return settled(lambda: _native(program))


def traced(program: Callable[[], object]) -> Taken:
    """Return what the program takes by tracemalloc, which is tracing."""
    nothing = settled(lambda: _traced(_do_nothing))
    taken = settled(lambda: _traced(program))
    # What the reading itself takes is counted, too.
    return Taken(*(ours - empty for ours, empty in zip(taken, nothing, strict=True)))


def compared(program: Callable[[], object]) -> tuple[Taken, Taken]:
    """Return what the program takes by tracemalloc and by the native counters."""
    with tracing():
        expected = traced(program)
    with counting():
        return expected, native(program)


def settled(look: Callable[[], Taken]) -> Taken:
    """Return what one look after the other sees, once it is the same."""
    with no_collections():
        looks = [look() for _ in range(AGREEING_RUNS)]
        while len(looks) < MOST_RUNS and len(set(looks[-AGREEING_RUNS:])) > 1:
            looks.append(look())
    assert len(set(looks[-AGREEING_RUNS:])) == 1, looks
    return looks[-1]


@contextlib.contextmanager
def tracing() -> Iterator[None]:
    """Trace by tracemalloc."""
    tracemalloc.start(1)
    try:
        yield
    finally:
        tracemalloc.stop()


def _native(program: Callable[[], object]) -> Taken:
    before, _ = counters.mark()
    kept = program()
    after, peak = counters.mark()
    del kept
    left, _ = counters.mark()
    return Taken(after - before, peak - before, left - before)


def _traced(program: Callable[[], object]) -> Taken:
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    kept = program()
    after, peak = tracemalloc.get_traced_memory()
    del kept
    left, _ = tracemalloc.get_traced_memory()
    return Taken(after - before, peak - before, left - before)


def _do_nothing() -> None: ...


def in_thread(function: Callable[[], Any]) -> Any:
    """Return what the function returns in a thread of its own."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


def run_python(code: str, *args: str, **environment: str) -> str:
    """Return what a Python process prints, that must end well and complain of nothing."""
    done = subprocess.run(
        [sys.executable, "-P", "-X", "faulthandler", *args, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **environment},
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout
