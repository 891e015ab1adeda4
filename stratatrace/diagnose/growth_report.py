"""What grew between two marks, by line, package and stack: a `GrowthReport`."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stratatrace.diagnose.growth_flame import flame_graph
from stratatrace.diagnose.growth_names import named_lines, named_stacks
from stratatrace.diagnose.growth_packages import Packages
from stratatrace.diagnose.growth_pprof import pprof
from stratatrace.diagnose.growth_texts import UNKNOWN, collapsed, frame_text, speedscope
from stratatrace.errors import InvalidValueError, OutputError
from stratatrace.sizes import format_size
from stratatrace.stacks import (
    LineGrowth,
    StackGrowth,
    added_up,
    error_bytes,
    top_lines,
    total,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from os import PathLike

    from stratatrace.diagnose.growth_sources import SourceName

__all__ = ["GrowthReport", "LineGrowth", "PackageGrowth", "StackGrowth", "line_text"]

_SHOWN, _STACKS_SHOWN, _FRAMES_SHOWN = 10, 3, 8
# What has not one sample in it is smaller than so many means in 95 of 100 cases.
_UNSEEN_MEANS = -math.log(0.05)


class PackageGrowth(NamedTuple):
    """By how much the memory grew that the lines of one package have allocated."""

    #: What is imported to have it, or the file of a script.
    package: str
    #: Signed.
    bytes: int
    #: Signed.
    blocks: int
    #: The bytes are right to this, either way, in 95 of 100 cases; 0 where they are exact.
    error_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GrowthReport:
    """What was held at one mark, and not at another, by who has allocated it.

    All threads of the process are in it. Memory that was allocated before tracking began is not,
    whether it is freed or not.
    """

    #: The tracker's name.
    name: str
    #: The labels of the two marks.
    first: str
    second: str
    #: When the second was taken, in seconds since 1970.
    ended_at: float
    #: Between the two; negative where the second is the earlier one.
    seconds: float
    #: ``tracemalloc``: each block was seen; ``native``: a sample of them.
    source: SourceName
    #: How many frames a stack has at most.
    depth: int
    #: How many bytes there are, on average, to one that is drawn; None where each block was seen.
    sample_bytes: int | None
    #: What stratatrace's own lines hold more; it is in no other number here.
    own_bytes: int
    #: What has changed, by stack, the most growth first. Of tracemalloc's, the frames have no
    #: functions: `tracebacks` has.
    stacks: tuple[StackGrowth, ...]

    @property
    def growth_bytes(self) -> int:
        """By how much memory grew in all, in bytes; signed."""
        return round(total(self.stacks).bytes)

    @property
    def growth_blocks(self) -> int:
        """How many blocks more are held; signed."""
        return round(total(self.stacks).blocks)

    @property
    def error_bytes(self) -> int:
        """What `growth_bytes` is right to, either way, in 95 of 100 cases; 0 where it is exact.

        Of a sample, the sum of the variances of Horvitz and Thompson's estimator.
        """
        return error_bytes(total(self.stacks))

    @property
    def unseen_bytes(self) -> int:
        """What may have grown at any one line without being seen, but for 5 of 100 cases."""
        return round(_UNSEEN_MEANS * (self.sample_bytes or 0))

    def lines(self, most: int = _SHOWN) -> list[LineGrowth]:
        """Return the lines that grew most, the largest first."""
        return named_lines(top_lines(self.stacks, most))

    def packages(self, most: int = _SHOWN) -> list[PackageGrowth]:
        """Return the packages whose lines grew most, the largest first."""
        packages = Packages()
        sums = added_up(self.stacks, lambda frame: packages.of(frame.file))
        return [
            PackageGrowth(
                packages.of(frame.file), round(each.bytes), round(each.blocks), error_bytes(each)
            )
            for frame, each in sums[:most]
            if each.bytes > 0
        ]

    def tracebacks(self, most: int = _SHOWN) -> list[StackGrowth]:
        """Return the stacks that grew most, the largest first."""
        return named_stacks([stack for stack in self.stacks[:most] if stack.bytes > 0])

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers for machines; every stack, with its frames, the innermost first."""
        return {
            "name": self.name,
            "first": self.first,
            "second": self.second,
            "ended_at": self.ended_at,
            "seconds": self.seconds,
            "source": self.source,
            "depth": self.depth,
            "sample_bytes": self.sample_bytes,
            "growth_bytes": self.growth_bytes,
            "growth_blocks": self.growth_blocks,
            "error_bytes": self.error_bytes,
            "own_bytes": self.own_bytes,
            "lines": [line._asdict() for line in self.lines()],
            "packages": [package._asdict() for package in self.packages()],
            "stacks": [
                {
                    "bytes": round(stack.bytes),
                    "blocks": round(stack.blocks),
                    "error_bytes": error_bytes(stack),
                    "frames": [frame._asdict() for frame in stack.frames],
                }
                for stack in named_stacks(list(self.stacks))
            ],
        }

    def to_collapsed(self) -> str:
        """Return what grew as folded stacks, one a line: frames from the root, and bytes.

        The format of Brendan Gregg's flamegraph.pl. Stacks that did not grow are left out.
        """
        return collapsed(self._grown)

    def to_speedscope(self) -> dict[str, Any]:
        """Return what grew in the format of speedscope.app, to be written as JSON.

        Stacks that did not grow are left out.
        """
        return speedscope(self._grown, self._title)

    def to_pprof(self) -> bytes:
        """Return what grew as a heap profile of pprof, compressed.

        Its values are ``inuse_objects`` and ``inuse_space``. Stacks that did not grow are left
        out, and a comment says what they come to.

        Raises:
            MissingExtraError: protobuf is not installed.
        """
        shrunk = total(stack for stack in self.stacks if stack.bytes <= 0).bytes
        return pprof(
            self._grown,
            ended_at=self.ended_at,
            seconds=self.seconds,
            sample_bytes=self.sample_bytes,
            comments=(self._title, f"left out, as it did not grow: {round(shrunk)} bytes"),
        )

    def to_flame_graph(self) -> str:
        """Return a page of HTML with a flame graph of what grew; it needs nothing else.

        Stacks that did not grow are left out.
        """
        return flame_graph(self._grown, title=self._title, text=str(self))

    def write(self, path: str | PathLike[str]) -> None:
        """Write the report to a file, as the end of its name says.

        Args:
            path: ``.txt`` is the text; ``.json`` all numbers; ``.folded`` and ``.collapsed`` folded
                stacks; ``.speedscope.json`` speedscope's format; ``.pb.gz`` a pprof file; ``.html``
                a flame graph.

        Raises:
            InvalidValueError: Its name ends in none of these.
            MissingExtraError: A pprof file needs protobuf, which is not installed.
            OutputError: The file cannot be written.
        """
        name = Path(path).name.lower()
        made = next((make for end, make in _FORMATS.items() if name.endswith(end)), None)
        if made is None:
            msg = f"{str(path)!r} names no format: let it end in one of {', '.join(_FORMATS)}"
            raise InvalidValueError(msg)
        content = made(self)
        try:
            Path(path).write_bytes(
                content if isinstance(content, bytes) else content.encode(errors="backslashreplace")
            )
        except OSError as error:
            msg = f"the report cannot be written to {str(path)!r}: {error.strerror}"
            raise OutputError(msg) from error

    @property
    def _grown(self) -> list[StackGrowth]:
        """What pictures show: there is no room in them for less than nothing."""
        return named_stacks([stack for stack in self.stacks if round(stack.bytes) > 0])

    @property
    def _title(self) -> str:
        return f"growth of {self.name!r} from {self.first!r} to {self.second!r}"

    def __str__(self) -> str:
        lines = [f"{self._title}, {self.seconds:.1f} s", f"  {self._told_size()}"]
        if self.sample_bytes:
            lines.append(
                f"  by a sample of one byte in {format_size(self.sample_bytes)}: what grew by "
                f"less than {format_size(self.unseen_bytes)} may be missing"
            )
        if self.own_bytes:
            lines.append(f"  left out: {_signed(self.own_bytes)} of stratatrace's own")
        lines += _part("lines", map(line_text, self.lines()))
        lines += _part("packages", map(_package_text, self.packages()))
        if self.depth > 1:
            stacks = self.tracebacks(_STACKS_SHOWN)
            lines += _part("tracebacks", (text for each in stacks for text in _stack_texts(each)))
        return "\n".join(lines)

    def _told_size(self) -> str:
        blocks = self.growth_blocks
        noun = "block" if abs(blocks) == 1 else "blocks"
        return f"{_signed(self.growth_bytes, self.error_bytes)} in {blocks:+,} {noun}"


