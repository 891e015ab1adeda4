"""The table of a summary, in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stratatrace.sizes import format_size

if TYPE_CHECKING:
    from stratatrace.reports.summary import Summary

__all__ = ["print_table"]

# What a pipe or a log file can be expected to show on a line.
_WIDTH_WITHOUT_TERMINAL = 120


def print_table(summary: Summary, *, file: TextIO, console: Console | None = None) -> None:
    """Print a row for each callsite, or say that nothing was measured.

    Args:
        summary: The rows, in the order to print them.
        file: Where to print.
        console: A console of the caller's own, in place of one on *file*.
    """
    if console is None:
        console = Console(
            file=file, width=None if file.isatty() else _WIDTH_WITHOUT_TERMINAL, highlight=False
        )
    if summary.rows:
        console.print(_table(summary))
    else:
        console.print(
            "stratatrace measured no call: decorate a function with @profile_memory, "
            "or name one with --profile module:function",
            soft_wrap=True,
        )
    if summary.unreadable_lines:
        console.print(f"{summary.unreadable_lines} lines could not be read")


def _table(summary: Summary) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("callsite", overflow="fold")
    for heading in ("calls", "worst peak", "all peaks", "net heap", "peak RSS", "time", "score"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in summary.rows:
        calls = Text(f"{row.calls:,}")
        if row.errors:
            calls.append(f" ({row.errors:,} failed)", style="red")
        table.add_row(
            Text(row.name),
            calls,
            _size(row.heap_peak_worst_bytes),
            _size(row.heap_peak_total_bytes),
            _size(row.heap_net_bytes),
            _size(row.rss_peak_bytes),
            _time(row.time_s),
            "-" if row.score is None else f"{row.score:.0f}",
        )
    return table


def _size(size_bytes: int | None) -> str:
    return "-" if size_bytes is None else format_size(size_bytes)


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
