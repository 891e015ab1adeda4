"""One computation for each key at a time: who comes meanwhile waits, and shares what it gives.

No lock is held while anything is computed, and none here while anything waits. What is done to the
tables is done by single operations of dictionaries and lists, so that a finalizer or a signal
handler that comes in between finds them whole.
"""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable
    from contextvars import Token

__all__ = ["MISSING", "Flights", "Lead"]

V = TypeVar("V")

#: What is not there; no value of a user's.
MISSING: Any = object()

_numbers = count(1)
#: The computations that the running code is part of, the outermost first. A task that was begun in
#: one has them, too.
_within: ContextVar[tuple[int, ...]] = ContextVar("stratatrace_cache_computing", default=())
#: Those that have not ended: a task may outlive the one that it was begun in.
_under_way: set[int] = set()


def _mine() -> tuple[int, ...]:
    within = _within.get()
    return tuple(number for number in within if number in _under_way) if within else within


class _Waits:
    """Which computation waits for which others, so that none waits for what waits for it."""

    def __init__(self) -> None:
        self._of: dict[int, list[int]] = {}
        self._lock = threading.RLock()

    def add(self, waiting: int, awaited: int) -> None:
        with self._lock:
            self._of.setdefault(waiting, []).append(awaited)

    def add_unless_circular(self, mine: tuple[int, ...], awaited: int) -> bool:
        """Tell whether the innermost of *mine* may wait, and note that it does."""
        if not mine:
            return True
        with self._lock:
            ahead, seen = [awaited], {awaited}
            while ahead:
                number = ahead.pop()
                if number in mine:
                    return False
                new = [each for each in self._of.get(number, ()) if each not in seen]
                seen.update(new)
                ahead.extend(new)
            self.add(mine[-1], awaited)
            return True

    def remove(self, waiting: int, awaited: int) -> None:
        with self._lock:
            others = self._of.get(waiting, [])
            if awaited in others:
                others.remove(awaited)
            if not others:
                self._of.pop(waiting, None)

    def forget(self, waiting: int) -> None:
        """A computation that has ended waits for nothing, whatever has ended it."""
        self._of.pop(waiting, None)

    def after_fork_in_child(self) -> None:
        self._lock = threading.RLock()
        self._of = {}
        _under_way.clear()


_waits = _Waits()


class _Flight:
    """A computation that is under way."""

    __slots__ = ("ended", "error", "number", "result", "traceback", "wakers")

    def __init__(self) -> None:
        self.number = next(_numbers)
        self.ended = False
        self.result: Any = MISSING
        self.error: Exception | None = None
        self.traceback: Any = None
        self.wakers: list[Callable[[], object]] = []

    def end(self) -> None:
        self.ended = True  # First: who comes now does not wait.
        while self.wakers:
            self.wakers.pop()()


class Lead(Generic[V]):
    """The part of the one that computes. It ends, too, when it is dropped, by an exception that was
    thrown into the thread, or with a coroutine that nobody has finished.
    """  # noqa: D205 -- one sentence

    __slots__ = ("_flight", "_flights", "_key", "_outer", "_token")

    def __init__(self, flights: dict[Hashable, _Flight], key: Hashable) -> None:
        self._flights = flights
        self._key = key
        self._flight = _Flight()
        self._token: Token[tuple[int, ...]] | None = None
        #: The computation that waits for this one, as it is a part of it.
        self._outer: int | None = None

    def join(self) -> _Flight | None:
        """Return the flight of somebody else; None where this one has begun."""
        flight = self._flights.setdefault(self._key, self._flight)
        return None if flight is self._flight else flight

    @property
    def current(self) -> bool:
        """Whether what is computed is still wanted: nobody has dropped the key meanwhile."""
        return self._flights.get(self._key) is self._flight

    def __enter__(self) -> None:
        within = _mine()
        number = self._flight.number
        _under_way.add(number)
        if within:
            self._outer = within[-1]
            _waits.add(within[-1], number)
        self._token = _within.set((*within, number))

    def __exit__(self, *_raised: object) -> None:
        token, self._token = self._token, None
        if token is None:
            return
        with suppress(ValueError):  # A coroutine that is closed by whoever collects it.
            _within.reset(token)

    def succeed(self, value: V) -> None:
        """Give those who wait the value."""
        self._flight.result = value
        self.end()

    def fail(self, error: BaseException) -> None:
        """Give those who wait the error, unless it is of this caller alone."""
        if isinstance(error, Exception) and not isinstance(error, MemoryError):
            self._flight.error, self._flight.traceback = error, error.__traceback__
        self.end()

    def end(self) -> None:
        """Let those who wait go on."""
        if self.current:
            self._flights.pop(self._key, None)
        number, outer = self._flight.number, self._outer
        _under_way.discard(number)
        _waits.forget(number)
        if outer is not None:
            _waits.remove(outer, number)
        self._flight.end()

    def __del__(self) -> None:
        flight: _Flight | None = getattr(self, "_flight", None)  # None: it was hardly begun.
        if flight is not None and not flight.ended:
            self.end()


