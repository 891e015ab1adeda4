"""The pool among threads: who waits, in which order, and that nothing is lost or given twice."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import random
import signal
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest
from tracing import untraced

from stratatrace import MemoryPool
from stratatrace.config import Config
from stratatrace.errors import PoolClosedError, PoolExhaustedError
from stratatrace.reuse.pool_waiting import CLOSED, GONE, ThreadWaiter
from stratatrace.testing import recording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE_SECONDS = 20.0


@pytest.fixture(autouse=True)
def measured() -> Iterator[None]:
    """Measure, and raise what fails in that."""
    with recording(Config(probe="rss")):
        yield


@pytest.fixture(autouse=True)
def no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have those who wait wake by word that comes to them, and not because they look."""
    monkeypatch.setattr("stratatrace.reuse.pool_requests._LOOK_SECONDS", 1000.0)


@pytest.fixture(autouse=True)
def switching() -> Iterator[None]:
    """Switch threads as often as can be."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


class Item:
    """Notices when two have it at once."""

    def __init__(self) -> None:
        self.users: list[int] = []

    def use(self) -> None:
        self.users.append(threading.get_ident())
        assert len(self.users) == 1
        self.users.pop()


class Workers:
    """Threads that are joined, and whose errors are raised."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.errors: list[BaseException] = []

    def start(self, function: Callable[..., object], *args: object) -> threading.Thread:
        def run() -> None:
            try:
                function(*args)
            except BaseException as error:
                self.errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self.threads.append(thread)
        return thread

    def join(self) -> None:
        for thread in self.threads:
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive(), "a thread hangs"
        self.threads.clear()
        for error in self.errors:
            raise error


@pytest.fixture
def workers() -> Workers:
    return Workers()


def until(holds: Callable[[], bool]) -> None:
    ends = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < ends, "it never came to that"
        time.sleep(0.001)


def waiting(pool: MemoryPool[Any], count: int) -> None:
    until(lambda: pool.stats().waiting == count)


def drained(pool: MemoryPool[Any]) -> list[Any]:
    """Take all that the pool may give, and give it back."""
    items = [pool.acquire(timeout=0) for _ in range(pool.stats().max_size)]
    with pytest.raises(PoolExhaustedError):
        pool.acquire(timeout=0)
    for item in items:
        pool.release(item)
    assert len({id(item) for item in items}) == len(items)
    return items


def test_first_come_first_served(workers: Workers) -> None:
    """Those who wait get what comes back in the order in which they came."""
    pool = MemoryPool(Item, max_size=1)
    item = pool.acquire()
    served: list[int] = []

    def ask(number: int) -> None:
        with pool.lease():
            served.append(number)

    for number in range(6):
        workers.start(ask, number)
        waiting(pool, number + 1)
    pool.release(item)
    workers.join()
    assert served == list(range(6))
    assert pool.stats().waits == 6
    assert pool.stats().wait_seconds > 0


def test_who_comes_later_does_not_get_past(workers: Workers) -> None:
    """What comes back is handed to who waits: a request that does not wait cannot take it."""
    pool = MemoryPool(Item, max_size=1)
    item = pool.acquire()
    got: list[Item] = []
    workers.start(lambda: got.append(pool.acquire()))
    waiting(pool, 1)
    pool.release(item)
    with pytest.raises(PoolExhaustedError):
        pool.acquire(timeout=0)
    workers.join()
    assert got == [item]


def test_a_place_that_becomes_free_is_handed_on(workers: Workers) -> None:
    """Where the object is thrown away, or leaks, who waits first has another one made."""
    for end in (MemoryPool.discard, None):
        pool: MemoryPool[Item] = MemoryPool(Item, max_size=1)
        item = pool.acquire()
        got: list[Item] = []
        workers.start(lambda pool=pool, got=got: got.append(pool.acquire()))
        waiting(pool, 1)
        if end is not None:
            end(pool, item)
        del item
        workers.join()
        assert pool.stats().allocated == 2


