"""The shortest way from a root to what is wanted: modules, variables of functions, and the like.

All that can be reached from the roots is gone through, level by level, so that the first way that
is found is the shortest. Frozen objects are no hindrance, and no code of any object is run.
"""

from __future__ import annotations

import contextvars
import gc
import sys
import time
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stratatrace.diagnose.inert import is_one_of, isinstance_of, leads_on, namespace, referents
from stratatrace.diagnose.links import Root, chain_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["nearest", "roots"]

_OURS = str(Path(__file__).parent)
_PACKAGE = "stratatrace"
_CHECKED_EVERY = 1024
#: Nobody leaks by these, and there are many.
_SHARED = (types.CodeType, types.BuiltinFunctionType)


def roots(func: object = None) -> list[Root]:
    """Return where to begin.

    Args:
        func: A function that is looked at itself, and is therefore nearer than anything else.
    """
    found = [] if func is None else [Root(_function_name(func), func)]
    modules = list(sys.modules.items())
    modules.sort(key=lambda pair: pair[0] != "__main__")
    for name, module in modules:
        if type(name) is str and name.partition(".")[0] != _PACKAGE:
            spaces = isinstance_of(module, types.ModuleType)
            found.append(Root(name, namespace(module) if spaces else module, space=spaces))
    found += _variables()
    for variable, value in contextvars.copy_context().items():
        found.append(Root(f"context variable {variable.name}", value))
    found.append(Root("gc.garbage", gc.garbage))
    return found


def nearest(starts: list[Root], targets: Mapping[int, int], *, seconds: float) -> dict[int, str]:
    """Return the shortest way to one target of each group, by the group; without those not found.

    Args:
        starts: The roots.
        targets: The groups of the targets, by the targets' ids; whoever calls keeps them alive.
        seconds: How long it may take.
    """
    ends = time.perf_counter() + seconds
    missing = set(targets.values())
    # By id: what leads to it. That keeps all of them alive, and so no id is used twice.
    before: dict[int, object] = {id(root.item): root for root in reversed(starts)}
    level = [root.item for root in starts]
    chains: dict[int, str] = {}
    while level and missing:
        below: list[object] = []
        for parent, child in _steps(level, ends):
            if id(child) in before:
                continue
            group = targets.get(id(child))
            if (group is None and not leads_on(child)) or _is_left_out(child):
                continue
            before[id(child)] = parent
            below.append(child)
            if group in missing:
                missing.discard(group)
                chains[group] = _chain(child, before)
        level = below
    return chains


def _steps(level: list[object], ends: float) -> Iterator[tuple[object, object]]:
    """Yield each object of a level with each that it refers to, until then."""
    for number, parent in enumerate(level):
        if not number % _CHECKED_EVERY and time.perf_counter() > ends:
            return
        children = referents([parent])
        if type(parent) is types.ModuleType:
            children.append(namespace(parent))
        for child in children:
            yield parent, child


def _chain(item: object, before: Mapping[int, object]) -> str:
    way = [item]
    while type(parent := before[id(way[-1])]) is not Root:  # It may say that it is one.
        way.append(parent)
    return chain_text(parent, way[::-1])


def _is_left_out(item: Any) -> bool:
    """Say whether it is ours, and holds what it looks at, or is nothing that anybody leaks by."""
    kind = type(item)
    if is_one_of(kind, _SHARED):
        return True
    if kind is types.GeneratorType:
        return item.gi_code.co_filename.startswith(_OURS)  # type: ignore[no-any-return]
    if kind is types.CoroutineType:
        return item.cr_code.co_filename.startswith(_OURS)  # type: ignore[no-any-return]
    if kind is types.FrameType:
        return item.f_code.co_filename.startswith(_OURS)  # type: ignore[no-any-return]
    return False


def _variables() -> Iterator[Root]:
    """Yield the variables of all functions that are running, of all threads."""
    for newest in sys._current_frames().values():  # noqa: SLF001 -- that is its name
        frame: types.FrameType | None = newest
        while frame is not None:
            code = frame.f_code
            ours = code.co_filename.startswith(_OURS)
            if not ours and code.co_flags & _OPTIMIZED:
                for name, value in _locals_of(frame):
                    yield Root(f"local {code.co_qualname}.{name}", value)
            elif not ours:
                yield Root("globals of a running module", frame.f_globals, space=True)
            frame = frame.f_back


_OPTIMIZED = 1  # CO_OPTIMIZED: a function, whose variables are no dictionary.


def _locals_of(frame: types.FrameType) -> list[tuple[str, object]]:
    seen = frame.f_locals
    found = list(seen.items())
    # Before Python 3.13, this is a dictionary that the frame keeps for as long as it runs, and all
    # that is in it; unless somebody has it already, there must be nothing in it.
    if type(seen) is dict and sys.getrefcount(seen) <= _REFERENCES:
        seen.clear()
    return found


_REFERENCES = 3  # The frame's, ours, and the argument of the question.


def _function_name(func: object) -> str:
    if type(func) is types.FunctionType:
        return func.__qualname__
    return "the function"
