"""Many files: one open at a time, and what is wrong with one does not end the scan of others."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest

from stratatrace.errors import FileChangedError, InvalidTypeError, InvalidValueError, NotAFileError
from stratatrace.streams import Found, reading, scan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 -- a Path opens one more


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Return files with the number of each in it."""
    paths = [tmp_path / f"f{number}" for number in range(5)]
    for number, path in enumerate(paths):
        path.write_bytes(b"." * number + b"needle %d" % number)
    return paths


def test_each_find_has_its_file(paths: list[Path]) -> None:
    """In the order of the files, as they were given."""
    digit = re.compile(rb"\d")
    given: list[str | Path] = [str(paths[1]), paths[3]]
    assert list(scan(given, [b"needle", digit])) == [
        Found(given[0], 1, 7, b"needle"),
        Found(given[0], 8, 9, digit),
        Found(given[1], 3, 9, b"needle"),
        Found(given[1], 10, 11, digit),
    ]
    assert [found.offset for found in scan(paths, b"needle")] == [0, 1, 2, 3, 4]


@pytest.mark.skipif(sys.platform != "linux", reason="counts by /proc")
def test_one_file_is_open_at_a_time(paths: list[Path]) -> None:
    """And paths are asked for as they are needed."""
    before = descriptors()
    asked: list[Path] = []

    def ask() -> Iterator[Path]:
        for path in paths:
            asked.append(path)
            yield path

    found = scan(ask(), b"needle")
    assert not asked
    for number, _ in enumerate(found, start=1):
        assert len(asked) == number
        assert descriptors() == before + 1
    assert descriptors() == before
    left = scan(paths, b"needle")
    next(left)
    left.close()  # type: ignore[attr-defined] # it is a generator
    assert descriptors() == before


def test_files_that_cannot_be_read_can_be_passed_by(paths: list[Path], tmp_path: Path) -> None:
    """Each is told with its error; without who is told, the first one ends the scan."""
    given = [tmp_path, paths[0], tmp_path / "missing", paths[1]]
    failed: list[tuple[Any, OSError]] = []
    found = scan(given, b"needle", on_error=lambda path, error: failed.append((path, error)))
    assert [each.path for each in found] == [paths[0], paths[1]]
    assert [(path, type(error)) for path, error in failed] == [
        (tmp_path, NotAFileError),
        (tmp_path / "missing", FileNotFoundError),
    ]
    found = scan([paths[0], tmp_path / "missing", paths[1]], b"needle")
    assert next(found).path == paths[0]
    with pytest.raises(FileNotFoundError, match="missing"):
        next(found)


def test_a_file_that_changes_is_one_that_cannot_be_read(paths: list[Path]) -> None:
    """What was found in it before was told, and the next file is searched."""
    paths[0].write_bytes(b"needle" * reading.WINDOW_BYTES)
    failed: list[OSError] = []
    found = scan(paths[:2], b"needle", on_error=lambda _, error: failed.append(error))
    assert next(found).path == paths[0]
    os.truncate(paths[0], 100)
    assert {each.path for each in found} == {paths[0], paths[1]}
    assert [type(error) for error in failed] == [FileChangedError]


def test_errors_of_a_consumer_are_its_own(paths: list[Path]) -> None:
    """They are not taken for those of a file."""
    found = scan(paths, b"needle", on_error=lambda path, _: pytest.fail(str(path)))
    next(found)
    with pytest.raises(OSError, match="mine"):
        found.throw(OSError("mine"))  # type: ignore[attr-defined] # it is a generator


def test_misuse_is_told_at_once(paths: list[Path]) -> None:
    """Before the first file is asked for."""
    for path in (paths[0], str(paths[0]), os.fsencode(paths[0])):
        with pytest.raises(InvalidTypeError, match=r"paths is a list of paths: give \['/"):
            scan(path, b"needle")  # type: ignore[arg-type]
    with pytest.raises(InvalidTypeError, match="is text"):
        scan(paths, "needle")  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="no pattern"):
        scan(paths, [])
    with pytest.raises(InvalidTypeError, match=r"a path is text or a pathlib\.Path, not 3"):
        list(scan([3], b"needle"))  # type: ignore[list-item]
