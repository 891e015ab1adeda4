"""From what was captured to groups of cycles: those that have the same path are told together."""

from __future__ import annotations

import gc
import tracemalloc
from collections import Counter
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from stratatrace.diagnose.cycle_advice import Advice, advice_on
from stratatrace.diagnose.cycle_graph import (
    Edges,
    cyclic_parts,
    edges_among,
    reached_from,
    shortest_circle,
)
from stratatrace.diagnose.cycle_reading import CONTAINERS, defines
from stratatrace.diagnose.cycle_report import CycleGroup, CycleLine, Found, Inside, Kept
from stratatrace.diagnose.cycle_sizes import leaves_size, own_sizes
from stratatrace.diagnose.cycle_steps import Step, steps_of, written

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stratatrace.diagnose.cycle_capture import Captured, Origin

__all__ = ["found_in"]

# Small cycles of one shape are looked at once. A larger one has a path of its own, and so has a
# small one while there are not too many shapes.
_MOST_OF_A_SHAPE = 32
_MOST_SHAPES = 1000
# From how many objects of a cycle, each of another class, a shortest way back is looked for.
_MOST_STARTS, _MOST_STARTS_OF_MANY, _MANY = 8, 3, 10_000
_MOST_TRACED = 1000
_MOST_LINES = 3
# Of a long circle only the beginning is looked at; some lists may be in it.
_MOST_OPENED = 200


@dataclass(frozen=True, slots=True, eq=False)
class _Path:
    """What cycles of one shape have in common; known by what it is, for speed."""

    text: str
    example: str
    steps: tuple[Step, ...]
    names: tuple[str, ...]
    advice: Advice | None
    has_finalizer: bool
    #: Which of the cycle's objects is the path's first.
    first: int


class _Shapes:
    """Finds the paths of cycles, and remembers those of small ones by their shape."""

    def __init__(self, objects: Sequence[Any], edges: Edges) -> None:
        self._objects = objects
        self._edges = edges
        self._kinds = [*map(id, map(type, objects))]
        self._known: dict[object, _Path] = {}
        #: Dictionaries that came into being by a look at an object, by its place: until 3.12 they
        #: take over its attributes.
        self.opened: dict[int, list[dict[Any, Any]]] = {}

    def path_of(self, part: Sequence[int]) -> _Path:
        """Return the path of a cycle."""
        if len(part) > _MOST_OF_A_SHAPE:
            return self._path(part)
        kinds, edges = self._kinds, self._edges
        local: dict[int | None, int] = {}
        for place in part:
            local[place] = len(local)
        # The class of each, and which of its references lead to which other one: with the same
        # attributes in the same order. An id is never as small as these numbers.
        marks: list[int | None] = []
        for place in part:
            marks.append(kinds[place])
            marks += map(local.get, edges[place])
        shape: object = tuple(marks)
        path = self._known.get(shape)
        if path is None:
            classes = frozenset([kinds[place] for place in part])
            if len(self._known) >= _MOST_SHAPES:
                shape = classes
                path = self._known.get(shape)
        if path is None:
            path = self._known[shape] = self._path(part)
            self._known.setdefault(classes, path)
        return path

    def _path(self, part: Sequence[int]) -> _Path:
        """Return the path of a shortest circle, or of what is the shortest from some objects."""
        members = set(part)
        starts: dict[int, int] = {}
        for place in part:
            starts.setdefault(self._kinds[place], place)
        told = [place for kind, place in starts.items() if kind not in CONTAINERS]
        most = _MOST_STARTS if len(part) <= _MANY else _MOST_STARTS_OF_MANY
        circles = [
            shortest_circle(self._edges, place, members)
            for place in (told or [*starts.values()])[:most]
        ]
        shortest = min(map(len, circles))
        ways = [(self._steps(circle), circle) for circle in circles if len(circle) == shortest]
        steps, circle = min(ways, key=lambda way: [step.key for step in way[0]])
        return self._described(part, steps, circle)

    def _steps(self, circle: list[int]) -> list[Step]:
        objects = [self._objects[place] for place in circle]
        before = {id(item) for one in objects[:_MOST_OPENED] for item in _dicts(one)}
        steps = steps_of(objects)
        for place, one in zip(circle[:_MOST_OPENED], objects, strict=False):
            opened = [item for item in _dicts(one) if id(item) not in before]
            if opened:
                self.opened[place] = opened
        return steps

    def _described(self, part: Sequence[int], steps: list[Step], circle: list[int]) -> _Path:
        advice = advice_on(steps)
        if advice is not None and advice.back is not None:
            # What goes back comes first: it is what is to be changed.
            steps = steps[advice.back :] + steps[: advice.back]
            advice = advice._replace(back=0)
        return _Path(
            text=written(steps),
            example=written(steps, details=True),
            steps=tuple(steps),
            names=tuple(step.full_name for step in steps),
            advice=advice,
            has_finalizer=any(defines(self._objects[p], "__del__") for p in circle),
            first=list(part).index(circle[steps[0].index]),
        )


