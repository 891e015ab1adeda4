"""The allocation sampler: shared by its users, and what is estimated from its samples."""

from __future__ import annotations

import gc
import math
import os
import random
import statistics
import sys
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from stratatrace.errors import InvalidTypeError, InvalidValueError, ProbeError
from stratatrace.probes import allocations, native
from stratatrace.probes.allocations import (
    AllocationSampler,
    Sample,
    estimate,
    estimated_bytes,
    estimated_count,
    inclusion_probability,
    variance_of_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

KIB = 1024


def blocks(size: int, number: int) -> list[bytes]:
    return list(map(bytes, [size] * number))


class TestEstimates:
    """Pure functions of sizes and means."""

    def test_the_chance_of_a_block(self) -> None:
        """That of a byte is one in the mean; large blocks are in it for sure."""
        assert inclusion_probability(1, 1_000_000) == pytest.approx(1e-6)
        assert inclusion_probability(1_000, 1_000) == pytest.approx(1 - 1 / math.e)
        assert inclusion_probability(10**9, 1_000) == 1.0

    def test_small_blocks_stand_for_the_mean_and_large_ones_for_themselves(self) -> None:
        """In bytes, and in how many there are."""
        assert estimated_bytes(16, 512 * KIB) == pytest.approx(512 * KIB, rel=1e-4)
        assert estimated_count(16, 512 * KIB) == pytest.approx(512 * KIB / 16, rel=1e-4)
        assert estimated_bytes(10**9, 512 * KIB) == 10**9
        assert variance_of_bytes(10**9, 512 * KIB) == 0

    def test_the_estimate_of_drawn_blocks_is_the_truth_on_average(self) -> None:
        """So is the variance, of what is drawn by the very chances."""
        rng, mean = random.Random(3), 10_000
        sizes = [100] * 300 + [5_000] * 60 + [40_000] * 5
        estimates = []
        for _ in range(600):
            drawn = [s for s in sizes if rng.random() < inclusion_probability(s, mean)]
            estimates.append(estimate(Sample(1, size, 1, 1, mean) for size in drawn))
        bytes_, counts = [e.size_bytes for e in estimates], [e.blocks for e in estimates]
        for values, errors, truth in (
            (bytes_, [e.size_error_bytes for e in estimates], sum(sizes)),
            (counts, [e.blocks_error for e in estimates], len(sizes)),
        ):
            of_mean = statistics.stdev(values) / math.sqrt(len(values))
            assert abs(statistics.fmean(values) - truth) < 4 * of_mean
            told = math.sqrt(statistics.fmean(error**2 for error in errors))
            assert told == pytest.approx(statistics.stdev(values), rel=0.15)

    def test_the_interval_has_no_less_than_was_seen(self) -> None:
        """A single small block may stand for nearly nothing else."""
        one = estimate([Sample(1, 100, 1, 1, 1_000)])
        assert one.interval_bytes[0] == one.sampled_bytes == 100
        assert one.interval_bytes[1] > one.size_bytes > 100

    def test_no_samples(self) -> None:
        """They say zero."""
        assert estimate([]) == (0, 0, 0, 0, 0, 0)
        assert estimate([]).interval_bytes == (0, 0)


class TestOptions:
    """Misuse is told at once."""

    @pytest.mark.parametrize("mean", ["much", 0, -5, 2**41])
    def test_what_is_no_mean(self, mean: Any) -> None:
        """A size, and one that samples something."""
        with pytest.raises(InvalidValueError):
            AllocationSampler(mean)

    @pytest.mark.parametrize(
        ("depth", "error"),
        [(0, InvalidValueError), (129, InvalidValueError), (True, InvalidTypeError)],
    )
    def test_what_is_no_depth(self, depth: int, error: type[Exception]) -> None:
        """1 to 128 frames."""
        with pytest.raises(error, match=r"traceback|frames"):
            AllocationSampler(depth=depth)

    def test_where_nothing_counts_natively(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It says why."""
        monkeypatch.setenv(native.NO_EXTENSION_VARIABLE, "1")
        with pytest.raises(ProbeError, match=native.NO_EXTENSION_VARIABLE):
            AllocationSampler()


@pytest.fixture
def nobody_samples() -> Iterator[None]:
    """See that nothing counts or samples afterwards."""
    if native.native_obstacle() is not None:
        pytest.skip("the compiled part is not here")
    yield
    counters = sys.modules["stratatrace.probes._counters"]
    assert not counters.is_counting()
    assert counters.samples_live() == []
    assert allocations._sampling.samplers == []


@pytest.mark.usefixtures("nobody_samples")
class TestAllocationSampler:
    """One sampling, for all that use it."""

    def test_what_is_live_is_told_with_its_place(self) -> None:
        """From when it was opened to when it was closed, and nothing beyond."""
        with AllocationSampler("1 KiB") as sampler:
            line, before = sampler.line(), sampler.sequence()
            kept = blocks(1_000, 500)
            found = [s for s in sampler.live() if s.birth > before and s.size_bytes == 1_033]
            events = sampler.events(before)
            (place, *_), *_ = (sampler.stack(s.stack_id) for s in found)
            told = estimate(found)
            assert sampler.dropped == 0
        assert (place.file, place.function) == (__file__, "blocks")
        assert place.line == blocks.__code__.co_firstlineno + 1
        assert {s.line for s in found} == {line}
        assert {s.mean_bytes for s in found} == {KIB}
        assert abs(told.blocks - len(kept)) < 4 * told.blocks_error
        assert events is not None
        born = {e.number: e for e in events if not e.died}
        assert all(born[s.birth].size_bytes == s.size_bytes for s in found)
        assert sampler.live() == []
        assert sampler.events(before) is None
        assert sampler.stack(found[0].stack_id) == ()

    def test_it_is_opened_and_closed_as_often_as_one_likes(self) -> None:
        """Once counts."""
        sampler = AllocationSampler(KIB)
        sampler.close()
        for _ in range(2):
            sampler.open()
            sampler.open()
            assert sampler.mean_bytes == KIB
            sampler.close()
            sampler.close()
            assert sampler.mean_bytes == 0

    def test_the_smallest_mean_of_all_and_the_deepest_stacks(self) -> None:
        """Who leaves last ends it; nobody's samples are lost before."""

        def births(sampler: AllocationSampler) -> set[int]:
            sizes = {50 * KIB + 33, 533}
            return {s.birth for s in sampler.live() if s.size_bytes in sizes}

        with AllocationSampler(100 * KIB, depth=3) as coarse:
            kept = blocks(50 * KIB, 100)
            first = births(coarse)
            with AllocationSampler(KIB, depth=1) as fine:
                assert coarse.mean_bytes == fine.mean_bytes == KIB
                kept += blocks(500, 100)
                second = births(coarse)
                assert max(len(fine.stack(s.stack_id)) for s in fine.live()) == 3
            assert coarse.mean_bytes == 100 * KIB
            assert first
            assert first < second == births(coarse)
        assert kept

    def test_the_process_may_count_for_others(self) -> None:
        """A probe that counts goes on when the sampler leaves, and its numbers are the same."""
        probe = native.NativeProbe()
        probe.open()
        with AllocationSampler(1):
            before = probe.mark().level_bytes
            kept = bytearray(100_000)
            assert 0 <= probe.mark().level_bytes - before - sys.getsizeof(kept) < 1_000
            before = probe.mark().level_bytes
        del kept
        assert 0 <= before - probe.mark().level_bytes - 100_000 < 3_000
        probe.close()

    def test_somebody_takes_the_hooks_out(self) -> None:
        """The next to open or close puts them on again, and sampling goes on."""
        tracemalloc.start()
        with AllocationSampler(1) as sampler:
            with AllocationSampler(1):
                tracemalloc.stop()
            kept = blocks(1_000, 50)
            assert [s.size_bytes for s in sampler.live()].count(1_033) == 50
        assert kept

    def test_where_the_frames_are_not_known(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It says so, and leaves nothing on."""

        def unknown(mean_bytes: int, _: int) -> None:
            if mean_bytes:
                msg = "this Python's frames are not known"
                raise RuntimeError(msg)

        monkeypatch.setattr("stratatrace.probes._counters.sample", unknown)
        with pytest.raises(ProbeError, match="not known"), AllocationSampler():
            pass

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
    def test_a_forked_child_goes_on(self) -> None:
        """And may end it, and begin anew."""
        with AllocationSampler(1) as sampler:
            kept = blocks(2_000, 10)
            child = os.fork()
            if child == 0:
                try:
                    assert [s.size_bytes for s in sampler.live()].count(2_033) == 10
                    sampler.close()
                    with AllocationSampler(1) as again:
                        kept = blocks(2_000, 5)
                        assert [s.size_bytes for s in again.live()].count(2_033) == 5
                except BaseException:
                    os._exit(1)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            assert kept

    def test_a_sampler_that_is_on_keeps_no_garbage(self) -> None:
        """What is dropped is freed as ever."""
        with AllocationSampler(1):
            gc.collect()
            for _ in range(3):
                blocks(100, 10)
            assert gc.collect() == 0
