"""`MappedFile`: a file of any size, searched and cut up in flat memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, overload

from stratatrace.errors import InvalidValueError, NotReadyError
from stratatrace.sizes import parse_size
from stratatrace.streams.reading import (
    WINDOW_BYTES,
    OpenFile,
    blocks,
    check_hint,
    check_path,
    lines,
)
from stratatrace.streams.searching import (
    LONGEST_MATCH,
    check_patterns,
    finders_of,
    hits,
    is_pattern,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator
    from types import TracebackType
    from typing import Self

    from stratatrace.streams.patterns import Pattern

__all__ = ["MappedFile", "Match"]

_LONGEST_LINE = "64MiB"


class Match(NamedTuple):
    """Where one of several patterns was found."""

    #: Of the first byte, from the beginning of the file.
    offset: int
    #: Of the byte after the last.
    end: int
    #: The one of the given patterns that was found.
    pattern: Pattern


class MappedFile:
    """A file of any size as bytes to search and to cut up, in memory that stays flat.

    It is used as a memory-mapped file is, and is none: it is read in windows of a megabyte into
    memory that is used again. A mapping would end the process with SIGBUS when somebody makes the
    file shorter; here `FileChangedError` is raised. It can be left and entered again::

        with MappedFile("server.log") as file:
            for offset in file.find_all(b"ERROR"):
                print(offset, file.read(offset, 80))

    It may be iterated by several threads and several times at once.

    Args:
        path: Of a regular file.
        hint: How it will be read, for the kernel's read-ahead: ``"sequential"``, ``"random"``, or
            ``"once"``, which also drops what was read from the page cache.
        allow_changes: Whether to go on reading a file that is being written to, such as a log that
            grows; what is appended after it was opened is not read. To become shorter is an error
            in any case.

    Raises:
        InvalidTypeError: The path is neither text nor path-like.
        InvalidValueError: There is no such hint.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        hint: str = "sequential",
        allow_changes: bool = False,
    ) -> None:
        self._path = check_path(path)
        self._hint = check_hint(hint)
        self._allow_changes = allow_changes
        self._opened: OpenFile | None = None

    def __enter__(self) -> Self:
        """Open the file.

        Raises:
            NotReadyError: It is open.
            OSError: It is missing, or may not be read.
            NotAFileError: It is a directory, a device, a pipe, or a file without a size.
        """
        if self._opened is not None:
            msg = f"{self._path} is open: make another MappedFile to open it twice"
            raise NotReadyError(msg)
        self._opened = OpenFile(self._path, hint=self._hint, allow_changes=self._allow_changes)
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Close the file. Views of it stay what they are, for as long as they are kept."""
        if self._opened is not None:
            self._opened.close()
        self._opened = None

    def __len__(self) -> int:
        """Return the size in bytes that the file had when it was opened."""
        return self._file().size

    def read(self, offset: int, size: int) -> bytes:
        """Return a copy of *size* bytes from *offset* on; fewer at the end of the file.

        Raises:
            InvalidValueError: One of them is negative.
            FileChangedError: The file has become shorter, or was written to.
        """
        if offset < 0 or size < 0:
            msg = f"an offset and a size are not negative, as of read({offset}, {size})"
            raise InvalidValueError(msg)
        file = self._file()
        data = bytearray(max(min(size, file.size - offset), 0))
        file.read_into(data, 0, min(offset, file.size))
        return bytes(data)

    @overload
    def find_all(
        self, pattern: Pattern, *, overlapping: bool = False, longest_match: int | str = ...
    ) -> Iterator[int]: ...
    @overload
    def find_all(
        self,
        pattern: Iterable[Pattern],
        *,
        overlapping: bool = False,
        longest_match: int | str = ...,
    ) -> Iterator[Match]: ...
    def find_all(
        self,
        pattern: Any,
        *,
        overlapping: bool = False,
        longest_match: int | str = LONGEST_MATCH,
    ) -> Any:
        """Give the offsets of a pattern, or of several in one pass, as they are asked for.

        What is found is what searching the whole file at once finds: also across the borders of
        windows, and with anchors, boundaries, lookaheads and lookbehinds. Matches of different
        patterns never stand in each other's way.

        Args:
            pattern: Bytes, or a compiled regular expression of bytes: gives offsets. An iterable of
                such: gives a `Match` for each find, by offset, and then in the patterns' order.
            overlapping: Whether the next match may begin inside the one before, one byte on.
            longest_match: For an expression that can match any number of bytes over any number of
                lines, how many it is given: bytes, or text such as ``"64KiB"``. A longer match is
                an error where it is seen, and else missed. To others it does not matter, but in
                lines that are longer than this.

        Raises:
            InvalidTypeError: A pattern is text, or something else.
            InvalidValueError: A pattern is empty, or there is none.
            RecordTooLongError: While iterating: a match is longer than `longest_match`.
            FileChangedError: While iterating: the file has become shorter, or was written to.
        """
        longest_bytes = parse_size(longest_match)
        file = self._file()
        if is_pattern(pattern):
            finders = finders_of([pattern], longest_bytes, overlapping=overlapping)
            return (hit.start for hit in hits(file, finders))
        patterns = check_patterns(pattern)
        finders = finders_of(patterns, longest_bytes, overlapping=overlapping)
        return (Match(hit.start, hit.end, patterns[hit.which]) for hit in hits(file, finders))

    def chunks(self, size: int | str = WINDOW_BYTES) -> Iterator[memoryview]:
        """Give the file as read-only views, each of *size* bytes but for the last.

        A view is good for as long as it is kept, and takes that much memory; one that is not kept
        gives its memory to the next.

        Args:
            size: Bytes as an int, or text such as ``"8MiB"``.

        Raises:
            InvalidValueError: The size makes no sense.
            FileChangedError: While iterating: the file has become shorter, or was written to.
        """
        return blocks(self._file(), parse_size(size))

    def lines(
        self, *, keepends: bool = False, longest_line: int | str = _LONGEST_LINE
    ) -> Iterator[memoryview]:
        r"""Give each line as a read-only view. A line ends with ``b"\n"``, and the last need not.

        A view is good for as long as it is kept, and then keeps the window that it is in, a
        megabyte: to keep many, keep ``bytes(line)``.

        Args:
            keepends: Whether the view has the end of the line.
            longest_line: What a line may take at most: bytes, or text such as ``"64MiB"``.

        Raises:
            InvalidValueError: The size makes no sense.
            RecordTooLongError: While iterating: a line is longer than `longest_line`.
            FileChangedError: While iterating: the file has become shorter, or was written to.
        """
        return lines(self._file(), parse_size(longest_line), keepends=keepends)

    def _file(self) -> OpenFile:
        if self._opened is None:
            msg = f"{self._path} is not open: write `with MappedFile({self._path!r}) as file:`"
            raise NotReadyError(msg)
        return self._opened
