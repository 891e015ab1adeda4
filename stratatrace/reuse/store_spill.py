"""The file that a store spills to: a table of sqlite's with a row for each entry.

Whoever calls this holds the store's lock. The file is an extension of this process's memory and no
database: nothing is synced, it is not there for others, and it has no keys.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import finalize

from stratatrace.errors import InvalidTypeError, SpillError
from stratatrace.reuse.store_packing import damaged, name_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

__all__ = ["LARGEST_ROW_BYTES", "SpillFile", "SpillPlace"]

#: The largest entry that can be spilled: what sqlite allows for one value.
LARGEST_ROW_BYTES = 10**9

_SETTINGS = (
    # No journal on the disk, which would be full as well: a transaction is rolled back from memory.
    "PRAGMA journal_mode = MEMORY",
    # For that, pages may be written at the end of a transaction only.
    "PRAGMA cache_spill = OFF",
    "PRAGMA synchronous = OFF",
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA cache_size = -1024",  # KiB
    "PRAGMA mmap_size = 0",
    "CREATE TABLE entries (id INTEGER PRIMARY KEY, entry BLOB NOT NULL)",
)
# Rows that are no longer needed are deleted together.
_MOST_DEAD = 512
_CAN_UNLINK_OPEN = os.name == "posix"
# A connection of the parent's: to close it, even to drop it, would write to the parent's file.
_of_parents: list[object] = []


class SpillPlace:
    """Where files may be made.

    Args:
        place: A directory, for a file without a name that goes when it is closed; or the path of a
            new file, which stays.

    Raises:
        InvalidTypeError: It is no path.
        SpillError: There is such a file already, or no such directory.
    """

    def __init__(self, place: object) -> None:
        if isinstance(place, bytes) or not isinstance(place, str | os.PathLike):
            msg = f"spill= takes a directory, or the path of a new file, not {place!r}"
            raise InvalidTypeError(msg)
        path = Path(place).absolute()
        self.path: Path | None = None
        self.directory = path
        try:
            if path.is_dir():
                return
            taken = os.path.lexists(path)
        except (OSError, ValueError) as error:
            raise _not_made(path, error) from error
        if taken:
            msg = f"{path} is there already: spill= takes a directory, or the path of a new file"
            raise SpillError(msg)
        self.path, self.directory = path, path.parent

    def after_fork_in_child(self) -> None:
        """Have a file without a name beside the parent's."""
        self.path = None


class SpillFile:
    """One file, open.

    Args:
        place: Where to make it.

    Raises:
        SpillError: It cannot be made.
    """

    def __init__(self, place: SpillPlace) -> None:
        try:
            import sqlite3  # noqa: PLC0415 -- not every Python has it, nor every program a need

            path = _created(place)
        except (ImportError, OSError, ValueError) as error:
            raise _not_made(place.path or place.directory, error) from error
        #: The file, for messages.
        self.path = path
        self._dead: list[int] = []
        self._sqlite_error = sqlite3.Error
        self._damage = sqlite3.DatabaseError
        named = place.path is not None
        connection: sqlite3.Connection | None = None
        try:
            # Any thread: the store has a lock.
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            for setting in _SETTINGS:
                connection.execute(setting).close()
        except sqlite3.Error as error:
            if connection is not None:
                connection.close()
            path.unlink(missing_ok=True)
            raise _not_made(path, error) from error
        self._connection = connection
        if not named and _CAN_UNLINK_OPEN:
            path.unlink()  # Whatever ends the process, nothing is left behind.
        doomed = None if named or _CAN_UNLINK_OPEN else path
        self._close = finalize(self, _close, connection, doomed)

    def write(self, rows: Sequence[tuple[int, bytes]]) -> None:
        """Write rows, all or none of them.

        Raises:
            SpillError: They could not be written. What was written before is there.
        """
        self._delete_dead()
        try:
            self._in_transaction("INSERT INTO entries VALUES (?, ?)", rows)
        except self._sqlite_error as error:
            msg = (
                f"{len(rows)} entries could not be written to {self.path}: {error}; nothing is "
                "lost, and what was to be set was not: make room on the disk, delete entries, or "
                "give the store a larger max_bytes"
            )
            raise SpillError(msg) from error

    def read(self, row: int, key: object) -> bytes:
        """Return the entry of a row.

        Args:
            row: Its number.
            key: The entry's key, for the errors.

        Raises:
            SpillError: The file cannot be read.
            DamagedEntryError: It is damaged there.
        """
        try:
            found = self._connection.execute("SELECT entry FROM entries WHERE id = ?", (row,))
            try:
                first = found.fetchone()
            finally:
                found.close()
        except self._sqlite_error as error:
            if type(error) is self._damage:  # And none of its subclasses.
                raise damaged(key, str(error)) from error
            msg = f"{name_of(key)} could not be read from {self.path}: {error}"
            raise SpillError(msg) from error
        if first is None or type(first[0]) is not bytes:
            raise damaged(key, "its row is missing")
        return bytes(first[0])

    def discard(self, row: int) -> None:
        """Have no such row any more, at the latest when others are written."""
        self._dead.append(row)
        if len(self._dead) >= _MOST_DEAD:
            self._delete_dead()

    def discard_all(self) -> None:
        """Have no rows."""
        self._dead.clear()
        # Where the disk does not let go of them, they are in nobody's way: no row is used twice.
        with contextlib.suppress(self._sqlite_error):
            self._connection.execute("DELETE FROM entries").close()

    def close(self) -> None:
        """Close it, and remove it where it has no name of the caller's."""
        self._close()

    def abandon(self) -> None:
        """Leave it to the parent, in a forked child."""
        self._close.detach()
        _of_parents.append(self._connection)
        import ctypes  # noqa: PLC0415 -- of forked children only

        # At the interpreter's end, too.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))

    def _delete_dead(self) -> None:
        if not self._dead:
            return
        # They are kept for another time; a full disk has no need of space for this.
        with contextlib.suppress(self._sqlite_error):
            rows = [(row,) for row in self._dead]
            self._in_transaction("DELETE FROM entries WHERE id = ?", rows)
            self._dead.clear()

    def _in_transaction(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        connection = self._connection
        if connection.in_transaction:  # It could not be rolled back when it failed.
            connection.execute("ROLLBACK").close()
        connection.execute("BEGIN IMMEDIATE").close()
        try:
            connection.executemany(statement, rows).close()
            connection.execute("COMMIT").close()
        except BaseException:
            if connection.in_transaction:  # sqlite has not rolled back itself.
                connection.execute("ROLLBACK").close()
            raise


def _created(place: SpillPlace) -> Path:
    """Make an empty file that nobody else can read."""
    if place.path is None:
        descriptor, name = tempfile.mkstemp(".spill", "stratatrace-", place.directory)
        path = Path(name)
    else:
        path = place.path
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    os.close(descriptor)
    return path


def _close(connection: sqlite3.Connection, doomed: Path | None) -> None:
    connection.close()
    if doomed is not None:
        doomed.unlink(missing_ok=True)


def _not_made(path: Path, error: Exception) -> SpillError:
    return SpillError(f"a store cannot spill to {path}: {error}")
