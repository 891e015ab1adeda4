"""The slow ways to an object of a pool: it has to be looked at, made, or waited for."""

from __future__ import annotations

import asyncio
from time import monotonic, perf_counter_ns
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from stratatrace.calls import annotate, begin_kept, prepare
from stratatrace.errors import (
    InvalidTypeError,
    PoolClosedError,
    PoolExhaustedError,
)
from stratatrace.recorder import active
from stratatrace.reuse import pool_debug
from stratatrace.reuse.pool_returns import Returns
from stratatrace.reuse.pool_slots import Slot, Tracked
from stratatrace.reuse.pool_telling import Teller
from stratatrace.reuse.pool_waiting import CLOSED, GONE, TaskWaiter, ThreadWaiter, Waiter
from stratatrace.stepping import Stepwise
from stratatrace.telemetry.pools import Levels

if TYPE_CHECKING:
    from collections.abc import Callable

    from stratatrace.calls import AnyCall
    from stratatrace.reuse.pool_options import PoolOptions

__all__ = ["Requests"]

T = TypeVar("T")

# How often those who wait look for what no word comes of.
_LOOK_SECONDS = 1.0
_MOST_PLACES_TOLD = 3


class Requests(Returns[T]):
    """A pool, without what its users call.

    Args:
        factory: Makes an object.
        options: What was said of the pool.
    """

    def __init__(self, factory: Callable[[], T], options: PoolOptions) -> None:
        teller = Teller(factory, options.name)
        super().__init__(teller.name, options)
        teller.tell_of(self, self._ledger)
        self._factory = factory
        self._teller = teller
        # What can be handed out unseen: nothing, where each object has to be looked at.
        self._quick: list[Slot] = [] if options.looks_at_each else self._idle
        self._unprimed = [None] if options.initial_size else []

    def levels(self) -> Levels:
        """Return how many objects and requests there are now."""
        return Levels(
            idle=len(self._idle),
            used=len(self._out),
            max_size=self._max_size,
            max_idle=self._options.max_idle,
            waiting=len(self._waiters),
        )

    def fill(self) -> None:
        """Make objects until there are *initial_size*.

        Raises:
            PoolClosedError: The pool is closed.
            Exception: Whatever the factory raises; what was made is kept.
        """
        self._unprimed.clear()
        self._refuse_if_closed()
        while self._size < self._options.initial_size:
            slot = self._take_spare()
            if slot is None:
                return
            self._make(slot)
            self._shelve(slot)

    def _acquire_slowly(self, seconds: float | None) -> T:
        slot = self._claim()
        if slot is not None and slot.filled:
            return self._lend(slot)
        call = begin_kept(self._teller.acquired_at)
        try:
            if slot is None:
                slot = self._wait(seconds, call)
            item = self._lend(self._with_object(slot, call))
        except BaseException as error:
            call.finish(error)
            raise
        call.finish()
        return item

    async def _acquire_slowly_async(self, slot: Slot | None, seconds: float | None) -> T:
        call = prepare(self._teller.acquired_at)
        try:
            item: T = await Stepwise(self._obtain_async(slot, seconds, call), call)
        except BaseException as error:
            call.finish(error)
            raise
        call.finish()
        return item

    async def _obtain_async(self, slot: Slot | None, seconds: float | None, call: AnyCall) -> T:
        if slot is None:
            slot = await self._wait_async(seconds, call)
        return self._lend(self._with_object(slot, call))

    def _claim(self) -> Slot | None:
        """Return a slot, with an object where one can be used; None where one has to wait."""
        self._refuse_if_closed()
        self._say_leaks()
        self._teller.introduce()
        if self._unprimed:
            self._prime()
        if self._waiters:
            self._serve()  # Who was interrupted while it joined the line may stand there still.
        if self._waiters:
            return None
        while True:
            slot = self._take_any()
            if slot is None:
                self._sweep()
                return None if self._waiters else self._take_spare()
            if not slot.filled or self._is_usable(slot):
                return slot
            self._shelve(slot)

    def _prime(self) -> None:
        """Make the first objects, for the request that came first."""
        call = begin_kept(self._teller.acquired_at)
        try:
            self.fill()
        except Exception as error:
            call.finish(error)
            if not self._idle:
                raise
            self._warn(
                "fill", "pool %s: not all first objects could be made", self._name, error=True
            )
        except BaseException as error:
            call.finish(error)
            raise
        else:
            call.finish()

    def _is_usable(self, slot: Slot) -> bool:
        """Tell whether an idle object can be used again; where not, the slot is empty then."""
        item, options = slot.item, self._options
        if self._is_expired(slot):
            self._strip(slot, item, "expired")
            return False
        if options.validate is None:
            return True
        try:
            if options.validate(item):
                return True
        except Exception:
            self._warn(
                "validate", "pool %s: validate raised, which tells invalid", self._name, error=True
            )
        except BaseException:  # An interrupt: whether the object is valid nobody knows.
            self._throw_away(slot, item, "invalid")
            raise
        self._strip(slot, item, "invalid")
        return False

    def _with_object(self, slot: Slot, call: AnyCall) -> Slot:
        made = not slot.filled or not self._is_usable(slot)
        if made:
            self._make(slot)
        annotate(call, self._teller.of_acquisition(created=made))
        return slot

    def _make(self, slot: Slot) -> None:
        """Put an object of the factory into *slot*."""
        began_ns = perf_counter_ns()
        call = begin_kept(self._teller.made_by, trace_heap=self._ledger.wants_cost)
        try:
            item = self._factory()
        except BaseException as error:
            call.finish(error)
            self._shelve(slot)
            raise
        call.finish(keep=True)
        took_ns = perf_counter_ns() - began_ns
        try:
            with active.own_work():
                self._fit(slot, item)
                self._teller.made(took_ns, call.kept)
                self._watch_pressure()
        except BaseException:  # Else its place would be lost to the pool.
            slot.empty()
            self._shelve(slot)
            raise

    def _fit(self, slot: Slot, item: object) -> None:
        if item is None:
            msg = f"the factory of pool {self._name} returned None: it has to return an object"
            raise InvalidTypeError(msg)
        known = self._ledger.live.get(id(item))
        if known is not None and known.ref is not None and known.ref() is item:
            msg = (
                f"the factory of pool {self._name} returned an object that it had returned before: "
                "it has to make a new one each time"
            )
            raise InvalidTypeError(msg)
        reset = self._options.reset
        method = self._options.reset_method
        if method is not None and not callable(getattr(item, method, None)):
            if method != "reset":
                msg = (
                    f"{type(item).__qualname__} has no method {method!r} to reset it: "
                    f"give pool {self._name} the name of one, a function, or reset=None"
                )
                raise InvalidTypeError(msg)
            reset = None
        slot.fill(item, reset, held=self._options.debug and pool_debug.can_stand_in(item))

    def _lend(self, slot: Slot) -> T:
        item: Any = slot.item
        if self._options.debug:
            slot.where = pool_debug.place_of_use()
            if slot.rest is item and pool_debug.can_stand_in(item):
                item = pool_debug.borrowed(item)
                slot.handle = Tracked(item, self._ref, slot.key)
        slot.item = slot.rest
        slot.uses += 1
        slot.taken_ns = perf_counter_ns()
        self._out[slot.key] = slot
        return item  # type: ignore[no-any-return]

    def _wait(self, seconds: float | None, call: AnyCall) -> Slot:
        """Stand in line; return the slot that came."""
        if seconds == 0:
            self._time_out(0.0)
        if asyncio._get_running_loop() is not None:  # noqa: SLF001 -- as asyncio's own code asks
            self._refuse_to_block()
        began = monotonic()
        with active.own_work():
            waiter = ThreadWaiter()
        self._waiters.append(waiter)
        try:
            self._serve()
            while self._waits_still(waiter, began, seconds):
                waiter.wait(_remaining(began, seconds))
        except BaseException:
            self._leave(waiter)
            self._ledger.count("abandoned")
            raise
        return self._arrived(waiter, began, call)

    async def _wait_async(self, seconds: float | None, call: AnyCall) -> Slot:
        """Stand in line; return the slot that came."""
        if seconds == 0:
            self._time_out(0.0)
        began = monotonic()
        with active.own_work():
            waiter = TaskWaiter()
        self._waiters.append(waiter)
        try:
            self._serve()
            while self._waits_still(waiter, began, seconds):
                await waiter.wait(_remaining(began, seconds))
        except BaseException:
            self._leave(waiter)
            self._ledger.count("abandoned")
            raise
        return self._arrived(waiter, began, call)

    def _waits_still(self, waiter: Waiter, began: float, seconds: float | None) -> bool:
        if waiter.outcome is None:
            if seconds is not None and monotonic() - began >= seconds:
                waiter.give_up()
            else:
                self._look_again(waiter)
        return waiter.outcome is None

    def _arrived(self, waiter: Waiter, began: float, call: AnyCall) -> Slot:
        waited = monotonic() - began
        outcome = waiter.outcome
        if outcome is GONE:
            self._forget(waiter)
            self._time_out(waited)
        if outcome is CLOSED:
            self._refuse_if_closed()
        self._ledger.count("waits")
        self._ledger.count("wait_ns", int(waited * 1e9))
        self._teller.waited(waited, call)
        slot: Slot = outcome
        return slot

    def _time_out(self, waited: float) -> NoReturn:
        self._ledger.count("timeouts")
        came = (
            f"and none came back in {waited:.3g} s" if waited else "and there was no time to wait"
        )
        places = [slot.where for slot in list(self._out.values()) if slot.where]
        asked = (
            f" (some were asked for at {', '.join(places[:_MOST_PLACES_TOLD])})" if places else ""
        )
        msg = (
            f"all {self._max_size} objects of pool {self._name} are out{asked}, {came}: give them "
            "back sooner, raise max_size, or wait longer by timeout="
        )
        raise PoolExhaustedError(msg)

    def _refuse_to_block(self) -> NoReturn:
        self._ledger.count("timeouts")
        msg = (
            f"all {self._max_size} objects of pool {self._name} are out, and to wait for one here "
            "would hold up the event loop: write `async with pool.lease()`, or await "
            "pool.acquire_async()"
        )
        raise PoolExhaustedError(msg)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            msg = f"pool {self._name} is closed"
            raise PoolClosedError(msg)


def _remaining(began: float, seconds: float | None) -> float:
    """Return for how long to wait before the next look."""
    if seconds is None:
        return _LOOK_SECONDS
    return min(_LOOK_SECONDS, max(0.0, began + seconds - monotonic()))
