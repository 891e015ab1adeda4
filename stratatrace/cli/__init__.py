"""The ``stratatrace`` command: one module a command, and errors as one line."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from stratatrace.cli import doctor, report, run
from stratatrace.errors import CommandError, StratatraceError
from stratatrace.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status of the process.

    Args:
        arguments: The words after ``stratatrace``; those of the process by default.
    """
    parser = argparse.ArgumentParser(
        prog="stratatrace",
        description="The memory of any Python call, as OpenTelemetry spans and metrics.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"stratatrace {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in (run, report, doctor):
        command.add_to(commands)
    options = parser.parse_args(arguments)
    try:
        return int(options.command(options))
    except StratatraceError as error:
        print(f"stratatrace: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, CommandError) else 2
