"""The switch ``plugins``: instances of plugins that can be made as new are used again.

That are those whose class has a method ``reset``. An instance comes back when its loader unloads
it, and is kept where nobody else has it any more. All other plugins are made each time.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from functools import partial, wraps
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, finalize

from stratatrace.errors import PoolExhaustedError
from stratatrace.reuse.pool import MemoryPool

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    _Borrowed = tuple[MemoryPool[Any], Any]

__all__ = ["pooled_plugins"]

# A variable, and the argument of `sys.getrefcount`.
_OWN_REFERENCES = 2
_MOST = 100


def pooled_plugins(_module: ModuleType, originals: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the functions of a loader that borrows from pools."""
    bare_load, bare_unload = originals["load_plugin"], originals["unload_plugin"]
    bare_class_of = originals["load"]
    pools = _Pools()

    @wraps(bare_class_of)
    def load(self: Any) -> Any:
        kind = bare_class_of(self)
        borrowed = pools.borrowed.get()
        return kind if borrowed is None or not _can_be_reset(kind) else partial(pools.take, kind)

    @wraps(bare_load)
    def load_plugin(self: Any, name: Any) -> Any:
        token = pools.borrowed.set([])
        try:
            return bare_load(self, name)
        finally:
            pools.note(self, name, pools.borrowed.get() or [])
            pools.borrowed.reset(token)

    @wraps(bare_unload)
    def unload_plugin(self: Any, name: Any) -> Any:
        unloaded = bare_unload(self, name)
        if unloaded:
            pools.take_back(self, name)
        return unloaded

    return {"load": load, "load_plugin": load_plugin, "unload_plugin": unload_plugin}


def _can_be_reset(kind: Any) -> bool:
    return isinstance(kind, type) and callable(getattr(kind, "reset", None))


class _Pools:
    """A pool for each class, and who has borrowed what."""

    def __init__(self) -> None:
        #: What was borrowed by the loading that is under way; None where there is none.
        self.borrowed: ContextVar[list[_Borrowed] | None] = ContextVar(
            "borrowed plugins", default=None
        )
        self._pools: dict[type, MemoryPool[Any]] = {}
        self._given: WeakKeyDictionary[Any, dict[Any, finalize[..., Any]]] = WeakKeyDictionary()

    def take(self, kind: type) -> Any:
        """Return an instance, made now where there is none."""
        pool = self._pools.get(kind)
        if pool is None:
            pool = self._pools.setdefault(
                kind, MemoryPool(kind, max_size=_MOST, timeout=0, name=kind.__name__)
            )
        try:
            plugin = pool.acquire()
        except PoolExhaustedError:
            return kind()
        borrowed = self.borrowed.get()
        if borrowed is not None:
            borrowed.append((pool, plugin))
        return plugin

    def note(self, loader: Any, name: Any, borrowed: list[_Borrowed]) -> None:
        """Remember what a loader has borrowed; at its own end, the pool need not wait for it."""
        for pool, plugin in borrowed:
            end = finalize(loader, _forget, plugin, pool)
            end.atexit = False
            self._given.setdefault(loader, {})[name] = end

    def take_back(self, loader: Any, name: Any) -> None:
        """Take back what a loader has unloaded."""
        end = self._given.get(loader, {}).pop(name, None)
        borrowed = None if end is None else end.detach()
        if borrowed is None:
            return
        plugin, pool = borrowed[2]
        del borrowed
        if sys.getrefcount(plugin) > _OWN_REFERENCES:
            pool.discard(plugin)  # Somebody goes on to use it.
        else:
            pool.release(plugin)


def _forget(plugin: Any, pool: MemoryPool[Any]) -> None:
    pool.discard(plugin)
