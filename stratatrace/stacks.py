"""Memory by stack, and added up by line: what every source of it comes to; pure.

It knows neither where the numbers are from nor how they are shown.
"""

from __future__ import annotations

import math
import tracemalloc
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

__all__ = [
    "ERRORS_OF_95",
    "Frame",
    "LineGrowth",
    "StackGrowth",
    "added_up",
    "error_bytes",
    "innermost",
    "is_own",
    "line_growth",
    "top_lines",
    "total",
]

#: Within so many standard errors of an estimate the truth lies in 95 of 100 cases.
ERRORS_OF_95 = 1.96

_GENERATED = "<string>"
_OWN_FOLDER = str(Path(__file__).parent) + "/"


class Frame(NamedTuple):
    """A place in the program."""

    #: The file as the code object names it.
    file: str
    #: The qualified name of the function; empty where it is not known.
    function: str
    line: int


class StackGrowth(NamedTuple):
    """By how much the memory grew that one stack of calls has allocated."""

    #: The innermost first: the line that allocated, and then who called it.
    frames: tuple[Frame, ...]
    #: Signed.
    bytes: float
    #: Signed.
    blocks: float
    #: Of the bytes, in bytes squared; 0 where each block was seen.
    variance: float = 0.0


class LineGrowth(NamedTuple):
    """By how much the memory grew that one line has allocated; all threads are in it."""

    file: str
    line: int
    #: Qualified name of the function; empty where it is not known.
    function: str
    #: Signed.
    bytes: int
    #: Signed.
    blocks: int
    #: The bytes are right to this, either way, in 95 of 100 cases; 0 where they are exact.
    error_bytes: int


def innermost(frames: tuple[Frame, ...]) -> Frame | None:
    """Return the frame that what was allocated counts as; None where there is none.

    Generated code, such as the constructor of a dataclass, counts as the line that calls it.
    """
    for frame in frames:
        if frame.file != _GENERATED:
            return frame
    return frames[0] if frames else None


def is_own(frames: tuple[Frame, ...]) -> bool:
    """Tell whether stratatrace itself has allocated it, or tracemalloc, and not the program."""
    frame = innermost(frames)
    return frame is not None and frame.file.startswith((_OWN_FOLDER, tracemalloc.__file__))


def added_up(
    stacks: Iterable[StackGrowth], key: Callable[[Frame], Hashable]
) -> list[tuple[Frame, StackGrowth]]:
    """Add up what the `innermost` frames of one key have allocated; the most growth first.

    Args:
        stacks: What to add up; stacks without frames are left out.
        key: What frames have in common that count as one.

    Returns:
        For each key one of its frames, and the sum, whose frames are empty.
    """
    frames: dict[Hashable, Frame] = {}
    parts: dict[Hashable, list[StackGrowth]] = defaultdict(list)
    for stack in stacks:
        frame = innermost(stack.frames)
        if frame is not None:
            shared = key(frame)
            frames.setdefault(shared, frame)
            parts[shared].append(stack)
    sums = [(frames[shared], total(of_one)) for shared, of_one in parts.items()]
    return sorted(sums, key=lambda pair: -pair[1].bytes)


def total(stacks: Iterable[StackGrowth]) -> StackGrowth:
    """Return the sum of all, which has no frames."""
    sizes, counts, variances = [0.0], [0.0], [0.0]
    for stack in stacks:
        sizes.append(stack.bytes)
        counts.append(stack.blocks)
        variances.append(stack.variance)
    return StackGrowth((), math.fsum(sizes), math.fsum(counts), math.fsum(variances))


def error_bytes(stack: StackGrowth) -> int:
    """Return what the bytes are right to, either way, in 95 of 100 cases.

    The normal distribution's, which is too narrow where it is a sum of very few samples.
    """
    return round(ERRORS_OF_95 * math.sqrt(stack.variance))


def line_growth(frame: Frame, growth: StackGrowth) -> LineGrowth:
    """Return the growth as a line's, in whole bytes."""
    return LineGrowth(
        file=frame.file,
        line=frame.line,
        function=frame.function,
        bytes=round(growth.bytes),
        blocks=round(growth.blocks),
        error_bytes=error_bytes(growth),
    )


def top_lines(stacks: Iterable[StackGrowth], most: int = 10) -> list[LineGrowth]:
    """Return the lines that grew most, the largest first; those of stratatrace are left out.

    Lines that did not grow are not among them.

    Args:
        stacks: What grew, by stack; or what is held, for the lines that hold most.
        most: How many lines.
    """
    others = (stack for stack in stacks if not is_own(stack.frames))
    sums = added_up(others, lambda frame: (frame.file, frame.line))
    return [line_growth(frame, growth) for frame, growth in sums[:most] if growth.bytes > 0]
