"""The arguments of the finders of leaks: what is refused, and with which words."""

from __future__ import annotations

import inspect
import types
from functools import partial
from typing import TYPE_CHECKING, Any

from stratatrace.diagnose.leak_trial import TrialPlan
from stratatrace.errors import InvalidTypeError, InvalidValueError
from stratatrace.sizes import parse_size

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "checked_count",
    "checked_name",
    "is_coroutine_function",
    "made_plan",
    "refuse_coroutine",
]

_FEWEST_CALLS = 16
_MOST_CALLS = 10_000_000


def made_plan(
    func: Any,
    *,
    args: Any,
    kwargs: Any,
    iterations: int,
    warmup: int,
    least: int | str,
    probe: str,
    name: str | None,
    culprits: bool,
) -> TrialPlan:
    """Check what was given.

    Raises:
        InvalidTypeError: An argument is of the wrong type.
        InvalidValueError: An argument makes no sense.
    """
    if not callable(func):
        refuse_coroutine(func)
        msg = (
            f"find_leaks() wants a function to call, not {_a(func)}: give it without brackets, "
            "and its arguments by args= and kwargs="
        )
        raise InvalidTypeError(msg)
    name = _name_of(func) if name is None else checked_name(name)
    _check_kind(func, name)
    _check_arguments(func, name, args, kwargs)
    return TrialPlan(
        name=name,
        iterations=checked_count("iterations", iterations, _FEWEST_CALLS, _MOST_CALLS),
        warmup=checked_count("warmup", warmup, 0, _MOST_CALLS),
        least_bytes=parse_size(least),
        probe=probe,
        culprits=culprits,
    )


def checked_count(option: str, count: int, fewest: int, most: int) -> int:
    """Return a number that was given.

    Raises:
        InvalidTypeError: It is no int.
        InvalidValueError: It is not from *fewest* to *most*.
    """
    if isinstance(count, bool) or not isinstance(count, int):
        msg = f"{option}= is an int, not {_a(count)}"
        raise InvalidTypeError(msg)
    if not fewest <= count <= most:
        msg = f"{option}= is a number from {fewest:,} to {most:,}, and {count} is not"
        raise InvalidValueError(msg)
    return count


def checked_name(name: object) -> str:
    """Return a name that was given.

    Raises:
        InvalidTypeError: It is no text.
    """
    if not isinstance(name, str):
        msg = f"name= is text, not {_a(name)}"
        raise InvalidTypeError(msg)
    return name


def _check_kind(func: Callable[..., object], name: str) -> None:
    if inspect.isgeneratorfunction(func) or inspect.isasyncgenfunction(func):
        msg = (
            f"{name} is a generator function, and calling it runs nothing: give find_leaks() a "
            f"function that goes through it, like lambda: list({name}())"
        )
        raise InvalidTypeError(msg)


def _check_arguments(func: Callable[..., object], name: str, args: Any, kwargs: Any) -> None:
    if isinstance(args, str | bytes) or not isinstance(args, tuple | list):
        msg = f"args= is a tuple or a list of arguments, not {_a(args)}"
        raise InvalidTypeError(msg)
    if kwargs is not None and not (
        isinstance(kwargs, dict) and all(isinstance(key, str) for key in kwargs)
    ):
        msg = f"kwargs= is a dictionary of arguments by name, not {_a(kwargs)}"
        raise InvalidTypeError(msg)
    try:
        signature = inspect.signature(func)
    except (TypeError, ValueError):
        return  # Of C code that does not tell.
    try:
        signature.bind(*args, **(kwargs or {}))
    except TypeError as error:
        msg = f"{name} cannot be called like this: {error}; give its arguments by args= and kwargs="
        raise InvalidTypeError(msg) from None


def is_coroutine_function(func: Any) -> bool:
    """Return whether calling it makes a coroutine, as far as it says so."""
    if inspect.iscoroutinefunction(func):
        return True
    return not isinstance(func, type) and inspect.iscoroutinefunction(type(func).__call__)


def refuse_coroutine(result: object) -> None:
    """Close a coroutine that nobody will await, and say what to do; do nothing with others.

    Raises:
        InvalidTypeError: It is a coroutine.
    """
    if type(result) is types.CoroutineType:
        result.close()
        msg = (
            "find_leaks() was given what makes a coroutine, and does not await it: give it the "
            "coroutine function itself, and its arguments by args= and kwargs="
        )
        raise InvalidTypeError(msg)


def _name_of(func: Any) -> str:
    while isinstance(func, partial):
        func = func.func
    module, name = getattr(func, "__module__", None), getattr(func, "__qualname__", None)
    if not isinstance(name, str):
        module, name = type(func).__module__, type(func).__qualname__
    return f"{module}.{name}" if isinstance(module, str) and module != "builtins" else name


def _a(given: object) -> str:
    return f"an object of {type(given).__qualname__}"
