"""Whether a test needs more memory than its baseline says, and not only this once; pure.

A run over the limit may be chance: what it imports, or what others have put into caches before it,
differs with the order of tests. So that run is a reason to look, and no evidence; only repeats are.

- One repeat that keeps to the limit acquits: the test can do with what it did with before.
- Three repeats or more convict where all are over the limit, and their mean so far that it is no
  chance: Student's one-sided t-test of the repeats against the limit, at one in a thousand. What
  always takes the same is convicted by three.
- Nine repeats, all over the limit, convict however much they scatter. Where a run is as likely over
  the limit as not, this comes to pass one time in 512 (the sign test).

The limit is the baseline, a twentieth more, and at least 16 KiB more, for what another patch
release of Python, or of a package, may change.

See Student, Biometrika 6 (1908); J. Arbuthnot, Phil. Trans. 27 (1710).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean, median_low, stdev
from typing import TYPE_CHECKING, Literal, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["MOST_RUNS", "Status", "Verdict", "judge", "limit_of", "settle", "typical_of"]

#: How often a test is run at most, the first run included.
MOST_RUNS = 10

_MARGIN_RATIO = 0.05
_MARGIN_BYTES = 16 * 1024
_LEAST_REPEATS = 3
# The quantiles of Student's distribution at 0.999, by degrees of freedom.
_QUANTILES = {2: 22.327, 3: 10.215, 4: 7.173, 5: 5.893, 6: 5.208, 7: 4.785, 8: 4.501}
_SETTLING_REPEATS = 2

Status = Literal["new", "same", "less", "acquitted", "regressed", "unsure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What has come out of it."""

    #: ``new``: there is no baseline. ``same`` and ``less``: the first run kept to it, or stayed
    #: clearly below. ``acquitted``: a repeat kept to it. ``regressed``: it takes more. ``unsure``:
    #: the first run took more, and it could not be repeated.
    status: Status
    #: The heap peaks of all runs, the first one first.
    runs: tuple[int, ...]


def limit_of(baseline_bytes: int) -> int:
    """Return the heap peak that is still no more than that baseline."""
    return baseline_bytes + _margin(baseline_bytes)


def judge(baseline_bytes: int | None, first_bytes: int, again: Callable[[], int | None]) -> Verdict:
    """Judge a test by its first run, and by repeats where they are needed.

    Args:
        baseline_bytes: What it took before; None where nobody knows.
        first_bytes: What it has taken now.
        again: Runs it once more; returns what it took, or None where it failed.
    """
    if baseline_bytes is None:
        return Verdict(status="new", runs=(first_bytes,))
    limit_bytes = limit_of(baseline_bytes)
    if first_bytes <= limit_bytes:
        less = first_bytes < baseline_bytes - _margin(baseline_bytes)
        return Verdict(status="less" if less else "same", runs=(first_bytes,))
    runs = [first_bytes]
    while not _is_more(runs[1:], limit_bytes):
        run_bytes = again()
        if run_bytes is None:
            return Verdict(status="unsure", runs=tuple(runs))
        runs.append(run_bytes)
        if run_bytes <= limit_bytes:
            return Verdict(status="acquitted", runs=tuple(runs))
    return Verdict(status="regressed", runs=tuple(runs))


def settle(
    baseline_bytes: int | None, first_bytes: int, again: Callable[[], int | None]
) -> tuple[int, ...]:
    """Return the runs of a test that is to get a new baseline, which is `typical_of` them.

    What has hardly changed keeps the baseline that it has: no line of the file moves for noise.

    Args:
        baseline_bytes: What it took before; None where nobody knows.
        first_bytes: What it has taken now.
        again: As for `judge`.
    """
    if _is_alike(baseline_bytes, first_bytes):
        return (baseline_bytes,)
    runs = [first_bytes]
    for _ in range(_SETTLING_REPEATS):
        run_bytes = again()
        if run_bytes is None:
            break
        runs.append(run_bytes)
    if _is_alike(baseline_bytes, typical_of(runs)):
        return (baseline_bytes,)
    return tuple(runs)


def typical_of(runs: Sequence[int]) -> int:
    """Return the baseline that runs make: their median, which no single one of them decides."""
    return median_low(runs)


def _is_more(repeats: Sequence[int], limit_bytes: int) -> bool:
    """Tell whether repeats, all of them over the limit, are enough to say so."""
    count = len(repeats)
    if count < _LEAST_REPEATS:
        return False
    if count >= MOST_RUNS - 1:
        return True
    excess = fmean(repeats) - limit_bytes
    return excess * math.sqrt(count) > _QUANTILES[count - 1] * stdev(repeats)


def _is_alike(baseline_bytes: int | None, run_bytes: int) -> TypeGuard[int]:
    return baseline_bytes is not None and abs(run_bytes - baseline_bytes) <= _margin(baseline_bytes)


def _margin(baseline_bytes: int) -> int:
    return max(_MARGIN_BYTES, round(baseline_bytes * _MARGIN_RATIO))
