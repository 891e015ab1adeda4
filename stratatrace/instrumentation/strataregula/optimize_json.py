"""The switch ``json``: a large JSON file is read as a stream; its text is never there as a whole.

Only what ijson's parser in C and the standard library are known to take alike is read so. All else,
errors before all, is left to the function that was there before, from the beginning.
"""

from __future__ import annotations

import io
import os
import re
from typing import TYPE_CHECKING, Any

from stratatrace.instrumentation.strataregula.optimize_modules import SeenModule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

__all__ = ["streaming_json"]

#: Below that, the text of a file is nothing to be spared.
LARGE_BYTES = 1_000_000

# White space to ijson and not to json, and halves of surrogate pairs, which ijson replaces. A part
# that ends within such an escape is looked at with the next.
_DOUBTFUL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]|\\u[dD][89a-fA-F]")
_LONGEST = 4
# json recurses, and where it gives up is part of what it does.
_MOST_NESTED = 50
_PART_BYTES = 1 << 16


class _DoubtfulError(Exception):
    """The document is not for ijson."""


def streaming_json(_module: ModuleType, originals: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return ``json`` with another `load` for a module; None where ijson has no parser in C."""
    import ijson  # noqa: PLC0415 -- of an extra

    if ijson.backend != "yajl2_c":
        return None  # The others take many times as long.
    json = originals["json"]
    return {"json": SeenModule(json, load=_streaming_load(json, ijson))}


def _streaming_load(json: ModuleType, ijson: ModuleType) -> Callable[..., Any]:
    bare = json.load

    def load(file: Any, **options: Any) -> Any:
        if json.load is bare and not options and _is_large(file):
            try:
                loaded = _load(ijson, _Checked(file.buffer))
            except Exception:  # What it was is told by the one that was there
                file.seek(0)
            else:
                file.seek(0, os.SEEK_END)
                return loaded
        return json.load(file, **options)

    return load


def _is_large(file: Any) -> bool:
    """Tell whether it is a file of that size, of which nothing was read."""
    try:
        return (
            type(file) is io.TextIOWrapper
            and file.encoding.lower() in {"utf-8", "utf8"}
            and file.errors == "strict"
            and file.seekable()
            and file.tell() == 0
            and os.fstat(file.fileno()).st_size >= LARGE_BYTES
        )
    except OSError:
        return False


class _Checked:
    """The bytes as the parser reads them, looked through for what is doubtful."""

    def __init__(self, buffer: Any) -> None:
        self._buffer = buffer
        self._end = b""

    def read(self, size: int) -> bytes:
        part: bytes = self._buffer.read(size)
        if _DOUBTFUL.search(self._end + part):
            raise _DoubtfulError
        self._end = part[-_LONGEST:]
        return part


def _load(ijson: ModuleType, source: _Checked) -> Any:
    outer: list[tuple[Any, Any]] = []
    root: list[Any] = []
    into: Any = root
    key: Any = None
    # Keys that come again are one object, as they are to json.
    keys: dict[str, str] = {}
    for event, value in ijson.basic_parse(source, use_float=True, buf_size=_PART_BYTES):
        if event == "map_key":
            key = keys.setdefault(value, value)
            continue
        if event in {"start_map", "start_array"}:
            if len(outer) >= _MOST_NESTED:
                raise _DoubtfulError
            outer.append((into, key))
            into = {} if event == "start_map" else []
            continue
        made = value
        if event in {"end_map", "end_array"}:
            made = into
            into, key = outer.pop()
        if type(into) is list:
            into.append(made)
        else:
            into[key] = made
    (document,) = root
    return document
