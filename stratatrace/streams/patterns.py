"""Patterns, and how far from a match's first byte they can look: what a window must hold.

A window ends somewhere in the file, and a match near its end may go on beyond. A match is taken
from a window only where the search could not have looked past its end: by the longest that the
pattern can match, by the lines that it can match, or, where neither is bounded, by a length that is
given.
"""

from __future__ import annotations

import importlib
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from stratatrace.errors import InvalidTypeError, InvalidValueError, RecordTooLongError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Finder", "Hit", "LiteralFinder", "Pattern", "RegexFinder", "Window", "finder_of"]

#: Bytes, or a compiled regular expression of bytes.
Pattern = bytes | re.Pattern[bytes]

_NEWLINE = 10
# `$` looks at the byte after it, and at whether there is one more.
_END_BYTES = 2


class Hit(NamedTuple):
    """Where a pattern was found; hits sort as they are told."""

    start: int
    #: Which of the patterns, from 0.
    which: int
    end: int


@dataclass(slots=True)
class Window:
    """A part of a file, in memory."""

    buffer: bytearray
    #: Where in the file the buffer begins.
    base: int
    #: How much of the buffer is filled.
    filled: int
    #: Whether the file ends with it.
    last: bool


class LiteralFinder:
    """Finds a string of bytes, window by window."""

    #: How far behind a position the search can look.
    behind = 0

    def __init__(self, index: int, needle: bytes, *, overlapping: bool) -> None:
        self._index = index
        self._needle = needle
        self._step = 1 if overlapping else len(needle)
        self._resume = 0
        #: What a window must have room for to get on at all.
        self.reach_bytes = len(needle)

    def limit(self, window: Window) -> int:
        """Return the offset before which the window tells all that begins."""
        return window.base + window.filled - len(self._needle) + 1

    def search(self, window: Window, limit: int) -> Iterator[Hit]:
        """Give what begins before *limit*, an offset in the file."""
        find, needle, base = window.buffer.find, self._needle, window.base
        stop = min(limit - base + len(needle) - 1, window.filled)
        position = max(self._resume - base, 0)
        while (found := find(needle, position, stop)) >= 0:
            position = found + self._step
            self._resume = base + position
            yield Hit(base + found, self._index, base + found + len(needle))
        self._resume = max(self._resume, limit)


class RegexFinder:
    """Finds what a regular expression matches, window by window.

    Args:
        index: Which of the patterns it is.
        pattern: A regular expression of bytes.
        overlapping: Whether the next search begins one byte after a match's first.
        longest_bytes: How long a match may be, where the pattern does not tell.
    """

    def __init__(
        self, index: int, pattern: re.Pattern[bytes], *, overlapping: bool, longest_bytes: int
    ) -> None:
        self._index = index
        self._pattern = pattern
        self._overlapping = overlapping
        self._longest_bytes = longest_bytes
        extent = extent_of(pattern)
        self.behind = int(extent.behind) if math.isfinite(extent.behind) else longest_bytes
        self._bounded = math.isfinite(extent.ahead)
        self._by_lines = not self._bounded and math.isfinite(extent.newlines)
        self._newlines = extent.newlines
        reach = extent.ahead if self._bounded else longest_bytes
        self._reach_bytes = int(reach) + _END_BYTES
        self._resume = 0
        #: What a window must have room for to get on at all, unless lines end in it.
        self.reach_bytes = 0 if self._by_lines else self._reach_bytes

    def limit(self, window: Window) -> int:
        """Return the offset before which the window tells all that begins."""
        limit = window.base + window.filled - self._reach_bytes + 1
        if not self._by_lines:
            return limit
        # One end of a line more than it can match stops it, wherever before them it begins.
        position = window.filled - _END_BYTES
        for _ in range(int(self._newlines) + 1):
            position = window.buffer.rfind(b"\n", 0, max(position, 0))
            if position < 0:
                return limit
        return max(limit, window.base + position + 1)

    def search(self, window: Window, limit: int) -> Iterator[Hit]:
        """Give what begins before *limit*, an offset in the file.

        Raises:
            RecordTooLongError: A match is longer than was allowed.
        """
        base = window.base
        for start, end in self._spans(window):
            if base + start >= limit:
                break
            if not self._bounded and end - start > self._longest_bytes:
                raise self._too_long(base + start)
            self._resume = base + (start + 1 if self._overlapping else end)
            yield Hit(base + start, self._index, base + end)
        self._resume = max(self._resume, limit)

    def _spans(self, window: Window) -> Iterator[tuple[int, int]]:
        position = max(self._resume - window.base, 0)
        if not self._overlapping:
            for match in self._pattern.finditer(window.buffer, position, window.filled):
                yield match.span()
            return
        while (
            position <= window.filled
            and (found := self._pattern.search(window.buffer, position, window.filled)) is not None
        ):
            yield found.span()
            position = found.start() + 1

    def _too_long(self, offset: int) -> RecordTooLongError:
        return RecordTooLongError(
            f"the match of {self._pattern.pattern!r} at offset {offset} is longer than "
            f"{self._longest_bytes} bytes: bound the pattern, or give a larger longest_match"
        )


Finder = LiteralFinder | RegexFinder


