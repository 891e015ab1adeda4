"""Reads a file that another process makes shorter and longer all the time, in two ways."""

from __future__ import annotations

import mmap
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from stratatrace import MappedFile
from stratatrace.errors import FileChangedError

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = 4 << 20
# Not nothing: a file that has bytes and no size is taken for one of /proc.
SHORT = 100
SECONDS = 1.5


def shrink(path: Path) -> None:
    """Make the file shorter and longer, for some time."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        os.truncate(path, SHORT)
        os.truncate(path, SIZE)


def by_mapping(path: Path) -> None:
    """Check the size before each touch of a page, which does not help."""
    until = time.monotonic() + 10
    descriptor = os.open(path, os.O_RDWR)
    while True:
        try:
            mapping = mmap.mmap(descriptor, SIZE, access=mmap.ACCESS_READ)
            break
        except ValueError:
            continue  # It was short at this moment.
    while time.monotonic() < until:
        for page in range(0, SIZE, mmap.PAGESIZE):
            if os.fstat(descriptor).st_size == SIZE:
                mapping.find(b"x", page, page + 1)


def by_reading(path: Path) -> None:
    """Go on after each error, and meet no other."""
    until = time.monotonic() + SECONDS
    seen = set()
    while time.monotonic() < until:
        try:
            with MappedFile(path, allow_changes=True) as file:
                sum(file.find_all(b"needle"))
                for chunk in file.chunks(4096):
                    chunk.tobytes()
        except FileChangedError as error:
            seen.add(type(error).__name__)
    print(f"MappedFile: only {' '.join(seen)}", flush=True)


def in_child(work: Callable[[Path], None], path: Path) -> int:
    """Return the id of a process that does *work*."""
    child = os.fork()
    if not child:
        try:
            work(path)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    return child


with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "file"
    file.touch()
    os.truncate(file, SIZE)
    shrinker = in_child(shrink, file)
    try:
        ended = os.waitpid(in_child(by_mapping, file), 0)[1]
        name = signal.Signals(os.WTERMSIG(ended)).name if os.WIFSIGNALED(ended) else ended
        print(f"a mapping: {name}", flush=True)
        ended = os.waitpid(in_child(by_reading, file), 0)[1]
        assert ended == 0, ended
    finally:
        os.kill(shrinker, signal.SIGKILL)
        os.waitpid(shrinker, 0)
