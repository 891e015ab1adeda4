"""The pool among tasks: it never holds up the loop, and to be cancelled loses nothing."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import TYPE_CHECKING, Any

import pytest

from stratatrace import MemoryPool
from stratatrace.config import Config
from stratatrace.errors import InvalidValueError, PoolClosedError, PoolExhaustedError
from stratatrace.testing import recording

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

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


class Item:
    """Can be referred to weakly."""


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, PATIENCE_SECONDS))


def drained(pool: MemoryPool[Any]) -> None:
    """Take all that the pool may give, and give it back."""
    items = [pool.acquire(timeout=0) for _ in range(pool.stats().max_size)]
    with pytest.raises(PoolExhaustedError):
        pool.acquire(timeout=0)
    for item in items:
        pool.release(item)
    assert len({id(item) for item in items}) == len(items)


def test_first_come_first_served() -> None:
    """Tasks and threads stand in one line."""

    async def main() -> None:
        pool = MemoryPool(Item, max_size=1)
        served: list[object] = []

        async def ask(number: int) -> None:
            async with pool.lease():
                served.append(number)

        def block() -> None:
            with pool.lease():
                served.append("thread")

        async with pool.lease():
            tasks = [asyncio.create_task(ask(number)) for number in range(2)]
            await asyncio.sleep(0)
            thread = threading.Thread(target=block)
            thread.start()
            while pool.stats().waiting < 3:  # noqa: ASYNC110 -- no event tells of it
                await asyncio.sleep(0.001)
            tasks.append(asyncio.create_task(ask(2)))
            await asyncio.sleep(0)
            assert pool.stats().waiting == 4
        await asyncio.gather(*tasks)
        await asyncio.to_thread(thread.join, PATIENCE_SECONDS)
        assert served == [0, 1, "thread", 2]
        assert pool.stats().waits == 4

    run(main())


def test_a_timeout() -> None:
    """Is that of the request, or of the pool; others run meanwhile."""

    async def main() -> None:
        pool = MemoryPool(Item, max_size=1, timeout=0.02)
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.001)

        ticking = asyncio.create_task(tick())
        async with pool.lease():
            for attempt in (pool.acquire_async(), pool.acquire_async(timeout=0.01)):
                with pytest.raises(PoolExhaustedError, match="none came back in"):
                    await attempt
            assert ticks > 1
            with pytest.raises(PoolExhaustedError, match="no time to wait"):
                await pool.acquire_async(timeout=0)
            with pytest.raises(InvalidValueError):
                await pool.acquire_async(timeout=-1)
        ticking.cancel()
        assert (pool.stats().timeouts, pool.stats().waiting) == (3, 0)
        drained(pool)

    run(main())


@pytest.mark.parametrize("steps", range(5))
def test_to_be_cancelled_loses_nothing(steps: int) -> None:
    """At whatever step: before it waits, while it waits, and when it has been handed an object."""

    async def main() -> None:
        pool = MemoryPool(Item, max_size=1)
        item = pool.acquire()
        tasks = [asyncio.create_task(pool.acquire_async()) for _ in range(3)]
        for step in range(5):
            if step == steps:
                tasks[0].cancel()
            if step == 2:
                pool.release(item)
                del item
            await asyncio.sleep(0)
        cancelled, *others = await asyncio.gather(
            tasks[0], asyncio.sleep(0), return_exceptions=True
        )
        if isinstance(cancelled, Item):
            pool.release(cancelled)
        del cancelled, others
        second = await tasks[1]
        pool.release(second)
        pool.release(await tasks[2])
        del second, tasks
        gc.collect()
        assert (pool.stats().waiting, pool.stats().allocated) == (0, 1)
        drained(pool)

    run(main())


def test_an_object_that_arrives_with_the_cancellation() -> None:
    """Goes to the next in line, and the request counts as abandoned."""

    async def main() -> None:
        pool = MemoryPool(Item, max_size=1)
        item = pool.acquire()
        first, second = (asyncio.create_task(pool.acquire_async()) for _ in range(2))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert pool.stats().waiting == 2
        pool.release(item)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert await second is item
        assert pool.stats().abandoned == 1

    run(main())


def test_tasks_that_are_never_finished() -> None:
    """A loop that ends with some waiting leaves nobody in line."""
    pool = MemoryPool(Item, max_size=1)
    item = pool.acquire()

    async def abandon() -> None:
        for _ in range(3):
            asyncio.get_running_loop().create_task(pool.acquire_async(), name="left behind")
        await asyncio.sleep(0.01)
        assert pool.stats().waiting == 3

    run(abandon())  # It cancels them.
    assert pool.stats().waiting == 0

    loop = asyncio.new_event_loop()
    task = loop.create_task(pool.acquire_async())
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    assert pool.stats().waiting == 1
    pool.release(item)  # To a loop that is closed.
    assert pool.stats().waiting == 0
    drained(pool)
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    del task
    gc.collect()


def test_closing_wakes_who_waits() -> None:
    """With an error that says so."""

    async def main() -> None:
        pool = MemoryPool(Item, max_size=1)
        _kept = pool.acquire()
        task = asyncio.create_task(pool.acquire_async())
        await asyncio.sleep(0.01)
        pool.close()
        with pytest.raises(PoolClosedError):
            await task

    run(main())


def test_a_thread_gives_back_what_a_task_waits_for() -> None:
    """And wakes its loop."""

    async def main() -> None:
        pool = MemoryPool(Item, max_size=1)
        item = pool.acquire()
        task = asyncio.create_task(pool.acquire_async())
        await asyncio.sleep(0.01)
        await asyncio.to_thread(pool.release, item)
        assert await task is item

    run(main())


def test_many_tasks() -> None:
    """With timeouts and cancellations all over; in the end all is there."""

    async def main() -> None:
        pool = MemoryPool(Item, max_size=3)
        out: set[int] = set()

        async def use(number: int) -> None:
            async with pool.lease(timeout=PATIENCE_SECONDS if number % 3 else 0.001) as item:
                assert id(item) not in out
                out.add(id(item))
                await asyncio.sleep(0.0001 * (number % 4))
                out.remove(id(item))

        async def cancelled(number: int) -> None:
            task = asyncio.create_task(use(number))
            for _ in range(number % 11):
                await asyncio.sleep(0)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                out.clear() if not pool.stats().used else None

        results = await asyncio.gather(
            *(use(number) for number in range(60)), return_exceptions=True
        )
        failures = [result for result in results if result is not None]
        assert all(isinstance(failure, PoolExhaustedError) for failure in failures)
        out = set()
        await asyncio.gather(*(cancelled(number) for number in range(60)), return_exceptions=True)
        gc.collect()
        assert (pool.stats().waiting, pool.stats().used) == (0, 0)
        drained(pool)

    run(main())
