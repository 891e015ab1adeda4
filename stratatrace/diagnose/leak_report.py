"""What was found out of whether something leaks. Only data, and how it is shown."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import NamedTuple

from stratatrace.sizes import format_size

__all__ = ["GrownLine", "GrownType", "LeakCulprits", "LeakPhase", "LeakReport"]

_SMALLEST_SHOWN = 0.0001


class LeakPhase(NamedTuple):
    """A stretch of calls, and what the heap did in it."""

    #: ``first`` and ``second``, which are compared; ``long``, which shows what fills up in the end;
    #: ``traced``, in which the culprits were looked for, and all threads are in the numbers.
    name: str
    calls: int
    #: How often the heap was read.
    readings: int
    #: The median slope of all pairs of readings (Theil and Sen), in bytes a call.
    slope_bytes: float
    #: The chance that a heap without a trend rises as much or more (Mann and Kendall).
    p_value: float
    #: From the first reading to the last, in bytes; signed.
    growth_bytes: int


class GrownType(NamedTuple):
    """The objects of one type that have come to stay."""

    #: Of the type, with its module but for builtins.
    name: str
    objects: int
    #: What they take themselves, without what they refer to.
    size_bytes: int


class GrownLine(NamedTuple):
    """A line whose memory has come to stay."""

    file: str
    line: int
    size_bytes: int
    blocks: int
    #: File and line of the frames of one such allocation, the line itself first.
    traceback: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakCulprits:
    """What has grown, who has allocated it, and who holds it; the largest first.

    All threads of the process are in the numbers.
    """

    types: tuple[GrownType, ...] = ()
    #: Of those allocations that were traced; stratatrace's own are left out.
    lines: tuple[GrownLine, ...] = ()
    #: The shortest way from a root to one new object of each type, where there is one that Python
    #: can see: ``app.CACHE['k'] -> list[3] -> app.Node``.
    chains: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Return all of it for machines."""
        return {
            "types": [grown._asdict() for grown in self.types],
            "lines": [grown._asdict() for grown in self.lines],
            "chains": list(self.chains),
        }

    def __str__(self) -> str:
        return "\n".join(self.shown(1)) or "nothing has grown"

    def shown(self, calls: int) -> list[str]:
        """Return it as lines of text, with numbers for each of so many calls."""
        lines: list[str] = []
        if self.types:
            lines += ["  by type"]
            lines += [
                f"    {grown.objects / calls:+8,.1f}  {grown.name}, "
                f"{_size(grown.size_bytes / calls)}"
                for grown in self.types
            ]
        if self.lines:
            lines += ["  by line"]
            lines += [
                f"    {_size(grown.size_bytes / calls):>10}  {grown.file}:{grown.line}"
                for grown in self.lines
            ]
        if self.chains:
            lines += ["  held by", *(f"    {chain}" for chain in self.chains)]
        return lines


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakReport:
    """Whether a function or a loop keeps more memory with every call; true when it does.

    Other threads are in the numbers of ``tracemalloc``, and not in those of ``native``; other tasks
    of the same thread are in both.
    """

    #: What was looked at: the function, or the name that was given.
    name: str
    #: Whether it leaks.
    leaks: bool
    #: Why that is said, in words.
    reason: str
    #: Which probe has read the heap: ``native`` or ``tracemalloc``.
    probe: str
    #: What each call keeps, in bytes: of the last phase before the traced one, or of that where it
    #: is less.
    slope_bytes: float
    #: The largest of the phases' chances, without the traced one's.
    p_value: float
    #: How many calls, or rounds of a loop, were looked at in all; those to warm up are left out.
    iterations: int
    phases: tuple[LeakPhase, ...]
    #: What has grown, where it leaks, and in how many calls: of the traced phase, or of a loop.
    culprits: LeakCulprits = field(default_factory=LeakCulprits)
    culprit_calls: int = 0

    def __bool__(self) -> bool:
        return self.leaks

    @property
    def summary(self) -> str:
        """The verdict with its numbers, in one line."""
        evidence = f"{_chance(self.p_value)}, {self.iterations:,} calls"
        if self.leaks:
            return f"{self.name} leaks {_size(self.slope_bytes)} a call ({evidence})"
        return f"{self.name} does not leak: {self.reason} ({evidence})"

    def to_dict(self) -> dict[str, object]:
        """Return all of it for machines."""
        return asdict(self) | {
            "phases": [phase._asdict() for phase in self.phases],
            "culprits": self.culprits.to_dict(),
        }

    def __str__(self) -> str:
        phases = (
            f"  {phase.name:<7} {phase.calls:>7,} calls  "
            f"{phase.slope_bytes:+12,.1f} B a call  {_chance(phase.p_value)}"
            for phase in self.phases
        )
        return "\n".join((self.summary, *phases, *self.culprits.shown(max(1, self.culprit_calls))))


def _chance(p_value: float) -> str:
    return "p < 0.0001" if p_value < _SMALLEST_SHOWN else f"p = {p_value:.4f}"


def _size(size_bytes: float) -> str:
    return format_size(round(size_bytes))
