"""The ``with`` statement of a limit, sync and async, which is left for certain.

An asynchronous exception that arrives as ``__exit__`` is called is raised before the first line of
it has run, and the block is gone with nobody having closed it. So what the statement calls to leave
is an object of its own, made when the statement looks ``__exit__`` up and held by nobody else: when
it is gone, the block is.
"""

from __future__ import annotations

import sys
from threading import get_ident
from typing import TYPE_CHECKING, Any
from weakref import ref

from stratatrace.guards.holding import hold, unhold
from stratatrace.guards.leaving import leave
from stratatrace.guards.opened import OpenLimit
from stratatrace.guards.watchdog import watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import FrameType, TracebackType

    from stratatrace.errors import MemoryLimitExceeded
    from stratatrace.measurement import Callsite

__all__ = ["CallEntrance", "Entrance"]


class _Leaver:
    """What one ``with`` statement calls when its block is left."""

    __slots__ = ("__weakref__", "_entrance", "limit")

    def __init__(self, entrance: Entrance) -> None:
        self._entrance = entrance
        self.limit: OpenLimit | None = None

    def __call__(
        self,
        _kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        _traceback: TracebackType | None = None,
    ) -> None:
        limit = self.limit
        if limit is None:
            self._entrance.leave_newest(error)
        else:
            limit.closed = True  # First of all: whatever comes in between, the watchdog does it.
            self.limit = None
            self._entrance.forget(limit)
            leave(limit, error)


class _AsyncLeaver(_Leaver):
    """Likewise, of an ``async with`` statement."""

    __slots__ = ()

    def __call__(  # type: ignore[override] # what is awaited is done already
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> Coroutine[Any, Any, None]:
        super().__call__(kind, error, traceback)
        return _nothing()


class _Leaving:
    """``__exit__`` or ``__aexit__``: another leaver each time that it is looked up."""

    def __init__(self, kind: type[_Leaver]) -> None:
        self._kind = kind

    def __get__(self, entrance: Entrance | None, owner: type) -> Any:
        if entrance is None:  # Looked up on the class, as `contextlib.ExitStack` does.
            return self._of
        return entrance.expect(self._kind(entrance))

    def _of(self, entrance: Entrance, *error: Any) -> Any:
        return self._kind(entrance)(*error)


class Entrance:
    """A context manager that opens a limit each time that it is entered.

    It may be entered again before it was left, by the same thread or task or by others.

    Args:
        budget_bytes: By how much the process may grow.
        on_exceed: Called in place of raising; None raises.
    """

    def __init__(
        self, budget_bytes: int, on_exceed: Callable[[MemoryLimitExceeded], object] | None
    ) -> None:
        self._budget_bytes = budget_bytes
        self._on_exceed = on_exceed
        #: Leavers that were looked up, by thread, until the statement goes on to enter.
        # Never empty, so that it takes no memory while somebody's call is measured.
        self._expected: dict[int, ref[_Leaver] | None] = {0: None}
        #: What was entered without a statement, the oldest first.
        self._entered: list[OpenLimit] = []

    def describe(self, frame: FrameType) -> Callsite:
        """Return the callsite of a block that is entered in *frame*."""
        raise NotImplementedError

    def __enter__(self) -> OpenLimit:
        """Open the limit."""
        return self._enter(sys._getframe(1))  # noqa: SLF001 -- the block is described by its place

    def __aenter__(self) -> Coroutine[Any, Any, OpenLimit]:
        """Open the limit."""
        # Not `async def`, so that the frame one up is the one that the block stands in.
        return _ready(self._enter(sys._getframe(1)))  # noqa: SLF001 -- as above

    if TYPE_CHECKING:

        def __exit__(
            self,
            kind: type[BaseException] | None,
            error: BaseException | None,
            traceback: TracebackType | None,
            /,
        ) -> None:
            """Close the limit."""

        async def __aexit__(
            self,
            kind: type[BaseException] | None,
            error: BaseException | None,
            traceback: TracebackType | None,
            /,
        ) -> None:
            """Close the limit."""

    else:
        __exit__ = _Leaving(_Leaver)
        __aexit__ = _Leaving(_AsyncLeaver)

    def expect(self, leaver: _Leaver) -> _Leaver:
        """Take note of a leaver, whose statement is about to enter."""
        held = hold()
        self._expected[get_ident()] = ref(leaver)
        unhold(held)
        return leaver

    def forget(self, limit: OpenLimit) -> None:
        """Drop a limit that is being left."""
        if limit in self._entered:
            self._entered.remove(limit)

    def leave_newest(self, error: BaseException | None) -> None:
        """Leave what was entered last without a statement: in this thread, or else at all."""
        entered, me = self._entered, get_ident()
        for limit in (*reversed([each for each in entered if each.thread == me]), *entered[::-1]):
            limit.closed = True
            self.forget(limit)
            leave(limit, error)
            return

    def _enter(self, frame: FrameType) -> OpenLimit:
        # Like the leaver, the limit goes when the user's own statement lets it go: both stand in
        # the numbers of an outer call as long as they are there.
        limit = OpenLimit(self._budget_bytes, self.describe(frame), self._on_exceed)
        held = hold()
        try:
            expected = self._expected.pop(get_ident(), None)
            leaver = None if expected is None else expected()
            if leaver is None:
                self._entered.append(limit)
            else:
                limit.leaver, leaver.limit = expected, limit
            watchdog.open(limit)
            del expected, leaver
        finally:
            unhold(held)
        return limit


class CallEntrance(Entrance):
    """An entrance for one callsite: the calls of a decorated function."""

    def __init__(
        self,
        callsite: Callsite,
        budget_bytes: int,
        on_exceed: Callable[[MemoryLimitExceeded], object] | None,
    ) -> None:
        super().__init__(budget_bytes, on_exceed)
        self._callsite = callsite

    def describe(self, frame: FrameType) -> Callsite:  # noqa: ARG002 -- it is known
        """Return the function's callsite."""
        return self._callsite


async def _ready(limit: OpenLimit) -> OpenLimit:
    return limit


async def _nothing() -> None:
    return
