"""What a store keeps of a value: one object of bytes, with a checksum, or a row of the spill file.

An entry in memory begins with its checksum, how it was made and with which dictionary; of one that
is compressed, the length of what it was made from follows. There is nothing beside it: an object of
Python's for each number would take more than the numbers.

An entry on disk is an int: the number of its row, and what the statistics need of it.
"""

from __future__ import annotations

import struct
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from stratatrace.sizes import format_size

if TYPE_CHECKING:
    from typing import TypeAlias

__all__ = [
    "LARGEST_BYTES",
    "OBJECT_BYTES",
    "Parts",
    "Slot",
    "StoreStats",
    "Totals",
    "pack",
    "row_of",
    "spilled",
    "unpack",
]

#: An entry in memory, or on disk.
Slot: TypeAlias = bytes | int

#: What Python takes for an object of bytes beside them.
OBJECT_BYTES = sys.getsizeof(b"")
#: The largest value, encoded: its length is told in four bytes.
LARGEST_BYTES = 2**32 - 1

_RAW, _COMPRESSED = 0, 1
_CHECKSUM = struct.Struct("<I")
_RAW_HEAD = struct.Struct("<BB")
_COMPRESSED_HEAD = struct.Struct("<BBI")
_RAW_BYTES = _CHECKSUM.size + _RAW_HEAD.size
_COMPRESSED_BYTES = _CHECKSUM.size + _COMPRESSED_HEAD.size
_KIND = _CHECKSUM.size


class Parts(NamedTuple):
    """What an entry is made of."""

    payload: bytes
    compressed: bool
    #: Which of the dictionaries, from 1; 0 is none.
    dictionary: int
    #: The length of the value, encoded.
    raw_bytes: int


def pack(parts: Parts) -> bytes:
    """Return the entry."""
    payload, compressed, dictionary, raw_bytes = parts
    if compressed:
        head = _COMPRESSED_HEAD.pack(_COMPRESSED, dictionary, raw_bytes)
    else:
        head = _RAW_HEAD.pack(_RAW, 0)
    return b"".join((_CHECKSUM.pack(crc32(payload, crc32(head))), head, payload))


def unpack(entry: bytes) -> Parts | None:
    """Return what *entry* is made of; None where it is not what `pack` has made."""
    if len(entry) < _RAW_BYTES:
        return None
    if crc32(memoryview(entry)[_KIND:]) != _CHECKSUM.unpack_from(entry)[0]:
        return None
    if entry[_KIND] == _RAW:
        payload = entry[_RAW_BYTES:]
        return Parts(payload, compressed=False, dictionary=0, raw_bytes=len(payload))
    _, dictionary, raw_bytes = _COMPRESSED_HEAD.unpack_from(entry, _KIND)
    return Parts(entry[_COMPRESSED_BYTES:], True, dictionary, raw_bytes)  # noqa: FBT003 -- a tuple


def spilled(entry: bytes, row: int) -> int:
    """Return what is kept of *entry* in memory when it is in a row of the spill file."""
    raw_bytes, stored_bytes, compressed = _sizes(entry)
    return row << 65 | compressed << 64 | stored_bytes << 32 | raw_bytes


def row_of(slot: int) -> int:
    """Return the row of an entry on disk."""
    return slot >> 65


def _sizes(slot: Slot) -> tuple[int, int, int]:
    """Return the length of the value, that of the entry, and whether it is compressed."""
    if type(slot) is int:
        return slot & 0xFFFFFFFF, slot >> 32 & 0xFFFFFFFF, slot >> 64 & 1
    assert type(slot) is bytes
    stored_bytes = len(slot)
    if slot[_KIND] == _RAW:
        return stored_bytes - _RAW_BYTES, stored_bytes, 0
    return _COMPRESSED_HEAD.unpack_from(slot, _KIND)[2], stored_bytes, 1


class Totals:
    """The sums over all entries. Whoever changes them holds the store's lock."""

    __slots__ = (
        "compressed_entries",
        "raw_bytes",
        "spilled_bytes",
        "spilled_entries",
        "stored_bytes",
    )

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Be those of no entry."""
        self.raw_bytes = self.stored_bytes = self.compressed_entries = 0
        self.spilled_bytes = self.spilled_entries = 0

    def add(self, slot: Slot) -> None:
        """Count an entry."""
        raw_bytes, stored_bytes, compressed = _sizes(slot)
        self.raw_bytes += raw_bytes
        self.stored_bytes += stored_bytes
        self.compressed_entries += compressed
        if type(slot) is int:
            self.spilled_bytes += stored_bytes
            self.spilled_entries += 1

    def remove(self, slot: Slot) -> None:
        """Count it no more."""
        raw_bytes, stored_bytes, compressed = _sizes(slot)
        self.raw_bytes -= raw_bytes
        self.stored_bytes -= stored_bytes
        self.compressed_entries -= compressed
        if type(slot) is int:
            self.spilled_bytes -= stored_bytes
            self.spilled_entries -= 1

    def move(self, entry: bytes) -> None:
        """Count an entry as one on disk, which was counted as one in memory."""
        self.spilled_bytes += len(entry)
        self.spilled_entries += 1

    def memory_bytes(self, entries: int) -> int:
        """Return what those of *entries* that are in memory take there."""
        in_memory = entries - self.spilled_entries
        return self.stored_bytes - self.spilled_bytes + OBJECT_BYTES * in_memory


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStats:
    """What a `CompressedStore` holds at one moment."""

    #: The name that its metrics have.
    name: str
    #: How many there are, in memory and on disk.
    entries: int
    #: How many of them are compressed; the others are kept as they are.
    compressed_entries: int
    #: How many of them are on disk.
    spilled_entries: int
    #: What the values take when they are encoded, in bytes.
    raw_bytes: int
    #: What they are kept in, checksums included, in memory and on disk, in bytes.
    stored_bytes: int
    #: How much of that is on disk, in bytes.
    spilled_bytes: int
    #: What entries in memory take of it, with the objects that they are; what `max_bytes` bounds.
    #: Keys, the table that holds them and dictionaries are not in it.
    memory_bytes: int
    #: Dictionaries that were trained and are in use; older entries keep theirs.
    dictionaries: int
    #: The length of all of them, in bytes; what is made of them for compressing comes on top.
    dictionary_bytes: int

    @property
    def uncompressed_entries(self) -> int:
        """How many entries are kept as they are, being small or not worth it."""
        return self.entries - self.compressed_entries

    @property
    def ratio(self) -> float | None:
        """How many times less the entries take than their values; None where there are none."""
        return self.raw_bytes / self.stored_bytes if self.stored_bytes else None

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, for machines."""
        derived = {"uncompressed_entries": self.uncompressed_entries, "ratio": self.ratio}
        return asdict(self) | derived

    def __str__(self) -> str:
        """Return all of it, for people."""
        ratio = "" if self.ratio is None else f", {self.ratio:.2f} times less"
        lines = [
            f"store {self.name!r}: {self.entries} entries, {self.compressed_entries} compressed",
            f"  values   {format_size(self.raw_bytes)}",
            f"  stored   {format_size(self.stored_bytes)}{ratio}",
            f"  memory   {format_size(self.memory_bytes)}",
        ]
        if self.spilled_entries:
            size = format_size(self.spilled_bytes)
            lines.append(f"  on disk  {size} in {self.spilled_entries} entries")
        if self.dictionaries:
            size = format_size(self.dictionary_bytes)
            noun = "dictionary" if self.dictionaries == 1 else "dictionaries"
            lines.append(f"  trained  {self.dictionaries} {noun} of {size}")
        return "\n".join(lines)
