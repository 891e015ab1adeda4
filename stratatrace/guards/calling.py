"""Callables of every kind under a limit.

A function is under it while it runs. What suspends is under it step by step: what others take
while it is suspended is not counted, and where its step has taken too much it is thrown into *it*.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import ref

from stratatrace.guards.entering import CallEntrance
from stratatrace.guards.holding import hold, unhold
from stratatrace.guards.leaving import judge
from stratatrace.guards.loops import is_running_loop
from stratatrace.guards.opened import OpenLimit
from stratatrace.guards.watchdog import watchdog
from stratatrace.stepping import Owned, Refusing, Stepwise, async_items, named, steps
from stratatrace.wrapping import WrappedFunction, kind_of, wrapped

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from stratatrace.errors import MemoryLimitExceeded
    from stratatrace.measurement import Callsite

__all__ = ["LimitedFunction", "limited"]


class LimitedFunction(WrappedFunction):
    """A callable whose calls have a memory limit."""


def limited(
    target: Callable[..., Any],
    callsite: Callsite,
    budget_bytes: int,
    on_exceed: Callable[[MemoryLimitExceeded], object] | None = None,
) -> LimitedFunction:
    """Return *target*, under a limit at every call.

    Args:
        target: Any callable but a class.
        callsite: How it is described.
        budget_bytes: By how much the process may grow in a call.
        on_exceed: Called in place of raising; None raises.
    """
    again = (limited, callsite, budget_bytes, on_exceed)
    call = _CALLS[kind_of(target)](target, callsite, budget_bytes, on_exceed)
    return wrapped(target, call, again, LimitedFunction)


class _LimitedSteps(Refusing):
    """A limit for what is driven step by step: open while a step runs."""

    def __init__(
        self,
        callsite: Callsite,
        budget_bytes: int,
        on_exceed: Callable[[MemoryLimitExceeded], object] | None,
        *,
        waits: bool,
    ) -> None:
        self._callsite = callsite
        self._budget_bytes = budget_bytes
        self._on_exceed = on_exceed
        #: Whether its steps end in waiting, which an error may take the place of.
        self._waits = waits
        self._limit: OpenLimit | None = None
        self._used_bytes = 0
        self._told = False
        #: Whether it was thrown in: what swallows it gets one step before it is again.
        self._thrown = False
        #: Whether it is to be thrown in with the next step.
        self._is_due = False
        #: What is to be thrown in where the step has ended in waiting.
        self._refusal: MemoryLimitExceeded | None = None

    def before_step(self) -> MemoryLimitExceeded | None:
        """Return what is to be thrown in, in place of what was sent."""
        last = self._limit
        if last is None or not self._is_due:
            return None
        self._is_due = False
        held = hold()
        try:
            return last.error(last.used_bytes)
        finally:
            unhold(held)

    def after_step(self) -> MemoryLimitExceeded | None:
        """Return what is to be thrown in, in place of waiting."""
        refusal, self._refusal = self._refusal, None
        return refusal

    def resume(self) -> None:
        """A step begins."""
        held = hold()
        try:
            self._resume()
        finally:
            unhold(held)

    def _resume(self) -> None:
        last, self._limit = self._limit, None
        limit = OpenLimit(
            self._budget_bytes,
            self._callsite,
            self._on_exceed,
            stepped=True,
            earlier_bytes=self._used_bytes,
        )
        limit.told = self._told
        limit.leaver = ref(self)
        if last is not None:
            limit.key, limit.span = last.key, last.span
            limit.exceeded, limit.most_bytes = last.exceeded, last.most_bytes
        self._limit = limit
        watchdog.open(limit)

    def suspend(self) -> None:
        """The step has ended."""
        limit = self._limit
        if limit is None:
            return
        limit.closed = True
        held = hold()
        try:
            self._refusal = self._suspend(limit)
        finally:
            unhold(held)

    def _suspend(self, limit: OpenLimit) -> MemoryLimitExceeded | None:
        self._used_bytes = watchdog.close(limit)
        if self._used_bytes <= self._budget_bytes or limit.released:
            self._thrown = False
            return None
        limit.exceeded = True
        if not limit.raises:
            judge(limit, None)
            self._told = limit.told
            return None
        if not self._waits or not is_running_loop():
            self._is_due = True
            return None
        self._thrown = not self._thrown
        return limit.error(self._used_bytes) if self._thrown else None

    def finish(self, error: BaseException | None = None, /) -> None:
        """All steps have ended."""
        limit, self._limit = self._limit, None
        if limit is None:
            return
        held = hold()
        try:
            raised = judge(limit, error)
            limit.drop()
        finally:
            unhold(held)
        if raised is not None:
            raise raised from error


def _function(
    target: Callable[..., Any],
    callsite: Callsite,
    budget_bytes: int,
    on_exceed: Callable[[MemoryLimitExceeded], object] | None,
) -> Callable[..., Any]:
    entrance = CallEntrance(callsite, budget_bytes, on_exceed)

    def __call__(_self: object, /, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        with entrance:
            return target(*args, **kwargs)

    return __call__


def _coroutine(
    target: Callable[..., Any],
    callsite: Callsite,
    budget_bytes: int,
    on_exceed: Callable[[MemoryLimitExceeded], object] | None,
) -> Callable[..., Any]:
    async def run(owned: Owned) -> Any:
        limit = _LimitedSteps(callsite, budget_bytes, on_exceed, waits=True)
        try:
            result = await Stepwise(owned.awaitable, limit)
        except BaseException as error:
            limit.finish(error)
            raise
        limit.finish()
        return result

    def __call__(_self: object, /, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        inner = target(*args, **kwargs)
        return named(run(Owned(inner)), inner)

    return __call__


def _generator(
    target: Callable[..., Any],
    callsite: Callsite,
    budget_bytes: int,
    on_exceed: Callable[[MemoryLimitExceeded], object] | None,
) -> Callable[..., Any]:
    def run(inner: Any) -> Generator[Any, Any, Any]:
        limit = _LimitedSteps(callsite, budget_bytes, on_exceed, waits=False)
        try:
            result = yield from steps(inner, limit, None)
        except BaseException as error:
            limit.finish(error)
            raise
        limit.finish()
        return result

    def __call__(_self: object, /, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        inner = target(*args, **kwargs)
        return named(run(inner), inner)

    return __call__


def _async_generator(
    target: Callable[..., Any],
    callsite: Callsite,
    budget_bytes: int,
    on_exceed: Callable[[MemoryLimitExceeded], object] | None,
) -> Callable[..., Any]:
    start = partial(_LimitedSteps, callsite, budget_bytes, on_exceed, waits=True)

    def __call__(_self: object, /, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        inner = target(*args, **kwargs)
        return named(async_items(inner, start), inner)

    return __call__


_CALLS = {
    "function": _function,
    "coroutine": _coroutine,
    "generator": _generator,
    "async generator": _async_generator,
}
