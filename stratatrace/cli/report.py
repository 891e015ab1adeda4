"""``stratatrace report``: show the table of an OTLP file again."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stratatrace.errors import CommandError, MissingExtraError
from stratatrace.reports.summary import SORT_KEYS, read_summary

if TYPE_CHECKING:
    import argparse

__all__ = ["add_to"]


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "report",
        help="show the table of a file that a run has written",
        description="Show, callsite by callsite, what an OTLP JSON-lines file holds.",
        allow_abbrev=False,
    )
    parser.add_argument("file", type=Path, help="the file that `stratatrace run` has written")
    parser.add_argument(
        "--sort", choices=SORT_KEYS, default="peak", help="what comes first (default: peak)"
    )
    parser.add_argument("--top", type=int, metavar="N", help="show the first N callsites only")
    parser.add_argument("--json", action="store_true", help="print JSON for machines")
    parser.set_defaults(command=_report)


def _report(options: argparse.Namespace) -> int:
    if options.top is not None and options.top < 1:
        msg = f"--top is a number of callsites, at least 1, not {options.top}"
        raise CommandError(msg)
    try:
        summary = read_summary(options.file).sorted_by(options.sort, options.top)
    except OSError as error:
        msg = f"{str(options.file)!r} cannot be read: {error.strerror}"
        raise CommandError(msg) from error
    if options.json:
        print(json.dumps(summary.to_dict(), indent=2))
        return 0
    try:
        from stratatrace.reports.table import print_table  # noqa: PLC0415 -- needs an extra
    except ImportError as error:
        feature = "the table"
        raise MissingExtraError(feature, "cli") from error
    print_table(summary, file=sys.stdout)
    return 0
