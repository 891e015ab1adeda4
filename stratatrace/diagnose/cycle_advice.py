"""What to do about a circle of references, where its pattern is known."""

from __future__ import annotations

import functools
import types
from typing import TYPE_CHECKING, Literal, NamedTuple

from stratatrace.diagnose.cycle_reading import CODE, CONTAINERS, GENERATORS, LRU_CACHE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stratatrace.diagnose.cycle_steps import Step

__all__ = ["Advice", "Pattern", "advice_on"]

Pattern = Literal[
    "back_reference",
    "class",
    "container",
    "exception",
    "frame",
    "generator",
    "linked_list",
    "lru_cache",
    "recursive_closure",
    "self_reference",
    "stored_closure",
    "stored_method",
]


class Advice(NamedTuple):
    """A known pattern, and what helps."""

    pattern: Pattern
    text: str
    #: The step whose reference is the one that should not keep anything alive, where there is one.
    back: int | None = None


# By these names objects refer to what they are part of, or to what was there before them.
_BACK = frozenset(
    {
        *("parent", "owner", "root", "container", "document", "manager", "outer", "enclosing"),
        *("up", "master", "controller", "context", "app", "application", "session", "registry"),
        *("graph", "tree", "engine", "client", "server", "subject", "observed"),
    }
)
_BEFORE = frozenset(("prev", "previous", "before", "predecessor", "left"))


def advice_on(steps: Sequence[Step]) -> Advice | None:
    """Return what helps against a circle; None where its pattern is not known."""
    for look in (_exception, _generator, _class, _cache, _function, _method, _container):
        advice = look(steps)
        if advice is not None:
            return advice
    return _instances(steps)


def _exception(steps: Sequence[Step]) -> Advice | None:
    """An exception that is kept in a frame of its own traceback; or a frame that is kept."""
    frame = next((s for s in steps if s.kind is types.FrameType), None)
    if frame is None:
        return None
    where = frame.shown.removesuffix(" frame")
    error = next((i for i, s in enumerate(steps) if issubclass(s.kind, BaseException)), None)
    if error is not None:
        kept = f"its {frame.name!r}" if frame.name else "what it has"
        return Advice(
            "exception",
            f"{where} keeps by {kept} an exception, whose traceback has the frame of {where}: "
            f"`del {frame.name or 'error'}` in a `finally` there, keep "
            "`error.with_traceback(None)`, or call traceback.clear_frames()",
            error if steps[error].name == "__traceback__" else None,
        )
    return Advice(
        "frame",
        f"{where} keeps its own frame: `del {frame.name or 'frame'}` in a `finally`",
    )


def _generator(steps: Sequence[Step]) -> Advice | None:
    step = next((s for s in steps if id(s.kind) in GENERATORS), None)
    if step is None:
        return None
    what = step.shown
    if any(id(s.kind) in GENERATORS for s in steps if s is not step) or len(steps) > 1:
        text = f"{what} refers to what refers to it: close() it when it is done with"
    else:
        text = f"{what} has itself in a variable: close() it when it is done with, or do not"
    return Advice("generator", text)


def _class(steps: Sequence[Step]) -> Advice | None:
    step = next((s for s in steps if issubclass(s.kind, type)), None)
    if step is None:
        return None
    return Advice(
        "class",
        f"every class refers to itself, and {step.shown} was made by a function, a decorator or "
        "a call of type(): make it once, at the top of a module",
    )


def _cache(steps: Sequence[Step]) -> Advice | None:
    if not any(s.kind is LRU_CACHE for s in steps):
        return None
    at = next((i for i, s in enumerate(steps) if id(s.kind) not in CODE), None)
    holder = "what it is of" if at is None else steps[at].shown
    return Advice(
        "lru_cache",
        f"a functools.lru_cache keeps {holder}, which keeps the cache: use "
        "functools.cached_property, or a stratatrace.WeakCache with the object as its key",
        at,
    )


def _function(steps: Sequence[Step]) -> Advice | None:
    functions = [
        i
        for i, s in enumerate(steps)
        if s.kind is types.FunctionType or s.kind is functools.partial
    ]
    if not functions:
        return None
    name = steps[functions[0]].shown
    if len(functions) == len(steps):
        others = "itself" if len(steps) == 1 else "itself by way of the others"
        return Advice(
            "recursive_closure",
            f"{name} refers to {others} by its closure: make it a function of the module or a "
            "method, or hand it over as an argument",
        )
    holder = steps[functions[0] - 1]
    return Advice(
        "stored_closure",
        f"{holder.text} keeps {name}, which refers to {holder.shown}: have it take only what it "
        "needs, or a weakref.ref to the object",
        functions[0] - 1 if functions[0] else len(steps) - 1,
    )


def _method(steps: Sequence[Step]) -> Advice | None:
    methods = [
        i
        for i, s in enumerate(steps)
        if s.kind is types.MethodType or s.kind is types.BuiltinMethodType
    ]
    if not methods or len(methods) == len(steps):
        return None
    holder = steps[methods[0] - 1]
    return Advice(
        "stored_method",
        f"{holder.text} keeps the bound method {steps[methods[0]].shown}, which keeps its object: "
        "look the method up when it is called, or keep a weakref.WeakMethod",
        methods[0] - 1 if methods[0] else len(steps) - 1,
    )


def _container(steps: Sequence[Step]) -> Advice | None:
    if not all(id(s.kind) in CONTAINERS for s in steps):
        return None
    return Advice("container", f"a {steps[0].shown} has itself in it: take it out when done", 0)


def _instances(steps: Sequence[Step]) -> Advice | None:
    """Objects that refer to each other by attributes."""
    named = [i for i, s in enumerate(steps) if s.name and s.name[0] != "["]
    if not named:
        return None
    if len(steps) == 1 and not steps[0].repeated:
        if steps[0].by_container:
            return None
        text = f"{steps[0].text} is the object itself: use `self`"
        return Advice("self_reference", text, 0)
    back = _back(steps, named)
    if back is None:
        return None
    step = steps[back]
    if _bare(step) not in _BACK and (step.repeated or _bare(step) in _BEFORE):
        text = f"{step.text} goes back to what keeps it: make it a weakref.ref, or take the links"
        return Advice("linked_list", f"{text} apart when the list is done with", back)
    text = f"{step.text} goes back to what keeps it: make it a weakref.ref"
    return Advice("back_reference", text, back)


def _back(steps: Sequence[Step], named: Sequence[int]) -> int | None:
    """Return the step that goes back: by its name, or as the only one that holds just one."""
    for names in (_BACK, _BEFORE):
        for at in named:
            if _bare(steps[at]) in names:
                return at
    direct = [at for at in named if not steps[at].by_container]
    if len(direct) == 1 and (len(steps) > 1 or steps[0].repeated):
        return direct[0]
    return None


def _bare(step: Step) -> str:
    """Return the name of an attribute without what marks it as private."""
    return step.name.rpartition("__")[2].strip("_").lower()
