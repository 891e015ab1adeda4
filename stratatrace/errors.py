"""Every exception of the package.

Misuse raises one of these at once. Each is a `StratatraceError` and also the builtin that a caller
who knows nothing of us would catch.
"""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, ClassVar

    from stratatrace.measurement import Callsite, Measurement

__all__ = [
    "AlreadyStartedError",
    "CircularValueError",
    "CommandError",
    "DamagedEntryError",
    "FileChangedError",
    "InvalidTypeError",
    "InvalidValueError",
    "IsolationError",
    "IsolationTimeoutError",
    "ItemTooLargeError",
    "LeakTrialError",
    "MemoryLimitExceeded",
    "MissingExtraError",
    "NotAFileError",
    "NotReadyError",
    "OutputError",
    "PoolClosedError",
    "PoolExhaustedError",
    "PoolMisuseError",
    "ProbeError",
    "RecordTooLongError",
    "SpillError",
    "StoreChangedError",
    "StratatraceError",
    "TracesLostError",
    "ValueTooLargeError",
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


class NotAFileError(StratatraceError, OSError):
    """A path leads to a directory, a device or a pipe, or to a file that has no size."""


class FileChangedError(StratatraceError, OSError):
    """A file was written to, or became shorter, while it was read."""


class RecordTooLongError(StratatraceError, ValueError):
    """A line, or a match of a pattern, is longer than was allowed."""


class ItemTooLargeError(StratatraceError, MemoryError):
    """There is no memory for a single item of a stream."""


class DamagedEntryError(StratatraceError, ValueError):
    """What a store has kept of a value is no longer what it has written; others can be read.

    Args:
        message: Which entry it is, and what is wrong with it.
        key: Its key.
    """

    def __init__(self, message: str, *, key: object = None) -> None:
        super().__init__(message)
        #: The key of the entry.
        self.key = key


class SpillError(StratatraceError, OSError):
    """The file that a store spills to cannot be made, written or read."""


class TracesLostError(StratatraceError, RuntimeError):
    """What grew between two marks cannot be told: somebody has ended or cleared the tracing."""


class StoreChangedError(StratatraceError, RuntimeError):
    """A store got or lost entries while it was iterated over."""


class ValueTooLargeError(StratatraceError, ValueError):
    """A value is larger than the whole cache may be."""


class PoolExhaustedError(StratatraceError, TimeoutError):
    """All objects of a pool were out for as long as somebody was ready to wait."""


class PoolMisuseError(StratatraceError, RuntimeError):
    """An object was given back twice or to a pool that it is not of, or was used after that."""


class PoolClosedError(StratatraceError, RuntimeError):
    """An object was asked of a pool that is closed."""


class ProbeError(StratatraceError, RuntimeError):
    """A source of memory numbers could not be read. Never leaves the package: the field is None."""


class MemoryLimitExceeded(StratatraceError, MemoryError):  # noqa: N818 -- a name to be read aloud
    """The process has grown by more than a `memory_limit` allows.

    Args:
        message: What was exceeded, and by how much.
        budget_bytes: What the limit allows.
        used_bytes: By how much the process had grown when it was looked at; None where an
            allocation was refused before that.
        callsite: Where the limit stands.
        top: What had allocated most, the largest first, where tracemalloc was tracing: triples of
            file, line and bytes.
    """

    #: What is raised asynchronously is made by the interpreter in the thread that it is raised in,
    #: with no arguments: they wait here, by the id of the thread.
    _announced: ClassVar[dict[int, dict[str, Any]]] = {}

    def __init__(
        self,
        message: str | None = None,
        *,
        budget_bytes: int | None = None,
        used_bytes: int | None = None,
        callsite: Callsite | None = None,
        top: tuple[tuple[str, int, int], ...] = (),
    ) -> None:
        told: dict[str, Any] = {}
        if message is None:
            told = self._announced.pop(get_ident(), {})
            message = told.get("message", "the process has grown beyond its memory limit")
        super().__init__(message)
        #: What the limit allows, in bytes.
        self.budget_bytes: int | None = told.get("budget_bytes", budget_bytes)
        #: By how much the process had grown since the limit was entered, in bytes; other threads
        #: are in it.
        self.used_bytes: int | None = told.get("used_bytes", used_bytes)
        #: Where the limit stands.
        self.callsite: Callsite | None = told.get("callsite", callsite)
        #: What had allocated most: triples of file, line and bytes, the largest first.
        self.top: tuple[tuple[str, int, int], ...] = told.get("top", top)
        #: The numbers of the child that it was exceeded in, where there was one.
        self.measurement: Measurement | None = None
        self._limit_key: int | None = told.get("key")

    def __str__(self) -> str:
        """Return the message, and what had allocated most."""
        lines = (f"{size:>12} B  {file}:{line}" for file, line, size in self.top)
        return "\n".join((super().__str__(), *lines))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by value: a child process raises it in its parent."""
        return (type(self), self.args, self.__dict__.copy())


class IsolationError(StratatraceError, RuntimeError):
    """What was run in a child process could not be sent there or brought back, or the child died.

    Args:
        message: What went wrong.
        exit_code: The child's exit status; negative where a signal ended it, None where it began
            not at all.
    """

    def __init__(self, message: str, *, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class IsolationTimeoutError(IsolationError, TimeoutError):
    """What was run in a child process took longer than it was given, and was ended."""


class LeakTrialError(StratatraceError, RuntimeError):
    """What is looked at for leaks has turned off that by which its heap is read."""


class CircularValueError(StratatraceError, RecursionError):
    """A lazy value needs itself to be computed, by itself or by way of others."""


class CommandError(StratatraceError):
    """A command of the shell cannot be carried out; the command line prints it as one line.

    Args:
        message: What was given, what was expected, what to do.
        exit_code: The exit status of the process.
    """

    def __init__(self, message: str, *, exit_code: int = 2) -> None:
        super().__init__(message)
        self.exit_code = exit_code
