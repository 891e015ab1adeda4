"""A circle of objects as people read it: ``Node.parent -> Node.children -> Node``."""

from __future__ import annotations

import types
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from stratatrace.diagnose.cycle_reading import (
    CODE,
    CONTAINERS,
    Reference,
    code_of,
    full_name,
    instance_dict,
    reference,
    shown_name,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Step", "steps_of", "written"]

# A longer circle is told by its beginning.
_MOST_READ = 48
_MOST_TOLD = 12
_MOST_KEY = 40
# The name of what a list, or the like, refers to.
_PLACE = "[]"


@dataclass(frozen=True, slots=True)
class Step:
    """An object of a circle, and by what it leads to the next one that is told of."""

    #: What the object is, such as ``Node``.
    shown: str
    #: By what it refers to the next: an attribute, a local variable; empty where that is not known.
    name: str
    #: By which place in a list, or which key: ``[0]``, ``['a']``.
    detail: str
    #: Whether there is a list, or the like, between the two.
    by_container: bool
    #: The class of the object, and its name with the module.
    kind: type
    full_name: str
    #: Which object of the circle it is.
    index: int
    #: Whether the same follows again, and is left out.
    repeated: bool = False

    @property
    def text(self) -> str:
        """The object and the name."""
        dot = "." if self.name and self.name[0] != "[" else ""
        return f"{self.shown}{dot}{self.name}"

    @property
    def detailed(self) -> str:
        """The object and the name, with the place or key."""
        return f"{self.shown if self.name == _PLACE and self.detail else self.text}{self.detail}"

    @property
    def by_place(self) -> bool:
        """Whether it is a list or dictionary, whose own places or keys lead on."""
        return self.name == _PLACE

    @property
    def key(self) -> tuple[str, str]:
        """What steps have in common that say the same."""
        return self.text, self.full_name


def steps_of(objects: Sequence[Any]) -> list[Step]:
    """Return the steps of a circle in which each object refers to the next, the last to the first.

    Lists, dictionaries, cells and tracebacks are not told of, where there is anything else. The
    same circle has the same first step, wherever it was begun.
    """
    shown = [i for i, item in enumerate(objects) if id(type(item)) not in CONTAINERS]
    if not shown:
        shown = list(range(len(objects)))
    told = shown if len(shown) <= _MOST_READ else shown[:_MOST_TOLD]
    steps = [_step(objects, at, shown[(number + 1) % len(shown)]) for number, at in enumerate(told)]
    steps = _without_repetition(_one_period(steps, whole=len(told) == len(shown)))
    rotated = [steps[at:] + steps[:at] for at in range(len(steps))]
    return min(rotated, key=lambda way: (id(way[0].kind) in CODE, [step.key for step in way]))


def written(steps: Sequence[Step], *, details: bool = False) -> str:
    """Return the steps of a circle as text.

    Args:
        steps: Of a circle.
        details: Whether to say by which place of a list, and by which key.
    """
    words: list[str] = []
    for step in steps:
        words.append(step.detailed if details else step.text)
        if step.repeated:
            words.append("...")
    return " -> ".join([*words, steps[0].shown])


def _step(objects: Sequence[Any], at: int, following: int) -> Step:
    """Return the step from one object that is told of to the following."""
    count = len(objects)
    between = [objects[i % count] for i in range(at, at + (following - at) % count + 1)]
    if len(between) == 1:
        between = [objects[(at + i) % count] for i in range(count + 1)]
    holder = between[0]
    found = [reference(one, other) for one, other in pairwise(between)]
    name, rest = _name(holder, found)
    own_dict = between[1] is instance_dict(holder) if len(between) > 2 else False  # noqa: PLR2004
    return Step(
        shown=shown_name(holder),
        name=name,
        detail="".join(_detail(one) for one in rest),
        by_container=len(between) > (3 if own_dict else 2),
        kind=type(holder),
        full_name=full_name(type(holder)),
        index=at,
    )


def _name(holder: Any, found: list[Reference]) -> tuple[str, list[Reference]]:
    """Return by what an object leads on, and the references that tell more of that."""
    first, rest = found[0], found[1:]
    if first.kind == "dict" and rest:  # Its own, with its attributes.
        return rest[0].name, rest[1:]
    if type(holder) is types.FunctionType and first.name == "__closure__" and rest:
        code = code_of(holder)
        names = code.co_freevars if code is not None else ()
        place = rest[0].place
        return f"closure[{names[place]}]" if 0 <= place < len(names) else "closure", []
    if first.kind in {"item", "value", "key"}:
        return _PLACE, found
    return first.name, rest


def _detail(found: Reference) -> str:
    if found.kind == "item":
        return f"[{found.place}]" if found.place >= 0 else ""
    if found.kind == "value" and found.name:
        return f"[{found.name[:_MOST_KEY]!r}]"
    return ""


def _one_period(steps: list[Step], *, whole: bool) -> list[Step]:
    """Return the steps until the same begin again, and go on so; else all of them.

    Args:
        steps: Of a circle.
        whole: Whether they are all that it has.
    """
    keys = [step.key for step in steps]
    for length in range(1, len(steps) // 2 + 1):
        if whole and len(steps) % length:
            continue
        if keys[length:] == keys[:-length]:
            return [*steps[: length - 1], replace(steps[length - 1], repeated=True)]
    return steps if whole else [*steps[:-1], replace(steps[-1], repeated=True)]


def _without_repetition(steps: list[Step]) -> list[Step]:
    """Return the steps without those that say the same as the one before."""
    kept: list[Step] = []
    for step in steps:
        if kept and step.key == kept[-1].key:
            kept[-1] = replace(kept[-1], repeated=True)
        else:
            kept.append(step)
    if len(kept) > 1 and kept[0].key == kept[-1].key:
        kept[0] = replace(kept.pop(), repeated=True)
    return kept
