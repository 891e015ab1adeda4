"""The end of children of multiprocessing: what is registered with atexit does not run in them."""

from __future__ import annotations

import os
import sys
import weakref
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["end_with_children", "is_worker"]

T = TypeVar("T")


def is_worker() -> bool:
    """Tell whether this process is a child of multiprocessing, which passes atexit by."""
    multiprocessing = sys.modules.get("multiprocessing")
    return multiprocessing is not None and multiprocessing.parent_process() is not None


def end_with_children(owner: T, end: Callable[[T], object]) -> None:
    """Have something done at the end of this process, where it is such a child, and of its own.

    Args:
        owner: While it lives, and is not kept alive by this.
        end: What to do with it.
    """
    ending = _Ending(owner, end)
    if hasattr(os, "register_at_fork"):
        # Only then, as a program may import multiprocessing at any time before.
        os.register_at_fork(before=ending.before_fork)
    if is_worker():
        ending.before_fork()
        ending.finalize(owner)


class _Ending(Generic[T]):
    def __init__(self, owner: T, end: Callable[[T], object]) -> None:
        self._owner = weakref.ref(owner)
        self._end = end
        self._registered = False

    def before_fork(self) -> None:
        owner, util = self._owner(), sys.modules.get("multiprocessing.util")
        if owner is not None and util is not None and not self._registered:
            self._registered = True  # Once: children have what their parent has registered.
            util.register_after_fork(owner, self.finalize)

    def finalize(self, owner: T) -> None:
        util = sys.modules.get("multiprocessing.util")
        if util is not None:
            util.Finalize(None, partial(self._end, owner), exitpriority=0)
