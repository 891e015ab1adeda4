"""Which lines have allocated what a call keeps, and what it held when its heap stood highest."""

from __future__ import annotations

import tracemalloc
from bisect import bisect_left
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from stratatrace.probes import NativeProbe
from stratatrace.probes.allocations import SAMPLE_BYTES, AllocationSampler, estimate
from stratatrace.probes.tracing import held_by_stack
from stratatrace.stacks import Frame, LineGrowth, StackGrowth, top_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stratatrace.habits import Habits
    from stratatrace.measurement import Callsite
    from stratatrace.probes import TracemallocProbe
    from stratatrace.probes.allocations import Event, Sample

__all__ = ["CallLines", "LinesOfCalls", "SampledLines", "TracedLines"]

_PEAK_LINES = 5


class CallLines(Protocol):
    """The lines of one call, from its first to its last step."""

    def resume(self) -> None:
        """A step of the call begins."""

    def pause(self) -> None:
        """The step has ended."""

    def end(self) -> None:
        """There are no more steps; the call's probes still read."""

    def top(self, most: int) -> tuple[LineGrowth, ...]:
        """Return the lines that have allocated most of what the call keeps, the largest first."""
        ...

    def at_peak(self, most: int = _PEAK_LINES) -> tuple[LineGrowth, ...] | None:
        """Return those of what it held when its heap stood highest; None where nobody knows."""
        ...


class _Step(NamedTuple):
    """A step in which something was drawn: those events are its line's, and no others."""

    last: int
    first: int
    line: int


class SampledLines:
    """Of a sample of what the call's own line of execution allocates.

    Work that is handed to other threads is not among it.

    Args:
        sampler: Which samples all the while.
    """

    __slots__ = ("_began", "_line", "_sampler", "_steps")

    def __init__(self, sampler: AllocationSampler) -> None:
        self._sampler = sampler
        self._began = self._line = 0
        # By their last events, which rise. Most steps see none, and leave nothing here.
        self._steps: list[_Step] = []

    def resume(self) -> None:
        """A step of the call begins."""
        self._began, self._line = self._sampler.sequence(), self._sampler.line()

    def pause(self) -> None:
        """The step has ended."""
        ended = self._sampler.sequence()
        if ended > self._began:
            self._steps.append(_Step(ended, self._began, self._line))

    def end(self) -> None:
        """Do nothing: what was drawn stays until it is freed."""

    def top(self, most: int) -> tuple[LineGrowth, ...]:
        """Return the lines that have allocated most of what the call keeps, the largest first."""
        if not self._steps:
            return ()
        return self._lines_of(filter(self._is_own, self._sampler.live()), most)

    def at_peak(self, most: int = _PEAK_LINES) -> tuple[LineGrowth, ...] | None:
        """Return those of what it held when its heap stood highest, to the next sample.

        None where nothing of it was drawn, or it is too long ago for all of it to be known.
        """
        events = self._sampler.events(self._steps[0].first) if self._steps else None
        if events is None:
            return None
        own = {event.birth for event in events if not event.died and self._is_own(event)}
        births = [event for event in events if not event.died and event.birth in own]
        if not births:
            return None
        peak = max(births, key=lambda event: event.level_bytes).number
        live = {event.birth: event for event in births if event.number <= peak}
        for event in events:
            if event.died and event.number <= peak:
                live.pop(event.birth, None)
        return self._lines_of(live.values(), most)

    def _is_own(self, drawn: Sample | Event) -> bool:
        """Tell whether a block was allocated in a step of the call, by the call."""
        place = bisect_left(self._steps, (drawn.birth,))
        if place == len(self._steps):
            return False
        step = self._steps[place]
        return step.first < drawn.birth and step.line == drawn.line

    def _lines_of(self, drawn: Iterable[Sample | Event], most: int) -> tuple[LineGrowth, ...]:
        by_stack: dict[int, list[Sample | Event]] = defaultdict(list)
        for sample in drawn:
            by_stack[sample.stack_id].append(sample)
        stacks = (_estimated(self._sampler.stack(key), blocks) for key, blocks in by_stack.items())
        return tuple(top_lines(stacks, most))


