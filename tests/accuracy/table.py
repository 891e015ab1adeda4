"""Print what every scenario measured beside what is true, as a table in Markdown.

``python tests/accuracy/table.py [--json FILE] [--write FILE]`` runs the scenarios in this
interpreter; ``--merge FILE... --write FILE`` makes one page of what several interpreters wrote.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from heap_probes import PROBES

from accuracy.scenarios import SCENARIOS, Row

HEAD = """# Accuracy

Every row is a call whose memory is known beforehand: the truth is the size of what it takes and
gives back, and beside it is what stratatrace measured, for the worst call where several are alike.
The table is made by `nox -s accuracy`, which fails where an error is larger than 1% and than
4 KiB of heap or 256 KiB of resident memory, or 64 bytes for a call that does nothing.
"""
COLUMNS = "| scenario | number | truth | measured | error |\n|---|---|--:|--:|--:|"


class Section(NamedTuple):
    """The rows of one probe in one interpreter."""

    title: str
    rows: list[Row]


def measured_here(probe: str) -> Section:
    """Run every scenario in this interpreter."""
    title = f"{platform.python_implementation()} {platform.python_version()}, {probe}"
    return Section(title, [row for scenario in SCENARIOS for row in scenario.rows(probe)])


def saved(sections: list[Section]) -> str:
    """Return sections as JSON."""
    return json.dumps(sections)


def loaded(text: str) -> list[Section]:
    """Return the sections that `saved` made text of."""
    return [Section(title, [Row(*row) for row in rows]) for title, rows in json.loads(text)]


def page(sections: list[Section]) -> str:
    """Return the page: the worst row of all, and a table for each probe and interpreter."""
    worst_of, worst = max(
        ((section.title, row) for section in sections for row in section.rows),
        key=lambda pair: pair[1].badness,
    )
    lines = [
        HEAD,
        f"The worst row of all is *{worst.scenario}* ({worst.call}, {worst.number}) on {worst_of}:",
        f"{_error(worst)}, where {worst.within:,} bytes are allowed.",
    ]
    for title, rows in sections:
        lines += ["", f"## {title}", "", COLUMNS, *map(_line, rows)]
    return "\n".join([*lines, ""])


def _line(row: Row) -> str:
    name = row.scenario if row.call == "call" else f"{row.scenario}: {row.call}"
    mark = "" if row.badness <= 1 else " **too much**"
    return f"| {name} | {row.number} | {row.truth:,} | {row.measured:,} | {_error(row)}{mark} |"


def _error(row: Row) -> str:
    share = f" ({row.error / abs(row.truth):+.2%})" if row.truth else ""
    return f"{row.error:+,} B{share}"


def main() -> int:
    """Run, or merge; return 1 where a number is outside its tolerance."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="write the page here, and print nothing")
    parser.add_argument("--json", type=Path, help="write this interpreter's rows here")
    parser.add_argument("--merge", type=Path, nargs="+", help="run nothing, read these rows")
    options = parser.parse_args()
    if options.merge:
        texts = [path.read_text(encoding="utf-8") for path in options.merge]
        sections = [section for text in texts for section in loaded(text)]
    else:
        sections = [measured_here(probe) for probe in PROBES]
    if options.json is not None:
        options.json.write_text(saved(sections), encoding="utf-8")
    if options.write is not None:
        options.write.write_text(page(sections), encoding="utf-8")
    elif options.json is None:
        sys.stdout.write(page(sections))
    return int(any(row.badness > 1 for section in sections for row in section.rows))


if __name__ == "__main__":
    sys.exit(main())
