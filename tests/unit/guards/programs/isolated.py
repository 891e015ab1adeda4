"""What the tests run in child processes."""

from __future__ import annotations

import faulthandler
import mmap
import os
import signal
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from itertools import chain, repeat
from typing import Any

from stratatrace import memory_limit, profile_memory

MB = 1_000_000


def add(one: int, other: int = 0) -> tuple[int, int]:
    """Return a sum, and the process that it was made in."""
    return one + other, os.getpid()


def take(megabytes: int) -> int:
    """Take memory and use it."""
    return len(bytearray(b"x") * (megabytes * MB))


def large(megabytes: int) -> bytes:
    """Return much."""
    return b"x" * (megabytes * MB)


def grow() -> None:
    """Take memory in small steps, without an end."""
    kept: list[list[int]] = []
    while True:
        kept.append([len(kept)])


def swallow() -> None:
    """Mind no error at all, and take memory that no kernel limit counts, without an end."""
    shared = mmap.mmap(-1, 600 * MB)
    part = bytes(10 * MB)
    while True:
        for start in range(0, 600, 10):
            with suppress(BaseException):
                shared[start * MB : (start + 10) * MB] = part
                time.sleep(0.001)


def stay_over() -> None:
    """Take a little too much, and go on, in one call that lets nobody else run."""
    shared = mmap.mmap(-1, 90 * MB)
    parts = [slice(start * MB, (start + 10) * MB) for start in range(0, 90, 10)]
    taken = map(shared.__setitem__, parts, repeat(bytes(10 * MB)))
    deque(chain(taken, repeat(None)), maxlen=0)


class Trouble(Exception):  # noqa: N818 -- it stands for an exception of the user's
    """What the user's code raises."""


class Unreadable(Exception):  # noqa: N818 -- likewise
    """An exception that can be pickled, and not be read again."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(one + other)


def fail(how: str) -> Any:
    """Fail in one way or another."""
    if how == "error":
        raise Trouble("mine", 7)
    if how == "memory error":
        raise MemoryError("mine")
    if how == "unreadable":
        raise Unreadable(3, 4)
    if how == "unpicklable":
        raise Trouble(lambda: None)
    if how == "result":
        return lambda: None
    if how == "exit":
        sys.exit(5)
    if how == "leave":
        os._exit(3)
    if how == "sleep":
        time.sleep(600)
    if how == "spin":
        sum(range(10**12))
    faulthandler.disable()
    os.kill(os.getpid(), getattr(signal, how))
    time.sleep(600)
    return None


class Unloadable:
    """A result that can be pickled, and not be read again."""

    def __reduce__(self) -> Any:
        return (Unloadable._never, ())

    @staticmethod
    def _never() -> None:
        raise Trouble


def unloadable() -> Unloadable:
    """Return it."""
    return Unloadable()


@memory_limit("60MB", isolation="process", name="decorated")
def decorated(megabytes: int) -> tuple[int, int]:
    """Be run in a child at every call."""
    return take(megabytes), os.getpid()


class Store:
    """A class with an isolated method."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    @memory_limit("60MB", isolation="process")
    def scale(self, number: int) -> tuple[int, int]:
        """Be run in a child at every call."""
        return self.factor * number, os.getpid()


@profile_memory(name="measured inside")
def measured() -> int:
    """Be measured in the child."""
    return take(10)


def nested() -> tuple[int, int]:
    """Call what is isolated itself."""
    return decorated(1)


def threads() -> list[str]:
    """Return the names of the threads."""
    return sorted(thread.name for thread in threading.enumerate())
