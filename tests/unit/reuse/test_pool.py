"""The pool, alone in one thread: what comes back, what is thrown away, and what is refused."""

from __future__ import annotations

import copy
import gc
import itertools
import logging
import pickle
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from stratatrace import MemoryPool
from stratatrace.config import Config
from stratatrace.errors import (
    InvalidTypeError,
    InvalidValueError,
    NotReadyError,
    PoolClosedError,
    PoolExhaustedError,
    PoolMisuseError,
)
from stratatrace.pressure.watching import watcher
from stratatrace.testing import recording, under_pressure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stratatrace.pressure.reading import Level

_numbers = itertools.count()


class Matcher:
    """Knows in which order it was made."""

    def __init__(self) -> None:
        self.number = next(_numbers)
        self.patterns: list[str] = []
        self.closed = False

    def reset(self) -> None:
        self.patterns.clear()

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def measured() -> Iterator[None]:
    """Measure, and raise what fails in that."""
    with recording(Config(probe="rss")):
        yield


def whole(pool: MemoryPool[Any]) -> bool:
    """Tell whether all capacity can be had, and gives distinct objects."""
    taken = [pool.acquire(timeout=0) for _ in range(pool.stats().max_size)]
    with pytest.raises(PoolExhaustedError):
        pool.acquire(timeout=0)
    for item in taken:
        pool.release(item)
    return len({id(item) for item in taken}) == pool.stats().max_size


def test_the_one_that_came_back_last_is_next() -> None:
    """As it is warm in the caches; it was reset."""
    pool = MemoryPool(Matcher, max_size=3)
    one, other = pool.acquire(), pool.acquire()
    one.patterns.append("a")
    pool.release(other)
    pool.release(one)
    assert pool.acquire() is one
    assert one.patterns == []
    assert pool.acquire() is other


def test_statistics_are_those_of_the_seed() -> None:
    """Made, used again, and the share of requests that needed nothing new."""
    pool = MemoryPool(Matcher, max_size=5, name="matchers")
    for _ in range(4):
        with pool.lease():
            pass
    stats = pool.stats()
    assert (stats.name, stats.size, stats.idle, stats.used) == ("matchers", 1, 1, 0)
    assert (stats.allocated, stats.reused, stats.efficiency) == (1, 3, 75)
    assert (stats.max_size, stats.max_idle, stats.waiting) == (5, 5, 0)
    assert stats.to_dict()["efficiency"] == 75
    assert "1 made, 3 times used again (75%)" in str(stats)
    assert stats.use_seconds > 0
    assert stats.create_seconds > 0


def test_an_object_that_was_made_in_advance_saves_nothing_the_first_time() -> None:
    """Reuse is counted from the second time on."""
    pool = MemoryPool(Matcher, initial_size=2, max_size=2, eager=True)
    pool.release(pool.acquire())
    assert (pool.stats().allocated, pool.stats().reused) == (2, 0)
    pool.release(pool.acquire())
    assert pool.stats().reused == 1


@pytest.mark.parametrize(("eager", "at_once"), [(False, 0), (True, 3)])
def test_the_first_objects_are_made_lazily_unless_asked(eager: bool, at_once: int) -> None:
    """With the first request, or with the pool."""
    pool = MemoryPool(Matcher, initial_size=3, max_size=5, eager=eager)
    assert pool.stats().allocated == at_once
    pool.acquire()
    assert (pool.stats().allocated, pool.stats().idle) == (3, 2)


def test_fill_makes_what_is_missing() -> None:
    """And nothing more, the second time."""
    pool = MemoryPool(Matcher, initial_size=3, max_size=5)
    pool.fill()
    pool.fill()
    assert (pool.stats().allocated, pool.stats().idle) == (3, 3)


