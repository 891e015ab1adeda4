"""Which lines of the program hold its heap: a sample of what is allocated, with tracebacks.

The compiled counters draw each allocated byte with the same small chance (a Poisson sample), and
keep a traceback of the blocks that a drawn byte lies in. It is cheap enough to stay on, and what is
estimated from it is unbiased, with a standard error that is known.
"""

from __future__ import annotations

import contextlib
import math
import os
from typing import TYPE_CHECKING, NamedTuple

from stratatrace.errors import InvalidTypeError, InvalidValueError, ProbeError
from stratatrace.fork_lock import ForkLock
from stratatrace.probes.native import NativeProbe
from stratatrace.sizes import parse_size
from stratatrace.stacks import Frame

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

__all__ = [
    "SAMPLE_BYTES",
    "AllocationSampler",
    "Estimate",
    "Event",
    "Sample",
    "estimate",
    "estimated_bytes",
    "estimated_count",
    "inclusion_probability",
    "variance_of_bytes",
]

with contextlib.suppress(ImportError):  # Then there is no NativeProbe either.
    from stratatrace.probes import _counters

#: How many bytes there are to one that is drawn, on average, where nobody says.
SAMPLE_BYTES = 512 * 1024
_DEPTH = 32
_MOST_MEAN_BYTES = 2**40
_MOST_FRAMES = 128
# Of the normal distribution.
_95_PERCENT_ERRORS = 1.96


class Sample(NamedTuple):
    """A live block of the sample."""

    #: The number of the event of its allocation; younger blocks have higher ones.
    birth: int
    size_bytes: int
    #: For `AllocationSampler.stack`.
    stack_id: int
    #: The line of execution (a thread, or a task on it) that allocated it; 0 is a thread in which
    #: no call was ever measured.
    line: int
    #: The mean that it was drawn by.
    mean_bytes: int


class Event(NamedTuple):
    """The birth or the death of a block of the sample."""

    #: Counts both, from 1 on, over the whole life of the process.
    number: int
    #: Whether it was freed; else it was allocated.
    died: bool
    #: The number of the event of its allocation: that of this event, where it is that.
    birth: int
    size_bytes: int
    #: Of its allocation.
    stack_id: int
    #: The line of execution that allocated it, or that freed it.
    line: int
    #: The mean that it was drawn by.
    mean_bytes: int
    #: The live bytes of that line afterwards. Only the difference of two of one line means
    #: something.
    level_bytes: int


class Estimate(NamedTuple):
    """What a sample says of all blocks that it was drawn from; see `estimate`."""

    #: Blocks in the sample, and their bytes: there are no less.
    samples: int
    sampled_bytes: int
    #: Of all blocks.
    size_bytes: float
    blocks: float
    #: Standard errors.
    size_error_bytes: float
    blocks_error: float

    @property
    def interval_bytes(self) -> tuple[float, float]:
        """Bounds that hold the truth 95 times in 100, where there are some 10 samples or more."""
        reach = _95_PERCENT_ERRORS * self.size_error_bytes
        return max(float(self.sampled_bytes), self.size_bytes - reach), self.size_bytes + reach


def inclusion_probability(size_bytes: int, mean_bytes: int) -> float:
    """Return the chance of a block to be in the sample.

    That of at least one event of a Poisson process, with one in *mean_bytes* on average, within
    *size_bytes*: ``1 - exp(-size / mean)``.
    """
    return -math.expm1(-size_bytes / mean_bytes)


def estimated_bytes(size_bytes: int, mean_bytes: int) -> float:
    """Return for how many bytes a block of the sample stands, itself included.

    The estimator of Horvitz and Thompson: D. G. Horvitz, D. J. Thompson, J. Am. Stat. Assoc. 47
    (1952). The sum over the sample has all blocks' bytes as its mean.
    """
    return size_bytes / inclusion_probability(size_bytes, mean_bytes)


def estimated_count(size_bytes: int, mean_bytes: int) -> float:
    """Return for how many blocks a block of the sample stands, itself included.

    See `estimated_bytes`.
    """
    return 1 / inclusion_probability(size_bytes, mean_bytes)


def variance_of_bytes(size_bytes: int, mean_bytes: int) -> float:
    """Return what a block of the sample adds to the variance of the sum of `estimated_bytes`.

    ``size**2 * (1 - p) / p**2``, in square bytes: the unbiased estimate of Horvitz and Thompson,
    where blocks are drawn independently of each other.
    """
    chance = inclusion_probability(size_bytes, mean_bytes)
    return size_bytes**2 * (1 - chance) / chance**2


def estimate(samples: Iterable[Sample | Event]) -> Estimate:
    """Return what some samples say of all the blocks like them: of a line of code, or of all.

    It is unbiased whatever the sizes are: see `estimated_bytes` and `variance_of_bytes`.
    """
    number = sampled_bytes = 0
    size = count = size_variance = count_variance = 0.0
    for sample in samples:
        chance = inclusion_probability(sample.size_bytes, sample.mean_bytes)
        number += 1
        sampled_bytes += sample.size_bytes
        size += sample.size_bytes / chance
        count += 1 / chance
        variance = (1 - chance) / chance**2
        size_variance += sample.size_bytes**2 * variance
        count_variance += variance
    return Estimate(
        number, sampled_bytes, size, count, math.sqrt(size_variance), math.sqrt(count_variance)
    )


