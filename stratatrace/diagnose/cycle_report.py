"""What `find_cycles` has found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from stratatrace.errors import NotReadyError
from stratatrace.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stratatrace.diagnose.cycle_advice import Pattern
    from stratatrace.diagnose.cycle_capture import Origin
    from stratatrace.diagnose.cycle_steps import Step
    from stratatrace.measurement import Attribution

__all__ = ["CycleGroup", "CycleLine", "CycleReport", "Found", "Inside", "Kept", "fill", "nothing"]

_MOST_SHOWN = 10


class CycleLine(NamedTuple):
    """A line that has made objects of a cycle."""

    filename: str
    lineno: int
    #: In how many of the cycles, of the thousand at most that were looked at.
    cycles: int


class Inside(NamedTuple):
    """What `break_cycles` has to know of a group."""

    #: The path, and which of its steps goes back.
    steps: tuple[Step, ...] = ()
    back: int | None = None
    #: The places of the objects of each cycle.
    parts: tuple[tuple[int, ...], ...] = ()


class Kept:
    """The objects that were found, and their classes, until they are let go."""

    __slots__ = ("inside", "objects")

    def __init__(self, objects: list[Any] | None) -> None:
        self.objects = objects
        #: Of each group, by its number.
        self.inside: list[Inside] = []

    def get(self) -> list[Any]:
        """Return the objects.

        Raises:
            NotReadyError: They are not kept, or not any more.
        """
        if self.objects is None:
            msg = (
                "the objects of these cycles are not kept: find them by find_cycles(keep=True), "
                "and do not release() the report before"
            )
            raise NotReadyError(msg)
        return self.objects

    def release(self) -> None:
        """Let them go."""
        self.objects = None
        self.inside = []


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleGroup:
    """The cycles of one path.

    A cycle is here all objects of which each can be reached from each: a tree whose nodes know
    their parents is one cycle, however many circles there are in it. The path is a shortest one.
    """

    #: Types and attributes, such as ``Node.parent -> Node.children -> Node``. Lists and
    #: dictionaries between are left out, and so are their places and keys.
    path: str
    #: The path with places and keys, of one of the cycles.
    example: str
    #: How many cycles there are of that path.
    cycles: int
    #: How many objects they consist of, and the size of these, in bytes.
    objects: int
    size_bytes: int
    #: How many objects more only they keep alive, with text, bytes and the like, and their size.
    held_objects: int
    held_bytes: int
    #: ``block``: made within it; ``before`` it, or held by what was; ``unknown``.
    origin: Origin
    #: The classes on the path, with their modules.
    types: tuple[str, ...]
    #: Where objects of the path's first class were made, the most frequent first; empty where
    #: tracemalloc did not trace.
    lines: tuple[CycleLine, ...]
    #: Which known pattern it is, and what helps; None where it is none.
    pattern: Pattern | None
    advice: str | None
    #: Whether a class on the path has a ``__del__``, which runs when the collector comes by.
    has_finalizer: bool
    #: For `break_cycles`: the objects, and the group's number among those that have them.
    kept: Kept = field(repr=False, compare=False)
    number: int = field(repr=False, compare=False)

    @property
    def total_bytes(self) -> int:
        """The size of the cycles with all that only they keep alive, in bytes."""
        return self.size_bytes + self.held_bytes

    def members(self) -> list[list[Any]]:
        """Return the objects of each cycle.

        Raises:
            NotReadyError: They are not kept, or not any more.
        """
        objects = self.kept.get()
        return [[objects[place] for place in part] for part in self.inside.parts]

    @property
    def inside(self) -> Inside:
        """What `break_cycles` has to know; nothing where no objects are kept."""
        return self.kept.inside[self.number] if self.kept.inside else Inside()

    def to_dict(self) -> dict[str, object]:
        """Return all that is known of it for machines; lines as lists of dictionaries."""
        return {
            "path": self.path,
            "example": self.example,
            "cycles": self.cycles,
            "objects": self.objects,
            "size_bytes": self.size_bytes,
            "held_objects": self.held_objects,
            "held_bytes": self.held_bytes,
            "origin": self.origin,
            "types": list(self.types),
            "lines": [line._asdict() for line in self.lines],
            "pattern": self.pattern,
            "advice": self.advice,
            "has_finalizer": self.has_finalizer,
        }

    def __str__(self) -> str:
        held = ""
        if self.held_objects:
            held = f", and keep {self.held_objects:,} more, {format_size(self.held_bytes)}"
        before = ", from before the block" if self.origin == "before" else ""
        lines = [
            f"{self.cycles:,} x {self.path}",
            f"    {self.objects:,} objects, {format_size(self.size_bytes)}{held}{before}",
        ]
        lines += [f"    made at {line.filename}:{line.lineno}" for line in self.lines[:1]]
        lines += [f"    {self.advice}"] * bool(self.advice)
        lines += ["    has a __del__, which runs when the collector comes by"] * self.has_finalizer
        return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a report tells of, once there is something."""

    groups: tuple[CycleGroup, ...]
    objects: int
    size_bytes: int
    not_captured: int
    attribution: Attribution
    complete: bool
    kept: Kept


