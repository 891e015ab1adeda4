"""The compressors of a store, over zlib and zstandard. They know nothing of entries or samples.

Both libraries keep a state for each stream, which two threads may not use at once, and which costs
more to make than a small document to compress. So states are used again, one thread at a time.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from stratatrace.errors import InvalidTypeError, InvalidValueError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable

    import zstandard

__all__ = ["COMPRESSIONS", "Compressor", "ZlibCompressor", "ZstdCompressor", "compressor_of"]

T = TypeVar("T")

COMPRESSIONS = ("zlib", "zstd")

# States that are idle; more threads than that at once make theirs and drop them.
_MOST_IDLE = 4
_ZLIB_LEVELS = range(10)
_ZLIB_LEVEL = 6
_ZSTD_LEVEL = 3
# zlib clears its tables for each document, which takes longer than to compress a small one: those
# get tables of their size. Of all that is this large or smaller, the window holds everything.
_SMALL_BYTES = 2**12
_SMALL_WINDOW, _SMALL_MEMORY = -12, 5
# Without a header and a checksum of zlib's own, since an entry has one.
_WINDOW = -15
# What zlib's window can hold.
_ZLIB_DICTIONARY_BYTES = 2**15
_ZSTD_DICTIONARY_BYTES = 2**16
# What each frame of zstd begins with. To leave it out by an option would cost the option of a level
# that suits the size of what is compressed.
_ZSTD_MAGIC_BYTES = 4


class Compressor(Protocol):
    """One way to compress, with the dictionaries that were trained for it."""

    #: How long a dictionary may be.
    dictionary_bytes: int

    def compress(self, data: bytes, dictionary: int, /) -> bytes:
        """Return *data* compressed with one of the dictionaries, 0 being none."""
        ...

    def decompress(self, payload: bytes, dictionary: int, raw_bytes: int, /) -> bytes:
        """Return what was compressed. May raise anything where it is not what `compress` made."""
        ...

    def train(self, samples: list[bytes], /) -> bytes:
        """Return a dictionary for what resembles the samples. May raise where they are too few."""
        ...

    def add(self, dictionary: bytes, /) -> int:
        """Have one more dictionary, and return its number."""
        ...


class _Idle(Generic[T]):
    """States that nobody uses just now."""

    __slots__ = ("_idle", "_make")

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._idle: list[T] = []

    def take(self) -> T:
        """Return one that is the caller's until it gives it back."""
        try:
            return self._idle.pop()
        except IndexError:
            return self._make()

    def give(self, state: T) -> None:
        """Take it back."""
        if len(self._idle) < _MOST_IDLE:
            self._idle.append(state)


