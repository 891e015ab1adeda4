"""Tasks and work for threads run on lines of their own, and are otherwise what they were."""

from __future__ import annotations

import asyncio
import inspect
import sys
import warnings
from asyncio.base_events import BaseEventLoop
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.thread import ThreadPoolExecutor as TheirExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from heap_probes import PROBES

from stratatrace.config import Config
from stratatrace.following import Patches, followed_tasks, followed_threads, takes_turns
from stratatrace.recorder import active
from stratatrace.testing import recording

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from stratatrace.patching import PatchTable
    from stratatrace.typing import HeapAccount


@contextmanager
def following(probe: str = PROBES[0]) -> Iterator[HeapAccount]:
    """Follow tasks and threads within the block, strictly."""
    with recording(Config(probe=probe)):
        heap = active.recorder.accounts.heap
        assert heap is not None
        followed_tasks.start()
        followed_threads.start()
        try:
            yield heap
        finally:
            followed_threads.stop()
            followed_tasks.stop()


@pytest.mark.parametrize("probe", PROBES)
def test_a_task_is_on_a_line_of_its_own(probe: str) -> None:
    """In each of its steps, and nothing else is."""
    with following(probe) as heap:
        seen: list[bool] = []

        async def task() -> None:
            seen.append(heap.followed)
            await asyncio.sleep(0)
            seen.append(heap.followed)
            asyncio.get_running_loop().call_soon(lambda: seen.append(heap.followed))

        async def main() -> None:
            await asyncio.gather(task(), task())
            await asyncio.sleep(0)

        asyncio.run(main())
        assert seen == [True, True, True, True, False, False]
        assert not heap.followed


def test_a_followed_task_is_the_task_that_it_was() -> None:
    """Its result, name, coroutine, stack and representation."""
    with following():
        shown: list[Any] = []

        async def work(result: object) -> object:
            await asyncio.sleep(0)
            return result

        async def main() -> None:
            task = asyncio.create_task(work((1, 2)), name="mine")
            await asyncio.sleep(0)
            coroutine: Any = task.get_coro()
            shown.append((repr(task), task.get_stack()[0].f_code, coroutine.__qualname__))
            shown.append(inspect.getcoroutinestate(coroutine))
            assert asyncio.iscoroutine(coroutine)
            assert await task == (1, 2)
            assert await asyncio.wait_for(work(StopIteration), 1) is StopIteration
            assert await asyncio.shield(work("s")) == "s"

        asyncio.run(main())
        (text, code, name), state = shown
        assert "work() running at" in text
        assert __file__ in text
        assert code is work.__code__
        assert name == work.__qualname__
        assert state == inspect.CORO_SUSPENDED


def test_errors_and_cancellation_pass_through() -> None:
    """The same object is raised; a cancelled task is cancelled, and can clean up."""
    with following():
        error, cleaned = KeyError("x"), []

        async def fails() -> None:
            await asyncio.sleep(0)
            raise error

        async def waits() -> None:
            try:
                await asyncio.sleep(10)
            finally:
                await asyncio.sleep(0)
                cleaned.append(1)

        async def main() -> None:
            with pytest.raises(KeyError) as caught:
                await asyncio.create_task(fails())
            assert caught.value is error
            task = asyncio.create_task(waits())
            await asyncio.sleep(0)
            task.cancel("reason")
            with pytest.raises(asyncio.CancelledError, match="reason"):
                await task
            assert task.cancelled()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(waits(), 0.01)

        asyncio.run(main())
        assert cleaned == [1, 1]
        names = []
        traceback = error.__traceback__
        while traceback is not None:
            names.append(traceback.tb_frame.f_code.co_name)
            traceback = traceback.tb_next
        assert names[-1] == "fails"


def test_a_coroutine_that_nobody_awaits_is_warned_of_once() -> None:
    """By its own name, as without us."""
    with following():

        async def forgotten() -> None: ...

        async def main() -> None:
            loop = asyncio.get_running_loop()
            task = loop.create_task(forgotten())
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            asyncio.run(main())
        assert len([w for w in caught if "forgotten" in str(w.message)]) <= 1


def test_what_is_no_coroutine_is_refused_as_without_us() -> None:
    """By the event loop, in its own words."""

    async def main() -> str:
        wrong: Any = 5
        with pytest.raises(TypeError) as caught:
            asyncio.get_running_loop().create_task(wrong)
        return str(caught.value)

    expected = asyncio.run(main())
    with following():
        assert asyncio.run(main()) == expected


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks are not eager before 3.12")
def test_eager_tasks_are_on_lines_of_their_own() -> None:
    """Their first step runs within the step of who makes them."""
    with following() as heap:

        async def task() -> bool:
            return heap.followed

        async def main() -> None:
            factory: Any = getattr(asyncio, "eager_task_factory")  # noqa: B009 -- from 3.12 on
            asyncio.get_running_loop().set_task_factory(factory)
            assert await asyncio.create_task(task())
            assert heap.followed

        asyncio.run(main())


