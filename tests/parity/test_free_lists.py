"""What sits in Python's free lists, against what the allocator sees of it."""

from __future__ import annotations

import contextvars
import sys
from typing import TYPE_CHECKING

import pytest

from tests.parity.counting import counters, counting, no_collections, run_python

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


async def _numbers(count: int) -> object:
    for number in range(count):
        yield number


def _async_generators() -> object:
    """Drive async generators by hand: their values and sends have free lists of their own."""
    driven = [_numbers(3) for _ in range(30)]
    for generator in driven:
        for _ in range(3):
            with pytest.raises(StopIteration):
                generator.asend(None).send(None)
    return driven


MADE: dict[str, Callable[[], object]] = {
    "floats": lambda: [n / 3 for n in range(60)],
    "lists": lambda: [[] for _ in range(60)],
    "dicts": lambda: [{} for _ in range(60)],
    "dicts with keys": lambda: [{"a": n, "b": n} for n in range(60)],
    "dicts with other keys": lambda: [{n: n} for n in range(60)],
    "contexts": lambda: [contextvars.Context() for _ in range(60)],
    "slices": lambda: [slice(n) for n in range(3)],
    "async generators": _async_generators,
    **{
        f"tuples of {length}": lambda length=length: [(None,) * length for _ in range(60)]
        for length in range(23)
    },
}


@pytest.fixture(autouse=True)
def known() -> Iterator[None]:
    """Count, with no collection, which would empty the free lists; skip where they are unknown."""
    if counters.free_list_bytes() is None:
        pytest.skip("the free lists of this Python are not known")
    with counting(), no_collections():
        yield


def had() -> int:
    """Return what the program really has: what was allocated, less what lies in free lists."""
    in_free_lists = counters.free_list_bytes()
    return counters.mark()[0] - in_free_lists


def test_they_are_known_for_every_python_that_is_supported() -> None:
    """Another one has to be looked at first."""
    if sys.version_info < (3, 14):
        assert counters.free_list_bytes() > 0


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_what_is_dropped_is_had_no_more(make: Callable[[], object]) -> None:
    """To the byte, whether free lists were empty or full: by level alone it would not be."""
    make()
    sizes = []
    for _ in range(3):
        before = had()
        made = make()
        taken = had()
        del made
        sizes.append((taken - before, had() - before))
    assert len(set(sizes)) == 1
    assert sizes[0][1] == 0
    empty_the_free_lists()
    before = had()
    made = make()
    taken = had()
    del made
    assert taken - before == sizes[0][0]
    assert had() - before == 0


def empty_the_free_lists() -> None:
    """Have all that is in them used."""
    import gc

    gc.collect()
    assert counters.free_list_bytes() < 10_000


def test_they_are_not_trusted_where_they_do_not_move_as_they_should() -> None:
    """The self-test is made at the first use, and decides for good."""
    code = (
        "from stratatrace.probes import _counters as c\n"
        "first = c.free_list_bytes()\n"
        "kept = [n / 3 for n in range(200)]\n"
        "least = c.free_list_bytes()\n"
        "del kept\n"
        "assert c.free_list_bytes() - least == 100 * 24\n"
        "print('done')\n"
    )
    assert run_python(code) == "done\n"