def test_no_more_than_max_size() -> None:
    """The error says what could be done, and who failed at once did not wait."""
    pool = MemoryPool(Matcher, max_size=2, name="matchers")
    kept = [pool.acquire(), pool.acquire()]
    with pytest.raises(
        PoolExhaustedError, match=r"all 2 objects of pool matchers .* raise max_size"
    ):
        pool.acquire(timeout=0)
    with pytest.raises(TimeoutError, match=r"none came back in 0\.0"):
        pool.acquire(timeout=0.01)
    assert pool.stats().timeouts == 2
    pool.release(kept.pop())
    assert isinstance(pool.acquire(timeout=0), Matcher)


def test_the_pools_own_timeout() -> None:
    """Holds where none is given."""
    pool = MemoryPool(Matcher, max_size=1, timeout=0)
    kept = pool.acquire()
    with pytest.raises(PoolExhaustedError), pool.lease():
        pytest.fail("there was one")
    pool.release(kept)


def test_max_idle() -> None:
    """Of what comes back, what was idle longest goes."""
    pool = MemoryPool(Matcher, max_size=3, max_idle=1, dispose="close")
    one, two = pool.acquire(), pool.acquire()
    pool.release(one)
    pool.release(two)
    assert one.closed
    assert not two.closed
    assert pool.stats().discarded_by == {"surplus": 1}
    assert pool.stats().idle == 1
    assert whole(pool)


def test_max_idle_may_be_none_at_all() -> None:
    """Then nothing is used again."""
    pool = MemoryPool(Matcher, max_size=2, max_idle=0)
    pool.release(pool.acquire())
    assert (pool.stats().idle, pool.stats().discarded) == (0, 1)


def test_max_age(monkeypatch: pytest.MonkeyPatch) -> None:
    """An object that is too old is not used again: seen when borrowed, and when it is back."""
    now = [0]
    for module in ("pool_slots", "pool_returns"):
        monkeypatch.setattr(f"stratatrace.reuse.{module}.monotonic_ns", lambda: now[0])
    pool = MemoryPool(Matcher, max_size=4, max_age=10)
    one, two = pool.acquire(), pool.acquire()
    pool.release(one)
    now[0] = int(10e9)
    assert pool.acquire() is one
    pool.release(one)
    now[0] += 1
    three = pool.acquire()
    assert three is not one
    assert pool.stats().discarded_by == {"expired": 1}
    pool.release(two)
    assert pool.stats().discarded_by == {"expired": 2}
    assert pool.stats().idle == 0