def test_a_factory_of_the_programs_own_is_asked() -> None:
    """Whatever makes the tasks, they are followed."""
    with following() as heap:
        made: list[Any] = []

        def factory(loop: asyncio.AbstractEventLoop, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
            made.append(coro)
            return asyncio.Task(coro, loop=loop, **kwargs)

        async def task() -> bool:
            return heap.followed

        async def main() -> bool:
            asyncio.get_running_loop().set_task_factory(factory)
            return await asyncio.create_task(task())

        assert asyncio.run(main())
        assert made[0].cr_code is task.__code__


def test_uvloop_is_followed() -> None:
    """Where it is installed."""
    uvloop = pytest.importorskip("uvloop")
    with following() as heap:

        async def task() -> bool:
            await asyncio.sleep(0)
            return heap.followed

        async def main() -> bool:
            return await asyncio.create_task(task())

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            assert runner.run(main())


def test_work_for_a_thread_is_the_work_that_it_was() -> None:
    """Its arguments, result and error."""
    with following() as heap, ThreadPoolExecutor(1) as executor:
        error = KeyError("x")

        def work(a: int, /, *, b: int) -> tuple[int, int, bool]:
            return a, b, heap.followed

        def fails() -> None:
            raise error

        tab = heap.tab()
        heap.charge(tab)
        assert executor.submit(work, 1, b=2).result() == (1, 2, True)
        assert executor.submit(fails).exception() is error
        heap.unhold(heap.release(tab))
        # Nobody is charged: there is nobody to follow it for.
        assert executor.submit(work, 3, b=4).result() == (3, 4, False)
        with pytest.raises(TypeError):
            executor.submit()  # type: ignore[call-arg]
        wrong: Any = 5
        assert isinstance(executor.submit(wrong).exception(), TypeError)


def test_patches_are_counted_and_put_back() -> None:
    """The very objects, with the last who wants them gone; more stops than starts do nothing."""
    before = vars(BaseEventLoop)["create_task"], vars(TheirExecutor)["submit"]
    with following():
        patched = vars(BaseEventLoop)["create_task"]
        assert patched is not before[0]
        with following():
            assert vars(BaseEventLoop)["create_task"] is patched
        assert vars(BaseEventLoop)["create_task"] is patched
    assert (vars(BaseEventLoop)["create_task"], vars(TheirExecutor)["submit"]) == before
    followed_tasks.stop()
    with following():
        assert vars(BaseEventLoop)["create_task"] is not before[0]
    assert vars(BaseEventLoop)["create_task"] is before[0]


def test_a_task_that_outlives_the_following_goes_on() -> None:
    """It was begun on a line, and stays there."""

    async def main() -> int:
        with following():
            task = asyncio.create_task(asyncio.sleep(0.01, 7))
            await asyncio.sleep(0)
        return await task

    assert asyncio.run(main()) == 7


def test_a_module_that_has_not_what_is_patched_is_left_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A later version may have it elsewhere: it is logged, and nothing is raised."""

    def patch(module: ModuleType, table: PatchTable) -> None:
        table.replace(module.NoSuchClass, "submit", None)

    with recording(strict=False):
        patches = Patches({"json": patch})
        patches.start()
        patches.stop()
        assert active.recorder.guard.failures == 1
    assert "could not follow json" in caplog.text


def test_where_tasks_take_turns_is_known() -> None:
    """In an event loop that is not followed, and nowhere else that is plain."""
    with recording(Config(probe=PROBES[0])):
        heap: Any = active.recorder.accounts.heap

        async def main() -> bool:
            return takes_turns(heap)

        assert asyncio.run(main()) is True
        assert takes_turns(heap) is False
    with following() as heap:
        assert asyncio.run(main()) is False


class _Greenlets:
    """Stands for the module of greenlets: a real one would be a dependency for one attribute."""

    class Greenlet:
        """One that has a parent, as all but the first have."""

        parent: object | None = None

    current = Greenlet()

    @classmethod
    def getcurrent(cls) -> Greenlet:
        """Return the one that runs."""
        return cls.current


def test_greenlets_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the first one, where gevent or eventlet runs others while it waits."""
    with recording(Config(probe=PROBES[0])):
        heap: Any = active.recorder.accounts.heap
        monkeypatch.setitem(sys.modules, "greenlet", _Greenlets)
        assert takes_turns(heap) is False
        monkeypatch.setattr(_Greenlets.current, "parent", object())
        assert takes_turns(heap) is True
        monkeypatch.setattr(_Greenlets.current, "parent", None)
        monkeypatch.setitem(sys.modules, "gevent", _Greenlets)
        assert takes_turns(heap) is True


def test_trio_takes_turns() -> None:
    """Where it is installed, and a task of it runs."""
    trio = pytest.importorskip("trio")
    with recording(Config(probe=PROBES[0])):
        heap: Any = active.recorder.accounts.heap

        async def main() -> bool:
            return takes_turns(heap)

        assert trio.run(main) is True
        assert takes_turns(heap) is False
