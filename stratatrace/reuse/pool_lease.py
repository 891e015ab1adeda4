"""A lease: one object of a pool, which goes back when a block is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from stratatrace.errors import NotReadyError, PoolMisuseError
from stratatrace.reuse.pool_slots import NOTHING

if TYPE_CHECKING:
    from types import TracebackType

    from stratatrace.reuse.pool import MemoryPool

__all__ = ["Lease"]

T = TypeVar("T")


class Lease(Generic[T]):
    """What `MemoryPool.lease` returns: a context manager, sync and async, for one object.

    It may be entered again when it has been left.
    """

    __slots__ = ("__weakref__", "_entered", "_item", "_pool", "_timeout")

    def __init__(self, pool: MemoryPool[T], timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout
        self._entered = False
        self._item: T = NOTHING

    def borrow(self) -> Lease[T]:
        """Acquire the object now, and not only where the lease is entered; return the lease.

        Raises:
            PoolExhaustedError: None came back in time.
            PoolMisuseError: It has one already.
        """
        self._refuse_second()
        self._item = self._pool.acquire(timeout=self._timeout)
        return self

    @property
    def value(self) -> T:
        """The object.

        Raises:
            NotReadyError: The lease has none: it was not entered, or was left.
        """
        if self._item is NOTHING:
            msg = "the lease has no object: read `value` within its block"
            raise NotReadyError(msg)
        return self._item

    def close(self) -> None:
        """Give the object back; a second time does nothing."""
        item, self._item, self._entered = self._item, NOTHING, False
        if item is not NOTHING:
            self._pool.release(item)

    def discard(self) -> None:
        """Throw the object away in place of giving it back, because it is broken."""
        item, self._item = self._item, NOTHING
        if item is not NOTHING:
            self._pool.discard(item)

    def __enter__(self) -> T:
        """Acquire the object, unless that was done."""
        if self._entered or self._item is NOTHING:
            self._refuse_second()
            self._item = self._pool.acquire(timeout=self._timeout)
        self._entered = True
        return self._item

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Give it back."""
        self.close()

    async def __aenter__(self) -> T:
        """Acquire the object, unless that was done; other tasks run meanwhile."""
        if self._entered or self._item is NOTHING:
            self._refuse_second()
            self._item = await self._pool.acquire_async(timeout=self._timeout)
        self._entered = True
        return self._item

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Give it back."""
        self.close()

    def _refuse_second(self) -> None:
        if self._item is not NOTHING:
            msg = "the lease has an object already: ask the pool for another lease"
            raise PoolMisuseError(msg)