def test_old_objects_at_the_bottom_go_though_nobody_asks_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last in is the first out, so that they would stay for ever."""
    now = [0]
    for module in ("pool_slots", "pool_returns"):
        monkeypatch.setattr(f"stratatrace.reuse.{module}.monotonic_ns", lambda: now[0])
    pool = MemoryPool(Matcher, max_size=4, max_age=10)
    old = [pool.acquire() for _ in range(3)]
    now[0] = int(9e9)
    young = pool.acquire()
    for item in (*old, young):
        pool.release(item)
    now[0] = int(11e9)
    assert pool.acquire() is young
    pool.release(young)
    assert pool.stats().idle == 2
    pool.release(pool.acquire())
    assert pool.stats().idle == 1


def test_validation_when_it_is_borrowed() -> None:
    """What is not valid, or makes the validation raise, is thrown away; the next is tried."""
    pool = MemoryPool(Matcher, max_size=3, validate=lambda matcher: not matcher.closed)
    one, two, three = (pool.acquire() for _ in range(3))
    for item in (three, two, one):
        pool.release(item)
    one.closed = True
    two.close()
    assert pool.acquire() is three
    assert pool.stats().discarded_by == {"invalid": 2}
    assert pool.acquire().number > three.number
    assert pool.stats().allocated == 4


def test_validation_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    """Tells that it is not valid; the first such error is logged."""
    pool = MemoryPool(bytearray, max_size=2, reset=None, validate="no_such_method")
    for _ in range(3):
        pool.release(pool.acquire())
    assert pool.stats().discarded_by == {"invalid": 2}
    assert [record.message for record in caplog.records] == [
        "pool builtins.bytearray: validate raised, which tells invalid"
    ]
    assert whole(pool)


def test_validation_that_is_interrupted() -> None:
    """Goes on being interrupted, and loses no capacity."""

    def interrupt(_matcher: Matcher) -> bool:
        raise KeyboardInterrupt

    pool = MemoryPool(Matcher, max_size=2, validate=interrupt)
    pool.release(pool.acquire())
    with pytest.raises(KeyboardInterrupt):
        pool.acquire()
    assert pool.stats().size == 0


def test_a_reset_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    """The object is thrown away and counted, the caller is not disturbed, the pool stays whole."""

    def refuse(_matcher: Matcher) -> None:
        msg = "cannot be reset"
        raise ValueError(msg)

    disposed: list[Matcher] = []
    pool = MemoryPool(Matcher, max_size=2, reset=refuse, dispose=disposed.append)
    for _ in range(3):
        pool.release(pool.acquire())
    assert pool.stats().discarded_by == {"reset": 3}
    assert len(disposed) == 3
    assert (pool.stats().idle, pool.stats().used) == (0, 0)
    assert len(caplog.records) == 1
    assert "cannot be reset" in caplog.text
    assert whole(pool)


def test_a_reset_that_is_interrupted() -> None:
    """The object is thrown away, and the interruption goes on."""

    def interrupt(_matcher: Matcher) -> None:
        raise KeyboardInterrupt

    pool = MemoryPool(Matcher, max_size=1, reset=interrupt)
    item = pool.acquire()
    with pytest.raises(KeyboardInterrupt):
        pool.release(item)
    assert pool.stats().discarded_by == {"reset": 1}
    assert pool.acquire(timeout=0) is not item


def test_ways_to_reset() -> None:
    """By the name of a method, by a function, and not at all."""
    by_name = MemoryPool(Matcher, reset="close")
    with by_name.lease() as matcher:
        pass
    assert matcher.closed
    by_function = MemoryPool(bytearray, reset=bytearray.clear)
    with by_function.lease() as buffer:
        buffer.extend(b"abc")
    assert buffer == b""
    never = MemoryPool(Matcher, reset=None)
    with never.lease() as matcher:
        matcher.patterns.append("a")
    assert matcher.patterns == ["a"]


def test_a_dispose_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    """Is logged, and the place is free again."""
    pool = MemoryPool(Matcher, max_size=1, dispose="no_such_method")
    for _ in range(2):
        pool.discard(pool.acquire(timeout=0))
    assert pool.stats().discarded_by == {"asked": 2}
    assert len(caplog.records) == 1


def test_a_factory_that_raises() -> None:
    """Its own error comes, and the place is free again."""
    failures = [ValueError("no server"), ValueError("no server"), KeyboardInterrupt()]

    def connect() -> Matcher:
        if failures:
            raise failures.pop(0)
        return Matcher()

    pool = MemoryPool(connect, max_size=1)
    for kind in (ValueError, ValueError, KeyboardInterrupt):
        with pytest.raises(kind):
            pool.acquire(timeout=0)
        assert (pool.stats().size, pool.stats().allocated) == (0, 0)
    assert whole(pool)


def test_a_factory_that_raises_when_the_first_objects_are_made(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What was made is used; the error comes only to who gets nothing."""
    made: list[Matcher] = []

    def two_only() -> Matcher:
        if len(made) == 2:
            msg = "no server"
            raise ValueError(msg)
        made.append(Matcher())
        return made[-1]

    pool = MemoryPool(two_only, initial_size=3, max_size=3)
    assert pool.acquire() is made[1]
    assert "not all first objects could be made" in caplog.text
    assert pool.acquire() is made[0]
    with pytest.raises(ValueError, match="no server"):
        pool.acquire()
    with pytest.raises(ValueError, match="no server"):
        MemoryPool(two_only, initial_size=3, max_size=3, eager=True)


