"""Codecs: how a store's values become bytes, and bytes values again."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from stratatrace.errors import InvalidTypeError, InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "CODECS",
    "BytesCodec",
    "Codec",
    "JsonCodec",
    "PickleCodec",
    "TextCodec",
    "TextOrBytesCodec",
    "codec_of",
]

V = TypeVar("V")

_TEXT = b"t"
_BYTES = b"b"


@runtime_checkable
class Codec(Protocol[V]):
    """Makes bytes of a value, and the value of the bytes.

    Both are called from the threads that use the store, several at a time. What they raise goes to
    whoever has set or asked for the value.
    """

    def encode(self, value: V, /) -> bytes:
        """Return the bytes of *value*."""
        ...

    def decode(self, data: bytes, /) -> V:
        """Return the value that `encode` was given."""
        ...


class BytesCodec:
    """Bytes as they are."""

    def encode(self, value: bytes, /) -> bytes:
        """Return *value* itself."""
        if type(value) is not bytes:
            raise _not_held(value, "bytes")
        return value

    def decode(self, data: bytes, /) -> bytes:
        """Return *data* itself."""
        return data


class TextCodec:
    """Text as UTF-8, lone surrogates included."""

    def encode(self, value: str, /) -> bytes:
        """Return the bytes of the text."""
        if type(value) is not str:
            raise _not_held(value, "str")
        return value.encode("utf-8", "surrogatepass")

    def decode(self, data: bytes, /) -> str:
        """Return the text."""
        return data.decode("utf-8", "surrogatepass")


class TextOrBytesCodec:
    """Text and bytes, told apart by a byte at the end."""

    def encode(self, value: str | bytes, /) -> bytes:
        """Return the bytes of *value*, and one that says which of both it is."""
        if type(value) is str:
            return value.encode("utf-8", "surrogatepass") + _TEXT
        if type(value) is bytes:
            return value + _BYTES
        raise _not_held(value, "str and bytes")

    def decode(self, data: bytes, /) -> str | bytes:
        """Return the text, or the bytes."""
        if data.endswith(_TEXT):
            return data[:-1].decode("utf-8", "surrogatepass")
        return data[:-1]


class JsonCodec:
    """What JSON can hold. As always with JSON, tuples come back as lists and keys as text."""

    def encode(self, value: Any, /) -> bytes:
        """Return the JSON of *value* without spaces."""
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8", "surrogatepass")

    def decode(self, data: bytes, /) -> Any:
        """Return the value."""
        return json.loads(data.decode("utf-8", "surrogatepass"))


class PickleCodec:
    """Whatever can be pickled.

    To load a pickle runs what it says. Where others can write to the file that a store spills to,
    they can have anything run in this process: a checksum is no signature.
    """

    def encode(self, value: Any, /) -> bytes:
        """Return the pickle of *value*."""
        return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)

    def decode(self, data: bytes, /) -> Any:
        """Return the value."""
        return pickle.loads(data)  # noqa: S301 -- it is ours, and who uses it was warned


def codec_of(codec: object) -> Codec[Any]:
    """Return the codec that a store's option means.

    Raises:
        InvalidValueError: There is no ready codec of that name.
        InvalidTypeError: It has no `encode` and `decode`.
    """
    if codec is None:
        return TextOrBytesCodec()
    if isinstance(codec, str):
        ready = CODECS.get(codec)
        if ready is None:
            names = ", ".join(map(repr, CODECS))
            msg = f"there is no codec {codec!r}: choose one of {names}, or give an object"
            raise InvalidValueError(msg)
        return ready
    if isinstance(codec, type) or not isinstance(codec, Codec):
        msg = (
            "a codec is an object with encode(value) -> bytes and decode(bytes) -> value, or one "
            f"of the names {', '.join(map(repr, CODECS))}, not {codec!r}"
        )
        raise InvalidTypeError(msg)
    return codec


def _not_held(value: object, held: str) -> InvalidTypeError:
    kind = type(value)
    hint = "give the store a codec, such as codec='json' or codec='pickle'"
    if isinstance(value, str):
        hint = f"a {kind.__qualname__} would come back as a plain str: set str(value)"
    elif isinstance(value, bytes | bytearray | memoryview):
        hint = f"a {kind.__qualname__} would come back as bytes: set bytes(value)"
    return InvalidTypeError(f"this store holds {held}, not {kind.__qualname__}: {hint}")


#: The ready ones, by the names that `CompressedStore` takes.
CODECS: Mapping[str, Codec[Any]] = {
    "text": TextCodec(),
    "bytes": BytesCodec(),
    "json": JsonCodec(),
    "pickle": PickleCodec(),
}
