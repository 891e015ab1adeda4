"""What debug mode hands out in place of an object: it works until the object is given back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from stratatrace.errors import PoolMisuseError
from stratatrace.wrapping import ObjectProxy

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["Borrowed", "borrowed", "can_stand_in", "item_of", "place_of_use", "revoke"]

_OURS = str(Path(__file__).parents[1])
_MADE_IN_PYTHON = 1 << 9  # Py_TPFLAGS_HEAPTYPE


class Borrowed(ObjectProxy[Any]):
    """Stands for an object while it is out."""


class BorrowedCallable(Borrowed):
    """Stands for one that can be called."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        return self.__wrapped__(*args, **kwargs)


class _Revoked:
    """What a `Borrowed` stands for once the object was given back: nothing works on it."""

    __slots__ = ("_message",)

    def __init__(self, message: str) -> None:
        object.__setattr__(self, "_message", message)

    def __getattr__(self, name: str) -> Any:
        # The proxy itself asks for some of those, and wants no more than an AttributeError.
        if name.startswith("__"):
            raise AttributeError(name)
        raise PoolMisuseError(self._message)

    def __setattr__(self, name: str, value: object) -> None:
        raise PoolMisuseError(self._message)

    def __delattr__(self, name: str) -> None:
        raise PoolMisuseError(self._message)


def _refuse(self: _Revoked, *_args: object, **_kwargs: object) -> Any:
    raise PoolMisuseError(self._message)


def _specials() -> set[str]:
    """Return the names of what an object can be asked for by the language itself."""
    kinds = (int, float, list, dict, set, bytes)
    names = {name for kind in kinds for name in dir(kind) if callable(getattr(kind, name))}
    left = {name for name in names if name.startswith("__")} - set(dir(object)) - {"__buffer__"}
    left -= {"__class_getitem__", "__get__", "__release_buffer__", "__index__"}
    more = {"__str__", "__format__", "__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"}
    more |= {"__hash__", "__bytes__", "__next__", "__await__", "__aiter__", "__anext__"}
    return left | more | {"__enter__", "__exit__", "__aenter__", "__aexit__", "__call__"}


for _name in _specials():
    setattr(_Revoked, _name, _refuse)


def can_stand_in(item: object) -> bool:
    """Tell whether *item* can be stood in for: not what C code takes by its type or its buffer."""
    if not type(item).__flags__ & _MADE_IN_PYTHON:
        return False
    try:
        memoryview(item)  # type: ignore[arg-type] # which is what is asked
    except TypeError:
        return True
    return False


def borrowed(item: Any) -> Borrowed:
    """Return what stands in for *item*."""
    return BorrowedCallable(item) if callable(item) else Borrowed(item)


def revoke(handle: Any, message: str) -> None:
    """Have every use of it raise a `PoolMisuseError` with *message*."""
    handle.__wrapped__ = _Revoked(message)


def place_of_use() -> str:
    """Return the file and line from which the pool was called."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 -- documented
    while frame is not None and frame.f_code.co_filename.startswith(_OURS):
        frame = frame.f_back
    return "an unknown place" if frame is None else _told(frame.f_code.co_filename, frame)


def _told(path: str, frame: FrameType) -> str:
    return f"{path}:{frame.f_lineno} in {frame.f_code.co_qualname}"


def item_of(handle: object) -> Any:
    """Return what *handle* stands for, or *handle*.

    Raises:
        PoolMisuseError: It was given back.
    """
    if not issubclass(type(handle), Borrowed):  # What stands in for it says what it is not.
        return handle
    item = cast("Borrowed", handle).__wrapped__
    if type(item) is _Revoked:
        raise PoolMisuseError(item._message)  # noqa: SLF001 -- of this file
    return item
