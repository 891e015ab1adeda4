"""Files of the kernel, which are short, made when they are read, and may not be there.

They are opened for each look and closed again. A kept descriptor would save some microseconds in
half a second, but a forked child would read its parent's files by it, and a program that closes all
descriptors to become a daemon would leave us reading whatever file got the number next.
"""

from __future__ import annotations

import os

__all__ = ["read_file", "read_number"]

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
