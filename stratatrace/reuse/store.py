"""The compressed store: a mapping that keeps its values in less memory, and past a budget on disk.

This is the mapping; what an entry is made of, how it is compressed and where it is spilled to is in
the modules beside it.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, Mapping, MutableMapping, ValuesView
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Self, TypeVar, cast, overload

from stratatrace.errors import InvalidTypeError, InvalidValueError, StoreChangedError
from stratatrace.reuse.store_codecs import codec_of
from stratatrace.reuse.store_compressors import compressor_of
from stratatrace.reuse.store_holding import Holding
from stratatrace.reuse.store_packing import Packing
from stratatrace.reuse.store_spill import SpillPlace
from stratatrace.reuse.store_training import FEWEST_SAMPLES, SAMPLES
from stratatrace.sizes import parse_size

if TYPE_CHECKING:
    import os
    from types import TracebackType
    from typing import Literal

    from stratatrace.reuse.store_codecs import Codec
    from stratatrace.reuse.store_entries import Slot, StoreStats

__all__ = ["CompressedStore"]

K = TypeVar("K")
T = TypeVar("T")
V = TypeVar("V")

_NOTHING: Any = object()
_THRESHOLD_BYTES = 128
# What is shorter has little to gain by itself, and much by what others have in common with it.
_THRESHOLD_WITH_DICTIONARY_BYTES = 32


class CompressedStore(MutableMapping[K, V]):
    """A mapping that keeps its values compressed where that pays, and past a budget on disk.

    It is used as a dict is, also by several threads at once, and keeps the order of a dict. Values
    are encoded when they are set and made anew each time they are asked for, so a change of one
    that was got is not kept. Keys stay in memory as they are.

    A checksum is looked at with every read. An entry that is damaged raises `DamagedEntryError`
    with its key; the others can be read, and it can be deleted or set again.

    Args:
        items: What to begin with: a mapping, or pairs of keys and values.
        codec: How values become bytes: an object with ``encode(value) -> bytes`` and
            ``decode(bytes) -> value``; ``"text"``, ``"bytes"``, ``"json"`` or ``"pickle"``; by
            default str and bytes are held. Loading a pickle runs what it says.
        compression: ``"zlib"``, or ``"zstd"``, which needs the extra `zstd`.
        level: Of compression, as the library has them; 6 for zlib and 3 for zstd by default.
        threshold: Values that take less when they are encoded are kept as they are, in bytes or as
            text such as ``"1 KiB"``; 128 by default, and 32 with a dictionary. Larger ones are,
            too, where they would not become a tenth smaller.
        dictionary: Whether to train a dictionary, for many small documents that resemble each
            other: True, or on how many of the first documents, 1000 by default. Documents that
            come to differ from the first are trained on three more times at most.
        max_bytes: What the entries in memory may take there, as `StoreStats.memory_bytes` has it,
            before the oldest go to disk.
        spill: Where to: a directory, for a file that is gone when the store is closed, or the path
            of a new file, which stays.
        name: What its metrics are known by.

    Raises:
        InvalidTypeError: An option is of the wrong type.
        InvalidValueError: An option has a value that makes no sense, or comes without the other.
        MissingExtraError: zstd is asked for, and not installed.
        SpillError: There can be no such file.
    """

    def __init__(
        self,
        items: Mapping[K, V] | Iterable[tuple[K, V]] = (),
        /,
        *,
        codec: Codec[V] | Literal["text", "bytes", "json", "pickle"] | None = None,
        compression: Literal["zlib", "zstd"] = "zlib",
        level: int | None = None,
        threshold: int | str | None = None,
        dictionary: bool | int = False,
        max_bytes: int | str | None = None,
        spill: str | os.PathLike[str] | None = None,
        name: str = "default",
    ) -> None:
        if not isinstance(name, str):
            msg = f"the name of a store is text, not {name!r}"
            raise InvalidTypeError(msg)
        if (max_bytes is None) != (spill is None):
            msg = (
                "max_bytes= says from where on to spill, and spill= where to: give both, or neither"
            )
            raise InvalidValueError(msg)
        samples = _checked_samples(dictionary)
        if threshold is None:
            threshold = _THRESHOLD_WITH_DICTIONARY_BYTES if samples else _THRESHOLD_BYTES
        place = None if spill is None else SpillPlace(spill)
        self._holding: Holding[K] = Holding(
            name=name,
            packing=Packing(
                codec_of(codec),
                compressor_of(compression, level),
                parse_size(threshold),
                samples,
            ),
            max_bytes=None if max_bytes is None else parse_size(max_bytes),
            place=place,
        )
        try:
            self.update(items)
        except BaseException:
            self.close()
            if place is not None and place.path is not None:
                place.path.unlink(missing_ok=True)  # There is no store that it could be of.
            raise

    @property
    def name(self) -> str:
        """What its metrics are known by."""
        return self._holding.name

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._holding.closed

    def stats(self) -> StoreStats:
        """Return what it holds at this moment.

        Raises:
            NotReadyError: It is closed.
        """
        return self._holding.stats()

    def close(self) -> None:
        """Let go of everything, and of the file; a second time does nothing.

        Whatever else is asked of it afterwards raises NotReadyError.
        """
        self._holding.close()

    def __getitem__(self, key: K) -> V:
        value = self._get(key)
        if value is _NOTHING:
            raise KeyError(key)
        return cast("V", value)

    def __setitem__(self, key: K, value: V) -> None:
        holding = self._holding
        holding.put(key, holding.entry_of(key, value))

    def __delitem__(self, key: K) -> None:
        if not self._holding.remove(key):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return self._holding.slot(cast("K", key)) is not None

    def __len__(self) -> int:
        return len(self._holding.open_slots)

    def __iter__(self) -> Iterator[K]:
        return (key for key, _ in _walk(self._holding.open_slots))

    def __reversed__(self) -> Iterator[K]:
        return (key for key, _ in _walk(self._holding.open_slots, backwards=True))

    def __eq__(self, other: object) -> bool:
        """Compare value by value, and not all of them at once."""
        if self is other:
            return True
        if not isinstance(other, Mapping):
            return NotImplemented
        if len(self) != len(other):
            return False
        return all(other.get(key, _NOTHING) == value for key, value in self.items())

    # As of every mapping that can be changed.
    __hash__ = None  # type: ignore[assignment]

    @overload
    def get(self, key: K, default: None = None, /) -> V | None: ...

    @overload
    def get(self, key: K, default: V | T, /) -> V | T: ...

    def get(self, key: K, default: Any = None, /) -> Any:
        """Return the value of *key*, or *default* where there is none."""
        value = self._get(key)
        return default if value is _NOTHING else value

    @overload
    def pop(self, key: K, /) -> V: ...

    @overload
    def pop(self, key: K, default: V | T, /) -> V | T: ...

    def pop(self, key: K, default: Any = _NOTHING, /) -> Any:
        """Remove *key* and return its value, or *default* where there is none.

        An entry that cannot be read is not removed.

        Raises:
            KeyError: There is none, and no default.
        """
        holding = self._holding
        while (slot := holding.slot(key)) is not None:
            found = holding.value_of(key, slot)
            if found is not None and holding.remove(key, found[0]):
                return found[1]
        if default is _NOTHING:
            raise KeyError(key)
        return default

    def popitem(self) -> tuple[K, V]:
        """Remove the newest key and return it with its value, as a dict does.

        Raises:
            KeyError: The store is empty.
        """
        holding = self._holding
        while (last := holding.last()) is not None:
            key, slot = last
            found = holding.value_of(key, slot)
            if found is not None and holding.remove_last(key, found[0]):
                return key, found[1]
        msg = "popitem(): the store is empty"
        raise KeyError(msg)

    def setdefault(self, key: K, default: Any = None) -> Any:
        """Return the value of *key*; where there is none, set *default* and return it."""
        while True:
            value = self._get(key)
            if value is not _NOTHING:
                return value
            if self._holding.put(key, self._holding.entry_of(key, default), only_new=True):
                return default

    def clear(self) -> None:
        """Remove all entries, without reading them."""
        self._holding.clear()

    def items(self) -> ItemsView[K, V]:
        """Return a view of keys and values. In a loop, one value is decoded at a time.

        As with a dict, entries may not come or go meanwhile, in other threads neither:
        `StoreChangedError` is raised, a RuntimeError. Values may be set anew.
        """
        return _Items(self)

    def values(self) -> ValuesView[V]:
        """Return a view of the values, as that of `items`."""
        return _Values(self)

    def __repr__(self) -> str:
        holding = self._holding
        told = "closed" if holding.closed else f"{len(holding.slots)} entries"
        return f"<CompressedStore {holding.name!r}: {told}>"

    def __reduce__(self) -> NoReturn:
        """Be neither pickled nor copied: it has locks, and maybe a file."""
        msg = (
            "a CompressedStore can be neither pickled nor copied: "
            "make a new one of it, or a dict, by CompressedStore(store) or dict(store)"
        )
        raise InvalidTypeError(msg)

    def __enter__(self) -> Self:
        self._holding.check_open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _get(self, key: K) -> object:
        slot = self._holding.slot(key)
        found = None if slot is None else self._holding.value_of(key, slot)
        return _NOTHING if found is None else found[1]

    def _walk_items(self) -> Iterator[tuple[K, V]]:
        holding = self._holding
        for key, slot in _walk(holding.open_slots):
            found = holding.value_of(key, slot)
            if found is None:
                raise _changed()
            yield key, cast("V", found[1])


class _Items(ItemsView[K, V]):
    """The pairs, in one pass over the table: an entry that goes meanwhile is no KeyError."""

    def __init__(self, store: CompressedStore[K, V]) -> None:
        super().__init__(store)
        self._store = store

    def __iter__(self) -> Iterator[tuple[K, V]]:
        return self._store._walk_items()  # noqa: SLF001 -- of this module


class _Values(ValuesView[V], Generic[K, V]):
    """The values, in the same way."""

    def __init__(self, store: CompressedStore[K, V]) -> None:
        super().__init__(store)
        self._store = store

    def __iter__(self) -> Iterator[V]:
        return (value for _, value in self._store._walk_items())  # noqa: SLF001 -- of this module

    def __contains__(self, value: object) -> bool:
        return any(each is value or each == value for each in self)


def _walk(slots: dict[K, Slot], *, backwards: bool = False) -> Iterator[tuple[K, Slot]]:
    steps = iter(reversed(slots.items()) if backwards else slots.items())
    while True:
        try:
            step = next(steps)
        except StopIteration:
            return
        except RuntimeError:
            raise _changed() from None
        yield step


def _changed() -> StoreChangedError:
    return StoreChangedError(
        "the store got or lost entries while it was iterated over: iterate over list(store), "
        "or keep other threads from changing it"
    )


def _checked_samples(dictionary: object) -> int:
    if not isinstance(dictionary, int):
        msg = (
            "dictionary= is True, False, or the number of documents to train on, "
            f"not {dictionary!r}"
        )
        raise InvalidTypeError(msg)
    if isinstance(dictionary, bool):
        return SAMPLES if dictionary else 0
    if dictionary < FEWEST_SAMPLES:
        msg = f"a dictionary is trained on {FEWEST_SAMPLES} documents or more, not {dictionary}"
        raise InvalidValueError(msg)
    return dictionary
