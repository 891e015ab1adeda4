"""A limit while it is open: for the length of one block, one call, or one step."""

from __future__ import annotations

import itertools
from threading import get_ident
from typing import TYPE_CHECKING, Any

from stratatrace.errors import MemoryLimitExceeded
from stratatrace.guards.loops import current_task
from stratatrace.sizes import format_size
from stratatrace.telemetry.limits import current_span

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from weakref import ref

    from opentelemetry.trace import Span

    from stratatrace.guards.threads import Life
    from stratatrace.measurement import Callsite

__all__ = ["OpenLimit"]

_keys = itertools.count(1)
# A program that does little but measured calls is hardly ever seen anywhere else.
_PATIENCE_SECONDS = 0.1


class OpenLimit:
    """What `memory_limit` gives to its block.

    Args:
        budget_bytes: By how much the process may grow.
        callsite: Where the limit stands.
        on_exceed: Called, once, in place of raising; None raises.
        stepped: Whether somebody looks at the end of the step, so that nothing is interrupted in
            a thread that runs an event loop.
        earlier_bytes: By how much it had grown in the steps before this one.
    """

    __slots__ = (
        "_earlier_bytes",
        "address_bytes",
        "base_bytes",
        "binding",
        "budget_bytes",
        "callsite",
        "cancelled",
        "cancelling",
        "ceiling_bytes",
        "closed",
        "data_bytes",
        "exceeded",
        "final_bytes",
        "fired_at",
        "fired_bytes",
        "key",
        "leaver",
        "life",
        "most_bytes",
        "on_exceed",
        "released",
        "resident_bytes",
        "span",
        "stepped",
        "task",
        "thread",
        "told",
        "waiting_since",
    )

    def __init__(
        self,
        budget_bytes: int,
        callsite: Callsite,
        on_exceed: Callable[[MemoryLimitExceeded], object] | None,
        *,
        stepped: bool = False,
        earlier_bytes: int = 0,
    ) -> None:
        #: By how much the process may grow, in bytes.
        self.budget_bytes = budget_bytes
        #: Where the limit stands.
        self.callsite = callsite
        #: Whether the process was seen to have grown by more than that.
        self.exceeded = False
        self.key = next(_keys)
        self.on_exceed = on_exceed
        self.stepped = stepped
        self.thread = get_ident()
        #: Dies with that thread.
        self.life: ref[Life] | None = None
        self.span: Span = current_span()
        #: What is cancelled where the thread runs an event loop, how often it was, and how often
        #: others had done it before.
        self.task: asyncio.Task[Any] | None = None if stepped else current_task()
        self.cancelled = 0
        self.cancelling = 0 if self.task is None else self.task.cancelling()
        #: Dies when the block is left, by whichever way; None where nothing tells.
        self.leaver: ref[Any] | None = None
        self.closed = True
        #: Whether a fork has ended it: only its parent goes on.
        self.released = False
        #: The largest growth that was seen.
        self.most_bytes = 0
        self.told = False
        #: Resident memory at entry, and what RLIMIT_DATA is lowered to.
        self.base_bytes = 0
        self._earlier_bytes = earlier_bytes
        self.ceiling_bytes: int | None = None
        #: Whether RLIMIT_DATA was lowered for this limit, and no stricter one, at the end; and what
        #: was used then.
        self.binding = False
        self.address_bytes: int | None = None
        self.data_bytes: int | None = None
        #: By how much the process had grown when it was closed.
        self.final_bytes: int | None = None
        #: When an exception was last fired, by the monotonic clock, and the least growth since.
        self.fired_at: float | None = None
        self.fired_bytes = 0
        #: Since when it would have been, had the thread not been in our own code.
        self.waiting_since: float | None = None
        #: Reads the resident memory of the process, while the limit is open.
        self.resident_bytes: Callable[[], int] | None = None

    def __repr__(self) -> str:
        """Name the place and the budget."""
        return f"<limit of {format_size(self.budget_bytes)} at {self.callsite.name}>"

    @property
    def used_bytes(self) -> int:
        """By how much the process has grown since the limit was entered, in bytes; signed.

        Other threads are in it. Once the limit is left, it stays what it was at the end.
        """
        if self.final_bytes is not None:
            return self.final_bytes
        return 0 if self.resident_bytes is None else self.resident_bytes() - self.base_bytes

    @property
    def raises(self) -> bool:
        """Whether exceeding it is an error."""
        return self.on_exceed is None

    @property
    def room_left_bytes(self) -> int:
        """How much more the kernel would have given at the end."""
        if self.ceiling_bytes is None or self.data_bytes is None:
            return 0
        return self.ceiling_bytes - self.data_bytes

    @property
    def line(self) -> object:
        """What is interrupted: of all limits of one line, the innermost that is exceeded is it."""
        return self.thread if self.task is None else self.task

    @property
    def is_left(self) -> bool:
        """Whether its block is gone, and be it that nobody has closed it."""
        return (
            self.closed or self.is_orphaned or (self.leaver is not None and self.leaver() is None)
        )

    @property
    def is_orphaned(self) -> bool:
        """Whether its thread has ended, whose id may be that of another one now."""
        return self.life is not None and self.life() is None

    def opened(self, base_bytes: int, resident_bytes: Callable[[], int]) -> None:
        """Count from here; what was grown in earlier steps counts as well."""
        self.base_bytes = base_bytes - self._earlier_bytes
        self.resident_bytes = resident_bytes
        self.closed = False

    def seen(self, used_bytes: int) -> bool:
        """Remember by how much the process had grown; return whether that is too much."""
        self.most_bytes = max(self.most_bytes, used_bytes)
        return used_bytes > self.budget_bytes

    def has_patience(self, now: float) -> bool:
        """Tell whether to wait until the thread is back in the user's own code."""
        if self.waiting_since is None:
            self.waiting_since = now
        return now < self.waiting_since + _PATIENCE_SECONDS

    def fired(self, now: float, used_bytes: int) -> None:
        """Remember that it was interrupted."""
        self.fired_at, self.fired_bytes = now, used_bytes
        self.waiting_since = None

    def drop(self) -> None:
        """Let go of what was taken for it, once it has been judged."""
        self.resident_bytes = self.ceiling_bytes = self.address_bytes = self.data_bytes = None
        self.base_bytes = self.fired_bytes = 0
        self.fired_at = self.task = self.leaver = self.life = None

    def describe(self, used_bytes: int | None) -> dict[str, Any]:
        """Return the attributes of the error."""
        budget, name = format_size(self.budget_bytes), self.callsite.name
        if used_bytes is not None and used_bytes > self.budget_bytes:
            grown = format_size(used_bytes)
            message = f"{name}: the process has grown by {grown}, and its limit is {budget}"
        else:
            message = f"{name}: an allocation was refused that would exceed the limit of {budget}"
        return {
            "message": message,
            "key": self.key,
            "budget_bytes": self.budget_bytes,
            "used_bytes": used_bytes,
            "callsite": self.callsite,
        }

    def error(self, used_bytes: int | None = None) -> MemoryLimitExceeded:
        """Return the error that says that the process has grown by so much."""
        told = self.describe(used_bytes)
        key = told.pop("key")
        error = MemoryLimitExceeded(told.pop("message"), **told)
        error._limit_key = key  # noqa: SLF001 -- by which its limit knows it
        return error

    def is_of(self, error: MemoryLimitExceeded) -> bool:
        """Tell whether an error was raised for this limit."""
        return error._limit_key == self.key  # noqa: SLF001 -- as above