def _estimated(frames: tuple[Frame, ...], blocks: Iterable[Sample | Event]) -> StackGrowth:
    drawn = estimate(blocks)
    return StackGrowth(frames, drawn.size_bytes, drawn.blocks, drawn.size_error_bytes**2)


class TracedLines:
    """Of all that tracemalloc has traced between the ends of the call, by whatever thread.

    Where tracing goes on between calls, all traces are passed over at both ends.
    """

    __slots__ = ("_after", "_before")

    def __init__(self) -> None:
        self._before = held_by_stack() if tracemalloc.is_tracing() else {}
        self._after = self._before

    def resume(self) -> None:
        """Do nothing: it is told of the process."""

    def pause(self) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Take the traces, before tracing ends."""
        if tracemalloc.is_tracing():
            self._after = held_by_stack()

    def top(self, most: int) -> tuple[LineGrowth, ...]:
        """Return the lines that have allocated most of what was added, the largest first."""
        stacks = []
        for places, (size, count) in self._after.items():
            size_before, count_before = self._before.get(places, (0, 0))
            frames = tuple(Frame(file, "", line) for file, line in places)
            stacks.append(StackGrowth(frames, size - size_before, count - count_before))
        return tuple(top_lines(stacks, most))

    def at_peak(self, most: int = _PEAK_LINES) -> None:  # noqa: ARG002 -- as of all
        """Return None: tracemalloc remembers how high it stood, and not with what."""
        return


class LinesOfCalls:
    """Gives calls their lines, where they are to be told.

    Args:
        probe: What measures the heap of calls; None where nothing does.
        sample_bytes: How many bytes there are to one that is drawn, on average, where the program
            has asked for a sample; None begins one with the first call whose lines are asked for.
        habits: What is remembered of callsites.
    """

    def __init__(
        self,
        probe: NativeProbe | TracemallocProbe | None,
        sample_bytes: int | str | None,
        habits: Habits,
    ) -> None:
        self._probe = probe
        self._always = sample_bytes is not None
        self._sampler: AllocationSampler | None = None
        if isinstance(probe, NativeProbe):
            self._sampler = AllocationSampler(sample_bytes or SAMPLE_BYTES)
        self._sampling = False
        self._habits = habits

    def start(self) -> None:
        """Begin to sample, where that is for good."""
        if self._always:
            self._sample()

    def stop(self) -> None:
        """Sample no more."""
        self._sampling = False
        if self._sampler is not None:
            self._sampler.close()

    def of(self, callsite: Callsite, *, recording: bool) -> CallLines | None:
        """Return the lines of a call that begins; None where none are to be told.

        Args:
            callsite: What is called.
            recording: Whether it has a span to tell them on.
        """
        asked = callsite.top is not None and recording
        if self._sampler is not None:
            if asked and not self._sampling:
                self._sample()
            return SampledLines(self._sampler) if self._sampling else None
        return TracedLines() if asked and self._probe is not None else None

    def told(
        self, lines: CallLines, callsite: Callsite, numbers: Mapping[str, Any]
    ) -> dict[str, tuple[LineGrowth, ...]]:
        """Return what is told of a call's lines, by the fields of its Measurement."""
        told = {}
        if callsite.top is not None:
            told["top_lines"] = lines.top(callsite.top)
        peak_bytes = numbers.get("heap_peak_bytes")
        if peak_bytes is not None and self._is_remarkable(callsite, peak_bytes):
            at_peak = lines.at_peak()
            if at_peak is not None:
                told["peak_lines"] = at_peak
        return told

    def _is_remarkable(self, callsite: Callsite, peak_bytes: int) -> bool:
        record = self._habits.of(callsite).breaks_record(peak_bytes)
        budget_bytes = callsite.budget_bytes
        return record or (budget_bytes is not None and peak_bytes > budget_bytes)

    def _sample(self) -> None:
        if self._sampler is not None:
            self._sampler.open()
            self._sampling = True
