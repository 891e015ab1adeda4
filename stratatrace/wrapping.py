"""The one place that knows wrapt: how a callable of any kind becomes a measured one.

The kind is decided once, when decorating. Whatever suspends (coroutines, generators, async
generators) is measured step by step: its span is current, and its heap is charged, only while its
own code runs.
"""

from __future__ import annotations

import inspect
import sys
import types
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import wrapt

from stratatrace.calls import begin, prepare
from stratatrace.recorder import active

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
    from types import ModuleType

    from stratatrace.calls import Call
    from stratatrace.measurement import Callsite

__all__ = [
    "MeasuredFunction",
    "is_measured",
    "kind_of",
    "measured",
    "measured_member",
    "step",
    "when_imported",
]


class MeasuredFunction(wrapt.FunctionWrapper[..., Any]):
    """A callable that is measured: in every other respect the callable that it wraps.

    Each measured callable has a subclass of its own, whose ``__call__`` is a closure over the
    callable: that is half as dear as looking the callable up on the proxy (`docs/design.md`).
    """

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """Bind as the wrapped callable does: functions do, into a real bound method."""
        if instance is None or not hasattr(type(self.__wrapped__), "__get__"):
            return self
        return types.MethodType(self, instance)

    def __reduce_ex__(self, _protocol: Any) -> str:
        """Pickle by qualified name, as functions do."""
        return str(self.__qualname__)

    def __copy__(self) -> MeasuredFunction:
        """Return itself, as copying a function does."""
        return self

    def __deepcopy__(self, _memo: Any) -> MeasuredFunction:
        """Return itself, as copying a function does."""
        return self


def measured(target: Callable[..., Any], callsite: Callsite) -> MeasuredFunction:
    """Return *target*, measured at every call.

    Args:
        target: Any callable but a class.
        callsite: How its calls are described.
    """
    call = _CALLS[kind_of(target)](target, callsite)
    kind = type(MeasuredFunction.__name__, (MeasuredFunction,), {"__call__": call})
    return cast("MeasuredFunction", kind(target, _never_called))


def measured_member(member: Any, describe: Callable[[Callable[..., Any]], Callsite]) -> Any:
    """Return a member of a class or module, measured, in the descriptor that it came in.

    Args:
        member: A function, or a classmethod, staticmethod or property around functions.
        describe: Makes the callsite of each function.
    """
    if isinstance(member, classmethod | staticmethod):
        return type(member)(measured(member.__func__, describe(member.__func__)))
    if isinstance(member, property):
        fget, fset, fdel = (
            f and measured(f, describe(f)) for f in (member.fget, member.fset, member.fdel)
        )
        return type(member)(fget, fset, fdel, member.__doc__)
    return measured(member, describe(member))


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


def _never_called(*_args: Any) -> None:
    """Fill the place of wrapt's own wrapper function, which `__call__` passes by."""


def _function(target: Callable[..., Any], callsite: Callsite) -> Callable[..., Any]:
    def __call__(_self: object, /, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        if not active.enabled or (call := begin(callsite)) is None:
            return target(*args, **kwargs)
        try:
            result = target(*args, **kwargs)
        except BaseException as error:
            call.finish(error)
            raise
        call.finish()
        return result

    return __call__


def _coroutine(target: Callable[..., Any], callsite: Callsite) -> Callable[..., Any]:
    async def run(owned: _Owned) -> Any:
        call = prepare(callsite)
        if call is None:
            return await owned.coroutine
        try:
            result = await step(owned.coroutine, call)
        except BaseException as error:
            call.finish(error)
            raise
        call.finish()
        return result

    def __call__(_self: object, /, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        inner = target(*args, **kwargs)
        return _named(run(_Owned(inner)), inner) if active.enabled else inner

    return __call__


def _generator(target: Callable[..., Any], callsite: Callsite) -> Callable[..., Any]:
    def run(inner: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        call = prepare(callsite)
        if call is None:
            return (yield from inner)
        try:
            result = yield from step(inner, call)
        except BaseException as error:
            call.finish(error)
            raise
        call.finish()
        return result

    def __call__(_self: object, /, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        inner = target(*args, **kwargs)
        return _named(run(inner), inner) if active.enabled else inner

    return __call__


def _async_generator(target: Callable[..., Any], callsite: Callsite) -> Callable[..., Any]:
    async def run(inner: AsyncGenerator[Any, Any]) -> AsyncGenerator[Any, Any]:
        call = prepare(callsite)
        ask = partial(inner.asend, None)
        try:
            while True:
                asked = ask()
                try:
                    item = await (asked if call is None else step(asked, call))
                except StopAsyncIteration:
                    break
                try:
                    ask = partial(inner.asend, (yield item))
                except BaseException as error:
                    ask = partial(inner.athrow, error)
        except BaseException as error:
            if call is not None:
                call.finish(error)
            raise
        if call is not None:
            call.finish()

    def __call__(_self: object, /, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        inner = target(*args, **kwargs)
        return _named(run(inner), inner) if active.enabled else inner

    return __call__


_CALLS = {
    "function": _function,
    "coroutine": _coroutine,
    "generator": _generator,
    "async generator": _async_generator,
}


@types.coroutine
def step(inner: Any, call: Call) -> Generator[Any, Any, Any]:
    """Drive *inner*, a generator or an awaitable, to its end; charge *call* while it runs.

    What is sent or thrown in is passed on as it is, `GeneratorExit` included, so that *inner* sees
    just what it would see without us.
    """
    steps = inner if hasattr(inner, "send") else inner.__await__()
    advance = partial(steps.send, None)
    ended = False
    sys._getframe()  # noqa: SLF001 -- the frame object that StopIteration would make when measured
    while True:
        call.resume()
        try:
            item = advance()
        except StopIteration as stop:
            # Not returned from here: the exception, an object of ours, would still be there when
            # the step is measured.
            item, ended = stop.value, True
        except BaseException:
            call.suspend()
            raise
        call.suspend()
        if ended:
            return item
        try:
            advance = partial(steps.send, (yield item))
        except BaseException as error:
            advance = partial(steps.throw, error)


class _Owned:
    """A coroutine that goes when its owner goes.

    A coroutine that nobody awaits is warned of once, by the name of the user's function: without
    this, the one inside it would be warned of too.
    """

    __slots__ = ("coroutine",)

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.coroutine = coroutine

    def __del__(self) -> None:
        close = getattr(self.coroutine, "close", None)
        if close is not None:
            close()


def _named(outer: Any, inner: Any) -> Any:
    """Return *outer* under the names of *inner*, which warnings and debuggers show."""
    outer.__name__ = getattr(inner, "__name__", outer.__name__)
    outer.__qualname__ = getattr(inner, "__qualname__", outer.__qualname__)
    return outer
