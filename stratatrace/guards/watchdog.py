"""The open limits of the process, and the thread that looks whether they are kept.

It looks every two milliseconds while a limit is open. What it would see too late, one huge
allocation, the kernel refuses: see `rlimit`. Whatever way a block is left, the thread finds at the
next look that it is gone, and puts back what was left behind.
"""

from __future__ import annotations

import _thread
import logging
import mmap
import os
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import ref

from stratatrace.errors import InvalidValueError
from stratatrace.guards import firing, loops, telling
from stratatrace.guards.allocators import top_allocators
from stratatrace.guards.rlimit import SoftLimit, hard_room_bytes
from stratatrace.guards.threads import life_of_this_thread
from stratatrace.guards.usage import UsageReader
from stratatrace.sizes import format_size

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from stratatrace.guards.opened import OpenLimit

__all__ = ["THREAD_NAME", "Watchdog", "room_bytes", "watchdog"]

THREAD_NAME = "stratatrace-limit"

_logger = logging.getLogger("stratatrace")

_PERIOD_SECONDS = 0.002
# How long the thread waits for another limit before it ends: starting one costs more than a call.
_LINGER_SECONDS = 1.0
_REST_SECONDS = 5.0
# A handler of the user's, which frees memory or tells somebody, must have time to end.
_REFIRE_SECONDS = 0.25
_REFIRE_BYTES = 1 << 20
# Looks between two searches for children.
_SEARCH_EVERY = 16

# What the kernel lets the process take beyond a budget, so that the watchdog is the first to see
# growth in small steps: an interpreter that runs out of memory entirely can hang for ever.
_HEADROOM_BYTES = 48_000_000
# Libraries reserve memory that they hardly use, and some end the process where they cannot:
# OpenBLAS wants 90 MB of data for the 20 that importing numpy really takes.
_LEAST_ROOM_BYTES = 128_000_000
# Given back where even closing a limit finds no memory: room for one arena of small objects.
_RESERVE_BYTES = 4 << 20


def room_bytes(budget_bytes: int) -> int:
    """Return by how much RLIMIT_DATA lets the process grow under a budget."""
    return max(budget_bytes + _HEADROOM_BYTES, _LEAST_ROOM_BYTES)


class _Signal:
    """An event that is set in one step of compiled code, which nothing interrupts.

    `threading.Event` is written in Python: an exception that is thrown into a thread which sets it
    can leave the lock within it taken for ever. So can one that is thrown into
    `threading.Thread.start`, which waits for such an event.
    """

    def __init__(self) -> None:
        self._unset = threading.Lock()
        self._unset.acquire()

    def set(self) -> None:
        """Wake who waits, or will."""
        with suppress(RuntimeError):  # It is set.
            self._unset.release()

    def clear(self) -> None:
        """Have it not be set."""
        self._unset.acquire(blocking=False)

    def wait(self, seconds: float) -> bool:
        """Wait until it is set, and clear it; return whether it was."""
        return self._unset.acquire(timeout=seconds)


def _nobody() -> None:
    """Lead to no thread."""


