"""The table in the terminal."""

from __future__ import annotations

import io

from stratatrace.reports.summary import Row, Summary
from stratatrace.reports.table import print_table


def printed(summary: Summary) -> str:
    file = io.StringIO()
    print_table(summary, file=file)
    return file.getvalue()


def test_a_row_has_every_number_in_its_unit() -> None:
    """Sizes are for people, what was not measured is a dash, failures are told."""
    text = printed(
        Summary(
            (
                Row("m.f", None, 1200, 3, 1.5, 2 << 20, 3 << 20, -512, 40 << 20, 61.6),
                Row("m.g", "block", calls=1, time_s=0.0123),
            )
        )
    )
    _heading, first, second = text.splitlines()
    assert first.split() == (
        [
            "m.f",
            "1,200",
            "(3",
            "failed)",
            "2.0",
            "MiB",
            "3.0",
            "MiB",
            "-512",
            "B",
            "40.0",
            "MiB",
            "1.50",
            "s",
            "62",
        ]
    )
    assert second.split() == ["block", "(m.g)", "1", "-", "-", "-", "-", "12.3", "ms", "-"]


def test_names_with_brackets_are_no_markup() -> None:
    """A callsite's name is printed as it is."""
    assert "m.[bold]f" in printed(Summary((Row("m.[bold]f", None, calls=1),)))


def test_nothing_measured_says_what_to_do() -> None:
    """An empty table would leave a newcomer alone."""
    assert "decorate a function with @profile_memory" in printed(Summary(()))


def test_unreadable_lines_are_told() -> None:
    """A table that is not of the whole file says so."""
    assert "2 lines could not be read" in printed(Summary((), 2))
