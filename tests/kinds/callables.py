"""The table of callables: where a body of code stands, and how it runs.

A *body* does some `Work` and takes no argument but the object or class that it is bound to. A
*place* makes a callable of a decorator and a body. Crossing the two gives every kind of callable.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from functools import lru_cache, partial, wraps
from typing import Any

from opentelemetry import trace

from stratatrace import profile_memory

Decorator = Callable[[Any], Any]
Body = Callable[..., Any]
Place = Callable[[Decorator, Body], Callable[[], Any]]

KEPT_BYTES = 300_000
PASSING_BYTES = 700_000


class Work:
    """Takes a known amount of memory, tells which span was current, and fails when told to."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.kept: list[bytearray] = []
        self.spans: list[trace.Span] = []

    def __call__(self) -> str:
        """Keep `KEPT_BYTES`, pass through `PASSING_BYTES` more, and raise or return."""
        self.spans.append(trace.get_current_span())
        self.kept.append(bytearray(KEPT_BYTES))
        bytearray(PASSING_BYTES)
        if self.error is not None:
            raise self.error
        return "worked"


@types.coroutine
def pause() -> Any:
    """Suspend the coroutine that awaits it once; give back what is sent in."""
    return (yield "paused")


def function(work: Work) -> Body:
    """Return a body that works and returns."""

    def body(*_owner: object) -> str:
        return work()

    return body


def coroutine(work: Work) -> Body:
    """Return a body that is suspended before and after its work."""

    async def body(*_owner: object) -> str:
        await pause()
        worked = work()
        await pause()
        return worked

    return body


def generator(work: Work) -> Body:
    """Return a body that yields before and after its work."""

    def body(*_owner: object) -> Any:
        yield "before"
        worked = work()
        yield worked
        return worked

    return body


def async_generator(work: Work) -> Body:
    """Return a body that yields, and is suspended, before and after its work."""

    async def body(*_owner: object) -> Any:
        await pause()
        yield "before"
        worked = work()
        await pause()
        yield worked

    return body


WAYS: dict[str, Callable[[Work], Body]] = {
    "function": function,
    "coroutine": coroutine,
    "generator": generator,
    "async generator": async_generator,
}


class Plain:
    """A class to decorate nothing of; its instances are callable by `body`."""


def _member(member: object, *, of_class: bool = False) -> Callable[[], Any]:
    owner: Any = type("Owner", (), {"work": member})
    return (owner if of_class else owner()).work  # type: ignore[no-any-return]


def _property(member: object) -> Callable[[], Any]:
    owner = type("Owner", (), {"work": member})()
    return lambda: owner.work


def _instance(decorate: Decorator, body: Body) -> Callable[[], Any]:
    return decorate(type("Owner", (), {"__call__": body})())  # type: ignore[no-any-return]


def _whole_class(body: Body, **options: Any) -> Callable[[], Any]:
    owner = profile_memory(**options)(type("Owner", (), {"work": body, "_other": body}))
    return owner().work  # type: ignore[no-any-return]


def _wrapped(body: Body) -> Body:
    @wraps(body)
    def wrapper(*args: object) -> Any:
        return body(*args)

    return wrapper


#: Where a decorated body can stand.
PLACES: dict[str, Place] = {
    "function": lambda decorate, body: decorate(body),
    "twice wrapped": lambda decorate, body: _wrapped(decorate(body)),
    "partial": lambda decorate, body: decorate(partial(body, "bound")),
    "partial of it": lambda decorate, body: partial(decorate(body), "bound"),
    "callable instance": _instance,
    "bound method": lambda decorate, body: decorate(_member(body)),
    "method": lambda decorate, body: _member(decorate(body)),
    "class method": lambda decorate, body: _member(classmethod(decorate(body))),
    "class method, outside": lambda decorate, body: _member(decorate(classmethod(body))),
    "class method, by class": lambda decorate, body: _member(
        classmethod(decorate(body)), of_class=True
    ),
    "static method": lambda decorate, body: _member(staticmethod(decorate(body))),
    "static method, outside": lambda decorate, body: _member(decorate(staticmethod(body))),
    "property": lambda decorate, body: _property(property(decorate(body))),
    "property, outside": lambda decorate, body: _property(decorate(property(body))),
}

#: The ways to write the decorator.
DECORATORS: dict[str, Decorator] = {
    "bare": profile_memory,
    "called": profile_memory(),
}

#: Callables that are made by decorating a class. They take no decorator.
CLASSES: dict[str, Callable[[Body], Callable[[], Any]]] = {
    "class": _whole_class,
    "class, methods=": lambda body: _whole_class(body, methods=["work"]),
}


def undecorated(target: Any) -> Any:
    """Stand in for a decorator where the bare callable is wanted."""
    return target


def cached(body: Body) -> Body:
    """Return *body* under an lru_cache."""
    return lru_cache(maxsize=8)(body)
