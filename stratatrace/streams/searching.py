"""The search of a file for several patterns in one pass, window by window."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from stratatrace.errors import InvalidTypeError, InvalidValueError
from stratatrace.streams.patterns import Window, finder_of
from stratatrace.streams.reading import WINDOW_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stratatrace.streams.patterns import Finder, Hit, Pattern
    from stratatrace.streams.reading import OpenFile

__all__ = ["LONGEST_MATCH", "check_patterns", "finders_of", "hits", "is_pattern"]

#: What an expression that can match any number of bytes is given by default.
LONGEST_MATCH = "1MiB"

# A window has room for four times what must be searched again in the next.
_SHARE = 4


def is_pattern(given: object) -> bool:
    """Tell whether *given* is one pattern, good or bad, and not several."""
    return isinstance(given, bytes | bytearray | str | re.Pattern)


def check_patterns(given: object) -> Sequence[Pattern]:
    """Return patterns as a sequence.

    Raises:
        InvalidTypeError: It is not an iterable of patterns.
        InvalidValueError: There are none.
    """
    if not isinstance(given, Iterable) or isinstance(given, memoryview):
        msg = f"patterns are bytes, compiled expressions of bytes, or a list of them, not {given!r}"
        raise InvalidTypeError(msg)
    patterns = tuple(given)
    if not patterns:
        msg = "there is no pattern to look for: give at least one"
        raise InvalidValueError(msg)
    return patterns


def finders_of(
    patterns: Iterable[object], longest_bytes: int, *, overlapping: bool
) -> list[Finder]:
    """Return what finds each pattern, for one pass; for what is raised see `finder_of`."""
    return [
        finder_of(index, pattern, overlapping=overlapping, longest_bytes=longest_bytes)
        for index, pattern in enumerate(patterns)
    ]


def hits(file: OpenFile, finders: Sequence[Finder]) -> Iterator[Hit]:
    """Give what the finders find, by offset and then in their order."""
    behind = max(finder.behind for finder in finders)
    reach = max(finder.reach_bytes for finder in finders)
    room = max(WINDOW_BYTES, _SHARE * (reach + behind))
    buffer = bytearray(min(room, file.size))
    base = kept = 0
    while True:
        filled = file.read_into(buffer, kept, base + kept)
        last = base + filled >= file.size
        window = Window(buffer, base, filled, last)
        limit = file.size + 1 if last else min(finder.limit(window) for finder in finders)
        begin = max(limit - behind, base)
        if not last and begin - base < len(buffer) // _SHARE:
            # Too little of it is certain, as of a line that is longer than the window.
            buffer = _larger(buffer, filled)
            kept = filled
            continue
        found = [finder.search(window, limit) for finder in finders]
        yield from found[0] if len(found) == 1 else heapq.merge(*found)
        if last:
            return
        kept = base + filled - begin
        with memoryview(buffer) as view:
            view[:kept] = view[begin - base : filled]
        base = begin


def _larger(buffer: bytearray, filled: int) -> bytearray:
    larger = bytearray(2 * len(buffer))
    with memoryview(buffer) as view:
        larger[:filled] = view[:filled]
    return larger
