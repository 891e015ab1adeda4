"""Where growth by stack is read: every traced block, or a sample of the native counters'."""

from __future__ import annotations

import tracemalloc
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeVar

from stratatrace.errors import InvalidValueError, TracesLostError
from stratatrace.probes import native_obstacle
from stratatrace.probes.allocations import (
    AllocationSampler,
    estimated_bytes,
    estimated_count,
    variance_of_bytes,
)
from stratatrace.probes.tracing import TracemallocProbe, held_by_stack
from stratatrace.stacks import Frame, StackGrowth

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stratatrace.probes.allocations import Sample

__all__ = ["SOURCES", "NativeSource", "Source", "SourceName", "TracemallocSource", "choose_source"]

SourceName = Literal["tracemalloc", "native"]

#: What can be asked for, and what it is.
SOURCES = {
    "auto": "tracemalloc where it is tracing already; else native, where it was built",
    "tracemalloc": "every block, exactly; allocating code runs some ten times slower",
    "native": "a sample of the blocks; cheap enough to stay on",
}

_Marked = TypeVar("_Marked")
_RawFrames = tuple[tuple[str, int], ...]


class Source(Protocol[_Marked]):
    """Tells what is allocated, from `open` to `close`, by all threads."""

    @property
    def name(self) -> SourceName:
        """Which it is."""
        ...

    @property
    def depth(self) -> int:
        """How many frames a stack has at most."""
        ...

    @property
    def sample_bytes(self) -> int | None:
        """How many bytes there are to one that is drawn; None where each block is seen."""
        ...

    def open(self) -> None:
        """Begin to look."""
        ...

    def close(self) -> None:
        """Look no more; marks that were taken can still be compared."""
        ...

    def mark(self) -> _Marked:
        """Return what is held now."""
        ...

    def growth(self, first: _Marked, second: _Marked) -> list[StackGrowth]:
        """Return what is held at the second mark beyond what was at the first, in no order.

        Raises:
            TracesLostError: They cannot be compared.
        """
        ...


class _Traced(NamedTuple):
    """What was held, as tracemalloc tells it."""

    #: Bytes and blocks of each stack.
    held: dict[_RawFrames, tuple[int, int]]
    #: Of the tracing that tells it: marks of two tracings cannot be compared.
    witness: object


class TracemallocSource:
    """Sees every block, from when tracing began.

    A tracing that somebody else has begun is used as it is, and neither ended nor cleared.

    Args:
        depth: How many frames to keep of each block, where tracing begins here.
    """

    name: SourceName = "tracemalloc"
    sample_bytes: int | None = None

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self._probe = TracemallocProbe(always=True, frames=depth)
        # Its trace is lost with all others.
        self._witness = bytearray()
        self._stacks: dict[_RawFrames, _RawFrames] = {}
        self._frames: dict[tuple[str, int], tuple[str, int]] = {}

    def open(self) -> None:
        """Begin to trace, unless it is on already."""
        self._probe.open()
        self.depth = tracemalloc.get_traceback_limit()
        self._witness = bytearray()

    def close(self) -> None:
        """End tracing with its last user, where it was begun for one."""
        self._probe.close()

    def mark(self) -> _Traced:
        """Return bytes and blocks of each stack."""
        if not tracemalloc.is_tracing():
            return _Traced({}, object())
        held = {self._kept(stack): held for stack, held in held_by_stack().items()}
        if tracemalloc.get_object_traceback(self._witness) is None:
            self._witness = bytearray()
        return _Traced(held, self._witness)

    def growth(self, first: _Traced, second: _Traced) -> list[StackGrowth]:
        """Return the difference of each stack that has one."""
        if first.witness is not second.witness:
            msg = (
                "somebody has stopped or cleared tracemalloc between the two marks, and the traces "
                "are lost: have it left alone, or use source='native'"
            )
            raise TracesLostError(msg)
        frames = {place: Frame(place[0], "", place[1]) for place in list(self._frames)}
        grown: list[StackGrowth] = []
        for stack in first.held.keys() | second.held.keys():
            now, then = second.held.get(stack, _NOTHING), first.held.get(stack, _NOTHING)
            if now != then:
                stacked = tuple(map(frames.__getitem__, stack))
                grown.append(StackGrowth(stacked, now[0] - then[0], now[1] - then[1]))
        return grown

    def _kept(self, stack: _RawFrames) -> _RawFrames:
        """Return an equal stack that all marks share: each one's own would be most of its size."""
        known = self._stacks.get(stack)
        if known is None:
            known = tuple(map(self._frames.setdefault, stack, stack))
            self._stacks[known] = known
        return known


