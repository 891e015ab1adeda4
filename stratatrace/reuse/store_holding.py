"""What a store holds: its table of entries, and what goes to disk when the budget is reached."""

from __future__ import annotations

import os
import reprlib
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from stratatrace.errors import InvalidTypeError, NotReadyError, SpillError
from stratatrace.measurement import Callsite
from stratatrace.pressure.sources import readings
from stratatrace.recorder import active
from stratatrace.reuse.store_entries import OBJECT_BYTES, StoreStats, Totals, row_of, spilled
from stratatrace.reuse.store_forking import forks
from stratatrace.reuse.store_packing import name_of
from stratatrace.reuse.store_spill import LARGEST_ROW_BYTES, SpillFile
from stratatrace.telemetry.stores import Stored, store_metrics

if TYPE_CHECKING:
    from stratatrace.reuse.store_entries import Slot
    from stratatrace.reuse.store_packing import Packing
    from stratatrace.reuse.store_spill import SpillPlace
    from stratatrace.telemetry.stores import StoreMetrics

__all__ = ["Holding"]

K = TypeVar("K")

# More is spilled than has to be, so that not every value that is set waits for the disk.
_SPILLED_SHARE = 8
_MOST_SPILLED_BYTES = 2**20
# How often to ask whether metrics are told to somebody else by now.
_SETS_BETWEEN_LOOKS = 256
_CALLSITE = Callsite(name="CompressedStore", function="stratatrace.CompressedStore")