class CycleReport:
    """The garbage that only the collector could free: groups of cycles, the largest first.

    It is filled when the block ends. It is true where there are cycles, its length is the number
    of its groups, and it gives them one by one.
    """

    def __init__(self, name: str) -> None:
        #: What was looked at.
        self.name = name
        self._found: Found | None = None

    @property
    def groups(self) -> tuple[CycleGroup, ...]:
        """The groups, the largest first."""
        return self._filled.groups

    @property
    def cycles(self) -> int:
        """How many cycles there are."""
        return sum(group.cycles for group in self._filled.groups)

    @property
    def objects(self) -> int:
        """How many objects the collector has found, in cycles and held by them."""
        return self._filled.objects

    @property
    def size_bytes(self) -> int:
        """The size of all that they take, with text, bytes and the like, in bytes."""
        return self._filled.size_bytes

    @property
    def not_captured(self) -> int:
        """How many objects more there were than ``max_objects``; they are in no other number."""
        return self._filled.not_captured

    @property
    def attribution(self) -> Attribution:
        """``exact``: nobody else has run; ``process``: other threads' or tasks' may be in it."""
        return self._filled.attribution

    @property
    def complete(self) -> bool:
        """Whether all was looked at: no object too many, no failure, and no fork of the process."""
        return self._filled.complete

    @property
    def filled(self) -> bool:
        """Whether the block has ended."""
        return self._found is not None

    @property
    def kept(self) -> bool:
        """Whether the objects are there, for `CycleGroup.members` and `break_cycles`."""
        return self._found is not None and self._found.kept.objects is not None

    def release(self) -> None:
        """Let the objects go, where they are kept; the collector frees them when it comes by."""
        if self._found is not None:
            self._found.kept.release()

    def to_dict(self) -> dict[str, object]:
        """Return all that was found for machines; groups as a list of dictionaries."""
        return {
            "name": self.name,
            "cycles": self.cycles,
            "objects": self.objects,
            "size_bytes": self.size_bytes,
            "not_captured": self.not_captured,
            "attribution": self.attribution,
            "complete": self.complete,
            "groups": [group.to_dict() for group in self.groups],
        }

    def __len__(self) -> int:
        return len(self._filled.groups)

    def __iter__(self) -> Iterator[CycleGroup]:
        return iter(self._filled.groups)

    def __getitem__(self, place: int) -> CycleGroup:
        return self._filled.groups[place]

    def __bool__(self) -> bool:
        return bool(self._filled.groups)

    def __str__(self) -> str:
        if self._found is None:
            return f"cycles in {self.name}: the block has not ended"
        return "\n".join([self._summary(), *self._lines()])

    def __repr__(self) -> str:
        if self._found is None:
            return f"<CycleReport of {self.name}, whose block has not ended>"
        return f"<CycleReport of {self.name}: {len(self)} groups, {self.cycles} cycles>"

    def _summary(self) -> str:
        if not self.groups:
            return f"no cycles in {self.name}"
        cycles = "1 cycle" if self.cycles == 1 else f"{self.cycles:,} cycles"
        return (
            f"{cycles} in {self.name}: only the collector could free "
            f"{self.objects:,} objects, {format_size(self.size_bytes)}"
        )

    def _lines(self) -> Iterator[str]:
        for group in self.groups[:_MOST_SHOWN]:
            yield from (f"  {line}" for line in str(group).splitlines())
        if len(self) > _MOST_SHOWN:
            yield f"  and {len(self) - _MOST_SHOWN:,} more groups"
        if self.not_captured:
            yield f"  {self.not_captured:,} more objects were freed as usual, without a look"
        elif not self.complete:
            yield "  not all could be looked at"
        if self.groups and self.attribution == "process":
            yield "  garbage of other threads or tasks may be among this"

    @property
    def _filled(self) -> Found:
        if self._found is None:
            msg = f"the cycles in {self.name} are known when the block has ended, not within it"
            raise NotReadyError(msg)
        return self._found


def fill(report: CycleReport, found: Found) -> None:
    """Have a report tell of what was found."""
    report._found = found  # noqa: SLF001 -- its own module


def nothing(*, complete: bool, attribution: Attribution) -> Found:
    """Return what is known where there was nothing, or where it could not be looked at."""
    return Found(
        groups=(),
        objects=0,
        size_bytes=0,
        not_captured=0,
        attribution=attribution,
        complete=complete,
        kept=Kept(None),
    )