_NOTHING = (0, 0)


class _Sampled(NamedTuple):
    """The blocks of the sample that were live."""

    #: By the numbers of their births.
    live: dict[int, Sample]
    #: Of the sampling that drew them: marks of two cannot be compared.
    witness: object


class NativeSource:
    """Sees a sample of the blocks that were allocated since sampling began.

    Args:
        mean_bytes: How many bytes there are to one that is drawn, on average.
        depth: How many frames to keep of each block.
    """

    name: SourceName = "native"

    def __init__(self, mean_bytes: int, depth: int) -> None:
        self.depth = depth
        self._sampler = AllocationSampler(mean_bytes, depth=depth)
        self._stacks: dict[int, tuple[Frame, ...]] = {}
        self._witness = object()
        self._known_stack: int | None = None
        self._was_intact = True
        self.sample_bytes: int | None = mean_bytes

    def open(self) -> None:
        """Begin to sample."""
        self._sampler.open()
        self.sample_bytes = self._sampler.mean_bytes  # Less, where others want it.

    def close(self) -> None:
        """Sample no more, where nobody else does."""
        self._sampler.close()

    def mark(self) -> _Sampled:
        """Return the live blocks of the sample."""
        intact = self._is_intact()
        if not (intact and self._was_intact):
            self._witness, self._known_stack = object(), None
        self._was_intact = intact
        live = {sample.birth: sample for sample in self._sampler.live()}
        # Here, as they are forgotten when the sampling ends.
        for sample in live.values():
            if sample.stack_id not in self._stacks:
                frames = self._stacks[sample.stack_id] = self._sampler.stack(sample.stack_id)
                self._known_stack = sample.stack_id if frames else self._known_stack
        return _Sampled(live, self._witness)

    def growth(self, first: _Sampled, second: _Sampled) -> list[StackGrowth]:
        """Return what was born less what has died, as estimates.

        A block of both marks is no growth, and adds nothing to the error.
        """
        if first.witness is not second.witness:
            msg = (
                "somebody's tracemalloc.stop() has ended the sampling between the two marks: have "
                "tracemalloc begin after the tracker, or end after it"
            )
            raise TracesLostError(msg)
        born = (second.live[birth] for birth in second.live.keys() - first.live.keys())
        died = (first.live[birth] for birth in first.live.keys() - second.live.keys())
        sums: dict[tuple[Frame, ...], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
        self._add(sums, born, 1)
        self._add(sums, died, -1)
        return [StackGrowth(frames, *numbers) for frames, numbers in sums.items()]

    def _is_intact(self) -> bool:
        """Tell whether it has sampled since the last mark: else the stacks from then are gone."""
        known = self._known_stack
        return self._sampler.counting and (known is None or bool(self._sampler.stack(known)))

    def _add(
        self,
        sums: dict[tuple[Frame, ...], list[float]],
        samples: Iterable[Sample],
        sign: Literal[1, -1],
    ) -> None:
        for sample in samples:
            of_stack = sums[self._stacks[sample.stack_id]]
            drawn = sample.size_bytes, sample.mean_bytes
            of_stack[0] += sign * estimated_bytes(*drawn)
            of_stack[1] += sign * estimated_count(*drawn)
            of_stack[2] += variance_of_bytes(*drawn)


def choose_source(name: str, *, mean_bytes: int, depth: int) -> Source[Any]:
    """Return a source, which is not open.

    Args:
        name: One of `SOURCES`.
        mean_bytes: Of a sample.
        depth: Of the stacks, in frames.

    Raises:
        InvalidValueError: There is no source of that name, or not here.
    """
    if name not in SOURCES:
        msg = f"there is no source {name!r}: choose one of {', '.join(map(repr, SOURCES))}"
        raise InvalidValueError(msg)
    obstacle = native_obstacle()
    if name == "native" and obstacle is not None:
        msg = f"there is no source 'native' here: {obstacle}; 'auto' takes the best at hand"
        raise InvalidValueError(msg)
    traced = name == "auto" and (obstacle is not None or tracemalloc.is_tracing())
    if name == "tracemalloc" or traced:
        return TracemallocSource(depth)
    return NativeSource(mean_bytes, depth)
