"""The one place that knows wrapt: how a callable of any kind becomes a measured one.

The kind is decided once, when decorating. Whatever suspends is measured step by step: see
`stepping`.
"""

from __future__ import annotations

import inspect
import sys
import types
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import wrapt

from stratatrace.calls import begin, begin_here, prepare
from stratatrace.noting import begin_with, noted_call
from stratatrace.probes import count_arrays, native_obstacle
from stratatrace.recorder import active
from stratatrace.stepping import Owned, Stepwise, async_items, named, steps

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from types import ModuleType

    from stratatrace.calls import Call
    from stratatrace.measurement import Callsite
    from stratatrace.noting import Notes

__all__ = [
    "MeasuredFunction",
    "ObjectProxy",
    "WrappedFunction",
    "awaited",
    "is_measured",
    "kind_of",
    "measured",
    "measured_member",
    "when_imported",
    "wrapped",
    "wrapped_member",
]


#: Stands for any object and does what that does.
ObjectProxy = wrapt.ObjectProxy
R = TypeVar("R")
W = TypeVar("W", bound="WrappedFunction")


class WrappedFunction(wrapt.FunctionWrapper[..., Any]):
    """A callable with something around its calls: in every other respect the callable itself.

    A function's call is compiled where it is only measured. Where that cannot be had, and for what
    can be suspended, each callable has a subclass of its own, whose ``__call__`` is a closure over
    the callable: that is half as dear as looking the callable up on the proxy (`docs/design.md`).
    """

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """Bind as the wrapped callable does: functions do, into a real bound method."""
        bare = instance is None or not _binds(self.__wrapped__)
        return self if bare else types.MethodType(self, instance)

    def __reduce_ex__(self, _protocol: Any) -> str | tuple[Any, ...]:
        """Pickle by qualified name, as functions do; what has none, like a partial, by value."""
        name: str | None = getattr(self, "__qualname__", None)
        again, *rest = getattr(self, "_self_again")  # noqa: B009 -- see `wrapped`
        return name or (again, (self.__wrapped__, *rest))

    def __copy__(self) -> WrappedFunction:
        """Return itself, as copying a function does."""
        return self

    def __deepcopy__(self, _memo: Any) -> WrappedFunction:
        """Return itself, as copying a function does."""
        return self


class MeasuredFunction(WrappedFunction):
    """A callable that is measured."""


def wrapped(
    target: Callable[..., Any],
    call: Callable[..., Any],
    again: tuple[Any, ...],
    kind: type[W],
) -> W:
    """Return *target* with something around its calls.

    Args:
        target: Any callable but a class.
        call: What is run when it is called: a ``__call__``, whose first argument is the wrapper.
        again: What makes another one of *target* when a pickle is read: a function that takes
            *target* first, and its further arguments.
        kind: The class, by which a wrapper is known.
    """
    own = type(kind.__name__, (kind,), {"__call__": call})
    return _remade_by(again, cast("W", own(target, _never_called)))


def _remade_by(again: tuple[Any, ...], wrapper: W) -> W:
    # The prefix is how wrapt keeps an attribute off the wrapped callable.
    setattr(wrapper, "_self_again", again)  # noqa: B010 -- no declaration, it would show
    return wrapper


def measured(
    target: Callable[..., Any], callsite: Callsite, notes: type[Notes] | None = None
) -> MeasuredFunction:
    """Return *target*, measured at every call.

    Args:
        target: Any callable but a class.
        callsite: How its calls are described.
        notes: What is noted of each call beside its memory.
    """
    kind = kind_of(target)
    again = (measured, callsite) if notes is None else (measured, callsite, notes)
    if kind != "function" or _CompiledFunction is None:
        if notes is None:
            call = _CALLS[kind](target, callsite)
        else:
            call = noted_call(kind, target, callsite, notes)
        return wrapped(target, call, again, MeasuredFunction)
    wrapper = _remade_by(again, _CompiledFunction(target, _never_called))
    if notes is None:
        _counters.connect(wrapper, target, callsite)
    else:
        _counters.connect(wrapper, target, callsite, begin_with(callsite, notes))
    return wrapper


def measured_member(
    member: Any,
    describe: Callable[[Callable[..., Any]], Callsite],
    notes: type[Notes] | None = None,
) -> Any:
    """Return a member of a class or module, measured, in the descriptor that it came in.

    Args:
        member: A function, or a classmethod, staticmethod or property around functions.
        describe: Makes the callsite of each function.
        notes: What is noted of each call beside its memory.
    """
    return wrapped_member(member, lambda target: measured(target, describe(target), notes))


