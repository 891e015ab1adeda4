"""The sample of what is allocated: how much it stands for, and where that was."""

from __future__ import annotations

import math
import statistics
import sys
from typing import TYPE_CHECKING

import pytest

from .counting import (
    counters,
    no_collections,
)
from .sampling import (
    ERRORS_ALLOWED,
    EVERY_BLOCK,
    blocks,
    error_of,
    live,
    live_of,
    sampling,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# --- Estimates ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "number"), [(64, 200_000), (1_000, 50_000), (100_000, 1_000), (3_000_000, 70)]
)
def test_what_is_live_is_estimated_without_bias(size: int, number: int) -> None:
    """Whatever the size of the blocks: within a few standard errors of the truth."""
    with sampling(65_536):
        kept = blocks(size, number)
        samples = [one for one in live_of(blocks) if one.size == sys.getsizeof(kept[0])]
    expected = number * sys.getsizeof(kept[0])
    estimated = sum(one.size * one.weight for one in samples)
    assert abs(estimated - expected) <= ERRORS_ALLOWED * error_of(samples)
    assert abs(sum(one.weight for one in samples) - number) <= (
        ERRORS_ALLOWED * error_of(samples) / samples[0].size
    )


def mixed_blocks() -> list[bytes]:
    return [bytes(size) for size in [20_000] * 40 + [5_000] * 100 + [700] * 500]


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """In 95 of 100 samplings, give or take; the mean of all is the truth itself."""
    hits, misses = 0, []
    truth = 40 * 20_033 + 100 * 5_033 + 500 * 733
    kept: list[bytes] | None = None
    for seed in range(1, 201):
        with sampling(20_000, 1, seed):
            kept = mixed_blocks()
            samples = [one for one in live_of(mixed_blocks) if one.size != sys.getsizeof(kept)]
        # The list grew on the way.
        samples = [one for one in samples if one.size in {20_033, 5_033, 733}]
        estimated = sum(one.size * one.weight for one in samples)
        hits += abs(estimated - truth) <= 1.96 * error_of(samples)
        misses.append(estimated - truth)
    assert 180 <= hits <= 198
    of_mean = statistics.stdev(misses) / math.sqrt(len(misses))
    assert abs(statistics.fmean(misses)) <= ERRORS_ALLOWED * of_mean


def test_the_same_seed_draws_the_same_blocks() -> None:
    """And another one others."""

    def drawn(seed: int) -> list[int]:
        with no_collections(), sampling(1_000, 1, seed):
            level = counters.samples_sequence()
            kept = blocks(100, 2_000)
            drawn = [birth - level for birth, size, *_ in counters.samples_live() if size == 133]
            assert len(kept) == 2_000
            return sorted(drawn)

    drawn(5)
    first, again, other = drawn(5), drawn(5), drawn(6)
    assert first == again
    assert first != other


# --- Places ------------------------------------------------------------------------------------


class Maker:
    def method(self) -> bytes:
        return bytes(1_234)

    def generator(self) -> Iterator[bytes]:
        yield self.method()
        yield from (self.method() for _ in range(2))

    @property
    def attribute(self) -> list[bytes]:
        return [
            self.method(),
            *map(bytes, [1_234]),
        ]


def recursive(depth: int) -> bytes:
    return recursive(depth - 1) if depth else bytes(1_234)


def lines_of(function: Callable[..., object]) -> range:
    first = function.__code__.co_firstlineno
    return range(first, first + 8)


def test_every_sample_names_the_lines_that_allocated_it() -> None:
    """Through methods, properties, generators within generators, and what C calls."""
    maker = Maker()
    with sampling(EVERY_BLOCK):
        kept = [maker.method(), *maker.generator(), *maker.attribute]
        samples = [one for one in live() if one.size == sys.getsizeof(kept[0])]
    here = sys._getframe()
    assert len(samples) == len(kept)
    samples.sort()
    names = [[frame[1].rpartition("Maker.")[2] for frame in one.stack] for one in samples]
    me = here.f_code.co_qualname
    assert [each[: each.index(me) + 1] for each in names] == [
        ["method", me],
        ["method", "generator", me],
        *[["method", "generator.<locals>.<genexpr>", "generator", me]] * 2,
        ["method", "attribute", me],
        ["attribute", me],
    ]
    functions = {"method": Maker.method, "generator": Maker.generator}
    for one in samples:
        for file, name, line in one.stack:
            if name == me:
                assert line == test_line(here.f_code.co_firstlineno)
            short = name.rpartition("Maker.")[2]
            if short in functions:
                assert file == __file__
                assert line in lines_of(functions[short])


def test_line(first: int) -> int:
    """Return the line that `kept` is made in, above."""
    return first + 4


test_line.__test__ = False  # type: ignore[attr-defined]


def test_a_stack_that_is_deeper_than_what_is_kept() -> None:
    """It has the innermost frames; of the deepest recursion, too."""
    with sampling(EVERY_BLOCK, 5):
        kept = [recursive(depth) for depth in (2, 100, 101, 500)]
        samples = sorted(one for one in live() if one.size == sys.getsizeof(kept[0]))
    stacks = [one.stack for one in samples]
    assert [len(stack) for stack in stacks] == [5] * 4
    assert [frame[1] for frame in stacks[0]][:3] == ["recursive"] * 3
    assert {frame[1:] for frame in stacks[3]} == {("recursive", lines_of(recursive)[1])}
    assert stacks[1] == stacks[2] == stacks[3]


def test_the_same_stack_is_kept_once() -> None:
    """Its number is that of every block of it, and of none of another sampling."""
    with sampling(EVERY_BLOCK, 3):
        kept = blocks(1_000, 100)
        numbers = {stack for _, size, stack, _, _ in counters.samples_live() if size == 1_033}
        assert len(numbers) == 1
    (number,) = numbers
    assert counters.samples_stack(number) == ()
    with sampling(EVERY_BLOCK, 3):
        kept = blocks(1_000, 100)
        again = {stack for _, size, stack, _, _ in counters.samples_live() if size == 1_033}
        assert again.isdisjoint(numbers)
        assert counters.samples_stack(number) == ()
        assert counters.samples_stack(again.pop())[0][1].startswith("blocks")
    assert kept
    for unknown in (-1, 0, 2**40):
        assert counters.samples_stack(unknown) == ()
