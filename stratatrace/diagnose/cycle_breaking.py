"""`break_cycles`: takes the circles out of what `find_cycles` has found and kept.

Only what nobody else refers to is touched. That is found out as the collector does it: an object
with more references than the captured ones hold of it is in use, and so is all that it leads to.
"""

from __future__ import annotations

import gc
import sys
import types
from collections import Counter
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from stratatrace.diagnose.cycle_graph import cyclic_parts, edges_among, reached_from
from stratatrace.diagnose.cycle_reading import (
    attributes_of,
    clear_slot,
    instance_dict,
    is_kind,
)
from stratatrace.diagnose.cycle_report import CycleGroup, CycleReport
from stratatrace.errors import InvalidTypeError, InvalidValueError
from stratatrace.recorder import active

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from stratatrace.diagnose.cycle_steps import Step

__all__ = ["BreakReport", "Broken", "break_cycles"]

# A key that compares without any code of the user's.
_PLAIN_KEYS = frozenset(map(id, (str, bytes, int, float, bool, type(None))))


class Broken(NamedTuple):
    """What was done to the cycles of one path."""

    path: str
    #: Which reference was taken away, such as ``Node.parent``; None where none is known to go back.
    reference: str | None
    #: How many of these references, and how many cycles had some.
    references: int
    cycles: int
    #: How many cycles are in use, and were left alone; and how many are cyclic still.
    in_use: int
    left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakReport:
    """What `break_cycles` has done, or would do."""

    groups: tuple[Broken, ...]
    #: Whether nothing was done.
    dry_run: bool

    @property
    def references(self) -> int:
        """How many references were taken away."""
        return sum(group.references for group in self.groups)

    @property
    def cycles(self) -> int:
        """How many cycles had references taken away."""
        return sum(group.cycles for group in self.groups)

    @property
    def in_use(self) -> int:
        """How many cycles somebody uses, and were left alone."""
        return sum(group.in_use for group in self.groups)

    @property
    def left(self) -> int:
        """How many cycles are there still, apart from those in use."""
        return sum(group.left for group in self.groups)

    def to_dict(self) -> dict[str, object]:
        """Return all that was done for machines; groups as a list of dictionaries."""
        return {
            "dry_run": self.dry_run,
            "references": self.references,
            "cycles": self.cycles,
            "in_use": self.in_use,
            "left": self.left,
            "groups": [group._asdict() for group in self.groups],
        }

    def __str__(self) -> str:
        done = "would take" if self.dry_run else "took"
        taken = f"{done} {self.references:,} references out of {self.cycles:,} cycles"
        lines = [f"{taken}; {self.in_use:,} in use, {self.left:,} left"]
        for group in self.groups:
            what = group.reference or "no reference that is known to go back"
            lines.append(f"  {group.references:,} x {what}  ({group.path})")
        return "\n".join(lines)


class _Cut(NamedTuple):
    """A reference that can be taken away."""

    holder: Any
    #: Of a dictionary the key, of a list the place, and of an object with slots the name.
    at: Any
    how: str


def break_cycles(
    found: CycleReport | CycleGroup,
    /,
    *,
    reference: str | None = None,
    dry_run: bool = False,
) -> BreakReport:
    """Take the references away that make circles of what was found, so that no collector is needed.

    For each group it is the reference that goes back (``Node.parent``), where its pattern is known,
    and no other; what is left is told. Attributes and keys of dictionaries are deleted, places of
    lists become None. No code of the objects runs, and they stay in the report until its `release`,
    or its end; then those that were broken are freed at once, without the collector.

    What somebody refers to, and all that this leads to, is in use, and is left alone. No other
    thread may be handed any of the objects meanwhile.

    Args:
        found: A report of ``find_cycles(keep=True)``, or one of its groups.
        reference: Which one to take away instead, as it stands in the path of the group.
        dry_run: Only tell what would be done.

    Raises:
        InvalidTypeError: It is neither; or a reference was given with a whole report.
        InvalidValueError: The path has no such reference.
        NotReadyError: The objects are not kept, or not any more.
    """
    if not isinstance(found, CycleReport | CycleGroup):
        msg = f"break_cycles() wants a CycleReport or one of its groups, not {found!r}"
        raise InvalidTypeError(msg)
    if isinstance(found, CycleReport) and reference is not None:
        msg = "reference= is of one path: give break_cycles() one of the report's groups"
        raise InvalidTypeError(msg)
    groups = found.groups if isinstance(found, CycleReport) else (found,)
    for group in groups:
        group.kept.get()
    steps = [_step(group, reference) for group in groups]
    with active.own_work():
        in_use = _in_use(groups[0].kept.get()) if groups else set()
        done = tuple(
            _broken(group, step, in_use, dry_run=dry_run)
            for group, step in zip(groups, steps, strict=True)
        )
    return BreakReport(groups=done, dry_run=dry_run)


