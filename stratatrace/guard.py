"""The runtime door for errors: what fails in stratatrace never reaches the program it measures."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stratatrace.measurement import Callsite

__all__ = ["Guard", "outside"]

_logger = logging.getLogger("stratatrace")


class Guard:
    """Counts failures, and logs the first of each callsite with its traceback.

    It is called in an ``except Exception`` around stratatrace's own statements, and around nothing
    else. Tests set `strict`, so that it raises what it would swallow.
    """

    _MOST_NAMED = 1000

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self.failures = 0
        self._named: set[str] = set()
        self._lock = threading.Lock()

    def caught(self, callsite: Callsite, doing: str, error: Exception | None = None) -> None:
        """Account for a failure.

        Args:
            callsite: Where it happened.
            doing: What failed, to complete the sentence "stratatrace could not ...".
            error: Why; None takes the exception that the caller is handling.
        """
        if self.strict:
            if error is not None:
                raise error
            raise  # noqa: PLE0704 -- the exception that the caller is handling
        with self._lock:
            self.failures += 1
            new = callsite.function not in self._named and len(self._named) < self._MOST_NAMED
            if new:
                self._named.add(callsite.function)
        if new:
            _logger.warning(
                "stratatrace could not %s for %s; the program is not affected, and further "
                "failures there are only counted",
                doing,
                callsite.function,
                exc_info=error or True,
            )

    def count(self) -> None:
        """Account for a failure that is told by whoever has seen it."""
        with self._lock:
            self.failures += 1

    def after_fork_in_child(self) -> None:
        """Start from zero, with a lock that no thread of the parent holds."""
        self._lock = threading.Lock()
        self.failures = 0


#: Counts what fails where no recorder is at hand: what is said outside of code and makes no sense,
#: and what cannot be delivered.
outside = Guard()
