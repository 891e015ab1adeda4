"""What sits in Python's free lists, against what the allocator sees of it."""

from __future__ import annotations

import contextvars
import functools
import gc
import sys
from typing import TYPE_CHECKING

import pytest

from .counting import counters, counting, no_collections, run_python

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator


async def _numbers(count: int) -> AsyncGenerator[int, None]:
    for number in range(count):
        yield number


def _async_generators() -> object:
    """Drive async generators to their end: their values and sends have free lists of their own."""
    driven = [_numbers(1) for _ in range(30)]
    for generator in driven * 2:
        try:  # noqa: SIM105 -- what would suppress it takes memory, too
            generator.asend(None).send(None)
        except (StopIteration, StopAsyncIteration):
            pass
    return driven


def _tuples(length: int) -> object:
    return [(None,) * length for _ in range(60)]


MADE: dict[str, Callable[[], object]] = {
    "floats": lambda: [n / 3 for n in range(60)],
    "lists": lambda: [[] for _ in range(60)],
    "dicts": lambda: [{} for _ in range(60)],
    "dicts with keys": lambda: [{"a": n, "b": n} for n in range(60)],
    "dicts with other keys": lambda: [{n: n} for n in range(60)],
    "contexts": lambda: [contextvars.Context() for _ in range(60)],
    "slices": lambda: [slice(n) for n in range(3)],
    "async generators": _async_generators,
    **{f"tuples of {length}": functools.partial(_tuples, length) for length in range(23)},
}


@pytest.fixture(autouse=True)
def known() -> Iterator[None]:
    """Count, with no collection, which would empty the free lists; skip where they are unknown."""
    if counters.free_list_bytes() is None:
        pytest.skip("the free lists of this Python are not known")
    with counting(), no_collections():
        yield


def look() -> tuple[int, int]:
    """Return the bytes in the free lists and the level: numbers that take nothing themselves."""
    in_free_lists = counters.free_list_bytes()
    level, _ = counters.mark()
    assert in_free_lists is not None
    return in_free_lists, level


def had(looks: tuple[int, int]) -> int:
    """Return what the program really had: what was allocated, less what lay in free lists."""
    in_free_lists, level = looks
    return level - in_free_lists


def test_they_are_known_for_every_python_that_is_supported() -> None:
    """Another one has to be looked at first."""
    if sys.version_info < (3, 14):
        assert counters.free_list_bytes() is not None


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_what_is_dropped_is_had_no_more(make: Callable[[], object]) -> None:
    """To the byte, whether free lists were empty or full: by level alone it would not be."""
    _taken_and_left(make)
    taken, left = _taken_and_left(make)
    assert left == 0
    gc.collect()  # It empties the free lists.
    assert _taken_and_left(make) == (taken, 0)


def _taken_and_left(make: Callable[[], object]) -> tuple[int, int]:
    before = look()
    made = make()
    between = look()
    del made
    after = look()
    # The first two looks are tuples that the last one has before it.
    pair = sys.getsizeof((1, 2))
    return had(between) - had(before) - pair, had(after) - had(before) - 2 * pair


def test_a_free_list_that_is_full_takes_no_more() -> None:
    """Python keeps 100 floats; the others are freed."""
    code = (
        "from stratatrace.probes import _counters as c\n"
        "first = c.free_list_bytes()\n"
        "kept = [n / 3 for n in range(200)]\n"
        "least = c.free_list_bytes()\n"
        "del kept\n"
        "assert 0 <= c.free_list_bytes() - least - 100 * 24 < 200\n"
        "print('done')\n"
    )
    assert run_python(code) == "done\n"
