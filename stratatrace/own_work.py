"""Which threads run stratatrace's own code, whose calls are not measured.

A sink may be a measured function itself, a pattern may name what stratatrace calls, and the
collector may run a measured finalizer at any moment: each would go round in circles.
"""

from __future__ import annotations

import threading
from weakref import ref

__all__ = ["OwnWork", "Stretch"]


class Stretch:
    """A stretch of stratatrace's own work; whoever has it, is at it."""

    __slots__ = ("__weakref__", "ended")

    def __init__(self) -> None:
        self.ended = False


class OwnWork:
    """The stretches of own work that are under way, at most one for each thread."""

    def __init__(self) -> None:
        #: By the threads' numbers.
        self.threads: dict[int, ref[Stretch]] = {}

    def begin(self) -> Stretch | None:
        """Measure no call of this thread until `end`.

        Returns:
            What to give to `end`: None where this is not the outermost of its kind. It ends, too,
            when that is dropped, by an exception that was thrown into the thread meanwhile.
        """
        if self.is_under_way:
            return None
        began = Stretch()
        self.threads[threading.get_ident()] = ref(began)
        return began

    def end(self, began: Stretch | None) -> None:
        """Measure this thread's calls again."""
        if began is not None:
            began.ended = True  # First, as it takes no memory.
            self.threads.pop(threading.get_ident(), None)

    @property
    def is_under_way(self) -> bool:
        """Whether this thread runs stratatrace's own code."""
        if not self.threads:  # At nearly every call.
            return False
        reference = self.threads.get(threading.get_ident())
        stretch = None if reference is None else reference()
        return stretch is not None and not stretch.ended

    def after_fork_in_child(self) -> None:
        """Forget the threads of the parent."""
        self.threads.clear()
