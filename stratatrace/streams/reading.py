"""A file, read in windows into buffers that are used again. Knows nothing of patterns or lines.

Not by a mapping of the file: a page of it that lies beyond the file's end, since somebody has made
the file shorter, ends the process with SIGBUS when it is touched, and no check before the touch can
help, for the file may shrink between the two. To read a window into memory of our own can only come
up short. In the page cache that costs some percent of what searching the window does
(`docs/streams.md`).
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stratatrace.errors import (
    FileChangedError,
    InvalidTypeError,
    InvalidValueError,
    NotAFileError,
    NotReadyError,
    RecordTooLongError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "HINTS",
    "WINDOW_BYTES",
    "Buffers",
    "OpenFile",
    "blocks",
    "check_hint",
    "check_path",
    "lines",
]

#: What is read at once: large enough that calls cost nothing, small enough for a CPU's cache.
WINDOW_BYTES = 1 << 20

#: What `MappedFile(hint=)` accepts, and what each means.
HINTS = {
    "sequential": "read from front to back: the kernel reads further ahead",
    "random": "read here and there: the kernel does not read ahead",
    "once": "read from front to back and not again soon: left out of the page cache behind us",
}

# A window's own buffer, and the one whose views a consumer still has in its loop variable.
_MOST_BUFFERS = 2
_READ_ONLY = (
    os.O_RDONLY
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_NONBLOCK", 0)  # To open a pipe would wait for who writes to it.
)


class _Descriptor:
    """A file descriptor; closed with the last reference.

    A thread that reads while another closes the file has one: the number cannot be given to another
    file in between.
    """

    __slots__ = ("number",)

    def __init__(self, path: str) -> None:
        self.number = -1
        self.number = os.open(path, _READ_ONLY)

    def __del__(self) -> None:
        if self.number >= 0:
            os.close(self.number)


class OpenFile:
    """A regular file as it was when it was opened.

    Args:
        path: Where it is.
        hint: One of `HINTS`.
        allow_changes: Whether to go on where it was written to meanwhile.

    Raises:
        OSError: It is missing, or may not be read.
        NotAFileError: It is a directory, a device, a pipe, or has no size of its own.
    """

    __slots__ = ("_allow_changes", "_descriptor", "_once", "_stamp", "path", "size")

    def __init__(self, path: str, *, hint: str, allow_changes: bool) -> None:
        descriptor = _Descriptor(path)
        status = os.fstat(descriptor.number)
        with _named(path):
            _check_kind(path, descriptor, status)
        self.path = path
        #: What is read of it: bytes that are appended later are not.
        self.size = status.st_size
        self._stamp = (status.st_size, status.st_mtime_ns)
        self._allow_changes = allow_changes
        self._once = hint == "once"
        self._descriptor: _Descriptor | None = descriptor
        _advise(descriptor, hint, self.size)

    def close(self) -> None:
        """Read no more."""
        self._descriptor = None

    def read_into(self, buffer: bytearray, position: int, offset: int) -> int:
        """Fill *buffer* from *position* on with what the file has from *offset* on.

        Returns:
            How much of the buffer is filled; less than all of it only at the end of the file.

        Raises:
            FileChangedError: The file has become shorter, or was written to.
            NotReadyError: It was closed.
            OSError: It cannot be read, as from a broken disk.
        """
        descriptor = self._descriptor
        if descriptor is None:
            msg = f"{self.path} was closed: iterate inside the with statement"
            raise NotReadyError(msg)
        wanted = min(len(buffer) - position, self.size - offset)
        filled = 0
        with memoryview(buffer) as whole, whole[position : position + wanted] as part:
            while filled < wanted:
                with part[filled:] as rest, _named(self.path):
                    count = _read(descriptor.number, rest, offset + filled)
                if not count:
                    break
                filled += count
        # After the read: what was written before this check and after the one at opening is seen.
        self._check_unchanged(descriptor, missing=filled < wanted)
        if self._once:
            _forget(descriptor, offset + wanted)
        return position + wanted

    def _check_unchanged(self, descriptor: _Descriptor, *, missing: bool) -> None:
        status = os.fstat(descriptor.number)
        if missing or status.st_size < self.size:
            msg = (
                f"{self.path} had {self.size} bytes when it was opened, and ends before that now, "
                f"with {status.st_size}: open it again when nobody makes it shorter"
            )
            raise FileChangedError(msg)
        if not self._allow_changes and (status.st_size, status.st_mtime_ns) != self._stamp:
            msg = (
                f"{self.path} was written to while it was read: open it again, or read it as it is "
                "at each moment with allow_changes=True, as for a log that grows"
            )
            raise FileChangedError(msg)


class Buffers:
    """Buffers to read into: one that a consumer has a view of is left to it, and not used again."""

    __slots__ = ("_given",)

    def __init__(self) -> None:
        self._given: list[bytearray] = []

    def take(self, size_bytes: int) -> bytearray:
        """Return a buffer of that size which nobody looks at."""
        for buffer in self._given:
            if len(buffer) == size_bytes and _is_free(buffer):
                return buffer
        if len(self._given) == _MOST_BUFFERS:
            del self._given[0]
        buffer = bytearray(size_bytes)
        self._given.append(buffer)
        return buffer


def blocks(file: OpenFile, size_bytes: int) -> Iterator[memoryview]:
    """Give the file as views of that many bytes, the last of what is left."""
    buffers = Buffers()
    for offset in range(0, file.size, size_bytes):
        buffer = buffers.take(min(size_bytes, file.size))
        filled = file.read_into(buffer, 0, offset)
        yield memoryview(buffer)[:filled].toreadonly()


def lines(file: OpenFile, longest_bytes: int, *, keepends: bool) -> Iterator[memoryview]:
    """Give the lines of the file as views.

    Raises:
        RecordTooLongError: One is longer than that.
    """
    buffers = Buffers()
    size_bytes = min(WINDOW_BYTES, file.size)
    rest = memoryview(b"")  # The beginning of a line that goes on in the next window.
    base = 0
    while base + len(rest) < file.size:
        if 2 * len(rest) > size_bytes:
            size_bytes *= 2
        buffer = buffers.take(size_bytes)
        kept = len(rest)
        buffer[:kept] = rest
        filled = file.read_into(buffer, kept, base + kept)
        find, position = buffer.find, 0
        with memoryview(buffer).toreadonly() as view:
            while (newline := find(b"\n", position, filled)) >= 0:
                if newline - position > longest_bytes:
                    break
                yield view[position : newline + 1 if keepends else newline]
                position = newline + 1
            rest = view[position:filled]
        base += position
        if newline >= 0 or len(rest) > longest_bytes:
            msg = (
                f"the line at offset {base} of {file.path} is longer than {longest_bytes} bytes: "
                "give a larger longest_line, or cut the file up by chunks()"
            )
            raise RecordTooLongError(msg)
    if rest:
        yield rest


def check_path(path: object) -> str:
    """Return *path* as text.

    Raises:
        InvalidTypeError: It is neither text nor path-like.
    """
    if not isinstance(path, str | bytes | os.PathLike):
        msg = f"a path is text or a pathlib.Path, not {path!r}"
        raise InvalidTypeError(msg)
    return os.fsdecode(path)


def check_hint(hint: str) -> str:
    """Return *hint*.

    Raises:
        InvalidValueError: There is none of that name.
    """
    if hint not in HINTS:
        msg = f"there is no hint {hint!r}: choose one of {', '.join(map(repr, HINTS))}"
        raise InvalidValueError(msg)
    return hint


def _is_free(buffer: bytearray) -> bool:
    """Tell whether nobody has a view of *buffer*; there must be a byte in it.

    A bytearray cannot be resized while there are views of it. To take its last byte and put it back
    moves nothing.
    """
    try:
        buffer.append(buffer.pop())
    except BufferError:
        return False
    return True


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Have an error of reading name the file, as those of opening do."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = path
        raise


def _check_kind(path: str, descriptor: _Descriptor, status: os.stat_result) -> None:
    kind = "a directory" if stat.S_ISDIR(status.st_mode) else "a device, a pipe or a socket"
    if not stat.S_ISREG(status.st_mode):
        msg = f"{path} is {kind}: give the path of a file"
        raise NotAFileError(msg)
    if not status.st_size and _has_more(descriptor, status):
        msg = (
            f"{path} does not tell its size, as the files of /proc do not: read it with "
            "open(path, 'rb').read()"
        )
        raise NotAFileError(msg)


def _has_more(descriptor: _Descriptor, status: os.stat_result) -> bool:
    """Tell whether a file without a size has bytes, and not because it was written just now."""
    found = _read(descriptor.number, memoryview(bytearray(1)), 0)
    now = os.fstat(descriptor.number)
    return bool(found) and (now.st_size, now.st_mtime_ns) == (0, status.st_mtime_ns)


if hasattr(os, "preadv"):

    def _read(number: int, view: memoryview, offset: int) -> int:
        return os.preadv(number, [view], offset)

else:  # pragma: no cover -- Windows, and macOS before 11

    def _read(number: int, view: memoryview, offset: int) -> int:
        if hasattr(os, "pread"):
            data = os.pread(number, len(view), offset)
        else:
            # The position belongs to the descriptor: iterators of several threads would mix.
            with _position:
                os.lseek(number, offset, os.SEEK_SET)
                data = os.read(number, len(view))
        view[: len(data)] = data
        return len(data)

    import threading

    _position = threading.Lock()


def _advise(descriptor: _Descriptor, hint: str, size_bytes: int) -> None:
    if not hasattr(os, "posix_fadvise"):
        return
    advice = os.POSIX_FADV_RANDOM if hint == "random" else os.POSIX_FADV_SEQUENTIAL
    _fadvise(descriptor, 0, size_bytes, advice)


def _forget(descriptor: _Descriptor, end: int) -> None:
    # All that was read, and not the last window alone: the cache holds a file in pieces that can be
    # larger, and drops only those that are wholly named.
    if hasattr(os, "posix_fadvise") and end:
        _fadvise(descriptor, 0, end, os.POSIX_FADV_DONTNEED)


def _fadvise(descriptor: _Descriptor, offset: int, size_bytes: int, advice: int) -> None:
    try:
        os.posix_fadvise(descriptor.number, offset, size_bytes, advice)
    except OSError:
        return  # It is advice: some file systems take none.
