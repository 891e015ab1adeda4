"""What a budget may be given as."""

from __future__ import annotations

from typing import Any

import pytest

from stratatrace.errors import StratatraceError
from stratatrace.pytest_plugin.budgets import Budget, budget_of

GIVEN: list[tuple[tuple[Any, ...], dict[str, Any], Budget]] = [
    (("50MB",), {}, Budget(heap_peak=50_000_000)),
    ((1024,), {}, Budget(heap_peak=1024)),
    (("rss_peak=200MB",), {}, Budget(rss_peak=200_000_000)),
    (("50MB",), {"rss_peak": "200MB"}, Budget(heap_peak=50_000_000, rss_peak=200_000_000)),
    (("1KB", "rss_peak = 2KB"), {}, Budget(heap_peak=1000, rss_peak=2000)),
    ((), {"heap_peak": "1KiB", "rss_peak": None}, Budget(heap_peak=1024)),
]


@pytest.mark.parametrize(("args", "kwargs", "budget"), GIVEN)
def test_a_budget_is_sizes_by_place_or_name(
    args: tuple[Any, ...], kwargs: dict[str, Any], budget: Budget
) -> None:
    """As ints, as text, and as text with a name."""
    assert budget_of(*args, **kwargs) == budget


@pytest.mark.parametrize(
    ("args", "kwargs", "complaint"),
    [
        ((), {}, "given no budget: write"),
        (("50 bananas",), {}, "'50 bananas' is not a size"),
        ((0,), {}, "must be greater than zero"),
        ((True,), {}, "a size is an int"),
        ((1.5,), {}, "a size is an int"),
        (("rss=1MB",), {}, "no budget 'rss': it takes heap_peak, rss_peak"),
        ((), {"rss": "1MB"}, "no budget 'rss': it takes heap_peak, rss_peak"),
        (("1MB", "2MB"), {}, "two budgets for heap_peak"),
        (("1MB",), {"heap_peak": "2MB"}, "two budgets for heap_peak"),
    ],
)
def test_nonsense_is_refused(args: tuple[Any, ...], kwargs: dict[str, Any], complaint: str) -> None:
    """It says what was given, and what to write."""
    with pytest.raises(StratatraceError, match=complaint):
        budget_of(*args, **kwargs)
