"""`scan`: patterns in many files, one file open at a time."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from stratatrace.errors import InvalidTypeError
from stratatrace.sizes import parse_size
from stratatrace.streams.reading import OpenFile, check_path
from stratatrace.streams.searching import (
    LONGEST_MATCH,
    check_patterns,
    finders_of,
    hits,
    is_pattern,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from stratatrace.streams.patterns import Finder, Hit, Pattern

__all__ = ["Found", "scan"]


class Found(NamedTuple):
    """Where one of several patterns was found in one of several files."""

    #: As it was given.
    path: str | os.PathLike[str]
    #: Of the first byte, from the beginning of the file.
    offset: int
    #: Of the byte after the last.
    end: int
    #: The one of the given patterns that was found.
    pattern: Pattern


def scan(
    paths: Iterable[str | os.PathLike[str]],
    patterns: Pattern | Iterable[Pattern],
    *,
    overlapping: bool = False,
    longest_match: int | str = LONGEST_MATCH,
    on_error: Callable[[str | os.PathLike[str], OSError], object] | None = None,
) -> Iterator[Found]:
    """Give the matches of patterns in files, file by file, as they are asked for.

    One file is open at a time, and *paths* is asked for the next when it is done with.

    Args:
        paths: Of regular files.
        patterns: One or several, as for `MappedFile.find_all`.
        overlapping: As for `MappedFile.find_all`.
        longest_match: As for `MappedFile.find_all`.
        on_error: Called with the path and the error of a file that is missing, cannot be read, is
            none or changes while it is read; the scan goes on with the next. Without it the error
            is raised.

    Raises:
        InvalidTypeError: A pattern is text, or *paths* is one path.
        InvalidValueError: A pattern is empty, or there is none.
        OSError: While iterating, without `on_error`: a file cannot be read.
        RecordTooLongError: While iterating: a match is longer than `longest_match`.
    """
    if isinstance(paths, str | bytes | os.PathLike):
        msg = f"paths is a list of paths: give [{os.fsdecode(paths)!r}]"
        raise InvalidTypeError(msg)
    given = check_patterns([patterns] if is_pattern(patterns) else patterns)
    longest_bytes = parse_size(longest_match)
    finders_of(given, longest_bytes, overlapping=overlapping)  # Now, and not at the first file.

    def look(path: str | os.PathLike[str]) -> Iterator[Hit]:
        finders = finders_of(given, longest_bytes, overlapping=overlapping)
        return _hits_of(check_path(path), finders)

    return _scanned(paths, given, look, on_error)


def _scanned(
    paths: Iterable[str | os.PathLike[str]],
    patterns: Sequence[Pattern],
    look: Callable[[str | os.PathLike[str]], Iterator[Hit]],
    on_error: Callable[[str | os.PathLike[str], OSError], object] | None,
) -> Iterator[Found]:
    for path in paths:
        of_file = look(path)
        while True:
            # Around the reading only: what a consumer throws into this generator is its own.
            try:
                hit = next(of_file, None)
            except OSError as error:
                if on_error is None:
                    raise
                on_error(path, error)
                break
            if hit is None:
                break
            yield Found(path, hit.start, hit.end, patterns[hit.which])


def _hits_of(path: str, finders: Sequence[Finder]) -> Iterator[Hit]:
    file = OpenFile(path, hint="sequential", allow_changes=False)
    try:
        yield from hits(file, finders)
    finally:
        file.close()
