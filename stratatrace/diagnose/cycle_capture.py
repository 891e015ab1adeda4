"""What only the collector could free, kept by it for a look instead of being freed.

The collector does that under ``gc.DEBUG_SAVEALL``: what it would free goes to ``gc.garbage``. That
is a switch of the whole process, so one capture runs at a time, and whatever was there before is
put back: the flags, the list and what was in it, whether the collector is on, and its callbacks.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from stratatrace.errors import AlreadyStartedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stratatrace.measurement import Attribution

__all__ = ["Capture", "Captured", "Origin"]

#: Whether objects are from the block: ``block``, or ``before`` it, or held by such; ``unknown``
#: where that cannot be told.
Origin = Literal["block", "before", "unknown"]

# The collector of Python 3.12 puts some hundreds of immortal tuples there by itself; a program that
# freezes what it has, freezes many thousands.
_FROZEN_BY_NOBODY = 1000
# A finalizer may leave garbage behind, and that one again.
_MOST_COLLECTIONS = 3
# By how much two processor clocks of one process may disagree.
_CLOCKS_NS = 2_000
_WAIT_SECONDS, _MOST_WAITS = 0.001, 2000


class Captured(NamedTuple):
    """What was captured."""

    #: Those of the block come first.
    objects: list[Any]
    #: How many are not from before the block.
    newer: int
    #: Whether that was told apart.
    told_apart: bool
    #: How many more the collector has freed as usual, since there were too many.
    not_captured: int
    attribution: Attribution


class Capture:
    """Has the collector keep what it finds, from `begin` to `end`.

    Args:
        most: How many objects are kept.
        label: Who captures, for the error that another one gets.
    """

    def __init__(self, most: int, label: str) -> None:
        self._most = most
        self._label = label
        self._taken: list[Any] = []
        self._not_captured = 0
        self._garbage: list[Any] = gc.garbage
        self._at = 0
        #: Somebody wants to have all in gc.garbage.
        self._left_there = False
        #: The thread in which a collection is under way.
        self._collecting: int | None = None
        #: Made before all was frozen, and after that; None where it is not.
        self._witnesses: tuple[list[Any], list[Any]] | None = None
        self._thread = 0
        self._others_ns = 0
        self._shared = False
        #: Whether it ended because the process was forked, and this is the child.
        self.abandoned = False

    def begin(self) -> None:
        """Free what is garbage by now, which is nobody's fault, and keep what will be.

        Raises:
            AlreadyStartedError: Another capture is under way.
        """
        self._take_turn()
        try:
            for _ in range(_MOST_COLLECTIONS):
                if not gc.collect():
                    break
            if gc.get_freeze_count() < _FROZEN_BY_NOBODY:
                older: list[Any] = []
                gc.freeze()
                self._witnesses = (older, [])
            self._listen()
            self._thread = threading.get_ident()
            self._shared = _in_event_loop()
            self._others_ns = _others_at_most_ns()
        except BaseException:  # An interrupt as well leaves nobody to put things back.
            self._restore()
            raise

    def end(self) -> Captured:
        """Collect, put back what was there, and return what was captured."""
        try:
            self._shared = self._shared or threading.get_ident() != self._thread
            self._shared = self._shared or _others_at_least_ns() - self._others_ns > _CLOCKS_NS
            self._collect()
            newer, told_apart = len(self._taken), self._thaw()
            if told_apart:
                self._collect()
        finally:
            self._restore()
        objects, self._taken = self._taken, []
        return Captured(
            objects,
            newer if told_apart else len(objects),
            told_apart,
            self._not_captured,
            "process" if self._shared else "exact",
        )

    def now(self) -> Captured:
        """Return what is garbage at present, whoever has made it.

        Raises:
            AlreadyStartedError: Another capture is under way.
        """
        self._take_turn()
        try:
            self._listen()
            self._collect()
        finally:
            self._restore()
        objects, self._taken = self._taken, []
        return Captured(objects, len(objects), False, self._not_captured, "process")  # noqa: FBT003 -- a row

    def abandon(self) -> None:
        """End it in a forked child, which has a collector of its own."""
        self.abandoned = True
        self._restore()
        self._taken = []

    def _take_turn(self) -> None:
        global _running  # noqa: PLW0603 -- the collector is one, too
        with _turns:
            if _running is not None:
                msg = (
                    f"find_cycles() is running already, for {_running._label!r}: "  # noqa: SLF001 -- of its own class
                    "the collector is one for the whole process, so one can look at a time; "
                    "let that one end first"
                )
                raise AlreadyStartedError(msg)
            _running = self

    def _listen(self) -> None:
        flags = gc.get_debug()
        self._left_there = bool(flags & gc.DEBUG_SAVEALL)
        self._garbage = gc.garbage
        self._at = len(self._garbage)
        gc.callbacks.append(self._on_collection)
        gc.set_debug(flags | gc.DEBUG_SAVEALL)

    def _collect(self) -> None:
        if len(self._taken) < self._most:
            gc.set_debug(gc.get_debug() | gc.DEBUG_SAVEALL)
        self._await_others()
        gc.collect()
        self._await_others()

    def _await_others(self) -> None:
        """Wait for the collection of another thread, which may be in a finalizer just now."""
        for _ in range(_MOST_WAITS):
            if self._collecting in {None, threading.get_ident()}:
                break
            time.sleep(_WAIT_SECONDS)

    def _on_collection(self, phase: str, info: Mapping[str, int]) -> None:
        """Take what a collection has kept, also one that happened by itself within the block."""
        garbage = self._garbage
        if phase == "start":
            self._at, self._collecting = len(garbage), threading.get_ident()
            return
        self._collecting = None
        if not gc.get_debug() & gc.DEBUG_SAVEALL:
            self._not_captured += info.get("collected", 0)
            return
        # What cannot be freed at all comes last, and would be there without us.
        end = len(garbage) - info.get("uncollectable", 0)
        room = self._most - len(self._taken)
        self._not_captured += max(0, end - self._at - room)
        self._taken += garbage[self._at : min(end, self._at + room)]
        if not self._left_there:
            del garbage[self._at : end]
            if len(self._taken) >= self._most:
                gc.set_debug(gc.get_debug() & ~gc.DEBUG_SAVEALL)

    def _thaw(self) -> bool:
        """Have the collector look at all objects again; return whether it has not until now."""
        if self._witnesses is None:
            return False
        older, newer = self._witnesses
        self._witnesses = None
        not_frozen = {id(item) for item in gc.get_objects() if item is older or item is newer}
        # Who has frozen all there was within the block, wants that to stay so.
        if id(newer) in not_frozen:
            gc.unfreeze()
        return not_frozen == {id(newer)}

    def _restore(self) -> None:
        global _running  # noqa: PLW0603 -- as above
        if self._on_collection in gc.callbacks:
            gc.callbacks.remove(self._on_collection)
            if not self._left_there:
                # Whatever flags somebody has set within the block stay.
                gc.set_debug(gc.get_debug() & ~gc.DEBUG_SAVEALL)
        self._thaw()
        with _turns:
            if _running is self:
                _running = None


def _in_event_loop() -> bool:
    """Tell whether tasks can take turns within the block."""
    asyncio = sys.modules.get("asyncio.events")
    return asyncio is not None and asyncio._get_running_loop() is not None  # noqa: SLF001 -- documented, and raises nothing


def _others_at_least_ns() -> int:
    """Return the processor time that the other threads have taken so far, or a little less."""
    return time.process_time_ns() - time.thread_time_ns()


def _others_at_most_ns() -> int:
    """Return the processor time that the other threads have taken so far, or a little more."""
    return -time.thread_time_ns() + time.process_time_ns()


def _after_fork_in_child() -> None:
    global _turns, _running  # noqa: PLW0603 -- as above
    _turns = threading.Lock()
    running, _running = _running, None
    if running is not None:
        running.abandon()


_running: Capture | None = None
_turns = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