class Watchdog:
    """Opens, watches and closes limits. Thread-safe."""

    def __init__(self) -> None:
        # Reentrant: a collection may run a finalizer that is limited itself.
        self._lock = threading.RLock()
        self._open: list[OpenLimit] = []
        self._reader = UsageReader()
        self._soft = SoftLimit()
        #: Set when the thread has ended. Only the thread holds it: however it dies, this tells.
        self._thread: Callable[[], _Signal | None] = _nobody
        self._awake = _Signal()
        self._looks = 0
        self._reserve: mmap.mmap | None = None

    def open(self, limit: OpenLimit) -> None:
        """Hold the process to a limit from now on.

        Raises:
            InvalidValueError: A hard limit of the process leaves less than the budget.
        """
        limit.life = life_of_this_thread()
        with self._lock:
            self._start()
            usage = self._reader.read()
            data_bytes, address_bytes = usage.data_bytes, usage.address_bytes
            if limit.raises and data_bytes is not None and address_bytes is not None:
                _check_hard_limits(limit.budget_bytes, data_bytes, address_bytes)
                limit.ceiling_bytes = data_bytes + room_bytes(limit.budget_bytes)
                if self._reserve is None:
                    self._reserve = mmap.mmap(-1, _RESERVE_BYTES, flags=mmap.MAP_PRIVATE)
            limit.opened(usage.resident_bytes, self._resident_bytes)
            self._open.append(limit)
            self._hold()
        self._awake.set()

    def close(self, limit: OpenLimit) -> int:
        """Hold the process to a limit no more; a second time does nothing.

        Returns:
            By how much the process had grown, in bytes.
        """
        limit.closed = True
        try:
            self._close(limit)
        except MemoryError:
            with self._lock:
                if self._reserve is not None:
                    self._reserve.close()
                    self._reserve = None
            self._close(limit)
        return limit.final_bytes or 0

    def _close(self, limit: OpenLimit) -> None:
        with self._lock:
            if limit in self._open:
                ceiling_bytes = limit.ceiling_bytes
                if ceiling_bytes is not None and self._soft.in_force_bytes == ceiling_bytes:
                    limit.binding = True
                self._open.remove(limit)
            self._hold()
            firing.withdraw(limit.thread, limit.key, ended=limit.is_orphaned)
            if limit.final_bytes is None:
                usage = self._reader.read()
                limit.address_bytes = usage.address_bytes
                limit.data_bytes = usage.data_bytes
                limit.final_bytes = usage.resident_bytes - limit.base_bytes
                limit.seen(limit.final_bytes)

    @property
    def open_limits(self) -> tuple[OpenLimit, ...]:
        """The limits that the process is held to, the oldest first."""
        return tuple(self._open)

    def release_child(self, pid: int) -> None:
        """Take off a child process what it has inherited of the limits that are open here."""
        with self._lock, suppress(OSError):
            self._soft.release_child(pid)

    def rest(self) -> None:
        """End the thread now, where no limit is open, and wait for its end."""
        with self._lock:
            if self._open:
                return
            thread, self._thread = self._thread(), _nobody
        if thread is not None:
            self._awake.set()
            thread.wait(_REST_SECONDS)

    def before_fork(self) -> None:
        """Fork between two changes, never within one."""
        self._lock.acquire()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Release all limits: they are the parent's."""
        self._lock = threading.RLock()
        self._awake = _Signal()
        self._thread = _nobody
        released, self._open = self._open, []
        for limit in released:
            limit.closed = limit.released = True
            firing.withdraw(limit.thread, limit.key)
        self._reader.after_fork_in_child()
        self._soft.hold(None)
        telling.after_fork_in_child()

    def _resident_bytes(self) -> int:
        with self._lock:
            return self._reader.read().resident_bytes

    def _hold(self) -> None:
        ceilings = [c for limit in self._open if (c := limit.ceiling_bytes) is not None]
        if ceilings or self._soft.in_force_bytes is not None:
            self._soft.hold(min(ceilings, default=None))

    def _start(self) -> None:
        if self._thread() is not None:
            return
        thread = _Signal()
        self._thread = ref(thread)
        try:
            _thread.start_new_thread(self._start_thread, (thread,))
        except RuntimeError as error:  # There can be no more threads, or the program is ending.
            self._not_started(error)

    def _start_thread(self, me: _Signal) -> None:
        # In a thread of its own, where nobody is interrupted.
        try:
            thread = threading.Thread(target=self._run, args=(me,), name=THREAD_NAME, daemon=True)
            thread.start()
        except RuntimeError as error:
            self._not_started(error)

    def _not_started(self, error: RuntimeError) -> None:
        self._thread = _nobody  # A log record may keep the frames, and what is held there.
        _logger.warning("stratatrace cannot watch a memory limit", exc_info=error)

    def _run(self, me: _Signal) -> None:
        try:
            while self._is_wanted(me):
                if self._open:
                    time.sleep(_PERIOD_SECONDS)
                    self._look_safely()
                elif not self._awake.wait(_LINGER_SECONDS):
                    self._end_unless_open(me)
        finally:
            me.set()

    def _is_wanted(self, me: _Signal) -> bool:
        with self._lock:
            wanted = self._thread() is me
            if not wanted and self._thread() is None:
                self._let_go()
            return wanted

    def _end_unless_open(self, me: _Signal) -> None:
        with self._lock:
            if not self._open and self._thread() is me:
                self._thread = _nobody

    def _let_go(self) -> None:
        self._reader.close()
        if self._reserve is not None:
            self._reserve.close()
            self._reserve = None

    def _look_safely(self) -> None:
        try:
            self._look()
        except MemoryError:
            return  # The program is at its limit; what it raises makes room for the next look.
        except Exception:
            _logger.warning("stratatrace could not look at a memory limit", exc_info=True)

    def _look(self) -> None:
        self._looks += 1
        untold: list[OpenLimit] = []
        with self._lock:
            for limit in [limit for limit in self._open if limit.is_left]:
                self._close(limit)
                if limit.exceeded:
                    untold.append(limit)
            resident_bytes = self._reader.read().resident_bytes
            interrupted: set[object] = set()
            for limit in reversed(self._open):
                used_bytes = resident_bytes - limit.base_bytes
                limit.fired_bytes = min(limit.fired_bytes, used_bytes)
                if not limit.seen(used_bytes) or limit.closed:
                    continue
                if not limit.raises:
                    if not limit.exceeded:
                        limit.exceeded = True
                        untold.append(limit)
                elif limit.line not in interrupted:
                    interrupted.add(limit.line)
                    _interrupt(limit, used_bytes)
            if not self._looks % _SEARCH_EVERY and self._soft.in_force_bytes is not None:
                self._soft.release_children()
        for limit in untold:
            telling.tell(limit)


