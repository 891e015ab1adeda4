"""Many calls of each kind, and what is left of them: nothing."""

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from typing import TYPE_CHECKING

import psutil
from setting import install, measured  # type: ignore[import-not-found]

from stratatrace.config import Config
from stratatrace.probes import _counters
from stratatrace.recorder import Recorder, active

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOISE_BYTES = 2_000  # Python's own caches.
RSS_NOISE_BYTES = 4 << 20
TALLIED, FULL = int(sys.argv[1]), int(sys.argv[2])


class OwnError(Exception):
    """What a measured function raises."""


@measured
def function() -> None: ...


@measured
def raises() -> None:
    raise OwnError


@measured
def items() -> Iterator[None]:
    yield
    yield


@measured
async def coroutine() -> None:
    await asyncio.sleep(0)


class Forgetful:
    """A sink that makes calls be told one by one, and keeps none."""

    def emit(self, measurement: object, scope: object) -> None: ...


def call() -> None:
    function()


def call_what_raises() -> None:
    with contextlib.suppress(OwnError):
        raises()


def iterate() -> None:
    for _ in items():
        pass


def iterate_a_little() -> None:
    next(items())


def enter() -> None:
    with measured("block"):
        pass


def run() -> None:
    running = coroutine()
    with contextlib.suppress(StopIteration):
        while True:
            running.send(None)


def grown(act: Callable[[], None], times: int) -> tuple[int, int]:
    """Return by how much the thread's heap and the process's memory grow."""
    for _ in range(200):
        act()
    gc.collect()
    resident = psutil.Process().memory_info().rss
    before, _ = _counters.mark()
    for _ in range(times):
        act()
    after, _ = _counters.mark()
    return after - before, psutil.Process().memory_info().rss - resident


gc.disable()
for sinks, times in (((), TALLIED), ((Forgetful(),), FULL)):
    if sinks:
        active.install(Recorder(Config(probe="native"), sinks=sinks))
    else:
        install("tallied")
    for act, share in (
        (call, 1),
        (call_what_raises, 5),
        (iterate, 10),
        (iterate_a_little, 10),
        (run, 10),
        (enter, 20),
    ):
        heap, resident = grown(act, times // share)
        what = (act.__name__, bool(sinks), heap, resident)
        # A block's Measurement is nobody's when it is made, and the program's when it is dropped.
        assert heap < NOISE_BYTES, what
        assert heap > -NOISE_BYTES or act is enter, what
        assert resident < RSS_NOISE_BYTES, what
sys.stdout.write("done\n")
