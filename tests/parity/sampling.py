"""What is in the sample of what is allocated, with its stacks."""

from __future__ import annotations

import contextlib
import ctypes
import math
from typing import TYPE_CHECKING, NamedTuple

from .counting import (
    counters,
    counting,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "ALLOCATORS",
    "ERRORS_ALLOWED",
    "EVERY_BLOCK",
    "UNLIKELY",
    "Live",
    "blocks",
    "error_of",
    "live",
    "live_of",
    "sampling",
]

EVERY_BLOCK = 1
ERRORS_ALLOWED = 4.0


@contextlib.contextmanager
def sampling(mean_bytes: int, depth: int = 8, seed: int = 1) -> Iterator[None]:
    """Count and sample."""
    with counting():
        counters.sample(mean_bytes, depth, seed)
        yield
        counters.sample(0, 1)
        assert counters.samples_live() == []


class Live(NamedTuple):
    """A live sample, with its stack."""

    birth: int
    size: int
    stack: tuple[tuple[str, str, int], ...]
    line: int
    mean: int

    @property
    def weight(self) -> float:
        """How many blocks it stands for."""
        return -1 / math.expm1(-self.size / self.mean)


def live(since: int = 0) -> list[Live]:
    """Return the live samples that were born after an event."""
    return [
        Live(birth, size, counters.samples_stack(stack), line, mean)
        for birth, size, stack, line, mean in counters.samples_live()
        if birth > since
    ]


def live_of(function: Callable[..., object], since: int = 0) -> list[Live]:
    """Return those of a function itself, or of a comprehension in it."""
    name = function.__qualname__
    return [one for one in live(since) if one.stack and one.stack[0][1].startswith(name)]


def error_of(samples: list[Live]) -> float:
    """Return the standard error of the bytes that samples stand for."""
    return math.sqrt(sum(s.size**2 * s.weight * (s.weight - 1) for s in samples))


def blocks(size: int, number: int) -> list[bytes]:
    return [bytes(size) for _ in range(number)]


class Allocator:
    """The raw domain, with the GIL or without."""

    def __init__(self, library: ctypes.CDLL) -> None:
        prototype = ctypes.CFUNCTYPE if library is not ctypes.pythonapi else ctypes.PYFUNCTYPE
        address, size = ctypes.c_void_p, ctypes.c_size_t
        self.malloc = prototype(address, size)(("PyMem_RawMalloc", library))
        self.realloc = prototype(address, address, size)(("PyMem_RawRealloc", library))
        self.free = prototype(None, address)(("PyMem_RawFree", library))


ALLOCATORS = {"gil": Allocator(ctypes.pythonapi), "no gil": Allocator(ctypes.CDLL(None))}
UNLIKELY = 7_777_777
