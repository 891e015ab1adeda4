"""`MemoryPool`: objects that are dear to make, used again.

What is here is the pool as its users see it, and the way of an object that is to be had at once.
The slow ways are in `pool_requests`, places and waiters in `pool_places`.
"""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol, TypeVar, overload

from stratatrace.errors import InvalidTypeError
from stratatrace.reuse.pool_lease import Lease
from stratatrace.reuse.pool_ledger import PoolStats
from stratatrace.reuse.pool_options import UNSET, PoolOptions, checked_factory, checked_seconds
from stratatrace.reuse.pool_requests import Requests

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

__all__ = ["Lease", "MemoryPool", "PoolStats", "Resettable"]

T = TypeVar("T")
U = TypeVar("U")


class Resettable(Protocol):
    """An object that can be made as new, to be used again."""

    def reset(self) -> object:
        """Forget what the last user has left."""
        ...


class MemoryPool(Requests[T], Generic[T]):
    """Objects that are dear to make, kept and used again; the one that came back last is next.

    For threads and for tasks of event loops. Where all objects are out, who asks first is served
    first::

        pool = MemoryPool(PatternMatcher, max_size=20)

        with pool.lease() as matcher:  # In a coroutine: `async with`.
            matcher.process(patterns)

    Args:
        factory: A class or function that makes an object. Each call is measured.
        initial_size: How many are made when the first is asked for.
        max_size: The most that there may be, idle and out.
        max_idle: The most that are kept when they come back; *max_size* by default.
        max_age: Seconds after which an object is not used again.
        reset: What makes an object as new when it comes back: a function of it, or the name of its
            method. By default its method ``reset``, where it has one; None for nothing. Where it
            raises, the object is thrown away.
        validate: Tells whether an object can be used again, before it is: a function of it, or the
            name of its method. Where it returns something false or raises, the object is thrown
            away.
        dispose: Called with each object that is thrown away: a function of it, or the name of its
            method.
        timeout: Seconds that a request waits when all are out; 0 fails at once, None waits for
            ever.
        shrink_under_pressure: Whether to throw away idle objects while memory runs short: half of
            them at a warning, all where it is critical; see `stratatrace.memory_pressure`.
        eager: Make the first *initial_size* objects now.
        debug: Hand out stand-ins, which raise when they are used after they were given back, and
            remember where each object was asked for.
        name: What it is called in telemetry; the factory's name by default.

    Raises:
        InvalidTypeError: An argument is of the wrong type.
        InvalidValueError: A number makes no sense, alone or beside the others.
    """

    def __init__(
        self,
        factory: Callable[[], T],
        initial_size: int = 0,
        max_size: int = 100,
        *,
        max_idle: int | None = None,
        max_age: float | None = None,
        reset: str | Callable[[T], object] | None = "reset",
        validate: str | Callable[[T], object] | None = None,
        dispose: str | Callable[[T], object] | None = None,
        timeout: float | None = 30.0,
        shrink_under_pressure: bool = True,
        eager: bool = False,
        debug: bool = False,
        name: str | None = None,
    ) -> None:
        checked_factory(factory)
        options = PoolOptions(
            initial_size=initial_size,
            max_size=max_size,
            max_idle=max_idle,
            max_age=max_age,
            reset=reset,
            validate=validate,
            dispose=dispose,
            timeout=timeout,
            shrink_under_pressure=shrink_under_pressure,
            debug=debug,
            name=name,
        )
        super().__init__(factory, options)
        if eager:
            self.fill()

    @overload
    @staticmethod
    def of(pooled: type[U], /) -> MemoryPool[U]: ...
    @overload
    @staticmethod
    def of(pooled: Callable[[], Lease[U]], /) -> MemoryPool[U]: ...
    @staticmethod
    def of(pooled: Any, /) -> MemoryPool[Any]:
        """Return the pool of what was decorated with `pooled`.

        Raises:
            InvalidTypeError: It was not.
        """
        pool = getattr(pooled, "__stratatrace_pool__", None)
        if not isinstance(pool, MemoryPool):
            msg = f"{pooled!r} has no pool: decorate it with @pooled"
            raise InvalidTypeError(msg)
        return pool

    @property
    def name(self) -> str:
        """What the pool is called in telemetry."""
        return self._name

    def acquire(self, *, timeout: float | None = UNSET) -> T:
        """Return an object, which is to be given back by `release`.

        Args:
            timeout: Seconds to wait where all are out, in place of the pool's own; 0 fails at once,
                None waits for ever.

        Raises:
            PoolExhaustedError: None came back in time, or this is a thread that runs an event loop,
                which must not wait. It is a TimeoutError.
            PoolClosedError: The pool is closed.
            Exception: Whatever the factory raises.
        """
        if timeout is not UNSET:
            checked_seconds("timeout", timeout)
        if not self._waiters:
            try:
                slot = self._quick.pop()
            except IndexError:
                pass
            else:  # As in `_lend`. The order is such that nothing is lost wherever it is cut short.
                item: T = slot.item
                slot.item = slot.rest
                slot.uses += 1
                slot.taken_ns = perf_counter_ns()
                self._out[slot.key] = slot
                return item
        return self._acquire_slowly(self._options.timeout if timeout is UNSET else timeout)

    async def acquire_async(
        self,
        *,
        timeout: float | None = UNSET,  # noqa: ASYNC109 -- the pool's own is changed for one request
    ) -> T:
        """Return an object as `acquire` does; other tasks run while it waits.

        To be cancelled loses nothing. The factory and all other functions of the pool are called in
        the thread of the event loop.

        Args:
            timeout: As of `acquire`.

        Raises:
            PoolExhaustedError: None came back in time.
            PoolClosedError: The pool is closed.
            Exception: Whatever the factory raises.
        """
        if timeout is not UNSET:
            checked_seconds("timeout", timeout)
        slot = self._claim()
        if slot is not None and slot.filled:
            return self._lend(slot)
        seconds = self._options.timeout if timeout is UNSET else timeout
        return await self._acquire_slowly_async(slot, seconds)

    def release(self, obj: T) -> None:
        """Take back an object that was acquired; make it as new, and have it used again.

        Args:
            obj: The object.

        Raises:
            PoolMisuseError: It is not out: it was given back already, or is of no pool or another.
        """
        slot = self._out.pop(id(obj), None)
        if slot is None or slot.ref is None or slot.ref() is not obj or slot.handle is not None:
            slot = self._recognised(slot, obj)
            if slot is None:
                return
            obj = slot.item if slot.rest is not None else obj
        slot.used_ns += perf_counter_ns() - slot.taken_ns
        reset = slot.reset
        if reset is not None:
            try:
                reset(obj)
            except BaseException as error:
                self._failed_to_reset(slot, obj, error)
                return
        slot.item = obj
        self._idle.append(slot)
        if self._waiters or self._tidies:
            self._tidy(slot)

    def discard(self, obj: T) -> None:
        """Take back an object that was acquired, and throw it away: it is broken.

        Args:
            obj: The object.

        Raises:
            PoolMisuseError: As of `release`.
        """
        slot = self._recognised(self._out.pop(id(obj), None), obj)
        if slot is not None:
            slot.used_ns += perf_counter_ns() - slot.taken_ns
            self._throw_away(slot, slot.item if slot.rest is not None else obj, "asked")

    def lease(self, *, timeout: float | None = UNSET) -> Lease[T]:
        """Return a context manager, sync and async, whose block has an object of the pool.

        Args:
            timeout: As of `acquire`.
        """
        return Lease(self, self._options.timeout if timeout is UNSET else timeout)

    def clear(self) -> None:
        """Throw away all idle objects."""
        while True:
            try:
                slot = self._idle.pop()
            except IndexError:
                return
            self._throw_away(slot, slot.item, "asked")

    def close(self) -> None:
        """Throw away all idle objects, and those that are out as they come back; refuse requests.

        Who waits gets a `PoolClosedError`. A second time does nothing.
        """
        self._closed = self._tidies = True
        self._quick = []
        self._dismiss()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Close the pool."""
        self.close()

    def stats(self) -> PoolStats:
        """Return what the pool has, and has done."""
        self._say_leaks()
        totals, levels = self._ledger.totals(), self.levels()
        return PoolStats(
            name=self._name,
            size=self._size,
            allocated=totals.created,
            discarded=sum(totals.discarded.values()),
            discarded_by=totals.discarded,
            wait_seconds=totals.wait_ns / 1e9,
            create_seconds=totals.create_ns / 1e9,
            use_seconds=totals.use_ns / 1e9,
            reused=totals.reused,
            leaked=totals.leaked,
            timeouts=totals.timeouts,
            abandoned=totals.abandoned,
            waits=totals.waits,
            object_bytes=totals.object_bytes,
            **levels._asdict(),
        )

    def __repr__(self) -> str:
        return f"<MemoryPool {self._name}: {len(self._out)} out, {len(self._idle)} idle>"

    def __reduce_ex__(self, _protocol: Any) -> NoReturn:
        msg = "a pool cannot be copied or pickled: its objects are those of this process"
        raise InvalidTypeError(msg)