class Holding(Generic[K]):
    """The entries of one store, and their sums.

    Reading an entry in memory takes no lock. Whatever changes the table does.
    """

    def __init__(
        self,
        *,
        name: str,
        packing: Packing,
        max_bytes: int | None,
        place: SpillPlace | None,
    ) -> None:
        self.name = name
        self.slots: dict[K, Slot] = {}
        #: Reentrant: the collector may run a finalizer that uses the store at any moment.
        self.lock = threading.RLock()
        self._packing = packing
        self._max_bytes = max_bytes
        self._place = place
        with active.own_work():
            self._spill = None if place is None else SpillFile(place)
        self._totals = Totals()
        #: Keys of entries in memory, the oldest first, where there is a budget. Some may be there
        #: no more.
        self._queue: deque[K] = deque()
        self._next_row = 1
        #: Rows below it are in the file of the process that this one was forked from.
        self._first_row = 1
        self._parent = 0
        #: Why it can no longer be used.
        self._ended: str | None = None
        self._sets = 0
        self._metrics: StoreMetrics | None = None
        forks.add(self)
        self._offer_numbers()

    @property
    def closed(self) -> bool:
        """Whether it can no longer be used."""
        return self._ended is not None

    @property
    def open_slots(self) -> dict[K, Slot]:
        """The table, where it is not closed."""
        self.check_open()
        return self.slots

    def check_open(self) -> None:
        """Raise NotReadyError where it is closed."""
        if self._ended is not None:
            raise NotReadyError(self._ended)

    def slot(self, key: K) -> Slot | None:
        """Return the entry of *key*, in memory or on disk, or None.

        Raises:
            InvalidTypeError: The key is unhashable.
            NotReadyError: The store is closed.
        """
        try:
            found = self.slots.get(key)
        except TypeError as error:
            raise _unhashable(key, error) from error
        if found is None:
            self.check_open()
        return found

    def entry_of(self, key: K, value: object) -> bytes:
        """Return what is kept of a value; see `Packing.pack`."""
        self.check_open()
        return self._packing.pack(key, value)

    def value_of(self, key: K, slot: Slot) -> tuple[Slot, Any] | None:
        """Return the value of *key* with the entry that it is of; None where it is gone meanwhile.

        Raises:
            DamagedEntryError: It is not what was written.
            SpillError: It is on disk, and cannot be read from there.
        """
        entry: bytes
        if type(slot) is bytes:
            entry = slot
        else:
            read = self._read(key)
            if read is None:
                return None
            slot, entry = read
        return slot, self._packing.unpack(key, entry)

    def _read(self, key: K) -> tuple[Slot, bytes] | None:
        """Return the entry of *key* as it is now, from wherever it is."""
        with self.lock:
            self.check_open()
            current = self.slots.get(key)
            if current is None:
                return None
            if type(current) is bytes:
                return current, current
            assert type(current) is int
            row = row_of(current)
            if row < self._first_row or self._spill is None:
                msg = (
                    f"{name_of(key)} was spilled by process {self._parent}, from which this one "
                    "was forked, and only that one can read it: set it again, or delete it"
                )
                raise SpillError(msg)
            return current, self._spill.read(row, key)

    def put(self, key: K, entry: bytes, *, only_new: bool = False) -> bool:
        """Have *entry* as that of *key*; return whether that was done.

        Args:
            key: Of which the entry is.
            entry: What `entry_of` has returned.
            only_new: Whether to do it only where there is none.

        Raises:
            SpillError: There is no room in memory, and none could be made. Nothing has changed.
        """
        with self.lock:
            self.check_open()
            try:
                old = self.slots.get(key)
            except TypeError as error:
                raise _unhashable(key, error) from error
            if only_new and old is not None:
                return False
            slot: Slot = entry
            if self._max_bytes is not None:
                slot = self._placed(entry, old)
                old = self.slots.get(key)  # It may be on disk by now.
            self.slots[key] = slot
            self._totals.add(slot)
            if old is not None:
                self._forget(old)
            if self._max_bytes is not None and type(slot) is bytes and type(old) is not bytes:
                self._enqueue(key)
            self._sets += 1
            look = not self._sets % _SETS_BETWEEN_LOOKS
        if look:
            self._offer_numbers()
        return True

    def remove(self, key: K, slot: Slot | None = None) -> bool:
        """Remove the entry of *key*; return whether that was done.

        Args:
            key: Whose entry.
            slot: Only where it is still that one.
        """
        with self.lock:
            self.check_open()
            try:
                old = self.slots.get(key)
            except TypeError as error:
                raise _unhashable(key, error) from error
            if old is None or (slot is not None and not _same(old, slot)):
                return False
            del self.slots[key]
            self._forget(old)
            return True

    def last(self) -> tuple[K, Slot] | None:
        """Return the newest entry with its key, or None."""
        with self.lock:
            self.check_open()
            return next(reversed(self.slots.items()), None)

    def remove_last(self, key: K, slot: Slot) -> bool:
        """Remove the newest entry, where it is still that one; return whether that was done."""
        with self.lock:
            last = self.last()
            if last is None or last[0] is not key or not _same(last[1], slot):
                return False
            self.slots.popitem()  # Not by its key: that leaves a hole, which the next has to pass.
            self._forget(last[1])
            return True

    def clear(self) -> None:
        """Remove all entries."""
        with self.lock:
            self.check_open()
            self._drop_all()
            if self._spill is not None:
                self._spill.discard_all()

    def close(self) -> None:
        """Let go of everything."""
        with self.lock:
            if self._ended is not None:
                return
            self._ended = f"the store {self.name!r} is closed"
            self._drop_all()
            spill, self._spill = self._spill, None
            metrics, self._metrics = self._metrics, None
            if metrics is not None:
                metrics.remove(self)
            if spill is not None:
                with active.own_work():
                    spill.close()

    def _drop_all(self) -> None:
        self.slots.clear()
        self._queue.clear()
        self._totals.clear()

    def _forget(self, slot: Slot) -> None:
        self._totals.remove(slot)
        if type(slot) is int and row_of(slot) >= self._first_row and self._spill is not None:
            self._spill.discard(row_of(slot))

    def _enqueue(self, key: K) -> None:
        queue = self._queue
        queue.append(key)
        if len(queue) > 2 * len(self.slots) + 64:  # Mostly keys that are there no more.
            get = self.slots.get
            there = dict.fromkeys(each for each in queue if type(get(each)) is bytes)
            queue.clear()
            queue.extend(there)

    def _placed(self, entry: bytes, old: Slot | None) -> Slot:
        """Return where *entry* goes, for which there is room then."""
        max_bytes = self._max_bytes or 0
        size = len(entry) + OBJECT_BYTES
        if size > max_bytes:
            return self._write([entry])[0]
        freed = len(old) + OBJECT_BYTES if type(old) is bytes else 0
        excess = self._totals.memory_bytes(len(self.slots)) + size - freed - max_bytes
        if excess > 0:
            more = min(max_bytes // _SPILLED_SHARE, _MOST_SPILLED_BYTES)
            # Not as our own work: the call that this is in lets go of them, and is told so. Else
            # what others have set would count as held for good.
            self._spill_oldest(max(excess + freed, more))
        return entry

    def _spill_oldest(self, wanted_bytes: int) -> None:
        """Write the oldest entries in memory to disk, until they were so many bytes."""
        taken: dict[K, bytes] = {}
        keys: list[K] = []
        size = 0
        try:
            while size < wanted_bytes and self._queue:
                key = self._queue.popleft()
                keys.append(key)
                entry = self.slots.get(key)
                if type(entry) is bytes and key not in taken:
                    taken[key] = entry
                    size += len(entry) + OBJECT_BYTES
            slots = self._write(list(taken.values()))
        except BaseException:
            self._queue.extendleft(reversed(keys))
            raise
        for (key, entry), slot in zip(taken.items(), slots, strict=True):
            if self.slots.get(key) is entry:
                self.slots[key] = slot
                self._totals.move(entry)
            elif self._spill is not None:  # A finalizer was at it meanwhile.
                self._queue.append(key)
                self._spill.discard(row_of(slot))

    def _write(self, entries: list[bytes]) -> list[int]:
        """Write entries to disk, and return what to keep of them."""
        if max(map(len, entries), default=0) > LARGEST_ROW_BYTES:
            msg = f"no entry of more than {LARGEST_ROW_BYTES} bytes can be spilled"
            raise SpillError(msg)
        if self._spill is None:  # In a forked child.
            assert self._place is not None  # There is no budget without one.
            self._spill = SpillFile(self._place)
        first = self._next_row
        # Not used again where that fails: what is left of it is nobody's.
        self._next_row += len(entries)
        self._spill.write(list(enumerate(entries, start=first)))
        return [spilled(entry, row) for row, entry in enumerate(entries, start=first)]

    def stats(self) -> StoreStats:
        """Return what is held now."""
        with self.lock:
            self.check_open()
            totals, lengths = self._totals, self._packing.dictionary_lengths
            return StoreStats(
                name=self.name,
                entries=len(self.slots),
                compressed_entries=totals.compressed_entries,
                spilled_entries=totals.spilled_entries,
                raw_bytes=totals.raw_bytes,
                stored_bytes=totals.stored_bytes,
                spilled_bytes=totals.spilled_bytes,
                memory_bytes=totals.memory_bytes(len(self.slots)),
                dictionaries=len(lengths),
                dictionary_bytes=sum(lengths),
            )

    def observed(self) -> Stored | None:
        """Return what metrics tell. Takes no lock: who collects must not wait for a disk."""
        if self._ended is not None:
            return None
        totals = self._totals
        return Stored(
            entries=len(self.slots),
            raw_bytes=totals.raw_bytes,
            stored_bytes=totals.stored_bytes,
            spilled_bytes=totals.spilled_bytes,
        )

    def _offer_numbers(self) -> None:
        """Have metrics told to the provider that is told of calls, which may change."""
        try:
            with active.own_work():
                provider = active.recorder.meter_provider if active.started else None
                metrics = store_metrics(provider)
                with self.lock:
                    if metrics is self._metrics or self._ended is not None:
                        return
                    before, self._metrics = self._metrics, metrics
                metrics.add(self)
                if before is not None:
                    before.remove(self)
        except Exception:
            readings.guard.caught(_CALLSITE, "offer its numbers")

    def after_fork_in_child(self, *, whole: bool) -> None:
        """Have what is in memory, a lock that nobody holds, and a file of its own when needed."""
        self.lock = threading.RLock()
        self._packing.after_fork_in_child()
        self._parent = os.getppid()
        if self._spill is not None:
            self._spill.abandon()
            self._spill = None
        if self._place is not None:
            self._place.after_fork_in_child()
        self._first_row = self._next_row
        if not whole and self._ended is None:
            self._ended = (
                f"the store {self.name!r} was being changed by another thread when this process "
                "was forked: make a new one"
            )
            self._drop_all()


def _same(slot: Slot, other: Slot) -> bool:
    return slot is other or slot == other


def _unhashable(key: object, error: TypeError) -> TypeError:
    try:
        hash(key)
    except TypeError:
        msg = (
            f"keys of a store must be hashable, as those of a dict, and {reprlib.repr(key)} is not"
        )
        return InvalidTypeError(msg)
    return error  # Of the key's own __eq__.
