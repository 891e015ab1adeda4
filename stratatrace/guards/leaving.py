"""What happens when the block, call or step of a limit ends: quietly, or with the right error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stratatrace.errors import MemoryLimitExceeded
from stratatrace.guards.allocators import top_allocators
from stratatrace.guards.holding import hold, unhold
from stratatrace.guards.origin import is_caused_by
from stratatrace.guards.telling import tell
from stratatrace.guards.watchdog import watchdog

if TYPE_CHECKING:
    from stratatrace.guards.opened import OpenLimit

__all__ = ["judge", "leave"]


def leave(limit: OpenLimit, error: BaseException | None) -> None:
    """Close a limit, and raise what there is to raise.

    Args:
        limit: Which.
        error: What ended its block, which goes on unless something is raised here.

    Raises:
        MemoryLimitExceeded: The process has grown too much, and *error* does not say so yet.
    """
    held = hold()
    try:
        watchdog.close(limit)
        raised = judge(limit, error)
        limit.drop()
    finally:
        unhold(held)
    if raised is not None:
        raise raised from error


def judge(limit: OpenLimit, error: BaseException | None) -> MemoryLimitExceeded | None:
    """Return what is to be raised when a limit is closed; tell what there is to tell.

    Args:
        limit: Which.
        error: What ended its block.
    """
    if limit.released:
        return None
    cancelled_here = _take_back_cancellations(limit)
    used_bytes = limit.used_bytes
    over = used_bytes > limit.budget_bytes
    if not limit.raises:
        if over or limit.exceeded:
            limit.exceeded = True
            tell(limit)
        return None
    if isinstance(error, MemoryLimitExceeded):
        if limit.is_of(error):
            error.top = error.top or top_allocators()
            tell(limit, error)
        elif limit.exceeded:
            tell(limit)
        return None
    if isinstance(error, MemoryError | OSError):
        ours = is_caused_by(limit, error)
    else:
        ours = over if error is None else cancelled_here and _is_cancellation(error)
    if ours:
        limit.exceeded = True
        raised = limit.error(used_bytes)
        raised.top = top_allocators()
        tell(limit, raised)
        return raised
    if limit.exceeded:  # It was interrupted, and did not mind, or failed in another way.
        tell(limit)
    return None


def _take_back_cancellations(limit: OpenLimit) -> bool:
    """Undo what was done to a task; return whether its cancellation was ours alone."""
    remaining = limit.cancelling
    if limit.task is not None:
        for _ in range(limit.cancelled):
            remaining = limit.task.uncancel()
    return limit.fired_at is not None and remaining <= limit.cancelling


def _is_cancellation(error: BaseException | None) -> bool:
    # By name, so that a program without asyncio does not import it for us.
    kinds = () if error is None else type(error).__mro__
    return any(k.__name__ == "CancelledError" and k.__module__.startswith("asyncio") for k in kinds)
