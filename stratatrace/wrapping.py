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
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import wrapt

from stratatrace.calls import begin, begin_kept, prepare
from stratatrace.probes import advance, count_arrays, native_obstacle
from stratatrace.recorder import active

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
    from types import ModuleType

    from stratatrace.calls import Call
    from stratatrace.measurement import Callsite

__all__ = [
    "MeasuredFunction",
    "Owned",
    "Stepped",
    "Stepwise",
    "WrappedFunction",
    "async_items",
    "awaited",
    "is_measured",
    "kind_of",
    "measured",
    "measured_member",
    "named",
    "steps",
    "when_imported",
    "wrapped",
    "wrapped_member",
]


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


def measured(target: Callable[..., Any], callsite: Callsite) -> MeasuredFunction:
    """Return *target*, measured at every call.

    Args:
        target: Any callable but a class.
        callsite: How its calls are described.
    """
    kind = kind_of(target)
    again = (measured, callsite)
    if kind != "function" or _CompiledFunction is None:
        return wrapped(target, _CALLS[kind](target, callsite), again, MeasuredFunction)
    wrapper = _remade_by(again, _CompiledFunction(target, _never_called))
    _counters.connect(wrapper, target, callsite)
    return wrapper


def measured_member(member: Any, describe: Callable[[Callable[..., Any]], Callsite]) -> Any:
    """Return a member of a class or module, measured, in the descriptor that it came in.

    Args:
        member: A function, or a classmethod, staticmethod or property around functions.
        describe: Makes the callsite of each function.
    """
    return wrapped_member(member, lambda target: measured(target, describe(target)))


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
        call = begin_kept(callsite)
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
    def __call__(_self: object, /, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        inner = target(*args, **kwargs)
        return named(steps(inner, None, callsite), inner) if active.enabled else inner

    return __call__


def _async_generator(target: Callable[..., Any], callsite: Callsite) -> Callable[..., Any]:
    def __call__(_self: object, /, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        inner = target(*args, **kwargs)
        if not active.enabled:
            return inner
        return named(async_items(inner, partial(prepare, callsite)), inner)

    return __call__


async def async_items(
    inner: AsyncGenerator[Any, Any], start: Callable[[], Stepped]
) -> AsyncGenerator[Any, Any]:
    """Return an async generator that drives another step by step.

    Args:
        inner: What to drive.
        start: Returns what is told of the steps; called with the first.
    """
    call = start()
    box: list[Any] = []  # As in `steps`.
    try:
        asked = _first_asked(inner)
        while True:
            try:
                box.append(await Stepwise(asked, call))
            except StopAsyncIteration:
                break
            try:
                box.append((yield box.pop()))
                ask: Callable[..., Any] = inner.asend
            except BaseException as error:
                box.append(_as_thrown(error))
                ask = inner.athrow
            asked = ask(box.pop())
    except BaseException as error:
        call.finish(error)
        raise
    call.finish()


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


class Stepped(Protocol):
    """What is told of the steps of something that is driven."""

    def resume(self) -> object:
        """A step begins."""

    def suspend(self) -> object:
        """A step has ended."""

    def finish(self, error: BaseException | None = None, /) -> object:
        """All steps have ended."""


class Stepwise:
    """An awaitable, driven step by step."""

    __slots__ = ("_awaitable", "_call")

    def __init__(self, awaitable: Any, call: Stepped) -> None:
        self._awaitable = awaitable
        self._call = call

    def __await__(self) -> Generator[Any, Any, Any]:
        return steps(self._awaitable, self._call, None)


def steps(inner: Any, call: Stepped | None, whole: Callsite | None) -> Generator[Any, Any, Any]:
    """Drive *inner*, a generator or an awaitable, to its end, and charge it while it runs.

    What is sent or thrown in is passed on as it is, `GeneratorExit` included, so that *inner* sees
    just what it would see without us.

    Args:
        inner: What to drive.
        call: What to charge, or None with *whole*.
        whole: Begin a call of this callsite with the first step, and finish it with the last.
    """
    if call is None:
        call = prepare(cast("Callsite", whole))
    driven = inner if hasattr(inner, "send") else inner.__await__()
    send: Callable[[Any, list[Any]], bool] | None = None
    # What is passed on must not live longer for it: it is taken out of the box as it goes.
    box: list[Any] = [None]
    sys._getframe()  # noqa: SLF001 -- the frame object that an exception would make when measured
    while True:
        try:
            ended = advance(call, driven, box, send)
        except BaseException as error:
            if whole is not None:
                call.finish(error)
            raise
        if ended:
            if whole is not None:
                call.finish()
            return box.pop()
        try:
            box.append((yield box.pop()))
            send = None
        except BaseException as error:
            box.append(_as_thrown(error))
            send = _throw_step


def _throw_step(driven: Any, box: list[Any]) -> bool:
    """Throw what is in the box, put there what is answered; return whether *driven* has ended."""
    try:
        box.append(driven.throw(box.pop()))
    except StopIteration as stop:
        box.append(stop.value)
        return True
    return False


def _as_thrown(error: BaseException) -> BaseException:
    """Return *error*, just caught, with the traceback that it had when it was thrown in."""
    if error.__traceback__ is not None:
        error.__traceback__ = error.__traceback__.tb_next
    return error


def _first_asked(inner: AsyncGenerator[Any, Any]) -> Awaitable[Any]:
    """Return the first step of an async generator, unseen by the event loop.

    The loop closes those that it has seen and that are left unfinished. It sees the one around
    *inner*, which passes that on; to close both at once would fail.
    """
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return inner.asend(None)
    finally:
        sys.set_asyncgen_hooks(*hooks)


class Owned:
    """An awaitable; a coroutine goes when its owner goes.

    A coroutine that nobody awaits is warned of once, by the name of the user's function: without
    this, the one inside it would be warned of too.
    """

    __slots__ = ("awaitable",)

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        self.awaitable = awaitable

    def __del__(self) -> None:
        awaitable = getattr(self, "awaitable", None)  # It has none where making it was interrupted.
        if inspect.iscoroutine(awaitable):
            awaitable.close()


def named(outer: Any, inner: Any) -> Any:
    """Return *outer* under the names of *inner*, which warnings and debuggers show."""
    outer.__name__ = getattr(inner, "__name__", outer.__name__)
    outer.__qualname__ = getattr(inner, "__qualname__", outer.__qualname__)
    return outer


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