def test_factories_that_make_nothing_of_their_own() -> None:
    """None, or the same object twice, is an error at once; no capacity is lost."""
    with pytest.raises(InvalidTypeError, match="returned None"):
        MemoryPool(lambda: None).acquire()
    one = Matcher()
    pool = MemoryPool(lambda: one, max_size=2)
    assert pool.acquire() is one
    for _ in range(3):
        with pytest.raises(InvalidTypeError, match="had returned before"):
            pool.acquire(timeout=0)
    pool.release(one)
    assert pool.acquire() is one


def test_a_method_to_reset_by_that_is_not_there() -> None:
    """Is told with the first object; the default one need not be there."""
    pool = MemoryPool(bytearray, max_size=1, reset="rewind")
    for _ in range(2):
        with pytest.raises(InvalidTypeError, match="bytearray has no method 'rewind' to reset it"):
            pool.acquire(timeout=0)
    MemoryPool(bytearray).acquire()


def test_given_back_twice() -> None:
    """An error, and nobody gets the same object twice."""
    pool = MemoryPool(Matcher, max_size=2)
    item = pool.acquire()
    pool.release(item)
    with pytest.raises(PoolMisuseError, match="it was given back already"):
        pool.release(item)
    with pytest.raises(PoolMisuseError, match="it was given back already"):
        pool.discard(item)
    assert whole(pool)


def test_foreign_objects() -> None:
    """An error, and the object is left alone."""
    pool, other = MemoryPool(Matcher, max_size=1), MemoryPool(Matcher)
    for item in (Matcher(), other.acquire(), None, 5, "text"):
        with pytest.raises(PoolMisuseError, match="it is not out, or not of this pool"):
            pool.release(item)  # type: ignore[arg-type]
    assert pool.stats().size == 0


def test_a_broken_object_is_thrown_away_on_request() -> None:
    """By the pool, and by a lease."""
    pool = MemoryPool(Matcher, max_size=1, dispose="close")
    item = pool.acquire()
    pool.discard(item)
    assert item.closed
    with pool.lease() as broken:
        assert broken is not item
    lease = pool.lease()
    with lease as broken:
        lease.discard()
    assert broken.closed
    assert pool.stats().discarded_by == {"asked": 2}
    assert whole(pool)


def test_leases() -> None:
    """Give back once, however they are left, and can be used again."""
    pool = MemoryPool(Matcher, max_size=1)
    lease = pool.lease()
    with pytest.raises(NotReadyError):
        _ = lease.value
    with lease as one:
        assert lease.value is one
        with pytest.raises(PoolMisuseError, match="another lease"):
            lease.__enter__()
    with pytest.raises(ZeroDivisionError), lease:
        _ = 1 / 0
    assert pool.stats().used == 0
    lease.close()
    with lease as other:
        assert other is one
        lease.close()
        assert pool.stats().used == 0
    assert pool.stats().used == 0


class Rude(Matcher):
    """Gives itself back when it is dropped."""

    pool: MemoryPool[Rude]

    def __del__(self) -> None:
        if self.pool.lease_number(self) is not None:
            self.pool.release(self)


def test_a_finalizer_may_give_back() -> None:
    """The object lives on."""
    Rude.pool = pool = MemoryPool(Rude, max_size=1)
    number = pool.acquire().number
    item = pool.acquire(timeout=0)
    assert item.number == number
    assert pool.stats().leaked == 0
    pool.release(item)
    pool.clear()


class Plain:
    """Is collected at once."""


class Slotted:
    """Cannot be referred to weakly."""

    __slots__ = ()


def cyclic() -> Plain:
    made = Plain()
    made.itself = made  # type: ignore[attr-defined]
    return made


