"""Which types and lines have grown over a stretch of calls, and what holds the new objects.

Lines are those of tracemalloc, in one pass over the raw traces. New objects are those whose trace
begins at a line that has grown: so those are found that the collector does not track, and no ids
are compared, which are used again. What the collector tracks is counted, too, before and after.
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from stratatrace.diagnose.inert import hides_trace, own_size, referents, type_name
from stratatrace.diagnose.leak_report import GrownLine, GrownType, LeakCulprits
from stratatrace.diagnose.referrers import chains_to
from stratatrace.probes.tracing import held_by_stack

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CulpritSearch"]

_HERE = str(Path(__file__).parent)
_PACKAGE = str(Path(__file__).parents[1])
_STANDARD = str(Path(tracemalloc.__file__).parent)
_THIRD_PARTY = "site-packages"
#: They call what is looked at.
_DRIVERS = ("leaks.py", "leak_loop.py")
_MOST_SHOWN = 5
# What has less than this of what the first line or type has, is no culprit.
_LEAST_OF_LARGEST = 0.05
_SECONDS = 2.0
_AT_ONCE = 1000
# How far to go through what the collector does not track, from what it does.
_DEEPEST_UNTRACKED = 3
_Line = tuple[str, int]
_Frames = tuple[_Line, ...]


class _Traced(NamedTuple):
    """What is alive of one line."""

    size_bytes: int
    blocks: int
    frames: _Frames


class _Kind:
    """Objects of one type that have come to stay: some, which stand for so many."""

    def __init__(self, items: list[object], count: int) -> None:
        self.kind = type(items[0])
        self.items, self.count = items, count
        self.size_bytes = sum(map(own_size, items)) * count // len(items)


class CulpritSearch:
    """What there was when it was made, to be compared with what there is later.

    Looking for objects is slow where it is traced itself. So what needs the traces is read at once
    by `read_traces`, and the rest is done by `culprits`, when tracing may have ended.
    """

    def __init__(self) -> None:
        self._types = _tracked_types()
        self._before: dict[_Line, _Traced] = {}
        self._lines: list[GrownLine] = []
        self._new: list[object] = []

    def mark_traces(self) -> None:
        """Compare with the traces that there are now, and not with none."""
        self._before = _traced_lines()

    def read_traces(self) -> None:
        """See which lines have grown, and which objects are new; nothing where nothing traces."""
        for line, now in _traced_lines().items():
            before = self._before.get(line, _Traced(0, 0, ()))
            size_bytes, blocks = now.size_bytes - before.size_bytes, now.blocks - before.blocks
            if size_bytes > 0 and blocks >= 0:
                self._lines.append(GrownLine(*line, size_bytes, blocks, now.frames))
        self._lines.sort(key=lambda one: -one.size_bytes)
        if self._lines:
            least = self._lines[0].size_bytes * _LEAST_OF_LARGEST
            hot = {one[:2] for one in self._lines if one.size_bytes >= least}
            self._new = _objects_of(hot, ends=time.perf_counter() + _SECONDS)

    def culprits(self, *, least: int = 1, func: object = None) -> LeakCulprits:
        """Return what has grown since, and what holds it; takes some seconds at most.

        Args:
            least: Types of which there are fewer objects more are left out.
            func: What was called, as the nearest place to look for what holds them.
        """
        kinds = [kind for kind in self._kinds(least) if kind.count >= least]
        kinds.sort(key=lambda kind: -kind.size_bytes)
        least_bytes = kinds[0].size_bytes * _LEAST_OF_LARGEST if kinds else 0
        kinds = [kind for kind in kinds[:_MOST_SHOWN] if kind.size_bytes >= least_bytes]
        targets = {id(item): id(kind) for kind in kinds for item in kind.items}
        chains = chains_to(targets, func=func, seconds=_SECONDS)
        return LeakCulprits(
            types=tuple(GrownType(type_name(k.kind), k.count, k.size_bytes) for k in kinds),
            lines=tuple(self._lines[:_MOST_SHOWN]),
            chains=tuple(chains[id(kind)] for kind in kinds if id(kind) in chains),
        )

    def _kinds(self, least: int) -> list[_Kind]:
        """Return the types of what is new, and of what has become more and has no trace."""
        grown = _tracked_types()
        grown.subtract(self._types)
        seen: set[int] = set()
        found: dict[int, list[object]] = {}
        for item in self._new:
            if id(item) not in seen:
                seen.add(id(item))
                found.setdefault(id(type(item)), []).append(item)
        kinds: list[_Kind] = []
        for number, items in found.items():
            count = len(items)
            if gc.is_tracked(items[0]):  # For some, another has gone that was there before.
                count = max(0, min(count, grown[number]))
            kinds.append(_Kind(items, count))
        numbers = {number for number, count in grown.items() if count >= least}
        for number, item in _newest(numbers - found.keys()).items():
            # One of each type stands for all that have no trace.
            traceable = bool(self._lines) and not hides_trace(type(item))
            if not traceable and not type_name(type(item)).startswith(__package__):
                kinds.append(_Kind([item], grown[number]))
        return kinds


def _objects_of(hot: set[_Line], *, ends: float) -> list[object]:
    """Return the objects whose traces are of these lines; some of them several times."""
    tracked = gc.get_objects()
    found: list[object] = []
    for start in range(0, len(tracked), _AT_ONCE):
        if time.perf_counter() > ends:
            break
        some = tracked[start : start + _AT_ONCE]
        for _ in range(_DEEPEST_UNTRACKED):
            found += [
                item
                for item in some
                if (frames := _frames_of(item)) is not None and _line_of(frames) in hot
            ]
            some = [item for item in referents(some) if not gc.is_tracked(item)]
    return found


def _newest(numbers: set[int]) -> dict[int, object]:
    """Return the newest object of each of these types, by the type's number."""
    found: dict[int, object] = {}
    for item in reversed(gc.get_objects()):
        number = id(type(item))
        if number in numbers and number not in found:
            found[number] = item
            if len(found) == len(numbers):
                break
    return found


def _tracked_types() -> Counter[int]:
    """Count what the collector tracks by the number of its type; a type may have an `==`."""
    gc.collect()  # What is garbage now would be missed later.
    return Counter(map(id, map(type, gc.get_objects())))


def _traced_lines() -> dict[_Line, _Traced]:
    """Return what is alive and was traced, by line, but for our own; empty without tracing."""
    lines: dict[_Line, _Traced] = {}
    for frames, (size_bytes, blocks) in held_by_stack().items():
        line = _line_of(frames)
        if line is not None:
            so_far = lines.get(line, _Traced(0, 0, frames))
            lines[line] = _Traced(
                so_far.size_bytes + size_bytes, so_far.blocks + blocks, so_far.frames
            )
    return lines


def _line_of(frames: _Frames) -> _Line | None:
    """Return the line that an allocation is charged to; None for one of ours.

    It is ours if nobody but the standard library was called from here: what the collector runs was
    called from here, too, and so was the function that is looked at.
    """
    charged: _Line | None = None
    for line in frames:
        file = line[0]
        if file.startswith(_HERE):
            return charged if file.endswith(_DRIVERS) else None
        if file.startswith(_PACKAGE):
            continue
        if not _is_standard(file):
            return charged or line
        charged = charged or line
    return charged


def _is_standard(file: str) -> bool:
    return file.startswith("<") or (file.startswith(_STANDARD) and _THIRD_PARTY not in file)


_frames_of: Callable[[object], _Frames | None] = tracemalloc._get_object_traceback  # type: ignore[attr-defined]  # noqa: SLF001