def wrapped_member(member: Any, wrap: Callable[[Callable[..., Any]], Any]) -> Any:
    """Return a member of a class or module, wrapped, in the descriptor that it came in.

    Args:
        member: A function, or a classmethod, staticmethod or property around functions.
        wrap: Wraps each function.
    """
    if isinstance(member, classmethod | staticmethod):
        return type(member)(wrap(member.__func__))
    if isinstance(member, property):
        fget, fset, fdel = (f and wrap(f) for f in (member.fget, member.fset, member.fdel))
        return type(member)(fget, fset, fdel, member.__doc__)
    return wrap(member)


def is_measured(member: object) -> bool:
    """Tell whether a member of a class or module is measured already."""
    return isinstance(getattr(member, "__func__", member), MeasuredFunction)


def when_imported(name: str, hook: Callable[[ModuleType], None]) -> None:
    """Call *hook* with the module of that name when it is imported, or now if it was."""
    wrapt.register_post_import_hook(hook, name)


def kind_of(target: Callable[..., Any]) -> str:
    """Return ``function``, ``coroutine``, ``generator`` or ``async generator``."""
    while isinstance(target, partial):
        target = target.func
    # Not the attribute of the instance: the type's is what a call runs.
    for candidate in (target, getattr(type(target), "__call__", None)):  # noqa: B004
        flags = getattr(getattr(candidate, "__code__", None), "co_flags", 0)
        if inspect.iscoroutinefunction(candidate) or flags & inspect.CO_ITERABLE_COROUTINE:
            return "coroutine"
        if inspect.isgeneratorfunction(candidate):
            return "generator"
        if inspect.isasyncgenfunction(candidate):
            return "async generator"
    return "function"


def _binds(target: object) -> bool:
    """Tell whether *target*, as a member of a class, is called with the instance."""
    if isinstance(target, partial) and sys.version_info < (3, 14):
        return False  # From 3.13 it has a __get__ already, which only warns.
    return hasattr(type(target), "__get__")


def _never_called(*_args: Any) -> None:
    """Fill the place of wrapt's own wrapper function, which `__call__` passes by."""


def _function(target: Callable[..., Any], callsite: Callsite) -> Callable[..., Any]:
    def __call__(_self: object, /, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        if not active.enabled:
            return target(*args, **kwargs) if kwargs else target(*args)
        # An empty dict that lives as long as the call comes from Python's free list of dicts, which
        # runs dry in a deep recursion, and then gives back more than it took.
        keywords = kwargs or None
        del kwargs
        call = begin_here(callsite)
        try:
            result = target(*args) if keywords is None else target(*args, **keywords)
        except BaseException as error:
            call.finish(error)
            raise
        call.finish()
        return result

    return __call__


def _coroutine(target: Callable[..., Any], callsite: Callsite) -> Callable[..., Any]:
    def __call__(_self: object, /, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        inner = target(*args, **kwargs)
        return awaited(inner, callsite) if active.enabled else inner

    return __call__


def _generator(target: Callable[..., Any], callsite: Callsite) -> Callable[..., Any]:
    start = partial(prepare, callsite)

    def __call__(_self: object, /, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        inner = target(*args, **kwargs)
        return named(steps(inner, None, start), inner) if active.enabled else inner

    return __call__


def _async_generator(target: Callable[..., Any], callsite: Callsite) -> Callable[..., Any]:
    def __call__(_self: object, /, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        inner = target(*args, **kwargs)
        if not active.enabled:
            return inner
        return named(async_items(inner, partial(prepare, callsite)), inner)

    return __call__


_CALLS = {
    "function": _function,
    "coroutine": _coroutine,
    "generator": _generator,
    "async generator": _async_generator,
}


def awaited(
    inner: Awaitable[R], callsite: Callsite, then: Callable[[Call], object] | None = None
) -> Coroutine[Any, Any, Any]:
    """Return a coroutine that awaits *inner* as a measured call.

    Args:
        inner: A coroutine, or another awaitable.
        callsite: What is called.
        then: Makes the coroutine return a pair, the result and what this makes of the call; the
            call's heap is then measured whatever the sample ratio says.
    """

    async def run(owned: Owned) -> Any:
        call = prepare(callsite, keep=then is not None)
        try:
            result = await Stepwise(owned.awaitable, call)
        except BaseException as error:
            call.finish(error)
            raise
        if then is None:
            call.finish()
            return result
        kept = cast("Call", call)
        kept.finish(keep=True)
        return result, then(kept)

    return cast("Coroutine[Any, Any, Any]", named(run(Owned(inner)), inner))


def _on_numpy(_numpy: ModuleType) -> None:
    count_arrays()


_CompiledFunction: type[MeasuredFunction] | None = None
if native_obstacle() is None:
    from stratatrace.probes import _counters

    when_imported("numpy", _on_numpy)
    # What is not suspended is called by compiled code: no tuple and no dictionary of its arguments
    # is made, which would be in the numbers of its caller.
    _counters.set_gate(active, begin)
    _CompiledFunction = _counters.callable_type(MeasuredFunction)
