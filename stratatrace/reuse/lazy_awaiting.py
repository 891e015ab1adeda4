"""Computed once among tasks: a coroutine function's value, in a task of its own.

Who awaits the value waits for that task, and may be cancelled without harm to it. The task belongs
to the event loop of the one who came first; those of other loops wait for its outcome.
"""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar
from weakref import ref

from stratatrace.errors import NotReadyError
from stratatrace.reuse.lazy_once import circular, disown, publish
from stratatrace.reuse.lazy_recipe import MISSING, own_work

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import TracebackType

    from stratatrace.reuse.lazy_recipe import Key, Recipe, Sought

__all__ = ["Awaited", "awaited_once", "disown_task"]

T = TypeVar("T")
# How often those of another loop look whether the loop that computes was closed.
_LOOK_SECONDS = 1.0


class Awaited(Generic[T]):
    """An awaitable of a value that is there; it may be awaited any number of times."""

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        #: What it gives.
        self.value = value

    def __await__(self) -> Generator[Any, Any, T]:
        return self.value
        yield

    def __repr__(self) -> str:
        return f"<lazy value: {self.value!r}>"


class _Shared:
    """A value that a task is computing, and those who wait for it.

    No Future of a library: those that two loops can share keep what they were given in a cycle.
    """

    __slots__ = (
        "__weakref__",
        "_lock",
        "_outcome",
        "_settled",
        "_waiters",
        "awaits",
        "loop",
        "task",
        "unwanted",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.task: asyncio.Task[Any] | None = None
        #: What the task waits for itself.
        self.awaits: _Shared | None = None
        #: Whether the value was reset meanwhile, so that this one must not be kept.
        self.unwanted = False
        self._outcome: Any = MISSING
        self._settled = False
        self._waiters: list[asyncio.Future[None]] = []
        self._lock = threading.RLock()

    @property
    def lost(self) -> bool:
        """Whether nobody drives the task: its loop has ended, or stands still."""
        return self.loop.is_closed() or not self.loop.is_running()

    def settle(self, outcome: Any) -> None:
        """Have those who wait go on; a second time does nothing.

        Args:
            outcome: The value; a `_Failure`; or `MISSING`, and those who wait try again.
        """
        with self._lock:
            if self._settled:
                return
            self._settled, self._outcome = True, outcome
            waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            with suppress(RuntimeError):  # Its loop was closed: nobody waits there any more.
                waiter.get_loop().call_soon_threadsafe(_wake, waiter)

    def waiter(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """Return what is done when there is an outcome."""
        waiter: asyncio.Future[None] = loop.create_future()
        with self._lock:
            if self._settled:
                waiter.set_result(None)
            else:
                self._waiters.append(waiter)
        return waiter

    def take(self) -> Any:
        """Return the value, or `MISSING`; raise the error."""
        try:
            if isinstance(self._outcome, _Failure):
                raise self._outcome.error.with_traceback(self._outcome.traceback)
            return self._outcome
        finally:
            del self  # The error's traceback has this frame.


class _Failure(NamedTuple):
    """An error, with the traceback that each who waits for it adds his own to."""

    error: BaseException
    traceback: TracebackType | None


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


_under_way: dict[Key, _Shared] = {}
#: What the task computes that this is the context of. It is inherited by the tasks that it starts.
_computing: ContextVar[ref[_Shared] | None] = ContextVar("stratatrace_computing", default=None)


async def awaited_once(sought: Sought) -> Any:
    """Return the value, computed for this task or for another one.

    An error is everybody's who waits for the computation.

    Args:
        sought: Which value.

    Raises:
        CircularValueError: It needs itself.
        NotReadyError: No event loop of asyncio is running.
        Exception: Whatever computing it raises.
    """
    while True:
        value = sought.read()
        if value is not MISSING:
            return value
        loop = _running_loop(sought.recipe)
        with own_work():
            fresh = _Shared(loop)
        shared = _joined(sought.key, fresh)
        began = shared is fresh
        del fresh
        try:
            if began:
                value = sought.read()  # It may have come in another thread.
                if value is not MISSING:
                    _leave(sought.key, shared)
                    return value
                _start(sought, shared)
            value = await _outcome(sought.recipe, shared, loop)
            if value is not MISSING:
                return value
            if began:  # Its task was cancelled, by whoever ends the loop.
                raise asyncio.CancelledError
        finally:
            del shared  # An error's traceback has this frame, and it has the error.


def disown_task(key: Key) -> None:
    """Disown what a task is computing; see `lazy_once.disown`."""
    disown(_under_way, key)


def _running_loop(recipe: Recipe) -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        msg = f"{recipe.title} is computed by an event loop of asyncio, and none is running"
        raise NotReadyError(msg) from None


def _joined(key: Key, fresh: _Shared) -> _Shared:
    """Return the computation that is under way, which is *fresh* where there was none."""
    shared = _under_way.setdefault(key, fresh)
    if shared is not fresh and shared.loop is not fresh.loop and shared.lost:
        shared.unwanted = True  # Its loop may go on, and those who wait there have its outcome.
        if _under_way.get(key) is shared:
            _under_way.pop(key, None)
        shared = _under_way.setdefault(key, fresh)
    return shared


def _leave(key: Key, shared: _Shared) -> None:
    if _under_way.get(key) is shared:
        _under_way.pop(key, None)
    shared.settle(MISSING)


def _start(sought: Sought, shared: _Shared) -> None:
    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.exception()  # Else the loop would tell that nobody has asked for it.
        _leave(sought.key, shared)

    work = _run(sought, shared)
    try:
        task = shared.loop.create_task(work, name=f"lazy {sought.recipe.callsite.name}")
    except BaseException:  # Who waits for it would wait for ever.
        work.close()
        _leave(sought.key, shared)
        raise
    task.add_done_callback(ended)  # Cancelled before its first step, it runs none of its code.
    shared.task = task


async def _run(sought: Sought, shared: _Shared) -> None:
    shared.task = asyncio.current_task()
    _computing.set(ref(shared))
    try:
        value = await sought.compute(sought.instance)
        publish(sought, value, shared)
        shared.settle(value)
    except (asyncio.CancelledError, GeneratorExit):
        raise  # Nobody's error: who waits for the value tries again.
    except BaseException as error:
        shared.settle(_Failure(error, error.__traceback__))
        if not isinstance(error, Exception):
            raise
    finally:
        _leave(sought.key, shared)
        del shared  # As in `awaited_once`.


async def _outcome(recipe: Recipe, shared: _Shared, loop: asyncio.AbstractEventLoop) -> Any:
    """Wait for what the task gives; return `MISSING` where it gives nothing."""
    mine = _of_this_task()
    if mine is not None:
        _refuse_circle(recipe, shared, mine)
        mine.awaits = shared
    try:
        waiter = shared.waiter(loop)
        if shared.loop is loop:
            await waiter
        else:
            while not (await asyncio.wait((waiter,), timeout=_LOOK_SECONDS))[0]:
                if shared.loop.is_closed():
                    return MISSING
        return shared.take()
    finally:
        if mine is not None:
            mine.awaits = None
        del shared, mine


def _of_this_task() -> _Shared | None:
    """Return what the current task computes, itself and no task that it has started."""
    reference = _computing.get()
    shared = None if reference is None else reference()
    return shared if shared is not None and shared.task is asyncio.current_task() else None


def _refuse_circle(recipe: Recipe, shared: _Shared, mine: _Shared) -> None:
    following: _Shared | None = shared
    seen: set[int] = set()
    while following is not None and id(following) not in seen:
        if following is mine:
            raise circular(recipe)
        seen.add(id(following))
        following = following.awaits


def _after_fork_in_child() -> None:
    """Forget what is computed by the loops of the parent, none of which runs here."""
    _under_way.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
