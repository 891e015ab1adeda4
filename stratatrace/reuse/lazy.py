"""`lazy`: values that are computed when they are first asked for, once, and measured."""

from __future__ import annotations

import inspect
from functools import cached_property
from typing import TYPE_CHECKING, Any, Never, Protocol, TypeVar, overload

from stratatrace.callsites import Options
from stratatrace.errors import InvalidTypeError, InvalidValueError
from stratatrace.profile import unknown_option
from stratatrace.reuse.lazy_functions import LazyFunction, lazy_function
from stratatrace.reuse.lazy_properties import KeptAside, LazyProperty
from stratatrace.reuse.lazy_recipe import LazyOptions, Recipe
from stratatrace.wrapping import kind_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

__all__ = ["LazyFunction", "LazyProperty", "lazy"]

R = TypeVar("R")


class _Lazy(Protocol):
    """What `lazy` returns when it is called with options: a decorator."""

    @overload
    def __call__(
        self, target: Callable[[], Coroutine[Any, Any, R]], /
    ) -> LazyFunction[Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(self, target: Callable[[], R], /) -> LazyFunction[R]: ...
    @overload
    def __call__(
        self, target: Callable[[Any], Coroutine[Any, Any, R]], /
    ) -> LazyProperty[Awaitable[R]]: ...
    @overload
    def __call__(self, target: Callable[[Any], R], /) -> LazyProperty[R]: ...


@overload
def lazy(
    target: Callable[[], Coroutine[Any, Any, R]], /
) -> LazyFunction[Coroutine[Any, Any, R]]: ...
@overload
def lazy(target: Callable[[], R], /) -> LazyFunction[R]: ...
@overload
def lazy(target: Callable[[Any], Coroutine[Any, Any, R]], /) -> LazyProperty[Awaitable[R]]: ...
@overload
def lazy(target: Callable[[Any], R], /) -> LazyProperty[R]: ...
@overload
def lazy(
    *, name: str | None = None, weak: bool = False, evict_under_pressure: bool = False
) -> _Lazy: ...
def lazy(
    target: Any = None,
    /,
    *,
    name: str | None = None,
    weak: bool = False,
    evict_under_pressure: bool = False,
    **unknown: Never,
) -> Any:
    """Compute a value when it is first asked for, once, and measure what it takes.

    Of a method it makes a property, of a function without arguments a function that runs once;
    of coroutine functions, what can be awaited by any number of tasks::

        class Report:
            @lazy
            def rows(self) -> list[Row]: ...

        @lazy(evict_under_pressure=True)
        def dictionary() -> dict[str, str]: ...

    It is computed by one thread, or one task, while the others wait for it; of two instances at
    the same time. The computation is a call like any that is measured, with a span, and its memory
    is its caller's, too. Where it fails, nothing is kept.

    Args:
        target: A method, or a function without arguments.
        name: Name of the span; the function's qualified name by default.
        weak: Keep the value only while somebody else uses it.
        evict_under_pressure: Drop the value when `memory_pressure` becomes critical.
        **unknown: None; there to answer a misspelt option with the one that was meant.

    Raises:
        InvalidTypeError: The target is not one of these, or an option does not exist.
        InvalidValueError: The options contradict each other.
    """
    if unknown:
        raise unknown_option(lazy, next(iter(unknown)), LazyOptions._fields)
    options = _checked(LazyOptions(name, weak, evict_under_pressure))
    if target is None:
        return lambda target: _made(target, options)
    return _made(target, options)


def _checked(options: LazyOptions) -> LazyOptions:
    Options(name=options.name)
    for option in ("weak", "evict_under_pressure"):
        if not isinstance(getattr(options, option), bool):
            msg = f"{option} is True or False, not {getattr(options, option)!r}"
            raise InvalidTypeError(msg)
    if options.weak and options.evict_under_pressure:
        msg = (
            "a value with weak=True is dropped as soon as nobody uses it, and nothing is left to "
            "evict: give one of weak and evict_under_pressure"
        )
        raise InvalidValueError(msg)
    return options


def _made(target: Any, options: LazyOptions) -> Any:
    arguments = _arguments_of(target)
    if kind_of(target) in {"generator", "async generator"}:
        msg = (
            f"{_title(target)} is a generator function, and what it gives can be used only once: "
            "return a list"
        )
        raise InvalidTypeError(msg)
    if not arguments:
        return lazy_function(target, options)
    aside = options.weak or options.evict_under_pressure
    return (KeptAside if aside else LazyProperty)(Recipe(target, options))


def _arguments_of(target: Any) -> int:
    """Return how many arguments *target* takes: 0, a function's, or 1, a method's."""
    if isinstance(target, LazyFunction | LazyProperty):
        msg = f"{_title(target)} is lazy already"
        raise InvalidTypeError(msg)
    if isinstance(target, property | cached_property | classmethod):
        msg = (
            f"lazy decorates the method itself, and was given a {type(target).__name__}: "
            "put @lazy in its place"
        )
        raise InvalidTypeError(msg)
    if isinstance(target, type):
        msg = (
            f"{_title(target)} is a class: to make one instance when it is asked for, "
            f"write lazy(lambda: {target.__name__}())"
        )
        raise InvalidTypeError(msg)
    if not callable(target):
        msg = f"lazy decorates methods and functions, and {target!r} is not callable"
        raise InvalidTypeError(msg)
    try:
        signature = inspect.signature(target)
    except ValueError:
        msg = f"{target!r} does not tell its arguments: give lazy(lambda: ...) that calls it"
        raise InvalidTypeError(msg) from None
    parameters = tuple(signature.parameters.values())
    if any(not _is_self(parameter) for parameter in parameters) or len(parameters) > 1:
        msg = (
            f"{_title(target)}{signature} takes arguments, and a lazy value has none: give a "
            "method of self alone, or a function without arguments; for a value for each argument "
            "there is functools.lru_cache"
        )
        raise InvalidTypeError(msg)
    return len(parameters)


def _is_self(parameter: inspect.Parameter) -> bool:
    by_place = parameter.kind in {parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD}
    return by_place and parameter.default is parameter.empty


def _title(target: object) -> str:
    return (
        getattr(target, "__qualname__", None) or getattr(target, "__name__", None) or repr(target)
    )
