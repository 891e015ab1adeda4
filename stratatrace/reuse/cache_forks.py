"""Caches in a forked child, in which a lock may be held by a thread that is not there."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakValueDictionary

__all__ = ["renew_after_fork"]


class _Forked(Protocol):
    def after_fork_in_child(self) -> None:
        """Have locks that nobody holds."""
        ...


# By their ids: a mapping has no hash.
_caches: WeakValueDictionary[int, _Forked] = WeakValueDictionary()


def renew_after_fork(cache: _Forked) -> None:
    """Call *cache* in each forked child, for as long as it is there."""
    _caches[id(cache)] = cache


def _renew() -> None:
    for reference in _caches.valuerefs():
        cache = reference()
        if cache is not None:
            cache.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
