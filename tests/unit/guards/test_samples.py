"""Samples: the whole run, however long it was, with its lowest and its highest."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratatrace.guards.samples import MemorySample, SampleRing

levels = st.lists(st.integers(0, 2**40), min_size=1, max_size=300)


def test_a_short_run_is_kept_as_it_was() -> None:
    """One sample a look."""
    ring = SampleRing(16)
    for look in range(16):
        ring.add(look / 2, look * 10)
    assert ring.samples() == tuple(
        MemorySample(look / 2, look * 10, look * 10, look * 10, 1) for look in range(16)
    )


def test_when_there_is_no_room_each_two_become_one() -> None:
    """With the lowest and the highest of both."""
    ring = SampleRing(4)
    for look, level in enumerate([1, 5, 9, 3, 4, 2, 7]):
        ring.add(look, level)
    assert ring.samples() == (
        MemorySample(0, 3, 1, 5, 2),
        MemorySample(2, 6, 3, 9, 2),
        MemorySample(4, 3, 2, 4, 2),
        MemorySample(6, 7, 7, 7, 1),
    )


@given(levels, st.sampled_from([2, 4, 10, 64]))
def test_nothing_of_a_long_run_is_lost(seen: list[int], most: int) -> None:
    """Looks, extremes and the average are those of all looks, in the order of time."""
    ring = SampleRing(most)
    for look, level in enumerate(seen):
        ring.add(float(look), level)
    samples = ring.samples()
    assert len(samples) <= most
    assert sum(sample.looks for sample in samples) == len(seen)
    assert len({sample.looks for sample in samples[:-1]}) <= 1
    place = 0
    for sample in samples:
        stretch = seen[place : place + sample.looks]
        assert sample.seconds == place
        assert (sample.lowest_bytes, sample.highest_bytes) == (min(stretch), max(stretch))
        assert sample.average_bytes == round(sum(stretch) / len(stretch))
        place += sample.looks


@pytest.mark.parametrize("looks", [1_000, 100_000])
def test_memory_does_not_grow(looks: int) -> None:
    """Whatever the length of the run."""
    ring = SampleRing(64)
    ring.add(0.0, 0)
    tracemalloc.start()
    for look in range(looks):
        ring.add(float(look), 2**40)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000
