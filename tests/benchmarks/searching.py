"""Prints what searching a file by MappedFile costs, beside a mapping, `re` on it, grep and ripgrep.

Each row is one search of the same file, run by turns, and all are held against the first column.
Peak memory is the kernel's high-water mark of a process of its own for each.
"""

from __future__ import annotations

import argparse
import mmap
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from stratatrace import MappedFile
from stratatrace.probes import HighWaterProbe
from stratatrace.streams import reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

WORDS = [b"ERROR", b"timeout", b"user=4711", b"refused", b"/checkout"]
EXPRESSION = re.compile(rb"ERROR .*?code=\d+")


def write_log(path: Path, size_bytes: int) -> None:
    """Write lines of a log, one in a thousand of them an error."""
    lines = [
        b"2026-01-02T03:04:%02d.%06d INFO  worker-%d GET /items/%d took %d ms\n"
        % (number % 60, number * 7919 % 1_000_000, number % 8, number * 31 % 9973, number % 250)
        for number in range(20_000)
    ]
    lines[::1000] = [b"2026-01-02 ERROR refused user=4711 after a timeout code=503\n"] * 20
    block = b"".join(lines)
    with path.open("wb") as file:
        for _ in range(size_bytes // len(block) + 1):
            file.write(block)


def found_in(data: mmap.mmap, word: bytes) -> int:
    """Count a word in a mapping, by its own search."""
    count = position = 0
    while (position := data.find(word, position)) >= 0:
        count, position = count + 1, position + len(word)
    return count


def count(finds: Iterable[object]) -> int:
    """Count without keeping."""
    return sum(1 for _ in finds)


class Searches:
    """The ways to search a file, each of which returns how often it found something."""

    def __init__(self, path: str) -> None:
        self.path = path

    def _mapped(self, search: Callable[[mmap.mmap], int]) -> int:
        with (
            Path(self.path).open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            return search(data)

    def _ours(self, search: Callable[[MappedFile], Iterator[object]]) -> int:
        with MappedFile(self.path) as file:
            return count(search(file))

    def _tool(self, tool: str, *arguments: str) -> int:
        ended = subprocess.run(
            [tool, *arguments, self.path],
            env={**os.environ, "LC_ALL": "C"},
            stdout=subprocess.PIPE,
            check=False,
        )
        return ended.stdout.count(b"\n")

    def rows(self) -> dict[str, dict[str, Callable[[], int]]]:
        """Return the searches by what is searched for, ours first."""
        word, missing = WORDS[0], b"no such thing"
        many = re.compile(b"|".join(map(re.escape, WORDS)))
        flags = [flag for each in WORDS for flag in ("-e", each.decode())]
        tools: dict[str, dict[str, list[str]]] = {"grep": {}, "rg": {}}
        for tool, fixed in (
            ("grep", ["-obUaF"]),
            ("rg", ["-obaF", "--no-unicode", "--color=never"]),
        ):
            if shutil.which(tool):
                tools[tool] = {
                    "one word": [*fixed, word.decode()],
                    "no match": [*fixed, missing.decode()],
                    "five words": [*fixed, *flags],
                }
        rows: dict[str, dict[str, Callable[[], int]]] = {
            "one word": {
                "MappedFile": lambda: self._ours(lambda file: file.find_all(word)),
                "mmap.find": lambda: self._mapped(lambda data: found_in(data, word)),
                "re on a mapping": lambda: self._mapped(
                    lambda data: count(re.compile(word).finditer(data))
                ),
            },
            "no match": {
                "MappedFile": lambda: self._ours(lambda file: file.find_all(missing)),
                "mmap.find": lambda: self._mapped(lambda data: found_in(data, missing)),
                "re on a mapping": lambda: self._mapped(
                    lambda data: count(re.compile(missing).finditer(data))
                ),
            },
            "five words": {
                "MappedFile": lambda: self._ours(lambda file: file.find_all(WORDS)),
                "mmap.find": lambda: self._mapped(
                    lambda data: sum(found_in(data, each) for each in WORDS)
                ),
                "re on a mapping": lambda: self._mapped(lambda data: count(many.finditer(data))),
            },
            "an expression": {
                "MappedFile": lambda: self._ours(lambda file: file.find_all(EXPRESSION)),
                "re on a mapping": lambda: self._mapped(
                    lambda data: count(EXPRESSION.finditer(data))
                ),
            },
            "lines": {
                "MappedFile": lambda: self._ours(MappedFile.lines),
                "open": self._opened_lines,
                "mmap.readline": lambda: self._mapped(lambda data: count(iter(data.readline, b""))),
            },
            "chunks": {
                "MappedFile": lambda: self._ours(MappedFile.chunks),
                "read": self._read,
                "slices of a mapping": lambda: self._mapped(
                    lambda data: count(
                        data[at : at + reading.WINDOW_BYTES]
                        for at in range(0, len(data), reading.WINDOW_BYTES)
                    )
                ),
            },
        }
        for tool, arguments in tools.items():
            for row, given in arguments.items():
                rows[row][f"{tool} -ob"] = lambda tool=tool, given=given: self._tool(tool, *given)  # type: ignore[misc]
        return rows

    def _opened_lines(self) -> int:
        with Path(self.path).open("rb") as file:
            return count(file)

    def _read(self) -> int:
        with Path(self.path).open("rb", buffering=0) as file:
            return count(iter(lambda: file.read(reading.WINDOW_BYTES), b""))


def timed(search: Callable[[], int]) -> float:
    """Return how many seconds a search takes."""
    began = time.perf_counter()
    search()
    return time.perf_counter() - began


def peak_growth(path: str, row: str, name: str) -> str:
    """Return by how much a process of its own grew at its highest, as text."""
    arguments = [sys.executable, __file__, "--peak", row, name, path]
    ended = subprocess.run(arguments, check=True, capture_output=True, text=True)
    return f"{int(ended.stdout) / 1e6:.0f} MB"


def print_peak(path: str, row: str, name: str) -> None:
    """Search once, and print the growth of the highest resident memory in bytes."""
    search = Searches(path).rows()[row][name]
    probe = HighWaterProbe()
    before = probe.mark().level_bytes
    search()
    print(probe.mark().peak_bytes - before)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=200, help="size of the file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peak", nargs=3, metavar=("ROW", "NAME", "PATH"), help="used by itself")
    options = parser.parse_args()
    if options.peak:
        row, name, path = options.peak
        print_peak(path, row, name)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        write_log(path, options.megabytes * 1_000_000)
        size = path.stat().st_size
        print(f"\nA log of {size / 1e6:.0f} MB in the page cache, {options.rounds} rounds:\n")
        print("| search | by | time | against MappedFile | peak growth |\n|---|---|---|---|---|")
        for row, searches in Searches(str(path)).rows().items():
            counts = {name: search() for name, search in searches.items()}
            assert row == "chunks" or len(set(counts.values())) == 1, counts
            times: dict[str, list[float]] = {name: [] for name in searches}
            for _ in range(options.rounds):
                for name, search in searches.items():
                    times[name].append(timed(search))
            for name, seconds in times.items():
                ratios = zip(seconds, times["MappedFile"], strict=True)
                ratio = median(one / other for one, other in ratios)
                own = "own process" if name.endswith("-ob") else peak_growth(str(path), row, name)
                speed = f"{median(seconds) * 1e3:.0f} ms"
                print(f"| {row} | {name} | {speed} | {ratio:.2f} | {own} |", flush=True)


if __name__ == "__main__":
    main()
