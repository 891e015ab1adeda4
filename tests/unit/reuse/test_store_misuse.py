"""Misuse of a store: an error at once, which says what to do; what was in it is not touched."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pytest

from stratatrace import CompressedStore
from stratatrace.errors import (
    InvalidTypeError,
    InvalidValueError,
    NotReadyError,
    StratatraceError,
)
from stratatrace.reuse import store_packing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LONG = "the same words again and again, " * 40


@pytest.fixture(params=["memory", "disk"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CompressedStore[Any, Any]]:
    """Have a store whose entries are in memory, and one that has them all on disk."""
    spilled: dict[str, Any] = {"max_bytes": 1, "spill": tmp_path}
    options = spilled if request.param == "disk" else {}
    with CompressedStore[Any, Any](**options) as store:
        yield store


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"codec": "yaml"}, InvalidValueError, "'text', 'bytes', 'json', 'pickle'"),
        ({"codec": object()}, InvalidTypeError, "encode"),
        ({"codec": pickle}, InvalidTypeError, "encode"),
        ({"compression": "lzma"}, InvalidValueError, "'zlib' or 'zstd'"),
        ({"compression": None}, InvalidValueError, "'zlib' or 'zstd'"),
        ({"level": 10}, InvalidValueError, "0 to 9"),
        ({"level": 23, "compression": "zstd"}, InvalidValueError, "-50 to 22"),
        ({"level": "9"}, InvalidTypeError, "int"),
        ({"level": True}, InvalidTypeError, "int"),
        ({"threshold": 0}, InvalidValueError, "greater than zero"),
        ({"threshold": -5}, InvalidValueError, "greater than zero"),
        ({"threshold": "much"}, InvalidValueError, "not a size"),
        ({"threshold": 1.5}, InvalidTypeError, "size"),
        ({"dictionary": 9}, InvalidValueError, "10 documents"),
        ({"dictionary": -1}, InvalidValueError, "10 documents"),
        ({"dictionary": "yes"}, InvalidTypeError, "number of documents"),
        ({"max_bytes": "1MB"}, InvalidValueError, "both"),
        ({"spill": "/tmp"}, InvalidValueError, "both"),
        ({"max_bytes": 0, "spill": "/tmp"}, InvalidValueError, "greater than zero"),
        ({"max_bytes": 1, "spill": 5}, InvalidTypeError, "directory"),
        ({"max_bytes": 1, "spill": True}, InvalidTypeError, "directory"),
        ({"name": None}, InvalidTypeError, "name"),
    ],
)
def test_misuse(options: dict[str, Any], error: type[Exception], says: str) -> None:
    """Raises at once, and says what was expected."""
    with pytest.raises(error, match=says) as caught:
        CompressedStore(**options)
    assert isinstance(caught.value, StratatraceError)


def test_unhashable_keys(store: CompressedStore[Any, Any]) -> None:
    """Are a TypeError wherever they are given, and change nothing."""
    uses: list[Any] = [
        lambda: store[["k"]],
        lambda: store.__setitem__(["k"], "v"),
        lambda: store.__delitem__(["k"]),
        lambda: ["k"] in store,
        lambda: store.get(["k"]),
        lambda: store.pop(["k"], None),
        lambda: store.setdefault(["k"], "v"),
    ]
    for use in uses:
        with pytest.raises(InvalidTypeError, match=r"must be hashable.*\['k'\]"):
            use()
    assert not store


def test_what_a_key_raises_is_its_own() -> None:
    """A TypeError of its `__eq__` is not taken for a missing hash."""

    class Key:
        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            msg = "not to be compared"
            raise TypeError(msg)

    store = CompressedStore[Any, str]({Key(): "a"})
    for use in (store.get, store.__delitem__, lambda key: store.__setitem__(key, "b")):
        with pytest.raises(TypeError, match="not to be compared"):
            use(Key())
    assert list(store.values()) == ["a"]


@pytest.mark.parametrize("value", [None, 5, ["a"], bytearray(b"a"), memoryview(b"a")])
def test_values_that_it_cannot_hold(store: CompressedStore[Any, Any], value: Any) -> None:
    """Raise, and leave what was there."""
    store["a"] = "before"
    with pytest.raises(InvalidTypeError, match=r"this store holds str and bytes, not \w+: "):
        store["a"] = value
    assert store["a"] == "before"


def test_values_that_are_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Are refused."""
    monkeypatch.setattr(store_packing, "LARGEST_BYTES", 100)
    store = CompressedStore[str, str]({"a": "x" * 99})
    with pytest.raises(InvalidValueError, match="entry 'a' takes 101 bytes"):
        store["a"] = "x" * 100
    assert store["a"] == "x" * 99


def test_what_a_codec_raises_goes_to_the_caller() -> None:
    """The same object, with a note of where it was; `get` does not take it for a missing key."""
    empty: dict[str, Any] = {}

    class Codec:
        def encode(self, value: Any) -> Any:
            return value or empty["encode"]

        def decode(self, data: bytes) -> Any:
            return empty["decode"]

    store = CompressedStore[str, Any](codec=Codec())
    with pytest.raises(KeyError, match="encode") as caught:
        store["a"] = None
    assert caught.value.__notes__ == ["when the entry 'a' was encoded"]
    with pytest.raises(InvalidTypeError, match="must encode to bytes, not to str"):
        store["a"] = "text"
    store["a"] = bytearray(b"x")
    with pytest.raises(KeyError, match="decode") as caught:
        store.get("a")
    assert caught.value.__notes__ == ["when the entry 'a' was decoded"]
    with pytest.raises(KeyError, match="decode"):
        store.pop("a", None)
    assert len(store) == 1


def test_a_closed_store(store: CompressedStore[Any, Any]) -> None:
    """Says so whatever is asked of it; to close it again does nothing."""
    store["a"] = LONG
    items = iter(store.items())
    next(items)
    store.close()
    store.close()
    assert store.closed
    uses: list[Any] = [
        lambda: store["a"],
        lambda: store.__setitem__("a", ""),
        lambda: store.__delitem__("a"),
        lambda: "a" in store,
        lambda: store.get("a"),
        lambda: store.pop("a", None),
        lambda: store.setdefault("a", ""),
        lambda: list(store),
        lambda: list(reversed(store)),
        lambda: list(store.items()),
        lambda: list(store.values()),
        lambda: store == {},
        store.__len__,
        store.popitem,
        store.clear,
        store.stats,
        store.__enter__,
        lambda: store.update(a=""),
    ]
    for use in uses:
        with pytest.raises(NotReadyError, match="the store 'default' is closed"):
            use()
    with pytest.raises(RuntimeError):
        next(items)
    assert repr(store) == "<CompressedStore 'default': closed>"
