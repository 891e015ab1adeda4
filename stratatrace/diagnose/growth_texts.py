"""What grew, as text that other tools read: folded stacks, and speedscope's JSON."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from stratatrace.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stratatrace.stacks import Frame, StackGrowth

__all__ = ["UNKNOWN", "collapsed", "frame_text", "speedscope"]

#: The frame of what was allocated where no stack could be read.
UNKNOWN = "(no stack)"
_SCHEMA = "https://www.speedscope.app/file-format-schema.json"
# A semicolon divides frames, and a line is a stack.
_CLEAN = str.maketrans({";": ":", "\n": " ", "\r": " "})


def frame_text(frame: Frame) -> str:
    """Return a frame for people, and as the name by which tools tell it from others."""
    place = f"{frame.file}:{frame.line}"
    return f"{frame.function} ({place})" if frame.function else place


def collapsed(stacks: Iterable[StackGrowth]) -> str:
    """Return folded stacks, one a line, from the root on, and the bytes."""
    sums: Counter[str] = Counter()
    for stack in stacks:
        frames = [frame_text(frame).translate(_CLEAN) for frame in reversed(stack.frames)]
        sums[";".join(frames or [UNKNOWN])] += round(stack.bytes)
    return "".join(f"{frames} {size_bytes}\n" for frames, size_bytes in sums.items())


def speedscope(stacks: Iterable[StackGrowth], title: str) -> dict[str, Any]:
    """Return the file of speedscope's format, as its schema has it.

    See https://github.com/jlfwong/speedscope/wiki/Importing-from-custom-sources.
    """
    numbers: dict[Frame | str, int] = {}
    samples, weights = [], []
    for stack in stacks:
        frames = tuple(reversed(stack.frames)) or (UNKNOWN,)
        samples.append([numbers.setdefault(frame, len(numbers)) for frame in frames])
        weights.append(round(stack.bytes))
    profile = {
        "type": "sampled",
        "name": title,
        "unit": "bytes",
        "startValue": 0,
        "endValue": sum(weights),
        "samples": samples,
        "weights": weights,
    }
    return {
        "$schema": _SCHEMA,
        "exporter": f"stratatrace {__version__}",
        "name": title,
        "activeProfileIndex": 0,
        "shared": {"frames": [_frame(frame) for frame in numbers]},
        "profiles": [profile],
    }


def _frame(frame: Frame | str) -> dict[str, str | int]:
    if isinstance(frame, str):
        return {"name": frame}
    return {"name": frame.function or frame_text(frame), "file": frame.file, "line": frame.line}
