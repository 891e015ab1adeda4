"""The compressed store: a dict to its users, smaller where it pays, and sure of what it reads."""

from __future__ import annotations

import copy
import os
import pickle
import random
import sys
import threading
import tracemalloc
from collections.abc import MutableMapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from tracing import untraced

from stratatrace import CompressedStore, measure
from stratatrace.errors import (
    DamagedEntryError,
    InvalidTypeError,
    StoreChangedError,
)
from stratatrace.testing import recording

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LONG = "the same words again and again, " * 40
NOISE = random.Random(1).randbytes(2_000)


def flip(store: CompressedStore[Any, Any], key: Any, place: int) -> None:
    """Damage an entry in memory."""
    entry = bytearray(store._holding.slots[key])
    entry[place] ^= 0x10
    store._holding.slots[key] = bytes(entry)


@pytest.fixture(params=["memory", "disk"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CompressedStore[Any, Any]]:
    """Have a store whose entries are in memory, and one that has them all on disk."""
    spilled: dict[str, Any] = {"max_bytes": 1, "spill": tmp_path}
    options = spilled if request.param == "disk" else {}
    with CompressedStore[Any, Any](**options) as store:
        yield store


def test_it_is_a_mapping(store: CompressedStore[Any, Any]) -> None:
    """With all that a dict does, in the order of a dict."""
    assert isinstance(store, MutableMapping)
    store.update({"a": LONG, "b": b"bytes"}, c="")
    assert (store["a"], store["b"], store["c"]) == (LONG, b"bytes", "")
    assert (len(store), "a" in store, "x" in store) == (3, True, False)
    assert (list(store), list(reversed(store))) == (["a", "b", "c"], ["c", "b", "a"])
    assert list(store.items()) == [("a", LONG), ("b", b"bytes"), ("c", "")]
    assert list(store.values()) == [LONG, b"bytes", ""]
    assert b"bytes" in store.values()
    assert ("a", LONG) in store.items()
    assert ("a", "") not in store.items()
    store["a"] = "new"
    assert list(store) == ["a", "b", "c"]
    assert store.setdefault("a", "other") == "new"
    assert store.setdefault("d", LONG) == LONG
    assert store.pop("b") == b"bytes"
    assert store.pop("b", 7) == 7
    assert store.popitem() == ("d", LONG)
    del store["c"]
    assert dict(store) == {"a": "new"}
    store.clear()
    assert (len(store), list(store), store.stats().stored_bytes) == (0, [], 0)


def test_missing_keys(store: CompressedStore[Any, Any]) -> None:
    """Raise KeyError with the key, or give the default."""
    for missing in (lambda: store["x"], lambda: store.pop("x"), lambda: store.__delitem__("x")):
        with pytest.raises(KeyError, match="x"):
            missing()
    with pytest.raises(KeyError, match="empty"):
        store.popitem()
    assert (store.get("x"), store.get("x", 1)) == (None, 1)


def test_what_it_is_equal_to(store: CompressedStore[Any, Any]) -> None:
    """Every mapping with the same values; and it has no hash."""
    store.update(a="1", b=b"2")
    assert store == store  # noqa: PLR0124 -- it is what is tested
    assert store == {"a": "1", "b": b"2"}
    assert store == CompressedStore({"b": b"2", "a": "1"})
    assert store != {"a": "1"}
    assert store != {"a": "1", "b": "2"}
    assert store != {"a": "1", "c": b"2"}
    assert store != "store"
    with pytest.raises(TypeError, match="hash"):
        hash(store)


@pytest.mark.parametrize(
    "value", ["", "a", "\0", "\ud800\udc00\udfff", "grün 🌿" * 100, b"", b"t", b"b" * 500, LONG]
)
def test_values_come_back(store: CompressedStore[Any, Any], value: Any) -> None:
    """Of their own type, also where they are empty or have lone surrogates."""
    store[1] = value
    assert store[1] == value
    assert type(store[1]) is type(value)


def test_keys_are_anything_with_a_hash(store: CompressedStore[Any, Any]) -> None:
    """As those of a dict, None and tuples included; equal keys are one."""
    keys = [None, (1, "a"), frozenset("ab"), 2.5, b"x", int]
    for place, key in enumerate(keys):
        store[key] = str(place)
    assert [store[key] for key in keys] == list("012345")
    store[1] = "int"
    store[1.0] = "float"
    assert (len(store), store[True]) == (7, "float")


@pytest.mark.parametrize("compression", ["zlib", "zstd"])
def test_compressed_only_where_it_pays(compression: Any) -> None:
    """What is short or would hardly be shorter is kept as it is."""
    store = CompressedStore[str, Any](compression=compression, threshold=100)
    store["short"] = "a" * 98
    store["noise"] = NOISE
    stats = store.stats()
    assert (stats.compressed_entries, stats.uncompressed_entries) == (0, 2)
    store["long"] = "a" * 1_000
    store["at the threshold"] = "a" * 99  # And the byte that says that it is text.
    stats = store.stats()
    assert (stats.compressed_entries, stats.uncompressed_entries) == (2, 2)
    assert stats.stored_bytes < 2_000 + 98 + 200
    assert store["noise"] == NOISE


def test_the_usual_threshold() -> None:
    """Is lower with a dictionary, for which there are no documents that are too small."""
    for dictionary, threshold in ((False, 128), (True, 32)):
        store = CompressedStore[int, bytes](codec="bytes", dictionary=dictionary)
        store[0] = b"a" * (threshold - 1)
        assert store.stats().compressed_entries == 0
        store[1] = b"a" * threshold
        assert store.stats().compressed_entries == 1


def test_statistics_follow_every_change(store: CompressedStore[Any, Any]) -> None:
    """They are those of a store that was filled at once; nothing is left when all is gone."""
    empty = store.stats()
    assert (empty.entries, empty.raw_bytes, empty.ratio) == (0, 0, None)
    store["a"], store["b"] = LONG, b"x" * 50
    expected = store.stats()
    assert expected.raw_bytes == len(LONG) + 50 + 2
    assert expected.ratio == expected.raw_bytes / expected.stored_bytes > 5
    store["a"] = NOISE
    store["c"] = LONG
    store["a"] = LONG
    store.popitem()
    assert store.stats() == expected
    assert store.stats().to_dict()["ratio"] == expected.ratio
    for key in list(store):
        del store[key]
    assert store.stats() == empty


def test_statistics_for_people() -> None:
    """What is not there is not told."""
    store = CompressedStore[int, str]({1: LONG}, name="pages")
    told = str(store.stats())
    assert told.startswith("store 'pages': 1 entries, 1 compressed\n  values   1.3 KiB\n")
    assert "times less" in told
    assert "disk" not in told
    assert "times less" not in str(CompressedStore[int, str]().stats())


def test_memory_is_what_is_said() -> None:
    """`memory_bytes` is what entries take, as tracemalloc counts it, rounding aside."""
    texts = [f"{number} {LONG}" for number in range(2_000)]
    store = CompressedStore[int, str](dict.fromkeys(range(2_000), ""))
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number, text in enumerate(texts):
        store[number] = text
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    said = store.stats().memory_bytes
    # Each is rounded up to 16 bytes.
    assert taken == pytest.approx(said, rel=0.02)


def test_an_entry_is_one_object() -> None:
    """In memory nothing is kept beside its bytes: 10 bytes of checksum and lengths."""
    store = CompressedStore[int, bytes]({1: b"x" * 10_000}, codec="bytes")
    (entry,) = store._holding.slots.values()
    assert type(entry) is bytes
    assert store.stats().memory_bytes == sys.getsizeof(entry) < 33 + 10 + 50


@pytest.mark.parametrize("place", [0, 4, 5, 6, 9, 12, -1])
@pytest.mark.parametrize("compression", ["zlib", "zstd"])
def test_a_damaged_entry(compression: Any, place: int) -> None:
    """Names its key, wherever it is damaged, and leaves the others alone."""
    store = CompressedStore[str, str]({"good": LONG, "bad": LONG + "x"}, compression=compression)
    flip(store, "bad", place)
    for read in (
        lambda: store["bad"],
        lambda: store.get("bad"),
        lambda: store.pop("bad"),
        lambda: store.popitem(),  # noqa: PLW0108 -- its type
        lambda: store.setdefault("bad", ""),
        lambda: list(store.items()),
    ):
        with pytest.raises(DamagedEntryError, match="entry 'bad' is damaged") as caught:
            read()
        assert caught.value.key == "bad"
    assert (store["good"], len(store), "bad" in store) == (LONG, 2, True)
    store["bad"] = "again"
    assert store["bad"] == "again"
    flip(store, "bad", -1)
    del store["bad"]
    assert dict(store) == {"good": LONG}


def test_an_entry_that_is_cut_short() -> None:
    """Also to less than its checksum."""
    for length in (0, 3, 5, 20):
        store = CompressedStore[str, str]({"a": LONG})
        store._holding.slots["a"] = store._holding.slots["a"][:length]  # type: ignore[index]
        with pytest.raises(DamagedEntryError):
            store["a"]


def test_a_compressor_that_is_wrong() -> None:
    """Is found out, where checksums are right and lengths are not."""
    store = CompressedStore[str, str]({"a": LONG})
    compressor: Any = store._holding._packing._compressor
    compressor.decompress = lambda *_: b"short"
    with pytest.raises(DamagedEntryError, match="length"):
        store["a"]


def test_changes_during_iteration(store: CompressedStore[Any, Any]) -> None:
    """Raise as those of a dict do; values may be set anew."""
    store.update(dict.fromkeys("abc", LONG))
    for each in (store, store.keys(), store.values(), store.items()):
        for _ in each:
            store["a"] = "new"
        with pytest.raises(StoreChangedError, match=r"list\(store\)"):
            store.update(("d", f"one more of {one}") for one in each)
        del store["d"]
        steps = iter(each)
        next(steps)
        store.clear()
        with pytest.raises(RuntimeError, match="iterated"):
            next(steps)
        store.update(dict.fromkeys("abc", LONG))


def test_an_entry_that_goes_while_it_is_read(
    store: CompressedStore[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another thread: it is a change during iteration, and no KeyError."""
    store.update(dict.fromkeys("abc", LONG))
    value_of = store._holding.value_of

    def late(key: Any, slot: Any) -> Any:
        if key == "b":
            store._holding.remove(key)
        return value_of(key, slot)

    monkeypatch.setattr(store._holding, "value_of", late)
    items = iter(store.items())
    assert next(items) == ("a", LONG)
    if not store.stats().spilled_entries:  # The loop has it already.
        assert next(items) == ("b", LONG)
    with pytest.raises(StoreChangedError):
        next(items)


def test_iteration_takes_constant_memory(tmp_path: Path) -> None:
    """One value is there at a time, of 50 that are a megabyte each."""
    store = CompressedStore[int, bytes](codec="bytes", max_bytes="20 KB", spill=tmp_path)
    for number in range(50):
        store[number] = bytes([number]) * 1_000_000
    tracemalloc.start()
    seen = 0
    for key, value in store.items():
        seen += value[0] == key
        del value
    assert all(len(value) == 1_000_000 for value in store.values())
    assert store == store  # noqa: PLR0124
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    store.close()
    assert seen == 50
    assert peak < 3_500_000


def test_what_it_begins_with() -> None:
    """A mapping or pairs; where one cannot be held, the error is the caller's."""
    assert dict(CompressedStore({"a": "1"})) == {"a": "1"}
    assert dict(CompressedStore([("a", "1"), ("a", "2")])) == {"a": "2"}
    with pytest.raises(InvalidTypeError):
        CompressedStore({"a": "1", "b": 2})
    assert repr(CompressedStore({"a": "1"}, name="n")) == "<CompressedStore 'n': 1 entries>"


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, pickle.dumps])
def test_it_is_not_copied(make: Any) -> None:
    """It has locks and a file; the error says what to do."""
    with pytest.raises(InvalidTypeError, match=r"dict\(store\)"):
        make(CompressedStore[str, str]())


@pytest.mark.parametrize("dictionary", [False, 20])
def test_threads(tmp_path: Path, dictionary: Any) -> None:
    """Each has keys of its own and finds its values, while others write, spill and train."""
    store = CompressedStore[Any, str](
        compression="zstd", dictionary=dictionary, max_bytes=4_000, spill=tmp_path
    )
    failures: list[BaseException] = []

    def use(number: int) -> None:
        try:
            for turn in range(300):
                key = (number, turn % 17)
                store[key] = f"{number} {turn} {LONG[: turn * 5]}"
                assert store[key] == f"{number} {turn} {LONG[: turn * 5]}"
                if turn % 5 == 0:
                    assert store.pop(key).startswith(f"{number} {turn} ")
                    assert key not in store
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert store.stats().spilled_entries > 0
    expected = CompressedStore[Any, str](dict(store)).stats()
    stats = store.stats()
    assert (stats.entries, stats.raw_bytes) == (expected.entries, expected.raw_bytes)
    store.clear()
    left = store.stats()
    store.close()
    assert (left.raw_bytes, left.stored_bytes, left.memory_bytes, left.spilled_bytes) == (0,) * 4


def test_a_key_is_popped_once(store: CompressedStore[Any, Any]) -> None:
    """By one of many threads; the others get their default."""
    for turn in range(50):
        store["k"] = f"{turn}{LONG}"
        got: list[Any] = []
        together = threading.Barrier(4)

        def pop(got: list[Any] = got, together: threading.Barrier = together) -> None:
            together.wait(30)
            got.append(store.pop("k", None))

        threads = [threading.Thread(target=pop) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sorted(got, key=str) == sorted([None, None, None, f"{turn}{LONG}"], key=str)


def test_a_value_that_is_set_while_it_is_popped(store: CompressedStore[Any, Any]) -> None:
    """Is what is popped: no value that was set is lost."""
    pops: list[Any] = [lambda: store.pop("k"), lambda: store.popitem()[1]]
    for pop in pops:
        store["k"] = "before"
        codec: Any = store._holding._packing._codec
        decode = type(codec).decode

        def late(data: bytes, decode: Any = decode, codec: Any = codec) -> Any:
            del codec.decode
            store["k"] = "meanwhile"
            return decode(codec, data)

        codec.decode = late
        assert pop() == "meanwhile"
        assert "k" not in store


def test_popitem_is_the_newest_first(store: CompressedStore[Any, Any]) -> None:
    """As of a dict, to the last."""
    store.update((number, str(number)) for number in range(100))
    store[0] = "set anew, and not newer"
    keys = [store.popitem()[0] for _ in range(100)]
    assert all(one == other + 1 for one, other in pairwise(keys))
    assert not store


def test_a_key_may_use_the_store(tmp_path: Path) -> None:
    """Its equality is asked for with the lock held; so may be what a finalizer does."""
    store = CompressedStore[Any, str](max_bytes=500, spill=tmp_path)

    class Key:
        def __hash__(self) -> int:
            return 5

        def __eq__(self, other: object) -> bool:
            if len(store) < 20:
                store[len(store)] = LONG
                store["again"] = NOISE.hex()[: 10 * len(store)]
            return self is other

    keys = [Key() for _ in range(5)]
    for number, key in enumerate(keys):
        store[key] = f"{number}{LONG}"
    assert [store[key] for key in keys] == [f"{number}{LONG}" for number in range(5)]
    assert store[6] == LONG
    assert store.stats().spilled_entries > 0
    for key in list(store):
        del store[key]
    left = store.stats()
    store.close()
    assert (left.memory_bytes, left.raw_bytes, left.spilled_bytes) == (0, 0, 0)


@untraced
def test_what_calls_set_and_spill_adds_up(tmp_path: Path) -> None:
    """A call is charged for what it sets, and credited with what it spills: the sum is what is."""
    store = CompressedStore[int, bytes](codec="bytes", max_bytes=300_000, spill=tmp_path)

    def one_more(number: int) -> None:
        store[number] = os.urandom(10_000)

    with recording() as sink:
        for number in range(100):
            measure(one_more, number)
    stats = store.stats()
    store.close()
    nets = [measurement.heap_net_bytes or 0 for measurement in sink.measurements]
    assert stats.spilled_entries > 60
    assert sum(10_000 <= net < 11_500 for net in nets) > 60
    assert min(nets) < -20_000
    assert sum(nets) == pytest.approx(stats.memory_bytes, abs=25_000)


@untraced
def test_samples_are_charged_to_nobody() -> None:
    """They are ours, and gone one day; so is what a training takes."""
    store = CompressedStore[int, str](codec="text", compression="zlib", dictionary=20)
    texts = [f"{number} {LONG}" for number in range(40)]

    def one_more(number: int) -> None:
        store[number] = texts[number]

    with recording() as sink:
        for number in range(40):
            measure(one_more, number)
    assert store.stats().dictionaries == 1
    nets = [measurement.heap_net_bytes or 0 for measurement in sink.measurements]
    assert sum(nets) == pytest.approx(store.stats().memory_bytes, abs=8_000)
    assert max(nets) < 3_000