def _dicts(item: object) -> list[dict[Any, Any]]:
    return [one for one in gc.get_referents(item) if type(one) is dict]


def found_in(captured: Captured, *, keep: bool) -> Found:
    """Return the groups of cycles among what was captured.

    Args:
        captured: All of it.
        keep: Whether the objects are kept for later.
    """
    objects = captured.objects
    edges = edges_among(objects)
    parts = cyclic_parts(edges)
    shapes = _Shapes(objects, edges)
    grouped = _grouped(captured, shapes, parts)
    sizes = own_sizes(objects, [*map(len, edges)])
    seen = set(chain.from_iterable(parts))
    kept = Kept(objects if keep else None)
    groups: list[CycleGroup] = []
    for origin, ways in grouped:
        members = [*chain.from_iterable(part for part, _ in ways)]
        held = reached_from(edges, members, seen) if len(seen) < len(objects) else []
        opened = [one for p in members for one in shapes.opened.get(p, ())]
        leaves, leaves_bytes = leaves_size([objects[p] for p in chain(members, held)], opened)
        path = ways[0][1]
        groups.append(
            CycleGroup(
                path=path.text,
                example=path.example,
                cycles=len(ways),
                objects=len(members),
                size_bytes=sum(map(sizes.__getitem__, members)),
                held_objects=len(held) + leaves,
                held_bytes=sum(map(sizes.__getitem__, held)) + leaves_bytes,
                origin=origin,
                types=path.names,
                lines=_lines(objects, ways),
                pattern=path.advice.pattern if path.advice else None,
                advice=path.advice.text if path.advice else None,
                has_finalizer=path.has_finalizer,
                kept=kept,
                number=len(groups),
            )
        )
        if keep:
            back = path.advice.back if path.advice else None
            parts_of = tuple(tuple(part) for part, _ in ways)
            kept.inside.append(Inside(path.steps, back, parts_of))
    groups.sort(key=lambda group: group.total_bytes, reverse=True)
    return Found(
        groups=tuple(groups),
        objects=len(objects),
        size_bytes=sum(group.total_bytes for group in groups),
        not_captured=captured.not_captured,
        attribution=captured.attribution,
        complete=not captured.not_captured,
        kept=kept,
    )


_Ways = list[tuple[list[int], _Path]]


def _grouped(
    captured: Captured, shapes: _Shapes, parts: list[list[int]]
) -> list[tuple[Origin, _Ways]]:
    """Return the cycles that have the same path, and were made in the same stretch of time."""
    newer = captured.newer
    all_newer: Origin | None = None if captured.told_apart else "unknown"
    if captured.told_apart and newer == len(captured.objects):
        all_newer = "block"
    by_path: dict[tuple[_Path, Origin], _Ways] = {}
    for part in parts:
        path = shapes.path_of(part)
        origin: Origin = all_newer or ("block" if max(part) < newer else "before")
        ways = by_path.get((path, origin))
        if ways is None:
            ways = by_path[path, origin] = []
        ways.append((part, path))
    grouped: dict[tuple[str, tuple[str, ...], Origin], _Ways] = {}
    for (path, origin), ways in by_path.items():
        grouped.setdefault((path.text, path.names, origin), []).extend(ways)
    return [(key[-1], ways) for key, ways in grouped.items()]


def _lines(objects: Sequence[Any], ways: _Ways) -> tuple[CycleLine, ...]:
    """Return where the path's first objects were made, as far as that was traced."""
    if not tracemalloc.is_tracing():
        return ()
    lines: Counter[tuple[str, int]] = Counter()
    for part, path in ways[:: len(ways) // _MOST_TRACED + 1]:
        traceback = tracemalloc.get_object_traceback(objects[part[path.first]])
        if traceback:
            frame = traceback[-1]
            lines[frame.filename, frame.lineno] += 1
    return tuple(CycleLine(*line, count) for line, count in lines.most_common(_MOST_LINES))
