"""Following lines of execution: tasks of event loops, and work that is handed to threads.

A task's steps are run on a line of its own, so that tasks which take turns do not see each other's
memory. Work that is handed to a thread runs on a line of its own too. Both are charged to the calls
that were open where they were begun, as well: see `lines`.

This is where event loops and executors are patched for it, and what cannot be told apart is known.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from stratatrace.measurement import Callsite
from stratatrace.patching import PatchTable
from stratatrace.recorder import active
from stratatrace.wrapping import when_imported

if TYPE_CHECKING:
    from types import ModuleType

    from stratatrace.typing import HeapAccount

__all__ = [
    "HandedOver",
    "Patches",
    "follow_anyio",
    "follow_executor",
    "followed_tasks",
    "followed_threads",
    "takes_turns",
]

# For the guard.
_TASKS = Callsite(name="tasks", function="stratatrace.following.tasks")
_THREADS = Callsite(name="threads", function="stratatrace.following.threads")


def takes_turns(heap: HeapAccount) -> bool:
    """Tell whether other tasks may run, and be in the numbers, before what runs now has ended.

    Of a followed line they are not; of the rest it is known whether there is an event loop, or a
    switch of greenlets, that could run them.

    Args:
        heap: Where memory is charged.
    """
    if heap.followed:
        return False
    if asyncio._get_running_loop() is not None:  # noqa: SLF001 -- it is documented
        return True
    modules = sys.modules
    greenlet = modules.get("greenlet")
    if greenlet is not None and (
        greenlet.getcurrent().parent is not None or "gevent" in modules or "eventlet" in modules
    ):
        return True
    trio = modules.get("trio")
    return trio is not None and _in_trio(trio)


def _in_trio(trio: ModuleType) -> bool:
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return False
    return True


class _FollowedCoroutine(Coroutine[Any, Any, Any]):
    """A coroutine whose steps are run on a line of their own: in every other respect itself."""

    __slots__ = ("__weakref__", "_coroutine", "_heap", "_line")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], heap: HeapAccount) -> None:
        self._coroutine = coroutine
        self._heap = heap
        self._line = heap.line()

    def send(self, value: Any) -> Any:
        return self._heap.send(self._line, self._coroutine, value)

    def throw(self, *error: Any) -> Any:
        return self._heap.run(self._line, self._coroutine.throw, *error)

    def close(self) -> None:
        self._heap.run(self._line, self._coroutine.close)

    def __await__(self) -> Any:
        return self._coroutine.__await__()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coroutine, name)

    def __repr__(self) -> str:
        return repr(self._coroutine)


class HandedOver:
    """Work for a thread, run on a line of its own.

    Args:
        function: What the thread is to call.
        heap: Where it is charged, to the calls that are open where this is made.
    """

    __slots__ = ("_function", "_heap", "_line")

    def __init__(self, function: Callable[..., Any], heap: HeapAccount) -> None:
        self._function = function
        self._heap = heap
        self._line = heap.line()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self._heap.run(self._line, self._function, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._function, name)

    def __repr__(self) -> str:
        return repr(self._function)


_FOLLOWED_BYTES = sys.getsizeof(_FollowedCoroutine.__new__(_FollowedCoroutine))
_HANDED_OVER_BYTES = sys.getsizeof(HandedOver.__new__(HandedOver))


def _followed(coroutine: Any) -> Any:
    """Return *coroutine* on a line of its own; itself, where that cannot be."""
    if not active.enabled or not isinstance(coroutine, Coroutine):
        return coroutine
    recorder = active.recorder
    heap = recorder.accounts.heap
    if heap is None:
        return coroutine
    held = recorder.hold()
    try:
        return _FollowedCoroutine(coroutine, heap)
    except Exception:
        recorder.guard.caught(_TASKS, "follow a task")
        return coroutine
    finally:
        recorder.unhold(held, dropped_bytes=_FOLLOWED_BYTES)


def _handed_over(function: Any) -> Any:
    """Return *function* for a thread, charged to the calls that are open here; itself without."""
    if not active.enabled or not callable(function):
        return function
    recorder = active.recorder
    heap = recorder.accounts.heap
    if heap is None or not heap.charging:
        return function
    held = recorder.hold()
    try:
        return HandedOver(function, heap)
    except Exception:
        recorder.guard.caught(_THREADS, "follow work to a thread")
        return function
    finally:
        recorder.unhold(held, dropped_bytes=_HANDED_OVER_BYTES)


def _follow_loop(owner: type, table: PatchTable) -> None:
    original = owner.create_task  # type: ignore[attr-defined] # an event loop's

    @functools.wraps(original)
    def create_task(self: Any, coro: Any, *args: Any, **kwargs: Any) -> Any:
        # Somebody else may keep this one.
        return original(self, _followed(coro) if table.open else coro, *args, **kwargs)

    table.replace(owner, "create_task", create_task)


def _follow_asyncio(module: ModuleType, table: PatchTable) -> None:
    _follow_loop(module.BaseEventLoop, table)


def _follow_uvloop(module: ModuleType, table: PatchTable) -> None:
    _follow_loop(module.Loop, table)


def follow_executor(
    module: ModuleType, table: PatchTable, hand_over: Callable[[Any], Any] = _handed_over
) -> None:
    """Follow what is submitted to executors of threads.

    Args:
        module: `concurrent.futures.thread`.
        table: Where to note what is replaced.
        hand_over: Returns what the thread is to call in a function's place.
    """
    owner = module.ThreadPoolExecutor
    original = owner.submit

    @functools.wraps(original)
    def submit(self: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        return original(self, hand_over(fn) if table.open else fn, *args, **kwargs)

    table.replace(owner, "submit", submit)


def follow_anyio(
    module: ModuleType, table: PatchTable, hand_over: Callable[[Any], Any] = _handed_over
) -> None:
    """Follow what anyio hands to threads of its own, as Starlette and FastAPI do.

    Args:
        module: `anyio._backends._asyncio`.
        table: As for `follow_executor`.
        hand_over: As for `follow_executor`.
    """
    owner = getattr(module, "AsyncIOBackend", module)  # Version 3 has it in the module itself.
    original = owner.run_sync_in_worker_thread

    @functools.wraps(original)
    def run_sync_in_worker_thread(func: Any, *args: Any, **kwargs: Any) -> Any:
        return original(hand_over(func) if table.open else func, *args, **kwargs)

    table.replace(owner, "run_sync_in_worker_thread", staticmethod(run_sync_in_worker_thread))


class Patches:
    """What is patched for as long as anybody wants it.

    Args:
        patch_by_module: What patches a module, by its name, as soon as that is imported. It may
            raise: then the module has not what was expected, and is left alone.
    """

    def __init__(
        self, patch_by_module: dict[str, Callable[[ModuleType, PatchTable], None]]
    ) -> None:
        self._patch_by_module = patch_by_module
        self._modules: dict[str, ModuleType] = {}
        self._table: PatchTable | None = None
        self._wanted = 0
        self._hooked = False
        self._lock = threading.RLock()

    def start(self) -> None:
        """Patch for one more who wants it."""
        with self._lock:
            self._wanted += 1
            if self._wanted > 1:
                return
            self._table = PatchTable()
            for module in self._modules.values():
                self._patch(module)
            if not self._hooked:
                self._hooked = True
                for name in self._patch_by_module:
                    when_imported(name, self._on_import)

    def stop(self) -> None:
        """Put back what was there, where nobody wants it any more."""
        with self._lock:
            self._wanted = max(0, self._wanted - 1)
            if not self._wanted and self._table is not None:
                self._table.undo()
                self._table = None

    def _on_import(self, module: ModuleType) -> None:
        with self._lock:
            self._modules[module.__name__] = module
            self._patch(module)

    def _patch(self, module: ModuleType) -> None:
        if self._table is None:
            return
        try:
            self._patch_by_module[module.__name__](module, self._table)
        except Exception:
            recorder = active.recorder
            recorder.guard.caught(_TASKS, f"follow {module.__name__}")


#: Have each task on a line of its own, in loops of asyncio and uvloop.
followed_tasks = Patches({"asyncio.base_events": _follow_asyncio, "uvloop": _follow_uvloop})
#: Have work that is handed to a thread charged to whom it is done for.
followed_threads = Patches(
    {"concurrent.futures.thread": follow_executor, "anyio._backends._asyncio": follow_anyio}
)
