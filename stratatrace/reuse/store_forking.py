"""Stores at a fork: the child gets them whole, or is told that it has not."""

from __future__ import annotations

import os
import threading
from typing import Any, Protocol
from weakref import WeakValueDictionary

__all__ = ["Forking", "forks"]

# Another thread may be writing to a disk that hangs. The fork must not hang with it.
_PATIENCE_SECONDS = 5.0


class Forking(Protocol):
    """A store, as a fork sees it."""

    lock: Any

    def after_fork_in_child(self, *, whole: bool) -> None:
        """Become the child's own; it was not in the middle of a change where it is *whole*."""
        ...


class _Forks:
    """Holds the locks of all stores while a thread forks, so that nobody changes one meanwhile."""

    def __init__(self) -> None:
        # By their ids: mappings have no hash.
        self._stores: WeakValueDictionary[int, Forking] = WeakValueDictionary()
        self._of_thread = threading.local()

    def add(self, store: Forking) -> None:
        self._stores[id(store)] = store

    def before(self) -> None:
        # Also those that could not be had: the child has to know.
        self._of_thread.held = held = []
        for reference in self._stores.valuerefs():
            store = reference()
            if store is None:
                continue
            held.append((store, store.lock.acquire(timeout=_PATIENCE_SECONDS)))

    def after_in_parent(self) -> None:
        for store, whole in self._taken():
            if whole:
                store.lock.release()

    def after_in_child(self) -> None:
        for store, whole in self._taken():
            store.after_fork_in_child(whole=whole)

    def _taken(self) -> list[tuple[Forking, bool]]:
        held: list[tuple[Forking, bool]] = self._of_thread.held
        self._of_thread.held = []
        return held


forks = _Forks()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=forks.before,
        after_in_parent=forks.after_in_parent,
        after_in_child=forks.after_in_child,
    )
