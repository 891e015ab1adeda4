"""From a value to what is kept of it, and back: codec, compressor and dictionary, in this order."""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Any

from stratatrace.errors import DamagedEntryError, InvalidTypeError, InvalidValueError
from stratatrace.reuse.store_entries import LARGEST_BYTES, Parts, pack, unpack
from stratatrace.reuse.store_training import Training

if TYPE_CHECKING:
    from stratatrace.reuse.store_codecs import Codec
    from stratatrace.reuse.store_compressors import Compressor

__all__ = ["Packing", "damaged", "name_of"]

# What does not become a tenth smaller is not worth being made larger at every read.
_WORTH = 0.9


class Packing:
    """How one store packs its values. Takes no lock of the store's.

    Args:
        codec: How values become bytes.
        compressor: How bytes become fewer.
        threshold_bytes: What is shorter is kept as it is.
        samples: On how many documents to train a dictionary; 0 for none.
    """

    def __init__(
        self, codec: Codec[Any], compressor: Compressor, threshold_bytes: int, samples: int
    ) -> None:
        self._codec = codec
        self._compressor = compressor
        self._threshold_bytes = threshold_bytes
        self._training = Training(compressor, samples) if samples else None

    @property
    def dictionary_lengths(self) -> list[int]:
        """The lengths of the dictionaries that are in use, in bytes."""
        return [] if self._training is None else self._training.lengths

    def pack(self, key: object, value: object) -> bytes:
        """Return what is kept of a value.

        Raises:
            InvalidTypeError: The codec made no bytes of it.
            InvalidValueError: It is too large.
        """
        try:
            data = self._codec.encode(value)
        except Exception as error:
            error.add_note(f"when {name_of(key)} was encoded")
            raise
        if type(data) is not bytes:
            if not isinstance(data, bytes | bytearray | memoryview):
                msg = f"{self._codec!r} must encode to bytes, not to {type(data).__qualname__}"
                raise InvalidTypeError(msg)
            data = bytes(data)
        if len(data) > LARGEST_BYTES:
            msg = f"{name_of(key)} takes {len(data)} bytes, and a value may take {LARGEST_BYTES}"
            raise InvalidValueError(msg)
        return pack(self._parts(data))

    def unpack(self, key: object, entry: bytes) -> Any:
        """Return the value.

        Raises:
            DamagedEntryError: The entry is not what `pack` has returned.
        """
        parts = unpack(entry)
        if parts is None:
            raise damaged(key, "its checksum is wrong")
        data = parts.payload
        if parts.compressed:
            try:
                data = self._compressor.decompress(data, parts.dictionary, parts.raw_bytes)
            except MemoryError:
                raise
            except Exception as error:
                raise damaged(key, str(error)) from error
            if len(data) != parts.raw_bytes:
                raise damaged(key, "its length is wrong")
        try:
            return self._codec.decode(data)
        except Exception as error:
            error.add_note(f"when {name_of(key)} was decoded")
            raise

    def after_fork_in_child(self) -> None:
        """Have locks that nobody holds."""
        if self._training is not None:
            self._training.after_fork_in_child()

    def _parts(self, data: bytes) -> Parts:
        raw_bytes = len(data)
        if raw_bytes >= self._threshold_bytes:
            training = self._training
            dictionary = 0 if training is None else training.dictionary_for(data)
            payload = self._compressor.compress(data, dictionary)
            if training is not None:
                training.look_at(data, len(payload))
            if len(payload) <= _WORTH * raw_bytes:
                return Parts(payload, compressed=True, dictionary=dictionary, raw_bytes=raw_bytes)
        return Parts(data, compressed=False, dictionary=0, raw_bytes=raw_bytes)


def name_of(key: object) -> str:
    """Return how errors call the entry of a key."""
    return f"the entry {reprlib.repr(key)}"


def damaged(key: object, why: str) -> DamagedEntryError:
    """Return the error for an entry that is not what was written."""
    msg = f"{name_of(key)} is damaged: {why}; the others can be read, and it can be deleted or set"
    return DamagedEntryError(msg, key=key)