class _Sampling:
    """The one sampling of the process: with the smallest mean and the deepest stacks asked for."""

    def __init__(self) -> None:
        self.lock = ForkLock()
        self.samplers: list[AllocationSampler] = []
        self.mean_bytes = 0

    def begin(self, sampler: AllocationSampler) -> None:
        """Sample for one more."""
        self.samplers.append(sampler)
        self._set()

    def end(self, sampler: AllocationSampler) -> None:
        """Sample for one less; the last one's end forgets all samples."""
        self.samplers = [other for other in self.samplers if other is not sampler]
        self._set()

    def _set(self) -> None:
        mean_bytes = min((s.wanted_mean_bytes for s in self.samplers), default=0)
        if mean_bytes:
            _counters.start()  # Should somebody have taken the hooks out.
        _counters.sample(mean_bytes, max((s.depth for s in self.samplers), default=1))
        self.mean_bytes = mean_bytes

    def after_fork_in_child(self) -> None:
        """Go on: the child has the samples of what it has from its parent."""
        for sampler in self.samplers:
            sampler.probe.after_fork_in_child()


_sampling = _Sampling()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_sampling.lock.before_fork,
        after_in_parent=_sampling.lock.after_fork_in_parent,
        after_in_child=_sampling.after_fork_in_child,
    )


class AllocationSampler:
    """Samples what all threads allocate, from `open` to `close`; a context manager as well.

    What is read is the process's: other threads' and tasks' blocks are in it, and tell their
    `line`. Several share one sampling, by the smallest of their means, so there may be samples from
    before `open`: compare their births with `sequence()`. stratatrace's own work within measured
    calls is in no sample. Threads that run already when it begins do so within 16 KiB of what they
    allocate.

    Args:
        mean_bytes: How many bytes are allocated between two that are drawn, on average: an int of
            bytes, or text such as "512 KiB".
        depth: How many frames of a traceback are kept, the innermost ones: 1 to 128.

    Raises:
        InvalidValueError: One of the two is out of bounds.
        InvalidTypeError: One of the two is no size, or no number.
        ProbeError: Native counting cannot be had here.
    """

    def __init__(self, mean_bytes: int | str = SAMPLE_BYTES, *, depth: int = _DEPTH) -> None:
        #: What was asked for; where others have asked for less, that is used.
        self.wanted_mean_bytes = parse_size(mean_bytes)
        if self.wanted_mean_bytes > _MOST_MEAN_BYTES:
            msg = f"a mean of {mean_bytes!r} samples nothing: give 1 TiB or less, such as 512 KiB"
            raise InvalidValueError(msg)
        if isinstance(depth, bool) or not isinstance(depth, int):
            msg = f"a depth is a number of frames, not {depth!r}"
            raise InvalidTypeError(msg)
        if not 1 <= depth <= _MOST_FRAMES:
            msg = f"a traceback has 1 to {_MOST_FRAMES} frames, and not {depth}"
            raise InvalidValueError(msg)
        self.depth = depth
        #: What counts while this samples.
        self.probe = NativeProbe()
        self._opened = False

    def open(self) -> None:
        """Begin to sample, and to count; a second time does nothing.

        Raises:
            ProbeError: This Python's frames are not known.
        """
        with _sampling.lock.here:
            if self._opened:
                return
            self.probe.open()
            try:
                _sampling.begin(self)
            except BaseException as error:
                _sampling.end(self)
                self.probe.close()
                if not isinstance(error, RuntimeError):
                    raise
                msg = f"allocations cannot be sampled here: {error}"
                raise ProbeError(msg) from error
            self._opened = True

    def close(self) -> None:
        """End what `open` began. With the last one's end all samples are forgotten."""
        with _sampling.lock.here:
            if self._opened:
                self._opened = False
                _sampling.end(self)
                self.probe.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def mean_bytes(self) -> int:
        """The mean that is used now: the smallest that anybody has asked for; 0 where none has."""
        return _sampling.mean_bytes

    @property
    def counting(self) -> bool:
        """Whether nobody has taken the hooks out, as somebody's `tracemalloc.stop` may."""
        return _counters.is_counting()

    @property
    def dropped(self) -> int:
        """How many blocks should be in the sample for which there was no room.

        There is room for 262,144: a heap of 128 GiB, with the usual mean.
        """
        return _counters.samples_dropped()

    def sequence(self) -> int:
        """Return the number of the newest event."""
        return _counters.samples_sequence()

    def live(self) -> list[Sample]:
        """Return the blocks of the sample that are live, in no order."""
        # Not by `_make`, whose line would be told as the program's.
        return [Sample(*drawn) for drawn in _counters.samples_live()]

    def events(self, since: int) -> list[Event] | None:
        """Return the events after that number, the oldest first.

        None where they are not all known any more: the newest 65,536 are, of this sampling.
        """
        events = _counters.samples_events(since)
        return None if events is None else list(map(Event._make, events))

    def stack(self, stack_id: int) -> tuple[Frame, ...]:
        """Return the frames of a traceback, the innermost first.

        Empty where a block was allocated without the GIL or by another interpreter, where there
        was no room for more tracebacks, and for those of a sampling that has ended.
        """
        return tuple(map(Frame._make, _counters.samples_stack(stack_id)))

    def line(self) -> int:
        """Return the number of the line of execution that runs now."""
        return _counters.samples_line()