def finder_of(index: int, pattern: object, *, overlapping: bool, longest_bytes: int) -> Finder:
    """Return what finds *pattern*.

    Raises:
        InvalidTypeError: It is neither bytes nor a compiled regular expression of bytes.
        InvalidValueError: It is empty.
    """
    if isinstance(pattern, str):
        msg = f"a file holds bytes, and {pattern!r} is text: give {pattern.encode()!r}"
        raise InvalidTypeError(msg)
    if isinstance(pattern, re.Pattern):
        if not isinstance(pattern.pattern, bytes):
            msg = (
                f"a file holds bytes, and {pattern!r} is of text: "
                f"compile it from bytes, re.compile({pattern.pattern.encode()!r})"
            )
            raise InvalidTypeError(msg)
        return RegexFinder(index, pattern, overlapping=overlapping, longest_bytes=longest_bytes)
    if not isinstance(pattern, bytes | bytearray):
        msg = f"a pattern is bytes or a compiled regular expression of bytes, not {pattern!r}"
        raise InvalidTypeError(msg)
    if not pattern:
        msg = "a pattern must not be empty: it would be found everywhere"
        raise InvalidValueError(msg)
    return LiteralFinder(index, bytes(pattern), overlapping=overlapping)


class Extent(NamedTuple):
    """How far a regular expression can look from where a match begins; infinite where unbounded."""

    #: Bytes ahead, those of its lookaheads included.
    ahead: float = 0.0
    #: Ends of lines among them.
    newlines: float = 0.0
    #: Bytes behind, for its lookbehinds and boundaries.
    behind: float = 1.0

    def then(self, other: Extent) -> Extent:
        """Return the extent of one after the other."""
        return Extent(
            self.ahead + other.ahead,
            self.newlines + other.newlines,
            max(self.behind, other.behind),
        )

    def either(self, other: Extent) -> Extent:
        """Return the extent of one or the other."""
        return Extent(*map(max, self, other))

    def times(self, count: float) -> Extent:
        """Return the extent of so many, one after the other."""
        # Not infinity times zero.
        ahead, newlines = (part and part * count for part in (self.ahead, self.newlines))
        return Extent(ahead, newlines, self.behind)


_UNKNOWN = Extent(math.inf, math.inf)


def extent_of(pattern: re.Pattern[Any]) -> Extent:
    """Return how far *pattern* can look; unbounded where the parser of `re` does not tell."""
    try:
        parser = importlib.import_module("re._parser")
        parsed = parser.parse(pattern.pattern, pattern.flags)
        return _Walk(int(parser.MAXREPEAT)).sequence(parsed, parsed.state.flags | pattern.flags)
    except Exception:
        # A private module of the standard library, which may change: then nothing is known.
        return Extent(math.inf, math.inf, math.inf)


class _Walk:
    """Adds up the parsed form of a regular expression, whose names are those of `re._constants`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._groups: dict[int, Extent] = {}

    def sequence(self, items: Any, flags: int) -> Extent:
        extent = Extent()
        for code, argument in items:
            extent = extent.then(self._item(str(code), argument, flags))
        return extent

    def _item(self, code: str, argument: Any, flags: int) -> Extent:
        if code in {"LITERAL", "NOT_LITERAL", "ANY", "IN"}:
            return Extent(1, _can_be_newline(code, argument, flags))
        if code in {"AT", "FAILURE"}:
            return Extent()
        if code in {"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"}:
            _, most, inner = argument
            count = math.inf if int(most) >= self._most else int(most)
            return self.sequence(inner, flags).times(count)
        if code in {"ASSERT", "ASSERT_NOT"}:
            direction, inner = argument
            return self._assertion(direction, inner, flags)
        return self._compound(code, argument, flags)

    def _compound(self, code: str, argument: Any, flags: int) -> Extent:
        if code == "SUBPATTERN":
            group, added, removed, inner = argument
            extent = self.sequence(inner, (flags | added) & ~removed)
            if group is not None:
                self._groups[group] = extent
            return extent
        if code == "ATOMIC_GROUP":
            return self.sequence(argument, flags)
        if code == "BRANCH":
            return self._any_of(argument[1], flags)
        if code == "GROUPREF":
            return self._groups.get(argument, _UNKNOWN)
        if code == "GROUPREF_EXISTS":
            return self._any_of(argument[1:], flags)
        return _UNKNOWN

    def _any_of(self, branches: Any, flags: int) -> Extent:
        extent = Extent()
        for branch in branches:
            extent = extent.either(self.sequence(branch or (), flags))
        return extent

    def _assertion(self, direction: int, inner: Any, flags: int) -> Extent:
        extent = self.sequence(inner, flags)
        if direction < 0:
            return Extent(extent.ahead, extent.newlines, extent.ahead + extent.behind)
        return extent


def _can_be_newline(code: str, argument: Any, flags: int) -> bool:
    if code == "ANY":
        return bool(flags & re.DOTALL)
    if code == "IN":
        return _set_has_newline(argument)
    return bool((argument == _NEWLINE) is (code == "LITERAL"))


def _set_has_newline(items: Any) -> bool:
    negated = found = False
    for item, argument in items:
        name = str(item)
        if name == "NEGATE":
            negated = True
        elif name == "LITERAL":
            found |= argument == _NEWLINE
        elif name == "RANGE":
            found |= argument[0] <= _NEWLINE <= argument[1]
        else:
            category = str(argument).removeprefix("CATEGORY_")
            found |= category not in {"DIGIT", "WORD", "NOT_SPACE"}
    return found is not negated
