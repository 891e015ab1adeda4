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

from stratatrace.diagnose.inert import isinstance_of, leads_on, namespace
from stratatrace.diagnose.links import Root, chain_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["chains_to"]

_OURS = str(Path(__file__).parent)
_PACKAGE = "stratatrace"
_CHECKED_EVERY = 256
_OPTIMIZED = 1  # CO_OPTIMIZED: a function, whose variables are no dictionary.
# The share of the time for what is near the function.
_NEAR = 0.3
# Nobody leaks by the first two, and there are many; of the others, some are ours.
_LOOKED_AT = {
    id(kind): name
    for kind, name in (
        (types.CodeType, ""),
        (types.BuiltinFunctionType, ""),
        (types.FrameType, "f_code"),
        (types.GeneratorType, "gi_code"),
        (types.CoroutineType, "cr_code"),
    )
}


def chains_to(targets: Mapping[int, int], *, func: object = None, seconds: float) -> dict[int, str]:
    """Return the shortest way to one target of each group, by the group; without those not found.

    What the function and its module hold comes first, and all other roots after that.

    Args:
        targets: The groups of the targets, by the targets' ids; whoever calls keeps them alive.
        func: What was called, if anything was.
        seconds: How long it may take.
    """
    chains: dict[int, str] = {}
    near = _near(func)
    if near:
        chains = _nearest(near, targets, seconds=seconds * _NEAR, beyond_modules=False)
    left = {number: group for number, group in targets.items() if group not in chains}
    return chains | _nearest(_roots(), left, seconds=seconds, beyond_modules=True)


def _near(func: Any) -> list[Root]:
    """Return the function as a root, and the namespace of its module."""
    if func is None:
        return []
    if type(func) is not types.FunctionType:
        return [Root("the function", func)]
    module = func.__module__
    module = module if type(module) is str else "globals"
    return [Root(func.__qualname__, func), Root(module, func.__globals__, space=True)]


def _roots() -> list[Root]:
    """Return where to begin: modules first, and what other roots have before they are reached."""
    found: list[Root] = []
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


def _nearest(
    starts: list[Root], targets: Mapping[int, int], *, seconds: float, beyond_modules: bool
) -> dict[int, str]:
    ends = time.perf_counter() + seconds
    missing = set(targets.values())
    # By id: what leads to it. That keeps all of them alive, and so no id is used twice.
    before: dict[int, object] = {id(root.item): root for root in reversed(starts)}
    level = [root.item for root in starts]
    chains: dict[int, str] = {}
    while level and missing:
        below: list[object] = []
        for parent, children in _steps(level, ends, beyond_modules=beyond_modules):
            for child in children:
                number = id(child)
                if number in before:
                    continue
                group = targets.get(number)
                if (group is None and not leads_on(child)) or _is_left_out(child):
                    continue
                before[number] = parent
                below.append(child)
                if group in missing:
                    missing.discard(group)
                    chains[group] = _chain(child, before)
        level = below
    return chains


def _steps(
    level: list[object], ends: float, *, beyond_modules: bool
) -> Iterator[tuple[object, list[object]]]:
    """Yield each object of a level with all that it refers to, until then."""
    for number, parent in enumerate(level):
        if not number % _CHECKED_EVERY and time.perf_counter() > ends:
            return
        if type(parent) is not types.ModuleType:
            yield parent, gc.get_referents(parent)
        elif beyond_modules:  # No more than that: see `inert.referents`.
            yield parent, [namespace(parent)]


def _chain(item: object, before: Mapping[int, object]) -> str:
    way = [item]
    while type(parent := before[id(way[-1])]) is not Root:  # It may say that it is one.
        way.append(parent)
    return chain_text(parent, way[::-1])


def _is_left_out(item: object) -> bool:
    """Say whether it is ours, and holds what it looks at, or is nothing that anybody leaks by."""
    code = _LOOKED_AT.get(id(type(item)))
    if code is None:
        return False
    return not code or getattr(item, code).co_filename.startswith(_OURS)


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


def _locals_of(frame: types.FrameType) -> list[tuple[str, object]]:
    seen = frame.f_locals
    found = list(seen.items())
    # Before Python 3.13, this is a dictionary that the frame keeps for as long as it runs, and all
    # that is in it; unless somebody has it already, there must be nothing in it.
    if type(seen) is dict and sys.getrefcount(seen) <= _REFERENCES:
        seen.clear()
    return found


_REFERENCES = 3  # The frame's, ours, and the argument of the question.
