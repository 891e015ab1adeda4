"""`find_leaks`: does a function keep more memory with every call, and what is it that stays?"""

from __future__ import annotations

import asyncio
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

from stratatrace.diagnose.leak_arguments import (
    is_coroutine_function,
    made_plan,
    refuse_coroutine,
)
from stratatrace.diagnose.leak_telling import tell_of
from stratatrace.diagnose.leak_trial import LeakTrial
from stratatrace.errors import AlreadyStartedError, InvalidTypeError, NotReadyError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from stratatrace.diagnose.leak_report import LeakReport
    from stratatrace.diagnose.leak_trial import TrialPlan

__all__ = ["find_leaks", "find_leaks_async"]


def find_leaks(
    func: Callable[..., object],
    /,
    *,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    iterations: int = 100,
    warmup: int = 10,
    least: int | str = 16,
    probe: str = "auto",
    culprits: bool = True,
    name: str | None = None,
) -> LeakReport:
    """Call a function again and again, and return whether it leaks; the report is true if it does.

    It leaks where the heap rises steadily with its calls, after full collections, in two phases and
    a longer third one: by the test of Mann and Kendall (p < 0.01) and by Theil and Sen's slope.
    What does is then called for a third of *iterations* more under tracemalloc, to tell by type,
    by line and by what holds it what has come to stay.

    The heap is that of the calling thread by ``native``, and that of the process by
    ``tracemalloc``, which is also asked where blocks grow in other threads. A coroutine function is
    run in an event loop of its own, where other tasks that it leaves are in the numbers. All that
    is changed meanwhile (tracing, frozen objects, the collector's flags) is put back.

    Args:
        func: A function or a coroutine function.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        iterations: The calls of the first two phases together, 16 or more. The third is of 20 times
            as many at most: it ends after two seconds, or as long as it took before, or 32 MiB.
        warmup: The calls before these.
        least: What keeps no more than so many bytes a call, an int or text, does not leak.
        probe: ``auto``, ``native`` or ``tracemalloc``.
        culprits: Whether to look for them, which takes up to some seconds in a large process.
        name: What it is called in the report and in telemetry; by default, as the function is.

    Raises:
        InvalidTypeError: An argument is of the wrong type, or *func* cannot be called with these.
        InvalidValueError: An argument makes no sense.
        AlreadyStartedError: A coroutine function, within an event loop that runs:
            `find_leaks_async` is for that.
        LeakTrialError: The function has stopped the tracing by which its heap is read.
        Exception: Whatever the function raises, as it is.
    """
    plan = made_plan(
        func,
        args=args,
        kwargs=kwargs,
        iterations=iterations,
        warmup=warmup,
        least=least,
        probe=probe,
        culprits=culprits,
        name=name,
    )
    call = partial(func, *args, **(kwargs or {}))
    if is_coroutine_function(func):
        return _in_own_loop(plan, func, call)
    trial = LeakTrial(plan, func)
    with closing(trial.steps()) as steps:
        for number, _ in enumerate(steps):
            if number:
                call()
            else:
                refuse_coroutine(call())
    return _told(trial)


async def find_leaks_async(
    func: Callable[..., Awaitable[object]],
    /,
    *,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    iterations: int = 100,
    warmup: int = 10,
    least: int | str = 16,
    probe: str = "auto",
    culprits: bool = True,
    name: str | None = None,
) -> LeakReport:
    """Do what `find_leaks` does with a coroutine function, in the event loop that runs.

    The other tasks of the loop are in the numbers.

    Args:
        func: A coroutine function.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        iterations: The calls of the first two phases together.
        warmup: The calls before these.
        least: What keeps no more than so many bytes a call, an int or text, does not leak.
        probe: ``auto``, ``native`` or ``tracemalloc``.
        culprits: Whether to look for them, which takes up to some seconds in a large process.
        name: What it is called in the report and in telemetry.

    Raises:
        InvalidTypeError: An argument is of the wrong type, or *func* is no coroutine function.
        InvalidValueError: An argument makes no sense.
        LeakTrialError: The function has stopped the tracing by which its heap is read.
        Exception: Whatever the function raises, as it is.
    """
    plan = made_plan(
        func,
        args=args,
        kwargs=kwargs,
        iterations=iterations,
        warmup=warmup,
        least=least,
        probe=probe,
        culprits=culprits,
        name=name,
    )
    if not is_coroutine_function(func):
        msg = f"{plan.name} is no coroutine function: find_leaks() is for those"
        raise InvalidTypeError(msg)
    return await _awaiting(plan, func, partial(func, *args, **(kwargs or {})))


def _in_own_loop(
    plan: TrialPlan, func: Callable[..., object], call: Callable[[], Any]
) -> LeakReport:
    if asyncio._get_running_loop() is not None:  # noqa: SLF001 -- the public one raises
        msg = (
            f"find_leaks() cannot run {plan.name} where an event loop is running already: "
            "await find_leaks_async()"
        )
        raise AlreadyStartedError(msg)
    # Not asyncio.run, which would have the thread forget a loop that was set.
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(_awaiting(plan, func, call))
    finally:
        try:
            _cancel_all(loop)
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()


async def _awaiting(
    plan: TrialPlan, func: Callable[..., object], call: Callable[[], Any]
) -> LeakReport:
    trial = LeakTrial(plan, func)
    with closing(trial.steps()) as steps:
        for _ in steps:
            await call()
            await asyncio.sleep(0)  # For what ends with it, and is called soon.
    return _told(trial)


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))


def _told(trial: LeakTrial) -> LeakReport:
    report = trial.report
    if report is None:
        msg = "the trial has not come to its end"
        raise NotReadyError(msg)
    tell_of(report)
    return report
