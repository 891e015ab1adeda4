"""Codecs: what they are given comes back, and what they cannot hold is refused."""

from __future__ import annotations

import enum
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratatrace import CompressedStore
from stratatrace.errors import InvalidTypeError
from stratatrace.reuse.store_codecs import (
    CODECS,
    BytesCodec,
    Codec,
    JsonCodec,
    PickleCodec,
    TextCodec,
    TextOrBytesCodec,
    codec_of,
)

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | ANY_TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner),
    max_leaves=20,
)


@given(ANY_TEXT)
def test_text(text: str) -> None:
    """Any, also what is not valid Unicode."""
    for codec in (TextCodec(), TextOrBytesCodec(), JsonCodec(), PickleCodec()):
        assert codec.decode(codec.encode(text)) == text


@given(st.binary())
def test_bytes(data: bytes) -> None:
    """Any, also those that look like text."""
    for codec in (BytesCodec(), TextOrBytesCodec(), PickleCodec()):
        assert codec.decode(codec.encode(data)) == data


@given(JSON)
def test_json(value: Any) -> None:
    """What JSON can hold, and nothing is lost of it."""
    codec = JsonCodec()
    assert codec.decode(codec.encode(value)) == value


def test_json_as_it_is() -> None:
    """Without spaces; tuples come back as lists, NaN as NaN."""
    codec = JsonCodec()
    assert codec.encode({"a": [1, "grün"]}) == '{"a":[1,"grün"]}'.encode()
    assert codec.decode(codec.encode({"t": (1, 2), 3: None})) == {"t": [1, 2], "3": None}
    assert math.isnan(codec.decode(codec.encode(math.nan)))
    with pytest.raises(TypeError, match="set"):
        codec.encode({1})


class _Colour(enum.StrEnum):
    RED = "red"


class _Name(str):
    __slots__ = ()


class _Data(bytes):
    __slots__ = ()


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("text", b"bytes", "this store holds str, not bytes"),
        ("text", _Colour.RED, r"set str\(value\)"),
        (None, _Name("a"), r"a _Name would come back as a plain str: set str\(value\)"),
        ("bytes", "text", "this store holds bytes, not str"),
        ("bytes", bytearray(b"a"), r"set bytes\(value\)"),
        (None, _Data(b"a"), r"a _Data would come back as bytes"),
        (None, {"a": 1}, "codec='json'"),
    ],
)
def test_what_they_cannot_hold(name: Any, value: Any, says: str) -> None:
    """Is refused, and not changed into what they can: the error says what to do."""
    with pytest.raises(InvalidTypeError, match=says):
        codec_of(name).encode(value)


def test_pickle_holds_objects() -> None:
    """As other codecs do not."""
    store = CompressedStore[str, Any](codec="pickle")
    store["a"] = {"colour": _Colour.RED, "many": {1, 2}}
    assert store["a"] == {"colour": _Colour.RED, "many": {1, 2}}
    assert store["a"] is not store["a"]


def test_names_and_objects() -> None:
    """A ready one by its name; one's own needs two methods and no base class."""

    class Upper:
        def encode(self, value: str) -> bytes:
            return value.upper().encode()

        def decode(self, data: bytes) -> str:
            return data.decode()

    assert all(codec_of(name) is codec for name, codec in CODECS.items())
    assert all(isinstance(codec, Codec) for codec in CODECS.values())
    store = CompressedStore[str, str](codec=Upper())
    store["a"] = "loud " * 100
    assert store["a"] == "LOUD " * 100
    with pytest.raises(InvalidTypeError, match="encode"):
        codec_of(Upper)  # The class, where an instance is wanted.
