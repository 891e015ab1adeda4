"""What is printed after the tests: the table of the worst, and what the baseline says."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from stratatrace.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["Row", "comparison_lines", "table_lines"]

_HEADINGS = ("heap peak", "RSS growth", "net heap", "GC", "time", "test")


class Row(NamedTuple):
    """What one test has taken; None where it was not measured. Bytes and ns."""

    test: str
    heap_peak_bytes: int | None
    rss_peak_growth_bytes: int | None
    heap_net_bytes: int | None
    gc_time_ns: int | None
    duration_ns: int | None
    attribution: str | None
    probe: str | None
    #: What the baseline says: see `judging.Verdict`.
    status: str | None = None
    runs: tuple[int, ...] = ()
    baseline_bytes: int | None = None

    @property
    def is_new(self) -> bool:
        """Whether the baseline has something to learn from it."""
        return self.status == "new"


def table_lines(rows: Iterable[Row], most: int) -> list[str]:
    """Return the table of those with the highest heap peak, the worst first.

    Args:
        rows: All that were measured.
        most: How many to show; 0 for all.
    """
    worst = sorted(rows, key=_weight, reverse=True)
    shown = worst[:most] if most else worst
    if not shown:
        return ["no test was measured"]
    cells = [_HEADINGS, *map(_cells, shown)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_HEADINGS) - 1)]
    lines = [
        "  ".join([*(cell.rjust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])
        for row in cells
    ]
    probes = sorted({row.probe for row in shown if row.probe is not None})
    if probes:
        told = " and ".join(probes)
        lines.append(f"the heap of each test's call, by {told}; fixtures are not in it")
    if any(row.attribution == "process" for row in shown):
        lines.append("* other threads or tasks may be in these numbers")
    if len(shown) < len(worst):
        lines.append(f"{len(worst) - len(shown)} more tests: --memory-top=0 shows all")
    return lines


def comparison_lines(rows: Sequence[Row]) -> list[str]:
    """Return what the baseline says of those tests that are not as before."""
    lines: list[str] = []
    for status, told in _TOLD.items():
        these = sorted((row for row in rows if row.status == status), key=_weight, reverse=True)
        if these:
            lines.append(told(len(these)))
            lines += map(_compared, these[:_MOST_TOLD])
            if len(these) > _MOST_TOLD:
                lines.append(f"  and {len(these) - _MOST_TOLD} more")
    count = sum(row.status is not None for row in rows)
    lines.append(f"{count} {_tests(count)} compared by heap peak")
    return lines


_MOST_TOLD = 20


def _tests(count: int) -> str:
    return "test" if count == 1 else "tests"


_TOLD: dict[str, Callable[[int], str]] = {
    "regressed": lambda count: f"{count} {_tests(count)} took more than the baseline:",
    "unsure": lambda count: (
        f"{count} {_tests(count)} took more, and could not be repeated to be sure:"
    ),
    "less": lambda count: (
        f"{count} {_tests(count)} took less, which --memory-baseline-update would keep:"
    ),
    "new": lambda count: (
        f"{count} {_tests(count)} not in the baseline yet: --memory-baseline-update adds them"
    ),
}


def _compared(row: Row) -> str:
    if row.baseline_bytes is None:
        return f"  {row.test}  {_sizes(row.runs)}"
    return f"  {row.test}  {_sizes(row.runs)}, baseline {format_size(row.baseline_bytes)}"


def _sizes(runs: Sequence[int]) -> str:
    low, high = format_size(min(runs)), format_size(max(runs))
    several = f" in {len(runs)} runs" if len(runs) > 1 else ""
    return f"{low}{several}" if low == high else f"{low} to {high}{several}"


def _weight(row: Row) -> tuple[int, int, str]:
    return row.heap_peak_bytes or 0, row.rss_peak_growth_bytes or 0, row.test


def _cells(row: Row) -> tuple[str, ...]:
    star = "*" if row.attribution == "process" else ""
    return (
        f"{_size(row.heap_peak_bytes)}{star}",
        _size(row.rss_peak_growth_bytes),
        _size(row.heap_net_bytes),
        _time(row.gc_time_ns),
        _time(row.duration_ns),
        row.test,
    )


def _size(size_bytes: int | None) -> str:
    return "-" if size_bytes is None else format_size(size_bytes)


def _time(time_ns: int | None) -> str:
    if time_ns is None:
        return "-"
    seconds = time_ns / 1e9
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
