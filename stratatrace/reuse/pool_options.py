"""The options of a pool, checked when they are given."""

from __future__ import annotations

import math
import sys
from operator import methodcaller
from typing import TYPE_CHECKING, Any

from stratatrace.callsites import Options
from stratatrace.errors import InvalidTypeError, InvalidValueError
from stratatrace.wrapping import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["UNSET", "PoolOptions", "checked_factory", "checked_seconds"]

#: What a timeout is that was not given.
UNSET: Any = object()


class PoolOptions:
    """What a user may say of a pool; see `MemoryPool` for the arguments.

    Raises:
        InvalidTypeError: An argument is of the wrong type.
        InvalidValueError: A number makes no sense, alone or beside the others.
    """

    __slots__ = (
        "debug",
        "dispose",
        "initial_size",
        "max_age_ns",
        "max_idle",
        "max_size",
        "name",
        "reset",
        "reset_method",
        "shrink_under_pressure",
        "timeout",
        "validate",
    )

    def __init__(
        self,
        *,
        initial_size: int,
        max_size: int,
        max_idle: int | None,
        max_age: float | None,
        reset: str | Callable[[Any], object] | None,
        validate: str | Callable[[Any], object] | None,
        dispose: str | Callable[[Any], object] | None,
        timeout: float | None,
        shrink_under_pressure: bool,
        debug: bool,
        name: str | None,
    ) -> None:
        self.max_size = _checked_size("max_size", max_size, least=1)
        self.max_idle = max_size if max_idle is None else _checked_size("max_idle", max_idle)
        self.initial_size = _checked_size("initial_size", initial_size)
        for bound, most in (("max_size", self.max_size), ("max_idle", self.max_idle)):
            if self.initial_size > most:
                msg = f"initial_size={initial_size} is more than {bound}={most}: give fewer"
                raise InvalidValueError(msg)
        age = checked_seconds("max_age", max_age)
        if age == 0:
            msg = "max_age=0 would use no object twice: give seconds, or None for ever"
            raise InvalidValueError(msg)
        self.max_age_ns = None if age is None or math.isinf(age) else int(age * 1e9)
        self.timeout = checked_seconds("timeout", timeout)
        self.shrink_under_pressure = bool(shrink_under_pressure)
        self.debug = bool(debug)
        self.name = Options(name=name).name
        #: The name of the method that an object is reset by.
        self.reset_method = reset if isinstance(reset, str) else None
        self.reset = _checked_action("reset", reset)
        self.validate = _checked_action("validate", validate)
        self.dispose = _checked_action("dispose", dispose)

    @property
    def looks_at_each(self) -> bool:
        """Whether an idle object is looked at, or stood in for, before it is used again."""
        return self.debug or self.validate is not None or self.max_age_ns is not None


def checked_factory(factory: Callable[[], Any]) -> None:
    """Raise InvalidTypeError where *factory* cannot make objects."""
    if not callable(factory):
        msg = f"a pool is made with a class or function that makes an object, not {factory!r}"
        raise InvalidTypeError(msg)
    kind = kind_of(factory)
    if kind != "function":
        msg = (
            f"{factory!r} is a {kind} function, whose calls make no objects of yours: give a "
            "function that returns one"
        )
        raise InvalidTypeError(msg)


def checked_seconds(name: str, seconds: float | None) -> float | None:
    """Return a time that was given, or raise InvalidTypeError or InvalidValueError."""
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        msg = f"{name} is a number of seconds, or None for ever, not {seconds!r}"
        raise InvalidTypeError(msg)
    if not seconds >= 0:
        msg = f"{name} is a number of seconds from 0, and {seconds!r} is not"
        raise InvalidValueError(msg)
    return seconds


def _checked_size(name: str, size: int, *, least: int = 0) -> int:
    if isinstance(size, bool) or not isinstance(size, int):
        msg = f"{name} is a number of objects, not {size!r}"
        raise InvalidTypeError(msg)
    if not least <= size <= sys.maxsize:
        msg = f"{name} is at least {least}, and at most {sys.maxsize}, and {size} is not"
        raise InvalidValueError(msg)
    return size


def _checked_action(
    name: str, action: str | Callable[[Any], object] | None
) -> Callable[[Any], object] | None:
    if action is None or callable(action):
        return action
    if not isinstance(action, str) or not action.isidentifier():
        msg = f"{name} is a function of an object, or the name of its method, not {action!r}"
        raise InvalidTypeError(msg)
    return methodcaller(action)
