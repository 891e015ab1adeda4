"""A progress bar for a stream, on request; rich is imported only then."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from stratatrace.errors import MissingExtraError
from stratatrace.recorder import active

if TYPE_CHECKING:
    from stratatrace.measurement import Callsite

__all__ = ["Bar"]

_REFRESH_SECONDS = 0.1


class Bar:
    """A line on stderr with the items and the rate; drawn as items pass, without a thread.

    Args:
        label: What stands before it.
        total: How many items there will be, where that is known.
        callsite: Whose it is, to account for what fails.

    Raises:
        MissingExtraError: rich is not installed.
    """

    def __init__(self, label: str, total: int | None, callsite: Callsite) -> None:
        try:
            from rich.console import Console  # noqa: PLC0415 -- an extra
            from rich.progress import (  # noqa: PLC0415 -- as above
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
            )
        except ImportError:
            feature = "a progress bar"
            raise MissingExtraError(feature, "cli") from None
        self._callsite = callsite
        self._progress: Any = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._progress.add_task(label, total=total)
        self._started = False
        self._drawn_at = 0.0

    def advance(self, items: int) -> None:
        """Show that so many items more are done with."""
        progress = self._progress
        if progress is None:
            return
        try:
            with active.own_work():
                if not self._started:
                    self._started = True
                    progress.start()
                progress.advance(self._task, items)
                if time.monotonic() - self._drawn_at > _REFRESH_SECONDS:
                    self._drawn_at = time.monotonic()
                    progress.refresh()
        except Exception:
            self._progress = None  # Another bar is on the screen, for one.
            self._failed()

    def close(self) -> None:
        """Leave the bar as it is on the screen."""
        progress, self._progress = self._progress, None
        if progress is None or not self._started:
            return
        try:
            with active.own_work():
                progress.stop()
        except Exception:
            self._failed()

    def _failed(self) -> None:
        active.recorder.guard.caught(self._callsite, "draw a progress bar")
