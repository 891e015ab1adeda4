"""The next chunk in the making: items are in it, or at hand, from when they are pulled."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from stratatrace.errors import ItemTooLargeError, NotReadyError
from stratatrace.streams.weighing import Weigher

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stratatrace.streams.sizing import ChunkPlan

__all__ = ["ChunkBuilder"]

T = TypeVar("T")

_NOTHING = object()


class ChunkBuilder(Generic[T]):
    """Makes one chunk after the other of the items that a driver pulls.

    A driver puts each item into `slot` and calls `accept`. Whatever is raised between the two, or
    in `accept`, leaves the item where it is: the next chunk begins with it.
    """

    __slots__ = (
        "_failure",
        "_given",
        "_items",
        "_returned",
        "chunks",
        "ended",
        "items",
        "largest_bytes",
        "plan",
        "slot",
        "wants",
        "weigher",
    )

    def __init__(self, plan: ChunkPlan) -> None:
        self.plan = plan
        self.weigher = Weigher()
        #: What was pulled just now.
        self.slot: Any = _NOTHING
        #: Whether the source has no more.
        self.ended = False
        #: Whether the driver should pull an item.
        self.wants = True
        #: What was delivered so far.
        self.items = self.chunks = self.largest_bytes = 0
        self._items: list[T] = []
        self._returned: deque[T] = deque()
        self._failure: BaseException | None = None
        #: Items of the chunk that was delivered last, and not put back.
        self._given = 0

    def begin(self) -> None:
        """Begin a chunk, with what is at hand already."""
        if self._given:
            self._given = 0
            self.plan.fitted()
        if not self._items:
            self.plan.begin()
            self.weigher.begin()
        self._count()
        if self.slot is not _NOTHING:
            self.accept()
        while self._returned and self.wants:
            self.slot = self._returned.popleft()
            self.accept()
        if self.ended or self._failure is not None:
            self.wants = False

    def accept(self) -> None:
        """Take the item in `slot` into the chunk."""
        self._items.append(self.slot)
        self.slot = _NOTHING
        self.weigher.add(self._items[-1])
        self._count()

    def _count(self) -> None:
        count = len(self._items)
        self.wants = not count or not self.plan.is_full(count, self.weigher.weight_bytes)

    def end(self) -> None:
        """The source has no more."""
        self.ended = True
        self.wants = False

    def fail(self, error: BaseException) -> None:
        """Raise *error* when all that was pulled is delivered: the source is at its end."""
        self._failure = error
        self.wants = False

    def interrupt(self, error: BaseException) -> None:
        """Say, when all that was pulled is delivered, that the source was ended by *error*."""
        msg = (
            f"the source was ended by {type(error).__name__} while an item was pulled from it: "
            "what it had left is not known"
        )
        self._failure = NotReadyError(msg)

    def short_of_memory(self) -> bool:
        """Make smaller chunks; return whether there is something to deliver meanwhile."""
        self.plan.did_not_fit(max(len(self._items), 1))
        return bool(self._items)

    def put_back(self, items: Iterable[T]) -> None:
        """Give *items* of the last chunk again, before all others, in chunks of half as many.

        Raises:
            ItemTooLargeError: The chunk had a single item.
        """
        again = deque(items)
        count = len(again)
        if not count:
            return
        if self._given == 1:
            msg = "there is no memory for a single item: nothing smaller can be given"
            raise ItemTooLargeError(msg)
        again.extend(self._returned)
        self.items -= count
        self._returned = again
        self._given = 0
        self.plan.did_not_fit(count)

    def take(self) -> list[T] | None:
        """Return the chunk; None where the stream is at its end.

        Raises:
            BaseException: What the source has raised.
        """
        if not self._items:
            self.ended = True
            failure, self._failure = self._failure, None
            if failure is None:
                return None
            try:
                raise failure
            finally:
                del failure  # Its traceback has this frame.
        # All that may fail for want of memory comes before the chunk is let go.
        fresh: list[T] = []
        given, largest = len(self._items), max(self.largest_bytes, self.weigher.weight_bytes)
        items, chunks = self.items + given, self.chunks + 1
        self.items, self.chunks, self.largest_bytes, self._given = items, chunks, largest, given
        chunk, self._items = self._items, fresh
        return chunk

    def forget(self) -> None:
        """Let go what was pulled and is not wanted any more."""
        self.ended = True
        self.slot = _NOTHING
        self._items.clear()
        self._returned.clear()
        self._failure = None
