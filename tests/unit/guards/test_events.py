"""Limits and event loops: the right coroutine is ended, and the loop never is."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from stratatrace import MemoryLimitExceeded, memory_limit
from stratatrace.guards import firing, loops

from .growing import grow, take

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable


@memory_limit("60MB")
async def fetch(megabytes: int, log: list[str] | None = None) -> int:
    """Take memory, five at a time, while others do likewise."""
    kept: list[mmap.mmap] = []
    try:
        for _ in range(megabytes // 5):
            take(kept, 5)
            await asyncio.sleep(0)
    except MemoryLimitExceeded:
        if log is not None:
            log.append("inside")
        raise
    return len(kept)


def test_it_is_thrown_into_the_coroutine_that_took_the_memory() -> None:
    """Among others that take less, though all together take more."""
    log: list[str] = []

    async def main() -> list[Any]:
        return await asyncio.gather(
            *(fetch(30) for _ in range(5)), fetch(150, log), return_exceptions=True
        )

    *small, large = asyncio.run(main())
    assert small == [6] * 5
    assert isinstance(large, MemoryLimitExceeded)
    assert log == ["inside"]


def test_what_waits_is_interrupted_at_once() -> None:
    """Not when what it waits for has come, which may be never."""

    @memory_limit("20MB")
    async def waits() -> None:
        kept: list[mmap.mmap] = []
        take(kept, 40)
        await asyncio.Event().wait()

    async def main() -> None:
        await asyncio.wait_for(waits(), 30)

    with pytest.raises(MemoryLimitExceeded):
        asyncio.run(main())


def test_a_lock_that_was_waited_for_is_not_lost() -> None:
    """Who is thrown out of its queue leaves it in order."""

    @memory_limit("20MB")
    async def greedy(lock: asyncio.Lock) -> None:
        kept: list[mmap.mmap] = []
        take(kept, 40)
        async with lock:
            pass

    async def main() -> None:
        lock = asyncio.Lock()
        await lock.acquire()
        task = asyncio.create_task(greedy(lock))
        waiter = asyncio.create_task(lock.acquire())
        with contextlib.suppress(MemoryLimitExceeded):
            await task
        lock.release()
        assert await asyncio.wait_for(waiter, 30)
        lock.release()

    asyncio.run(main())


def test_a_coroutine_that_swallows_it_goes_on_and_gets_it_again() -> None:
    """One step later; the loop turns in between, and the last comes at its end."""
    caught = 0
    turns = 0

    @memory_limit("20MB")
    async def stubborn(kept: list[Any]) -> None:
        nonlocal caught
        take(kept, 40)
        while caught < 3:
            try:
                await asyncio.sleep(0)
            except MemoryLimitExceeded:
                caught += 1

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    held: list[Any] = []

    async def main() -> None:
        other = asyncio.create_task(turn())
        try:
            with pytest.raises(MemoryLimitExceeded):
                await stubborn(held)
        finally:
            other.cancel()

    asyncio.run(main())
    assert caught == 3
    assert turns >= 2


def test_a_cancellation_is_not_replaced() -> None:
    """Who is cancelled from elsewhere is cancelled."""

    @memory_limit("20MB")
    async def waits(kept: list[Any]) -> None:
        await asyncio.sleep(0)
        take(kept, 10)
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(waits([]))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def in_block(block: Callable[[], Any]) -> None:
    """Take memory in an ``async with`` block of a task, beside another task."""

    async def greedy() -> None:
        kept: list[mmap.mmap] = []
        async with block():
            for _ in range(400):
                take(kept, 1)
                await asyncio.sleep(0.001)

    async def modest() -> str:
        await asyncio.sleep(0.3)
        return "done"

    async def main() -> None:
        other = asyncio.create_task(modest())
        with pytest.raises(MemoryLimitExceeded) as caught:
            await greedy()
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        assert isinstance(caught.value.__cause__, asyncio.CancelledError)
        assert await other == "done"
        await asyncio.sleep(0.01)  # Nothing comes after.

    asyncio.run(main())


def test_a_block_in_a_coroutine_ends_its_task_alone() -> None:
    """By a cancellation, which the block turns into the error."""
    in_block(lambda: memory_limit("60MB"))


def test_a_block_in_a_task_that_is_cancelled_by_others() -> None:
    """Stays cancelled."""

    async def waits() -> None:
        async with memory_limit("60MB"):
            await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(waits())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_two_tasks_in_one_limit() -> None:
    """Each leaves what it entered itself, in whatever order."""
    limit = memory_limit("200MB")
    order: list[str] = []

    async def enter(name: str, seconds: float) -> None:
        async with limit as opened:
            await asyncio.sleep(seconds)
            assert not opened.closed
        assert opened.closed
        order.append(name)

    async def main() -> None:
        await asyncio.gather(enter("first", 0.05), enter("second", 0.01))

    asyncio.run(main())
    assert order == ["second", "first"]


def test_a_loop_within_a_block_is_never_hit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its main task is cancelled instead, and comes out as the error."""
    monkeypatch.setattr(firing, "fire", lambda *_: pytest.fail("it was fired at"))
    cleaned: list[str] = []

    async def main() -> None:
        kept: list[mmap.mmap] = []
        try:
            while len(kept) < 400:
                take(kept, 1)
                await asyncio.sleep(0.001)
        finally:
            await asyncio.sleep(0.001)
            cleaned.append("in order")

    with pytest.raises(MemoryLimitExceeded) as caught, memory_limit("60MB"):
        asyncio.run(main())
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert cleaned == ["in order"]


def test_a_function_called_by_a_coroutine_is_judged_at_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No exception is fired at a thread that runs a loop."""
    monkeypatch.setattr(firing, "fire", lambda *_: pytest.fail("it was fired at"))

    @memory_limit("20MB")
    def work(kept: list[Any]) -> str:
        take(kept, 40)
        until = time.monotonic() + 0.1
        while time.monotonic() < until:
            pass
        return "all of it"

    async def main() -> None:
        kept: list[Any] = []
        with pytest.raises(MemoryLimitExceeded, match="work"):
            work(kept)
        assert len(kept) == 1
        await asyncio.sleep(0.01)

    asyncio.run(main())


def test_a_worker_thread_of_a_loop_is_interrupted_as_any_other() -> None:
    """It runs no loop."""

    async def main() -> None:
        with pytest.raises(MemoryLimitExceeded):
            await asyncio.to_thread(memory_limit("60MB")(grow))

    asyncio.run(main())


def test_a_thread_that_runs_a_loop_is_known() -> None:
    """By its frames; the task that the loop was started for is found in them."""
    found: list[Any] = []

    async def main() -> None:
        me = threading.get_ident()

        def look() -> None:
            frame = sys._current_frames()[me]
            found.extend((loops.runs_loop(frame), loops.main_task(frame)))

        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        found.append(asyncio.current_task())

    asyncio.run(main())
    assert found[0] is True
    assert found[1] is found[2]
    assert loops.runs_loop(None) is False
    assert loops.runs_loop(sys._getframe()) is False
    assert loops.main_task(sys._getframe()) is None