def line_text(line: LineGrowth) -> str:
    """Return a line for people."""
    function = f" in {line.function}" if line.function else ""
    return f"{_signed(line.bytes, line.error_bytes)}  {line.file}:{line.line}{function}"


def _package_text(package: PackageGrowth) -> str:
    return f"{_signed(package.bytes, package.error_bytes)}  {package.package}"


def _stack_texts(stack: StackGrowth) -> Iterator[str]:
    """Yield a stack's growth, and its innermost frames."""
    yield _signed(round(stack.bytes), error_bytes(stack))
    for frame in stack.frames[:_FRAMES_SHOWN]:
        yield f"  {frame_text(frame)}"
    left_out = len(stack.frames) - _FRAMES_SHOWN
    if left_out > 0:
        yield f"  and {left_out} more"
    if not stack.frames:
        yield f"  {UNKNOWN}"


def _part(title: str, texts: Iterable[str]) -> list[str]:
    """Return a titled part of the text, nothing where there is nothing to tell."""
    rows = [f"    {text}" for text in texts]
    return [f"  {title}", *rows] if rows else []


def _signed(size_bytes: int, error: int = 0) -> str:
    sign = "+" if size_bytes > 0 else ""
    return f"{sign}{format_size(size_bytes)}" + (f" ± {format_size(error)}" if error else "")


_FORMATS: dict[str, Callable[[GrowthReport], str | bytes]] = {
    ".txt": lambda report: f"{report}\n",
    ".speedscope.json": lambda report: json.dumps(report.to_speedscope()),
    ".json": lambda report: json.dumps(report.to_dict()),
    ".folded": GrowthReport.to_collapsed,
    ".collapsed": GrowthReport.to_collapsed,
    ".pb.gz": GrowthReport.to_pprof,
    ".html": GrowthReport.to_flame_graph,
}
