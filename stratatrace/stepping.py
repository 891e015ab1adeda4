"""Step by step: how coroutines, generators and async generators are driven.

Their span is current, and their heap is charged, only while their own code runs.
"""

from __future__ import annotations

import inspect
import sys
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Protocol, cast

from stratatrace.probes import advance

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator

__all__ = [
    "Attentive",
    "Owned",
    "Refusing",
    "Stepped",
    "Stepwise",
    "async_items",
    "named",
    "passed_on",
    "steps",
]


class Stepped(Protocol):
    """What is told of the steps of something that is driven."""

    def resume(self) -> object:
        """A step begins."""

    def suspend(self) -> object:
        """A step has ended."""

    def finish(self, error: BaseException | None = None, /) -> object:
        """All steps have ended."""


class Refusing(ABC):
    """What is told of steps, and may refuse that they go on."""

    @abstractmethod
    def resume(self) -> object:
        """A step begins."""

    @abstractmethod
    def suspend(self) -> object:
        """A step has ended."""

    @abstractmethod
    def finish(self, error: BaseException | None = None, /) -> object:
        """All steps have ended."""

    @abstractmethod
    def before_step(self) -> BaseException | None:
        """Return what is to be thrown in, in place of what was sent."""

    @abstractmethod
    def after_step(self) -> BaseException | None:
        """Return what is to be thrown in, in place of waiting."""


class Attentive(ABC):
    """What is told also of each item that a generator gives."""

    __slots__ = ()

    # They must not raise.

    @abstractmethod
    def gave(self, item: Any) -> object:
        """A step has ended with an item."""

    @abstractmethod
    def gave_in_all(self, items: int) -> object:
        """All steps have ended, none of which was told of."""


class Stepwise:
    """An awaitable, driven step by step."""

    __slots__ = ("_awaitable", "_call")

    def __init__(self, awaitable: Any, call: Stepped) -> None:
        self._awaitable = awaitable
        self._call = call

    def __await__(self) -> Generator[Any, Any, Any]:
        return steps(self._awaitable, self._call, None)


def steps(  # noqa: C901 -- a function for a part of it would be called for every item
    inner: Any, call: Stepped | None, start: Callable[[], Stepped] | None
) -> Generator[Any, Any, Any]:
    """Drive *inner*, a generator or an awaitable, to its end, and charge it while it runs.

    What is sent or thrown in is passed on as it is, `GeneratorExit` included, so that *inner* sees
    just what it would see without us.

    Args:
        inner: What to drive.
        call: What to charge, or None with *start*.
        start: Returns what to charge, for a generator: it is called with the first step, and what
            it returned is finished with the last.
    """
    gave = None
    if call is None:
        call = cast("Callable[[], Stepped]", start)()
        gave = call.gave if isinstance(call, Attentive) else None
    limit = call if isinstance(call, Refusing) else None
    driven = inner if hasattr(inner, "send") else inner.__await__()
    send: Callable[[Any, list[Any]], bool] | None = None
    # What is passed on must not live longer for it: it is taken out of the box as it goes.
    box: list[Any] = [None]
    sys._getframe()  # noqa: SLF001 -- the frame object that an exception would make when measured
    while True:
        if limit is not None and (refusal := limit.before_step()) is not None and send is None:
            box[0], send, refusal = refusal, _throw_step, None
        try:
            ended = advance(call, driven, box, send)
        except BaseException as error:
            if start is not None:
                call.finish(error)
            raise
        if ended:
            if start is not None:
                call.finish()
            return box.pop()
        if gave is not None:
            gave(box[0])
        if limit is not None and (refusal := limit.after_step()) is not None:
            box[0], send, refusal = refusal, _throw_step, None
            continue
        try:
            box.append((yield box.pop()))
            send = None
        except BaseException as error:
            box.append(_as_thrown(error))
            send = _throw_step


def passed_on(inner: Any, start: Callable[[], Stepped]) -> Generator[Any, Any, Any]:
    """Pass on all that *inner*, a generator, gives, and charge no step of it.

    It costs a tenth of what `steps` does, for what gives very many items.

    Args:
        inner: What to pass on; what is sent or thrown in reaches it as with `steps`.
        start: Returns what is finished with the last step, and is told before how many items there
            were; called with the first.
    """
    call = start()
    items = 0
    step, sent = inner.send, None
    try:
        while True:
            try:
                while True:
                    # Not by way of a variable, in which an item would live longer.
                    sent = yield step(sent)
                    items += 1
                    step = inner.send
            except BaseException as error:
                if inner.gi_frame is None:  # It came from there: that has ended.
                    raise
                items += 1
                sent, step = _as_thrown(error), inner.throw
    except BaseException as error:
        returned = isinstance(error, StopIteration)
        if isinstance(call, Attentive):
            call.gave_in_all(items)
        call.finish(None if returned else error)
        if returned:
            return cast("StopIteration", error).value
        raise


def _throw_step(driven: Any, box: list[Any]) -> bool:
    """Throw what is in the box, put there what is answered; return whether *driven* has ended."""
    try:
        box.append(driven.throw(box.pop()))
    except StopIteration as stop:
        box.append(stop.value)
        return True
    return False


async def async_items(
    inner: AsyncGenerator[Any, Any], start: Callable[[], Stepped]
) -> AsyncGenerator[Any, Any]:
    """Return an async generator that drives another step by step.

    Args:
        inner: What to drive.
        start: Returns what is told of the steps; called with the first.
    """
    call = start()
    gave = call.gave if isinstance(call, Attentive) else None
    box: list[Any] = []  # As in `steps`.
    try:
        asked = _first_asked(inner)
        while True:
            try:
                box.append(await Stepwise(asked, call))
            except StopAsyncIteration:
                break
            if gave is not None:
                gave(box[0])
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
