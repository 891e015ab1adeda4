"""The lines that a test which breaks its budget has allocated on: at its peak, where that is known.

By the native probe they come of a sample of what the test allocates, drawn while it runs. Where
tracemalloc traces there is no telling what was there at the peak, and what is left is told.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from stratatrace.call_lines import SampledLines
from stratatrace.errors import ProbeError
from stratatrace.guards.allocators import top_allocators
from stratatrace.probes.allocations import SAMPLE_BYTES, AllocationSampler
from stratatrace.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stratatrace.pytest_plugin.budgets import Budget

__all__ = ["sampled_lines", "told_lines"]

# How many samples there are of what just breaks the budget, on average: a line that holds half of
# it is then known to some 15%.
_SAMPLES = 64
_LEAST_MEAN_BYTES = 4096
# Of a budget, for a line to be told.
_LEAST_TOLD = 0.05


@contextmanager
def sampled_lines(budget: Budget | None, probe: str) -> Iterator[SampledLines | None]:
    """Sample for the lines of what runs in the block, for `told_lines`; None where there is none.

    Args:
        budget: Of the heap, or none.
        probe: What counts the heap.
    """
    sampler = None
    if budget is not None and budget.heap_peak is not None and probe == "native":
        mean_bytes = min(SAMPLE_BYTES, max(_LEAST_MEAN_BYTES, budget.heap_peak // _SAMPLES))
        sampler = AllocationSampler(mean_bytes)
        try:
            sampler.open()
        except ProbeError:  # Of a Python whose frames are not known.
            sampler = None
    if sampler is None:
        yield None
        return
    try:
        yield SampledLines(sampler)
    finally:
        sampler.close()


def told_lines(lines: SampledLines | None, budget: Budget) -> list[str]:
    """Return what a report says of lines, the largest first; nothing where nothing is known.

    Args:
        lines: Of a sample that lasts still, where there is one.
        budget: What was broken; small parts of it are not told.
    """
    least_bytes = (budget.heap_peak or budget.rss_peak or 0) * _LEAST_TOLD
    at_peak = lines.at_peak() if lines is not None else None
    if at_peak:
        told = [
            f"  {format_size(line.bytes):>10}  {line.file}:{line.line} {line.function}".rstrip()
            for line in at_peak
            if line.bytes >= least_bytes
        ]
        return ["held at the peak, by a sample:", *told] if told else []
    told = [
        f"  {format_size(size):>10}  {file}:{line}"
        for file, line, size in top_allocators()
        if size >= least_bytes
    ]
    # What the test has let go is not in it, so that much of a budget may not be there.
    return ["alive when the test had ended, in the whole process:", *told] if told else []
