"""Files of the kernel, which are short, made when they are read, and may not be there.

What is looked at now and then is opened for each look and closed again. A kept descriptor would
save some microseconds, but a forked child would read its parent's files by it, and a program that
closes all descriptors to become a daemon would leave us reading whatever file got the number next.
What is looked at in every call is kept, by a number that is hardly given away again.
"""

from __future__ import annotations

import os
import sys

if sys.platform != "win32":
    import fcntl

__all__ = ["open_high", "read_file", "read_number"]

# Half of what a process may have by default.
_HIGH_DESCRIPTOR = 512

_CHUNK_BYTES = 8192
# A list of mounts can be long; anything longer than this is not one of these files.
_MOST_BYTES = 16 * 2**20


def read_file(path: str) -> str | None:
    """Return the text of a file, or None where it is absent or cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except (OSError, ValueError):
        return None
    try:
        chunks, size = [], 0
        while size < _MOST_BYTES and (chunk := os.read(descriptor, _CHUNK_BYTES)):
            chunks.append(chunk)
            size += len(chunk)
    except OSError:  # Also where the kernel knows the file but was told not to count.
        return None
    finally:
        os.close(descriptor)
    return os.fsdecode(b"".join(chunks))


def read_number(path: str) -> int | None:
    """Return the one number that a file holds, or None where it holds none."""
    text = (read_file(path) or "").strip()
    return int(text) if text.isascii() and text.isdigit() else None


def open_high(path: str, flags: int) -> int:
    """Return a descriptor with a number that is hardly given away again.

    A program that becomes a daemon closes all descriptors, ours too. The next file that it opens
    has the lowest number that is free: what is meant for the kernel would be written into it.

    Raises:
        OSError: There is no such file, or it cannot be opened.
    """
    low = os.open(path, flags)
    if sys.platform == "win32":
        return low
    try:
        high = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, _HIGH_DESCRIPTOR)
    except OSError:  # The process may not have so many.
        return low
    os.close(low)
    return high
