"""Every exception of the package.

Misuse raises one of these at once. Each is a `StratatraceError` and also the builtin that a caller
who knows nothing of us would catch.
"""

from __future__ import annotations

__all__ = [
    "AlreadyStartedError",
    "CommandError",
    "InvalidTypeError",
    "InvalidValueError",
    "MissingExtraError",
    "NotReadyError",
    "OutputError",
    "ProbeError",
    "StratatraceError",
]


class StratatraceError(Exception):
    """The root of every exception that stratatrace raises on purpose."""


class InvalidTypeError(StratatraceError, TypeError):
    """An argument is of the wrong type, or is not an option that exists."""


class InvalidValueError(StratatraceError, ValueError):
    """An argument has the right type and a value that makes no sense."""


class MissingExtraError(StratatraceError, ImportError):
    """A feature needs an optional dependency that is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs packages that are not installed: "
            f"run `pip install 'stratatrace[{extra}]'`"
        )


class NotReadyError(StratatraceError, RuntimeError):
    """A value was asked for before it existed."""


class AlreadyStartedError(StratatraceError, RuntimeError):
    """Something was started that is running already."""


class OutputError(StratatraceError, OSError):
    """A file that telemetry should be written to cannot be written."""


class ProbeError(StratatraceError, RuntimeError):
    """A source of memory numbers could not be read. Never leaves the package: the field is None."""


class CommandError(StratatraceError):
    """A command of the shell cannot be carried out; the command line prints it as one line.

    Args:
        message: What was given, what was expected, what to do.
        exit_code: The exit status of the process.
    """

    def __init__(self, message: str, *, exit_code: int = 2) -> None:
        super().__init__(message)
        self.exit_code = exit_code