def _check_hard_limits(budget_bytes: int, data_bytes: int, address_bytes: int) -> None:
    hard_bytes = hard_room_bytes(data_bytes, address_bytes)
    if hard_bytes is not None and hard_bytes < budget_bytes:
        msg = (
            f"memory_limit() was given {format_size(budget_bytes)}, and the hard limit of this "
            f"process (ulimit -H) leaves {format_size(hard_bytes)}: give less, or raise that"
        )
        raise InvalidValueError(msg)


def _interrupt(limit: OpenLimit, used_bytes: int) -> None:
    """Interrupt what runs under a limit, in the way that its thread can bear."""
    limit.exceeded = True
    now = time.monotonic()
    rested = limit.fired_at is None or now >= limit.fired_at + _REFIRE_SECONDS
    if limit.task is not None:
        # To be cancelled takes a turn of the loop, whatever grows meanwhile.
        if rested:
            limit.fired(now, used_bytes)
            loops.call_soon(limit.task, partial(_cancel, limit, limit.task, used_bytes))
        return
    growing = used_bytes >= limit.fired_bytes + _REFIRE_BYTES and not firing.is_pending(
        limit.thread
    )
    frame = sys._current_frames().get(limit.thread)  # noqa: SLF001 -- documented
    if frame is None or not (rested or growing):
        return
    if firing.is_starting_thread(frame):
        return
    if firing.is_measuring(frame) and limit.has_patience(now):
        return
    if not loops.runs_loop(frame):
        # Now and not later: what is interrupted lets go of what it had.
        told = {**limit.describe(used_bytes), "top": top_allocators()}
        limit.fired(time.monotonic(), used_bytes)
        if not limit.is_left:  # To find the allocators takes a while.
            firing.fire(limit.thread, told)
    elif rested and not limit.stepped and (main_task := loops.main_task(frame)) is not None:
        limit.fired(now, used_bytes)
        loops.call_soon(main_task, partial(_cancel, limit, main_task, used_bytes))


def _cancel(limit: OpenLimit, task: asyncio.Task[Any], used_bytes: int) -> None:
    """Cancel a task, in its own thread, if its block has not ended meanwhile."""
    if not limit.closed and task.cancel(limit.describe(used_bytes)["message"]):
        limit.cancelled += 1


watchdog = Watchdog()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=watchdog.before_fork,
        after_in_parent=watchdog.after_fork_in_parent,
        after_in_child=watchdog.after_fork_in_child,
    )