class ZlibCompressor:
    """zlib, of the standard library. A dictionary is a stretch of what documents have in common."""

    dictionary_bytes = _ZLIB_DICTIONARY_BYTES

    def __init__(self, level: int) -> None:
        self._level = level
        # They are copied and never used: zlib locks them meanwhile.
        self._small = zlib.compressobj(level, zlib.DEFLATED, _SMALL_WINDOW, _SMALL_MEMORY)
        self._trained: list[tuple[bytes, Any]] = [(b"", None)]

    def compress(self, data: bytes, dictionary: int, /) -> bytes:
        """Return *data* compressed with one of the dictionaries, 0 being none."""
        if dictionary:
            state = self._trained[dictionary][1].copy()
        elif len(data) <= _SMALL_BYTES:
            state = self._small.copy()
        else:
            return zlib.compress(data, self._level, _WINDOW)
        return bytes(state.compress(data) + state.flush())

    def decompress(self, payload: bytes, dictionary: int, raw_bytes: int, /) -> bytes:
        """Return what was compressed."""
        if not dictionary:
            return zlib.decompress(payload, _WINDOW, max(raw_bytes, 1))
        state = zlib.decompressobj(_WINDOW, zdict=self._trained[dictionary][0])
        return state.decompress(payload)

    def train(self, samples: list[bytes], /) -> bytes:
        """Return as much of the samples as zlib can look back on, taken from all of them."""
        wanted = self.dictionary_bytes * len(samples) // (sum(map(len, samples)) or 1)
        step = max(1, len(samples) // max(1, wanted))
        return b"".join(samples[::step])[-self.dictionary_bytes :]

    def add(self, dictionary: bytes, /) -> int:
        """Have one more dictionary, and return its number."""
        state = zlib.compressobj(self._level, zlib.DEFLATED, _WINDOW, zdict=dictionary)
        self._trained.append((dictionary, state))
        return len(self._trained) - 1


class ZstdCompressor:
    """Zstandard, by the package zstandard."""

    dictionary_bytes = _ZSTD_DICTIONARY_BYTES

    def __init__(self, level: int) -> None:
        zstandard = _zstandard()
        if zstandard is None:
            feature = "CompressedStore(compression='zstd')"
            raise MissingExtraError(feature, "zstd")
        self._zstandard = zstandard
        self._level = level
        # For each dictionary, those that compress and those that decompress: in one list, so that
        # no fork comes between the two.
        self._states: list[tuple[_Idle[Any], _Idle[Any]]] = []
        self._have(None)

    def compress(self, data: bytes, dictionary: int, /) -> bytes:
        """Return *data* compressed with one of the dictionaries, 0 being none."""
        idle, _ = self._states[dictionary]
        state = idle.take()
        compressed: bytes = state.compress(data)
        idle.give(state)
        return compressed[_ZSTD_MAGIC_BYTES:]

    def decompress(self, payload: bytes, dictionary: int, raw_bytes: int, /) -> bytes:
        """Return what was compressed."""
        _, idle = self._states[dictionary]
        state = idle.take()
        data: bytes = state.decompress(payload, max_output_size=raw_bytes)
        idle.give(state)
        return data

    def train(self, samples: list[bytes], /) -> bytes:
        """Return a dictionary of what the samples have in common."""
        trained = self._zstandard.train_dictionary(
            self.dictionary_bytes, samples, level=self._level
        )
        return bytes(trained.as_bytes())

    def add(self, dictionary: bytes, /) -> int:
        """Have one more dictionary, and return its number."""
        trained = self._zstandard.ZstdCompressionDict(dictionary)
        # Once, and not for each state.
        trained.precompute_compress(level=self._level)
        self._have(trained)
        return len(self._states) - 1

    def _have(self, trained: zstandard.ZstdCompressionDict | None) -> None:
        library, level = self._zstandard, self._level
        # An entry says itself which dictionary it has.
        compressors = _Idle(
            lambda: library.ZstdCompressor(
                level=level, dict_data=trained, write_dict_id=False, write_checksum=False
            )
        )
        decompressors = _Idle(
            lambda: library.ZstdDecompressor(
                dict_data=trained, format=library.FORMAT_ZSTD1_MAGICLESS
            )
        )
        self._states.append((compressors, decompressors))


def compressor_of(compression: object, level: object) -> Compressor:
    """Return the compressor that a store's options mean.

    Raises:
        InvalidValueError: There is none of that name, or it has no such level.
        InvalidTypeError: The level is no int.
        MissingExtraError: It needs a package that is not installed.
    """
    if compression not in COMPRESSIONS:
        names = " or ".join(map(repr, COMPRESSIONS))
        msg = f"there is no compression {compression!r}: choose {names}"
        raise InvalidValueError(msg)
    if level is not None and (isinstance(level, bool) or not isinstance(level, int)):
        msg = f"a level of compression is an int, or None for the usual one, not {level!r}"
        raise InvalidTypeError(msg)
    if compression == "zlib":
        return ZlibCompressor(_checked(level, _ZLIB_LEVEL, _ZLIB_LEVELS, "zlib"))
    zstandard = _zstandard()
    most = 22 if zstandard is None else zstandard.MAX_COMPRESSION_LEVEL
    return ZstdCompressor(_checked(level, _ZSTD_LEVEL, range(-50, most + 1), "zstd"))


def _checked(level: int | None, usual: int, levels: range, name: str) -> int:
    if level is None:
        return usual
    if level not in levels:
        msg = f"{name} has the levels {levels[0]} to {levels[-1]}, and {level} is none of them"
        raise InvalidValueError(msg)
    return level


def _zstandard() -> Any:
    """Return the package; None where it is not installed."""
    try:
        import zstandard  # noqa: PLC0415 -- an extra, and it takes a while to import
    except ImportError:
        return None
    return zstandard
