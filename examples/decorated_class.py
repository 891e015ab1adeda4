"""A class whose methods are measured, a budget that one call breaks, and single numbers in code.

An archive of sensor readings. Adding and averaging are cheap; `export` joins everything into one
text, which is fine for a day and breaks the budget for a month. `measure` tells what the remedy
takes, without a decorator.
"""

from __future__ import annotations

import os
from array import array
from pathlib import Path
from typing import TYPE_CHECKING

from stratatrace import measure, profile_memory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

MINUTES_A_DAY = 24 * 60
MEGABYTE = 1_000_000


@profile_memory(methods=["add_day", "average", "export"], budget="2MB", attributes={"site": "roof"})
class Archive:
    """Readings of one sensor, a minute each, in thousandths of a degree."""

    def __init__(self) -> None:
        self._readings = array("i")

    def add_day(self, day: int) -> None:
        """Add the readings of one day."""
        self._readings.extend(15_000 + (day * minute) % 9_000 for minute in range(MINUTES_A_DAY))

    def average(self) -> float:
        """Return the mean, in degrees."""
        return sum(self._readings) / len(self._readings) / 1000

    def export(self) -> str:
        """Return all readings as lines of text."""
        return "\n".join([f"{reading / 1000:.3f}" for reading in self._readings])

    def lines(self) -> Iterator[str]:
        """Yield all readings as lines of text; not measured, for it is not among the methods."""
        for reading in self._readings:
            yield f"{reading / 1000:.3f}\n"


def write_lines(archive: Archive, file: TextIO) -> int:
    """Write an archive line by line, and return how many there were."""
    return sum(1 for line in archive.lines() if file.write(line))


def main() -> None:
    """Export a day, then a month, then the month in a better way."""
    archive = Archive()
    archive.add_day(1)
    print(f"a day:   {len(archive.export()):,} characters")  # Well within the budget.

    # sample_ratio=1: measured every time, also where only a sample of the calls is.
    with profile_memory("export a month", budget="2MB", sample_ratio=1) as block:
        for day in range(2, 31):
            archive.add_day(day)
        print(f"a month: {len(archive.export()):,} characters")
    broken = "breaks" if block.measurement.budget_exceeded else "keeps to"
    print(f"         {_megabytes(block.measurement.heap_peak_bytes)}, which {broken} the budget")

    with Path(os.devnull).open("w", encoding="ascii") as file:
        lines, measurement = measure(write_lines, archive, file)
    streamed = _megabytes(measurement.heap_peak_bytes)
    print(f"         {streamed} for the same {lines:,} lines, one by one")
    print(f"average: {archive.average():.1f} degrees")


def _megabytes(size_bytes: int | None) -> str:
    if size_bytes is None:
        return "not measured"
    return f"{size_bytes / 1e6:.0f} MB" if size_bytes >= MEGABYTE else "under 1 MB"


if __name__ == "__main__":
    main()
