"""Threads that come and go with measured calls, while counting, recorders and processes change."""

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import gc
import logging
import os
import random
import sys
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

from setting import (  # type: ignore[import-not-found]
    assert_all_is_well,
    install,
    measured,
    recorder_for,
    tallied_of,
)

from stratatrace.probes import _counters
from stratatrace.recorder import Recorder, active

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 6.0
MOST_THREADS = 400
AT_ONCE = 40
FORKS = 15
WAYS = ["tallied", "full", "tallied", "traced"]


class OwnError(Exception):
    """What a measured function raises."""


@measured
def outer(seed: int) -> Any:
    return [inner(n) for n in range(seed % 3 + 1)]


@measured
def inner(seed: int) -> Any:
    return bytearray(seed * 100)


@measured
def raises() -> None:
    raise OwnError


@measured
def items(count: int) -> Iterator[int]:
    yield from range(count)


def work(seed: int, done: list[tuple[int, int]]) -> None:
    """Run calls of all kinds; tell how many those were that only one thread runs at a time."""
    pick = random.Random(seed)
    calls = steps = 0
    for _ in range(pick.randrange(1, 30)):
        calls += 1
        steps += 1 + len(outer(pick.randrange(100)))
        try:
            raises()
        except OwnError:
            steps += 1
        assert list(items(3)) == [0, 1, 2]
        steps += 1
        if pick.random() < 0.1:
            started = items(5)
            next(started)
            shared.append(started)  # Another thread may go on with it, or drop it.
        if len(shared) > 5:
            for _number in shared.pop(0):
                pass
        time.sleep(pick.random() / 1000)
    done.append((calls, steps))


shared: list[Any] = []


def fork() -> None:
    """Have a child that measures, and ends."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            assert len(outer(2)) == 3
            assert list(items(3)) == [0, 1, 2]
            recorder = active.recorder
            assert recorder.accounts.heap is None or not recorder.accounts.heap.charging
            status = 0
        finally:
            os._exit(status)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            assert status == 0, status
            return
        time.sleep(0.01)
    os.kill(child, 6)
    message = "a forked child hangs"
    raise AssertionError(message)


def churn(end: float) -> tuple[int, list[tuple[int, int]]]:
    """Start threads until it is time; return how many, and what they did."""
    done: list[tuple[int, int]] = []
    threads: list[threading.Thread] = []
    begun = forked = 0
    while (time.monotonic() < end and begun < MOST_THREADS) or begun < AT_ONCE:
        if len(threads) < AT_ONCE:
            threads.append(threading.Thread(target=work, args=(begun, done)))
            threads[-1].start()
            begun += 1
        threads = [thread for thread in threads if thread.is_alive()]
        if begun % 20 == 0 and forked < FORKS:
            forked += 1
            fork()
        if begun % 7 == 0:
            _counters.stop()
            _counters.start()
        if changes and begun % 5 == 0:
            active.install(recorder_for(WAYS[begun // 5 % len(WAYS)]))
        time.sleep(0.001)
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return begun, done


def calls_of(recorder: Recorder) -> int:
    """Return how many calls were told."""
    with recorder.metrics._lock:
        for totals in recorder.metrics._totals.values():
            totals.drain()
        return sum(totals.calls for totals in recorder.metrics._totals.values())


logging.disable()  # Of what could not be measured.
warnings.simplefilter("ignore")  # Python warns of forks beside threads.
sys.setswitchinterval(1e-4)
changes = sys.argv[1] == "changing"
recorder = install("tallied")
begun, done = churn(time.monotonic() + SECONDS)
assert len(done) == begun, (len(done), begun)
shared.clear()
# Each loop begins one more generator now and then, which is a call as well.
if not changes:
    told, run = calls_of(recorder), sum(steps for _, steps in done)
    assert 0 <= told - run <= sum(calls for calls, _ in done), (told, run)
    assert all(tallied.tally.in_flight == 0 for tallied in tallied_of(recorder))
recorder = install("tallied")
assert_all_is_well(recorder)
active.install(None)
gc.collect()  # Calls whose frames are garbage.
assert not _counters.is_counting()
sys.stdout.write("done\n")