@pytest.mark.parametrize("factory", [Plain, cyclic, bytearray, list, dict, Slotted])
def test_leaks(factory: Callable[[], object], caplog: pytest.LogCaptureFixture) -> None:
    """Objects that are dropped while they are out are counted, and their places free again.

    Also those that cannot be referred to weakly, when the pool has run out.
    """
    pool = MemoryPool(factory, max_size=2, reset=None)
    kept = pool.acquire()
    for _ in range(3):
        pool.acquire(timeout=0)
        gc.collect()
    assert pool.acquire(timeout=0) is not kept
    gc.collect()
    held = pool.acquire(timeout=0)
    with pytest.raises(PoolExhaustedError):
        pool.acquire(timeout=0)
    del held
    assert pool.stats().leaked >= 4
    pool.release(kept)
    assert len([r for r in caplog.records if "was dropped and not given back" in r.message]) == 1
    gc.collect()
    assert whole(pool)


def test_what_is_held_by_anybody_is_no_leak() -> None:
    """However many there are."""
    pool = MemoryPool(bytearray, max_size=3, reset=None)
    holders: list[Any] = [[pool.acquire()], {"buffer": pool.acquire()}, memoryview(pool.acquire())]
    with pytest.raises(PoolExhaustedError):
        pool.acquire(timeout=0)
    assert pool.stats().leaked == 0
    holders.pop().release()
    assert pool.acquire(timeout=0) == b""
    assert pool.stats().leaked == 1


def test_a_pool_that_is_dropped() -> None:
    """Goes at once, with its idle objects and without a collection; those that are out stay."""
    gc.collect()
    gc.disable()
    try:
        gone: list[int] = []

        class Noted(Matcher):
            def __del__(self) -> None:
                gone.append(self.number)

        pool = MemoryPool(Noted, max_size=2)
        one, two = pool.acquire(), pool.acquire()
        pool.release(two)
        expected = two.number
        del two, pool
        assert gone == [expected]
        assert one.patterns == []
    finally:
        gc.enable()


def test_closing() -> None:
    """Idle objects go at once, those that are out as they come back; nothing can be had."""
    with MemoryPool(Matcher, max_size=2, dispose="close") as pool:
        one, two = pool.acquire(), pool.acquire()
        pool.release(one)
    assert one.closed
    assert not two.closed
    for ask in (pool.acquire, pool.fill, pool.lease().borrow):
        with pytest.raises(PoolClosedError, match="is closed"):
            ask()
    pool.release(two)
    assert two.closed
    assert pool.stats().discarded_by == {"closed": 2}
    pool.close()


def test_clearing() -> None:
    """What is idle goes, and the pool goes on."""
    pool = MemoryPool(Matcher, initial_size=3, max_size=3, dispose="close", eager=True)
    kept = pool.acquire()
    pool.clear()
    assert (pool.stats().idle, pool.stats().used) == (0, 1)
    pool.release(kept)
    assert pool.acquire() is kept
    pool.release(kept)
    assert whole(pool)


def test_a_factory_may_use_its_own_pool() -> None:
    """No lock is held while it runs."""

    def make() -> Matcher:
        depth.append(None)
        if len(depth) == 1:
            pool.release(pool.acquire())
        return Matcher()

    depth: list[None] = []
    pool = MemoryPool(make, max_size=3)
    with pool.lease():
        assert pool.stats().allocated == 2


def test_a_huge_pool_costs_nothing() -> None:
    """Places are made as they are wanted."""
    pool = MemoryPool(Matcher, max_size=10**12)
    pool.release(pool.acquire())
    assert pool.stats().size == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_size": 0}, "max_size is at least 1"),
        ({"max_size": -3}, "max_size is at least 1"),
        ({"max_size": 10**30}, "max_size is at least 1, and at most"),
        ({"initial_size": -1}, "initial_size is at least 0"),
        ({"max_idle": -1}, "max_idle is at least 0"),
        ({"initial_size": 3, "max_size": 2}, "initial_size=3 is more than max_size=2"),
        ({"initial_size": 3, "max_idle": 2}, "initial_size=3 is more than max_idle=2"),
        ({"max_age": 0}, "max_age=0 would use no object twice"),
        ({"max_age": -1}, "max_age is a number of seconds from 0"),
        ({"timeout": -0.5}, "timeout is a number of seconds from 0"),
        ({"timeout": float("nan")}, "timeout is a number of seconds from 0"),
        ({"name": ""}, "a name must not be empty"),
    ],
)
def test_values_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    """Are refused at once."""
    with pytest.raises(InvalidValueError, match=message):
        MemoryPool(Matcher, **options)


