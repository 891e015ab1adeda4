"""That a limit was exceeded, as telemetry, a log record and the user's callback.

Never raises: the limit itself is what reaches the program.
"""

from __future__ import annotations

import logging
import sys
import threading
from typing import TYPE_CHECKING

from stratatrace.recorder import active
from stratatrace.telemetry.limits import LimitMetrics, mark_span

if TYPE_CHECKING:
    from stratatrace.errors import MemoryLimitExceeded
    from stratatrace.guards.opened import OpenLimit

__all__ = ["after_fork_in_child", "tell", "tell_only"]

_logger = logging.getLogger("stratatrace")
_metrics = LimitMetrics()


def tell(limit: OpenLimit, error: MemoryLimitExceeded | None = None) -> None:
    """Tell of a limit that was exceeded; a second time does nothing.

    Args:
        limit: Which.
        error: What says so; None makes one.
    """
    if limit.told:
        return
    limit.told = True
    with active.own_work():
        if error is None:
            error = limit.error(limit.most_bytes)
        _logger.warning("memory limit exceeded: %s", error)
        if active.enabled:
            try:
                _emit(limit, error)
            except Exception:
                _logger.warning("stratatrace could not tell of a memory limit", exc_info=True)
        if limit.on_exceed not in {None, tell_only}:
            _call(limit, error)


def tell_only(_error: MemoryLimitExceeded) -> None:
    """Stand for ``on_exceed="warn"``: there is nothing more to do."""


def after_fork_in_child() -> None:
    """Count from zero."""
    _metrics.after_fork_in_child()


def _emit(limit: OpenLimit, error: MemoryLimitExceeded) -> None:
    # Not made for this: where nothing has been measured, there is nothing to configure.
    provider = active.recorder.meter_provider if active.started else None
    _metrics.count(limit.callsite, provider)
    mark_span(
        limit.span,
        budget_bytes=limit.budget_bytes,
        used_bytes=error.used_bytes,
        raised=limit.raises,
    )


def _call(limit: OpenLimit, error: MemoryLimitExceeded) -> None:
    """Call the user's function, in a thread: it may take its time, and the watchdog must not."""

    def run() -> None:
        try:
            if limit.on_exceed is not None:
                limit.on_exceed(error)
        except Exception:
            _logger.warning(
                "stratatrace: on_exceed of the memory limit at %s failed",
                limit.callsite.name,
                exc_info=True,
            )

    try:
        threading.Thread(target=run, name="stratatrace-limit-callback", daemon=True).start()
    except RuntimeError:
        if not sys.is_finalizing():
            run()