def test_silent_leaks_are_found_while_somebody_waits(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of objects without weak references no word comes: who waits looks now and then."""
    monkeypatch.setattr("stratatrace.reuse.pool_requests._LOOK_SECONDS", 0.01)
    pool = MemoryPool(bytearray, max_size=1, reset=None)
    buffer = pool.acquire()
    workers.start(pool.acquire)
    waiting(pool, 1)
    del buffer
    workers.join()
    assert pool.stats().leaked >= 1


def test_a_factory_that_fails_for_who_waited(workers: Workers) -> None:
    """The next in line tries for itself."""
    kept = [Item()]

    def make() -> Item:
        if kept:
            return kept.pop()
        if not failed:
            failed.append(None)
            msg = "no server"
            raise ValueError(msg)
        return Item()

    failed: list[None] = []
    pool = MemoryPool(make, max_size=1)
    item = pool.acquire()
    for count in (1, 2):
        workers.start(pool.acquire)
        waiting(pool, count)
    pool.discard(item)
    with pytest.raises(ValueError, match="no server"):
        workers.join()
    assert pool.stats().allocated == 2


def test_what_is_handed_over_is_validated(workers: Workers) -> None:
    """And made anew in its place, without standing in line once more."""
    pool = MemoryPool(Item, max_size=1, validate=lambda item: not hasattr(item, "broken"))
    item = pool.acquire()
    got: list[Item] = []
    workers.start(lambda: got.append(pool.acquire()))
    waiting(pool, 1)
    item.broken = True  # type: ignore[attr-defined]
    pool.release(item)
    workers.join()
    assert got != [item]
    assert pool.stats().discarded_by == {"invalid": 1}


def test_closing_wakes_who_waits(workers: Workers) -> None:
    """With an error that says so."""
    pool = MemoryPool(Item, max_size=1)
    _kept = pool.acquire()
    workers.start(pool.acquire)
    waiting(pool, 1)
    pool.close()
    with pytest.raises(PoolClosedError):
        workers.join()


def test_who_stands_in_line_and_does_not_wait() -> None:
    """Because of an exception between the two: what it is given is found to be lost."""
    pool = MemoryPool(Item, max_size=1)
    pool.release(pool.acquire())
    pool._waiters.append(ThreadWaiter())
    assert isinstance(pool.acquire(timeout=0), Item)
    assert pool.stats().waiting == 0


def test_waiters_have_one_outcome() -> None:
    """Whichever came first; who has given up is given nothing."""
    pool = MemoryPool(Item, max_size=2)
    one, other = pool._take_spare(), pool._take_spare()
    assert one is not None
    assert other is not None
    served, gone, late = ThreadWaiter(), ThreadWaiter(), ThreadWaiter()
    assert served.give(one)
    assert not served.give(other)
    assert served.give_up() is served.wait(0) is one
    assert gone.give_up() is GONE
    assert not gone.give(other)
    pool.close()
    pool._look_again(late)
    assert late.outcome is CLOSED


def test_an_interrupted_wait_loses_nothing() -> None:
    """A signal's exception ends it; the request is counted, and stands in line no more."""

    class Alarm(Exception):  # noqa: N818 -- it is a signal
        pass

    def ring(*_: object) -> None:
        raise Alarm

    pool = MemoryPool(Item, max_size=1)
    item = pool.acquire()
    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(Alarm):
            pool.acquire()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert (pool.stats().abandoned, pool.stats().waiting) == (1, 0)
    pool.release(item)
    drained(pool)


def test_a_signal_handler_may_use_the_pool() -> None:
    """It runs in the midst of the pool's own code, in the same thread."""
    pool = MemoryPool(Item, max_size=50)
    rings = [0]

    def ring(*_: object) -> None:
        with pool.lease() as item:
            item.use()
        rings[0] += 1

    before = signal.signal(signal.SIGALRM, ring)
    ends = time.monotonic() + PATIENCE_SECONDS
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        while rings[0] < 200 and time.monotonic() < ends:
            with pool.lease() as item:
                item.use()
            pool.discard(pool.acquire())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert rings[0] >= 200
    assert (pool.stats().used, pool.stats().leaked) == (0, 0)
    drained(pool)


def test_no_blocking_in_an_event_loop() -> None:
    """Where nothing is to be had, it fails at once, and says what to write."""

    async def ask() -> None:
        pool = MemoryPool(Item, max_size=1)
        with pool.lease():
            began = time.monotonic()
            with pytest.raises(PoolExhaustedError, match=r"async with pool\.lease\(\)"):
                pool.acquire()
            assert time.monotonic() - began < PATIENCE_SECONDS
            with pytest.raises(PoolExhaustedError, match="no time to wait"):
                pool.acquire(timeout=0)

    asyncio.run(ask())


@pytest.mark.parametrize("seed", range(3))
def test_many_threads(workers: Workers, seed: int) -> None:
    """More of them than objects, each doing whatever can be done; in the end all is there."""
    choices = random.Random(seed)
    orders = [choices.choices("lrrddtxc", k=150) for _ in range(8)]
    pool = MemoryPool(Item, max_size=3, max_idle=2, validate=lambda item: not item.users)
    leaks: deque[None] = deque()

    def work(order: list[str]) -> None:
        for what in order:
            if what == "c":
                pool.clear()
                continue
            try:
                item = pool.acquire(timeout=0.001 if what == "t" else PATIENCE_SECONDS)
            except PoolExhaustedError:
                assert what == "t"
                continue
            item.use()
            if what == "d":
                pool.discard(item)
            elif what == "l":
                leaks.append(None)
            else:
                if what == "x":
                    item.users.append(0)  # Not valid any more.
                pool.release(item)
            del item  # Else one that another thread drops is still held here.

    for order in orders:
        workers.start(work, order)
    workers.join()
    stats = pool.stats()
    assert (stats.used, stats.waiting, stats.leaked) == (0, 0, len(leaks))
    served = sum(what != "c" for order in orders for what in order) - stats.timeouts
    assert stats.allocated + stats.reused == served
    assert stats.allocated == stats.discarded + stats.leaked + stats.idle
    drained(pool)


@untraced
def test_exceptions_that_are_thrown_into_a_thread(  # noqa: C901 -- a thread that survives them
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever they land, no place is lost for good, and no object is with two."""
    # What lands in a finalizer is dropped by Python, and else kept by pytest, with its frames.
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    monkeypatch.setattr("stratatrace.reuse.pool_requests._LOOK_SECONDS", 0.1)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    pool = MemoryPool(Item, max_size=2)
    # It starts the thread that watches the pressure. CPython 3.11 knows a new thread by its
    # starter's id until it runs: what is thrown at the starter then ends it, and that one waits for
    # ever.
    pool.discard(pool.acquire())
    done = threading.Event()

    class Thrown(BaseException):
        pass

    def work() -> None:
        while not done.is_set():
            try:
                while not done.is_set():
                    with pool.lease(timeout=PATIENCE_SECONDS) as item:
                        item.use()
                    del item
                    pool.discard(pool.acquire(timeout=PATIENCE_SECONDS))
            except Thrown:
                continue

    def survive() -> None:
        while not done.is_set():
            try:
                work()
            except Thrown:
                continue

    threads = [workers.start(survive) for _ in range(3)]
    for _ in range(100):
        for thread in threads:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Thrown)
            )
        time.sleep(0.002)
    done.set()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive(), "a thread hangs"
    thrown = [error for error in workers.errors if not isinstance(error, Thrown)]
    assert not thrown
    workers.errors.clear()
    assert pool.stats().allocated > 20
    gc.collect()
    assert all(isinstance(item, Item) for item in drained(pool))
