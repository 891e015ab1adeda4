"""Prints by how much the highest resident memory grew while a file was read: `flat.py HOW PATH`."""

from __future__ import annotations

import mmap
import re
import sys
from pathlib import Path

from stratatrace import MappedFile
from stratatrace.streams import scan

how, path = sys.argv[1:]


def mark_bytes() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(r"VmHWM:\s*(\d+)", status)[1]) * 1024  # type: ignore[index] # Linux


def mapping() -> int:
    with (
        Path(path).open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as all_,
    ):
        return all_.find(b"no such thing")


def reading() -> int:
    with MappedFile(path) as file:
        if how == "chunks":
            return sum(len(chunk) for chunk in file.chunks())
        if how == "lines":
            return sum(len(line) for line in file.lines(longest_line="1GB"))
        pattern = re.compile(rb"need\w+") if how == "regex" else b"needle"
        return len(list(file.find_all(pattern)))


def scanning() -> int:
    return len(list(scan([path, path], [b"needle", re.compile(b"needle")])))


before = mark_bytes()
{"mapping": mapping, "scan": scanning}.get(how, reading)()
print(mark_bytes() - before)