def _step(group: CycleGroup, reference: str | None) -> Step | None:
    """Return the step of a path whose reference is taken away."""
    if reference is None:
        return None if group.inside.back is None else group.inside.steps[group.inside.back]
    for step in group.inside.steps:
        if step.text == reference:
            return step
    known = ", ".join(repr(step.text) for step in group.inside.steps)
    msg = f"the path {group.path!r} has no reference {reference!r}: choose one of {known}"
    raise InvalidValueError(msg)


def _broken(group: CycleGroup, step: Step | None, in_use: set[int], *, dry_run: bool) -> Broken:
    objects = group.kept.get()
    references = cycles = used = left = 0
    for part in group.inside.parts:
        if not in_use.isdisjoint(part):
            used += 1
            continue
        cuts = [] if step is None else _cuts([objects[place] for place in part], step)
        done = len(cuts) if dry_run else sum(map(_take_away, cuts))
        references += done
        cycles += bool(done)
        left += not (done if dry_run else _is_broken([objects[place] for place in part]))
    return Broken(
        path=group.path,
        reference=None if step is None else step.text,
        references=references,
        cycles=cycles,
        in_use=used,
        left=left,
    )


def _cuts(part: list[Any], step: Step) -> list[_Cut]:
    """Return the references that a step stands for, and that stay within the cycle."""
    members = set(map(id, part))
    holders = [item for item in part if type(item) is step.kind]
    return [cut for holder in holders for cut in _cuts_of(holder, step, members)]


def _cuts_of(holder: Any, step: Step, members: Collection[int]) -> Iterator[_Cut]:
    attributes = None if is_kind(holder, type) else instance_dict(holder)
    if step.by_place and is_kind(holder, list):
        for place, value in enumerate(list.__iter__(holder)):
            if id(value) in members:
                yield _Cut(holder, place, "place")
    elif step.by_place and is_kind(holder, dict):
        yield from _cuts_of_dict(holder, None, members)
    elif attributes is not None:
        yield from _cuts_of_dict(attributes, step.name, members)
    for name, value in attributes_of(holder):
        if name == step.name and id(value) in members:
            yield _Cut(holder, name, "slot")


def _cuts_of_dict(
    holder: dict[Any, Any], name: str | None, members: Collection[int]
) -> Iterator[_Cut]:
    """Find the values of a dictionary, those of all keys or of one."""
    # To compare keys of another kind, whatever the user has written would be called.
    if _PLAIN_KEYS.issuperset(map(id, map(type, dict.keys(holder)))):
        for key, value in dict.items(holder):
            if id(value) in members and name in {None, key}:
                yield _Cut(holder, key, "key")


def _take_away(cut: _Cut) -> bool:
    """Take a reference away; return whether that could be done."""
    if cut.how == "key":
        dict.__delitem__(cut.holder, cut.at)
    elif cut.how == "place":
        list.__setitem__(cut.holder, cut.at, None)
    else:
        return clear_slot(cut.holder, cut.at)
    return True


def _is_broken(part: list[Any]) -> bool:
    """Tell whether there is no circle left, by way of dictionaries neither."""
    between = {id(item): item for item in _attributes_among(part)}
    return not cyclic_parts(edges_among([*part, *between.values()]))


def _attributes_among(objects: list[Any]) -> list[Any]:
    """Return the dictionaries and frames to which the objects refer, and that are none of them."""
    known = set(map(id, objects))
    return [
        item
        for item in gc.get_referents(*objects)
        if (type(item) is dict or type(item) is types.FrameType) and id(item) not in known
    ]


def _in_use(objects: list[Any]) -> set[int]:
    """Return the places of those to which somebody else refers, and of what these lead to."""
    own = _own_parts(objects)
    everything = [*objects, *own]
    edges = edges_among(everything)
    within = Counter(chain.from_iterable(edges))
    counted = [*map(sys.getrefcount, everything)]
    # Beside the others, two lists refer to each.
    roots = [
        place
        for place, references in enumerate(counted)
        if references - _LISTED - 1 != within[place]
    ]
    used = set(roots)
    reached_from(edges, roots, used)
    return used


def _own_parts(objects: list[Any]) -> list[Any]:
    """Return what came into being by a look at the objects: their dictionaries and frames."""
    referred = _attributes_among(objects)
    times = Counter(map(id, referred))
    found = [*{id(item): item for item in referred}.values()]
    counted = [*map(sys.getrefcount, found)]
    # Those that nobody else has: that list refers to each as often as its holders do.
    return [
        item
        for item, references in zip(found, counted, strict=True)
        if references - _LISTED == 2 * times[id(item)]
    ]


# What `sys.getrefcount` counts of an object that nobody but a list has, in a call by `map`.
_LISTED = next(map(sys.getrefcount, [object()]))
