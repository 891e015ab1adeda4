"""The options of caches, checked when they are given."""

from __future__ import annotations

import math
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Literal

from stratatrace.errors import InvalidTypeError, InvalidValueError
from stratatrace.reuse.cache_store import Bounds
from stratatrace.sizes import parse_size

if TYPE_CHECKING:
    from types import FrameType

__all__ = [
    "TooLarge",
    "check_callable",
    "check_functions",
    "check_hashable",
    "check_name",
    "checked_bounds",
    "checked_size",
    "name_of",
    "refuse_unfinished",
]

#: What is done about a value that is larger than the cache may be.
TooLarge = Literal["raise", "skip"]


def checked_bounds(
    max_entries: int | None, max_bytes: int | str | None, ttl: float | None
) -> Bounds:
    """Return the bounds of a cache.

    Raises:
        InvalidTypeError: One is of the wrong type, or there is none.
        InvalidValueError: One makes no sense.
    """
    if max_entries is None and max_bytes is None:
        msg = "a cache without a bound grows for ever: give max_entries=, max_bytes=, or both"
        raise InvalidTypeError(msg)
    if max_entries is not None:
        if isinstance(max_entries, bool) or not isinstance(max_entries, int):
            msg = f"max_entries is a number of values, not {max_entries!r}"
            raise InvalidTypeError(msg)
        if max_entries < 1:
            msg = f"max_entries is at least 1, and {max_entries!r} is not"
            raise InvalidValueError(msg)
    if ttl is not None:
        if isinstance(ttl, bool) or not isinstance(ttl, int | float):
            msg = f"ttl is a number of seconds, not {ttl!r}"
            raise InvalidTypeError(msg)
        if not (ttl > 0 and math.isfinite(ttl)):
            msg = f"ttl is more than 0 seconds, and {ttl!r} is not: leave it out to keep for good"
            raise InvalidValueError(msg)
    return Bounds(max_entries, None if max_bytes is None else parse_size(max_bytes), ttl)


def check_callable(option: str, given: object, takes: str) -> None:
    """Raise where *given* is neither None nor callable."""
    if given is not None and not callable(given):
        msg = f"{option} is a function that takes {takes}, not {given!r}"
        raise InvalidTypeError(msg)


def check_functions(size_of: object, on_evict: object) -> None:
    """Raise where one that is given is no function."""
    check_callable("size_of", size_of, "a value and returns its bytes")
    check_callable("on_evict", on_evict, "a key, a value and a reason")


def check_name(name: object) -> None:
    """Raise where *name* is neither None nor a name."""
    if name is not None and not isinstance(name, str):
        msg = f"a name is text, not {name!r}"
        raise InvalidTypeError(msg)
    if name == "":
        msg = "a name must not be empty"
        raise InvalidValueError(msg)


def name_of(frame: FrameType) -> str:
    """Return what a cache is called that is made in *frame*: the function, or the module."""
    module: str = frame.f_globals.get("__name__", "__main__")
    code = frame.f_code
    return module if code.co_name == "<module>" else f"{module}.{code.co_qualname}"


def check_hashable(key: object) -> None:
    """Raise where *key* cannot be one."""
    try:
        hash(key)
    except TypeError as error:
        msg = (
            f"a key of a cache, or an argument of a cached function, must be hashable: {error}; "
            "give what can be, such as a tuple for a list, or make the key by key="
        )
        raise InvalidTypeError(msg) from error


def checked_size(size: object, value: object) -> int:
    """Return a size that a function of the user's has given."""
    if isinstance(size, bool) or not isinstance(size, int):
        msg = f"size_of gives a number of bytes, and gave {size!r} for a {type(value).__name__}"
        raise InvalidTypeError(msg)
    if size < 0:
        msg = f"size_of gave {size!r} bytes for a {type(value).__name__}: 0 is the least"
        raise InvalidValueError(msg)
    return size


def refuse_unfinished(value: object) -> None:
    """Raise for what can be used only once, and so cannot be kept."""
    if not isinstance(value, CoroutineType | GeneratorType | AsyncGeneratorType):
        return
    kind = {CoroutineType: "coroutine", GeneratorType: "generator"}.get(
        type(value), "async generator"
    )
    if isinstance(value, CoroutineType):
        value.close()  # Else Python would warn that nobody has awaited it.
    msg = (
        f"a {kind} can be used only once, so it cannot be cached: cache what it gives "
        "(a coroutine function is cached by `cached`, and by get_or_create_async)"
    )
    raise InvalidTypeError(msg)
