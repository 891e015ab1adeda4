"""Lazy values of functions without arguments: the first call computes, the others return."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from stratatrace.calls import begin_kept, prepare
from stratatrace.reuse.lazy_awaiting import awaited_once, disown_task
from stratatrace.reuse.lazy_homes import SingleValue
from stratatrace.reuse.lazy_once import disown_computation, once
from stratatrace.reuse.lazy_recipe import MISSING, LazyOptions, Recipe, Sought
from stratatrace.stepping import Stepwise
from stratatrace.wrapping import WrappedFunction, wrapped

if TYPE_CHECKING:
    from collections.abc import Callable

    from stratatrace.calls import Call
    from stratatrace.measurement import Measurement

__all__ = ["LazyFunction", "lazy_function"]

R = TypeVar("R")


class LazyFunction(WrappedFunction, Generic[R]):
    """What `lazy` makes of a function: in every respect the function, but that it runs once."""

    _self_value: _Value

    if TYPE_CHECKING:

        def __call__(self) -> R:
            """Return the value, computed by the first call."""
            ...

    @property
    def measurement(self) -> Measurement | None:
        """The numbers of the latest computation; None before the first, or where none is measured.

        Whether other threads can be in them is told by `Measurement.attribution`.
        """
        return self._self_value.measurement

    def is_computed(self) -> bool:
        """Tell whether there is a value, without computing one."""
        return self._self_value.home.read() is not MISSING

    def reset(self) -> None:
        """Drop the value, where there is one: the next call computes it anew.

        What is being computed meanwhile, in another thread or task, goes to those who wait for it,
        and is kept by nobody.
        """
        self._self_value.reset()


class _Value:
    """The value of one function: how it is computed, and where it is kept."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.home = SingleValue(recipe)
        self.measurement: Measurement | None = None
        self._key = (id(self), id(self))
        recipe.tell_live(self.home.live)

    def get(self) -> Any:
        """Return the value, computed where there is none."""
        return once(self._sought(self._compute))

    async def get_awaited(self) -> Any:
        """Return the value of a coroutine function."""
        return await awaited_once(self._sought(self._compute_awaited))

    def reset(self) -> None:
        """Drop the value, and what is being computed."""
        (disown_task if self.recipe.is_coroutine else disown_computation)(self._key)
        self.home.drop()

    def _sought(self, compute: Callable[[Any], Any]) -> Sought:
        return Sought(self.recipe, self._key, self.home, None, compute)

    def _compute(self, _instance: Any) -> Any:
        function = self.recipe.function
        call = begin_kept(self.recipe.callsite, trace_heap=True)
        try:
            value = function()
        except BaseException as error:
            self._finish(call, error)
            raise
        self._finish(call)
        return value

    async def _compute_awaited(self, _instance: Any) -> Any:
        inner = self.recipe.function()
        call = cast("Call", prepare(self.recipe.callsite, keep=True))
        try:
            value = await Stepwise(inner, call)
        except BaseException as error:
            self._finish(call, error)
            raise
        self._finish(call)
        return value

    def _finish(self, call: Call, error: BaseException | None = None) -> None:
        call.finish(error, keep=True)
        self.measurement = call.kept


def lazy_function(function: Callable[[], Any], options: LazyOptions) -> LazyFunction[Any]:
    """Return *function*, which will run once.

    Args:
        function: A function or coroutine function, or any other callable, without arguments.
        options: How its value is kept.
    """
    value = _Value(Recipe(function, options))
    call = (_coroutine if value.recipe.is_coroutine else _function)(value)
    call.__name__ = getattr(function, "__name__", call.__name__)
    call.__qualname__ = getattr(function, "__qualname__", call.__qualname__)
    made: LazyFunction[Any] = wrapped(function, call, (lazy_function, options), LazyFunction)
    # The prefix is how wrapt keeps an attribute off the wrapped callable.
    made._self_value = value  # noqa: SLF001 -- its own
    return made


def _function(value: _Value) -> Callable[..., Any]:
    home = value.home
    if value.recipe.weak:

        def weak(_self: object, /) -> Any:
            kept = home.read()
            return value.get() if kept is MISSING else kept

        return weak

    def __call__(_self: object, /) -> Any:  # noqa: N807
        kept = home.kept
        return value.get() if kept is MISSING else kept

    return __call__


def _coroutine(value: _Value) -> Callable[..., Any]:
    home = value.home

    async def __call__(_self: object, /) -> Any:  # noqa: N807
        kept = home.read()
        return await value.get_awaited() if kept is MISSING else kept

    return __call__