async def coroutine() -> None: ...


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factory": 5}, "not 5"),
        ({"factory": coroutine}, "is a coroutine function"),
        ({"max_size": 2.5}, "max_size is a number of objects, not 2.5"),
        ({"max_size": True}, "max_size is a number of objects, not True"),
        ({"initial_size": "3"}, "initial_size is a number of objects"),
        ({"max_age": "1h"}, "max_age is a number of seconds, or None for ever, not '1h'"),
        ({"timeout": True}, "timeout is a number of seconds"),
        ({"reset": 5}, "reset is a function of an object, or the name of its method, not 5"),
        ({"validate": "a b"}, "validate is a function"),
        ({"dispose": ""}, "dispose is a function"),
        ({"name": 5}, "a name is text"),
    ],
)
def test_arguments_of_the_wrong_type(options: dict[str, Any], message: str) -> None:
    """Are refused at once."""
    with pytest.raises(InvalidTypeError, match=message):
        MemoryPool(**{"factory": Matcher, **options})


@pytest.mark.parametrize("timeout", [-1, "1", True])
def test_timeouts_of_a_request_that_make_no_sense(timeout: Any) -> None:
    """Are refused also where an object is to be had at once."""
    pool = MemoryPool(Matcher)
    pool.release(pool.acquire())
    with pytest.raises((InvalidTypeError, InvalidValueError)):
        pool.acquire(timeout=timeout)
    assert pool.stats().idle == 1


def test_a_pool_is_of_its_process() -> None:
    """It is not copied and not pickled."""
    pool = MemoryPool(Matcher)
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(InvalidTypeError, match="cannot be copied or pickled"):
            attempt(pool)


def test_names() -> None:
    """The factory's, whatever kind of callable it is."""
    assert MemoryPool(Matcher).name == f"{__name__}.Matcher"
    assert MemoryPool(partial(bytearray, 5)).name == "builtins.bytearray"
    assert MemoryPool(Matcher, name="mine").name == "mine"
    assert "0 out, 0 idle" in repr(MemoryPool(Matcher))


def test_nothing_is_logged_where_all_is_well(caplog: pytest.LogCaptureFixture) -> None:
    """Not even on the lowest level."""
    caplog.set_level(logging.DEBUG)
    pool = MemoryPool(Matcher, initial_size=2, max_size=2)
    for _ in range(3):
        with pool.lease():
            pass
    pool.close()
    assert not caplog.records


@pytest.mark.parametrize(("level", "left"), [("warning", 2), ("critical", 0)])
def test_idle_objects_go_while_memory_runs_short(level: Level, left: int) -> None:
    """Those that were idle longest; what is out stays out, and is kept when it comes back."""
    pool = MemoryPool(Matcher, initial_size=5, max_size=5)
    out = pool.acquire()
    assert (pool.stats().idle, pool.stats().used) == (4, 1)
    with under_pressure(level):
        assert pool.stats().idle == left
    assert pool.stats().discarded_by["pressure"] == 4 - left
    pool.release(out)
    assert pool.stats().idle == left + 1


def test_idle_objects_stay_where_that_was_said() -> None:
    """And nobody watches for it, as nobody does for a pool that is empty or closed."""
    kept = MemoryPool(Matcher, shrink_under_pressure=False)
    empty, closed = MemoryPool(Matcher), MemoryPool(Matcher)
    kept.release(kept.acquire())
    closed.release(closed.acquire())
    closed.close()
    assert not watcher._subscriptions
    with under_pressure("critical"):
        assert kept.stats().idle == 1
    assert empty.stats().idle == 0