class Flights:
    """The computations of one cache."""

    __slots__ = ("_of_keys",)

    def __init__(self) -> None:
        self._of_keys: dict[Hashable, _Flight] = {}

    def forget(self, key: Hashable = MISSING) -> None:
        """Have what is being computed thrown away when it is done; for all keys without *key*."""
        if key is not MISSING:
            if self._of_keys:
                self._of_keys.pop(key, None)
            return
        # Not a new table: those who are under way look whether they are in this one.
        self._of_keys.clear()

    def once(
        self,
        key: Hashable,
        look: Callable[[], V],
        compute: Callable[[], V],
        store: Callable[[V, Lead[V]], V],
        shared: Callable[[], object],
    ) -> V:
        """Return the value of *key*, computed here or by whoever is at it.

        Args:
            key: The key.
            look: Returns the value that is there by now, or MISSING, and counts which.
            compute: Makes one.
            store: Keeps it, where the lead is still current, and returns the value to use.
            shared: Counts that the value was had from somebody else.

        Raises:
            Exception: What *compute* raises, here or where somebody else waited for the same.
        """
        while True:
            lead: Lead[V] = Lead(self._of_keys, key)
            flight = lead.join()
            if flight is None:
                try:
                    value = look()
                    if value is MISSING:
                        with lead:
                            value = compute()
                        value = store(value, lead)
                    lead.succeed(value)
                except BaseException as error:
                    lead.fail(error)
                    del lead  # It holds the error, whose traceback holds this frame.
                    raise
                return value
            mine = _mine()
            if not _waits.add_unless_circular(mine, flight.number):
                value = look()
                return compute() if value is MISSING else value
            try:
                _wait(flight)
            finally:
                if mine:
                    _waits.remove(mine[-1], flight.number)
            if flight.result is not MISSING:
                shared()
                return cast("V", flight.result)
            _raise_shared(flight)

    async def once_async(
        self,
        key: Hashable,
        look: Callable[[], V],
        compute: Callable[[], Awaitable[V]],
        store: Callable[[V, Lead[V]], V],
        shared: Callable[[], object],
    ) -> V:
        """Return the same for what is awaited; see `once`."""
        while True:
            lead: Lead[V] = Lead(self._of_keys, key)
            flight = lead.join()
            if flight is None:
                try:
                    value = look()
                    if value is MISSING:
                        with lead:
                            value = await compute()
                        value = store(value, lead)
                    lead.succeed(value)
                except BaseException as error:
                    lead.fail(error)
                    del lead
                    raise
                return value
            mine = _mine()
            if not _waits.add_unless_circular(mine, flight.number):
                value = look()
                return await compute() if value is MISSING else value
            try:
                if not await _wait_async(flight):
                    value = look()
                    return await compute() if value is MISSING else value
            finally:
                if mine:
                    _waits.remove(mine[-1], flight.number)
            if flight.result is not MISSING:
                shared()
                return cast("V", flight.result)
            _raise_shared(flight)


def _wait(flight: _Flight) -> None:
    # A lock for each that waits, and not an Event: its own lock would be taken by a finalizer that
    # ends the flight in the thread that waits for it.
    waiter = threading.Lock()
    waiter.acquire()
    flight.wakers.append(partial(_release, waiter))
    if not flight.ended:
        waiter.acquire()


def _release(waiter: threading.Lock) -> None:
    waiter.release()


async def _wait_async(flight: _Flight) -> bool:
    """Tell whether it was waited for: it cannot be outside an event loop of asyncio."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return False
    future = loop.create_future()
    flight.wakers.append(partial(_wake, loop, future))
    if not flight.ended:
        await future
    return True


def _wake(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
    with suppress(RuntimeError):  # That loop is closed.
        loop.call_soon_threadsafe(_settle, future)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _raise_shared(flight: _Flight) -> None:
    """Raise what the computation has raised; nothing, where that is not for others."""
    error = flight.error
    if error is None:
        return
    try:
        raise error.with_traceback(flight.traceback)
    finally:
        del error, flight  # Else they would hold each other.


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_waits.after_fork_in_child)
