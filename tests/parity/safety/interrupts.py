"""Exceptions thrown into a thread at any moment while it runs measured calls."""

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import random
import signal
import sys
import threading
import time
import warnings
from typing import TYPE_CHECKING

from setting import (  # type: ignore[import-not-found]
    assert_all_is_well,
    install,
    measured,
    tallied_of,
)

from stratatrace.probes import _counters
from stratatrace.recorder import active

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 2.0
MOST_SECONDS = 0.0006  # Between two.


class Interrupt(BaseException):
    """What is thrown."""


class OwnError(Exception):
    """What a measured function raises."""


@measured
def outer() -> bytearray:
    inner()
    return bytearray(10)


@measured
def inner() -> list[float]:
    return [1.5]


@measured
def raises() -> None:
    raise OwnError


@measured
def items() -> Iterator[int]:
    yield 1
    inner()
    yield 2


@measured
async def coroutine() -> object:
    return inner()


def drive() -> None:
    """Run a call of each kind."""
    outer()
    with contextlib.suppress(OwnError):
        raises()
    list(items())
    running = coroutine()
    try:
        with contextlib.suppress(StopIteration):
            running.send(None)
    finally:
        running.close()


class Thrower:
    """Throws once, some time after it was armed."""

    def __init__(self) -> None:
        self.armed = self.over = False
        self.victim = threading.get_ident()

    def by_thread(self) -> None:
        """Have another thread throw."""
        threading.Thread(target=self._throw, daemon=True).start()

    def _throw(self) -> None:
        pick = random.Random(5)
        while not self.over:
            time.sleep(pick.random() * MOST_SECONDS)
            if self.armed:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self.victim), ctypes.py_object(Interrupt)
                )
                self.armed = False

    def by_signal(self) -> None:
        """Have the system throw."""
        signal.signal(signal.SIGALRM, self._raise)
        signal.setitimer(signal.ITIMER_REAL, MOST_SECONDS / 2, MOST_SECONDS / 2)

    def _raise(self, *_: object) -> None:
        if self.armed:
            self.armed = False
            raise Interrupt


def drive_while(thrower: Thrower) -> None:
    """Go on until something was thrown."""
    while thrower.armed:
        drive()


def be_interrupted() -> int:
    """Return how often that was."""
    thrower = Thrower()
    getattr(thrower, f"by_{sys.argv[2]}")()
    end, hits = time.monotonic() + SECONDS, 0
    while time.monotonic() < end:
        thrower.armed = True
        try:
            drive_while(thrower)
            time.sleep(0)
        except Interrupt:
            hits += 1
    thrower.over = True
    signal.setitimer(signal.ITIMER_REAL, 0)
    return hits


logging.disable()
warnings.simplefilter("ignore")  # Coroutines that nobody could await.
sys.unraisablehook = lambda _: None  # Thrown into a finalizer, they are told of there.
sys.setswitchinterval(1e-5)
recorder = install(sys.argv[1])
drive()
assert be_interrupted() > 300
gc.collect()
assert_all_is_well(recorder)
if sys.argv[1] == "tallied":
    assert recorder.guard.failures == 0
    for tallied in tallied_of(recorder):
        assert tallied.tally.in_flight == 0, (tallied.callsite, tallied.tally.in_flight)
    active.install(None)
    assert not _counters.is_counting()
sys.stdout.write("done\n")
