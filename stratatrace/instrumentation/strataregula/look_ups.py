"""Counting the look-ups of pattern caches, of which there is one for each pattern."""

from __future__ import annotations

import functools
import inspect
import os
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LookUps", "look_ups"]


class _Counts:
    """Look-ups in one cache, while somebody listens."""

    __slots__ = ("hits", "listeners", "misses")

    def __init__(self) -> None:
        self.hits = self.misses = self.listeners = 0


class LookUps:
    """The caches that somebody listens to, by identity.

    A look-up costs a call and an addition more, and no span.
    """

    def __init__(self) -> None:
        self._counts: dict[int, _Counts] = {}
        # Reentrant: a collection may end a generator that listens.
        self._lock = threading.RLock()

    def listen(self, cache: object) -> Callable[[], tuple[int, int]]:
        """Count the look-ups in *cache* from now on.

        Args:
            cache: It must live until its look-ups are taken.

        Returns:
            What returns the hits and the misses, and ends the counting; to be called once. Who else
            uses the cache meanwhile is in them.
        """
        key = id(cache)
        with self._lock:
            counts = self._counts.setdefault(key, _Counts())
            counts.listeners += 1
        hits, misses = counts.hits, counts.misses

        def taken() -> tuple[int, int]:
            with self._lock:
                counts.listeners -= 1
                if not counts.listeners:
                    self._counts.pop(key, None)
            return counts.hits - hits, counts.misses - misses

        return taken

    def counted(self, get: Callable[..., Any]) -> Callable[..., Any] | None:
        """Return the method *get* of a cache, with its look-ups counted.

        Returns:
            None where it is not called as it was known to be: ``get(self, key)``.
        """
        if list(inspect.signature(get).parameters) != ["self", "key"]:
            return None
        counts_of = self._counts.get

        @functools.wraps(get)
        def counted(self: Any, key: Any) -> Any:
            found = get(self, key)
            counts = counts_of(id(self))
            if counts is not None:
                if found is None:
                    counts.misses += 1
                else:
                    counts.hits += 1
            return found

        return counted

    def after_fork_in_child(self) -> None:
        """Take a lock that no thread of the parent holds."""
        self._lock = threading.RLock()


look_ups = LookUps()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=look_ups.after_fork_in_child)
