"""Print which patterns were found to leak, beside the truth, as tables in Markdown.

``python tests/accuracy/leak_table.py [--write FILE]`` returns 1 where a leak was missed, or more
than one innocent was blamed.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from heap_probes import PROBES

from accuracy.leak_corpus import PATTERNS, Pattern
from stratatrace import LeakReport, find_leaks

MOST_FALSE_ALARMS = 1
COLUMNS = (
    "| pattern | leaks | found | bytes a call | p | calls | held by | seconds |\n"
    "|---|---|---|--:|--:|--:|---|--:|"
)


class Tried(NamedTuple):
    """A pattern, and what was found of it."""

    pattern: Pattern
    report: LeakReport
    seconds: float

    @property
    def right(self) -> bool:
        """Whether the verdict is the truth."""
        return self.report.leaks == self.pattern.leaks


def tried(pattern: Pattern, probe: str, *, iterations: int = 100) -> Tried:
    """Look at one pattern."""
    with ExitStack() as held:
        function = pattern.make(held)
        began = time.perf_counter()
        report = find_leaks(function, iterations=iterations, probe=probe, name=pattern.name)
        return Tried(pattern, report, time.perf_counter() - began)


def table(title: str, rows: list[Tried]) -> str:
    """Return the rows as a table, with the rates above it."""
    leaking = [row for row in rows if row.pattern.leaks]
    innocent = [row for row in rows if not row.pattern.leaks]
    found = sum(row.right for row in leaking)
    alarms = sum(not row.right for row in innocent)
    head = (
        f"## {title}\n\nFound {found} of {len(leaking)} leaks; "
        f"{alarms} false alarms among {len(innocent)} that do not leak.\n\n{COLUMNS}"
    )
    return "\n".join((head, *map(_line, rows), ""))


def _line(row: Tried) -> str:
    report = row.report
    verdict = "yes" if report else "no"
    chains = report.culprits.chains
    held_by = f"`{chains[0]}`" if chains else ""
    return (
        f"| {row.pattern.name.replace('_', ' ')} | {'yes' if row.pattern.leaks else 'no'} "
        f"| {verdict}{'' if row.right else ' **wrong**'} | {report.slope_bytes:,.0f} "
        f"| {report.p_value:.2g} | {report.iterations:,} | {held_by} | {row.seconds:.2f} |"
    )


def main() -> int:
    """Run all under each probe; return 1 where the target was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="write the tables here, and print nothing")
    options = parser.parse_args()
    missed, texts = False, []
    for probe in PROBES:
        rows = [tried(pattern, probe) for pattern in PATTERNS]
        texts.append(table(f"{platform.python_version()}, {probe}", rows))
        wrong = [row for row in rows if not row.right]
        missed |= any(row.pattern.leaks for row in wrong) or len(wrong) > MOST_FALSE_ALARMS
    if options.write is not None:
        options.write.write_text("\n".join(texts), encoding="utf-8")
    else:
        sys.stdout.write("\n".join(texts))
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
