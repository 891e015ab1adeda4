"""Measured functions at the limit of recursion end as bare ones do."""

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import sys
import traceback
from typing import TYPE_CHECKING

import pytest
from setting import assert_all_is_well, install, measured  # type: ignore[import-not-found]

if TYPE_CHECKING:
    from collections.abc import Callable

NEAR = 100
ERROR = ValueError("the program's own")
recorder = install(sys.argv[1])


def bare(depth: int) -> int:
    return bare(depth + 1)


@measured
def endless(depth: int) -> object:
    return endless(depth + 1)


def raises() -> None:
    raise ERROR


def nothing() -> None: ...


def deep_in(depth: int, function: Callable[[], object]) -> object:
    """Return how *function* ends when it is called at that depth."""
    if depth:
        return deep_in(depth - 1, function)
    try:
        return function()
    except (ValueError, RecursionError) as error:
        return type(error)


def frames_of(function: Callable[[int], object]) -> list[str]:
    """Return the names of the frames of an endless recursion."""
    with pytest.raises(RecursionError) as caught:
        function(0)
    assert caught.value.__context__ is None
    return [frame.f_code.co_name for frame, _ in traceback.walk_tb(caught.value.__traceback__)]


def ends_of(function: Callable[[], object]) -> list[object]:
    ends = []
    for depth in range(sys.getrecursionlimit() - NEAR, sys.getrecursionlimit()):
        try:
            ends.append(deep_in(depth, function))
        except RecursionError:
            ends.append("too deep")
    return ends


for _ in range(3):
    frames = frames_of(endless)
    assert set(frames[2:]) == {"endless"}, set(frames)
    # C code may not call itself as often as Python code may: 3.12 allows half as many calls.
    assert sys.version_info[:2] == (3, 12) or len(frames) == len(frames_of(bare))
    assert_all_is_well(recorder)
for function in (nothing, raises):
    expected, ours = ends_of(function), ends_of(measured(function))
    assert ours == expected, (ours, expected)
    assert_all_is_well(recorder)
assert recorder.guard.failures == 0
sys.stdout.write("done\n")
