"""Files in windows: what changes underneath, what is no file, and whose buffers they are."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tracing import untraced

from stratatrace import MappedFile, StratatraceError
from stratatrace.errors import (
    FileChangedError,
    InvalidTypeError,
    InvalidValueError,
    NotAFileError,
    NotReadyError,
    RecordTooLongError,
)
from stratatrace.streams import reading

if TYPE_CHECKING:
    from io import BufferedRandom

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="makes files of POSIX")

WINDOW = reading.WINDOW_BYTES
PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file of three windows and a bit, of lines."""
    file = tmp_path / "lines"
    file.write_bytes(b"".join(b"line %07d\n" % number for number in range(3 * WINDOW // 13 + 9)))
    return file


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 -- a Path opens one more


def test_chunks_are_the_file(path: Path) -> None:
    """One after the other they are the file, each of the size but for the last."""
    with MappedFile(path) as file:
        chunks = [bytes(chunk) for chunk in file.chunks("100KB")]
        assert len(file) == path.stat().st_size
    assert b"".join(chunks) == path.read_bytes()
    assert {len(chunk) for chunk in chunks[:-1]} == {100_000}
    assert 0 < len(chunks[-1]) < 100_000


@pytest.mark.parametrize("keepends", [False, True])
def test_lines_are_the_file(path: Path, keepends: bool) -> None:
    """Lines that go over the borders of windows are whole."""
    with MappedFile(path) as file:
        lines = [bytes(line) for line in file.lines(keepends=keepends)]
    assert lines == path.read_bytes().splitlines(keepends=keepends)


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"\n", [b""]),
        (b"a", [b"a"]),
        (b"a\n\nb", [b"a", b"", b"b"]),
        (b"a\r\nb\r", [b"a\r", b"b\r"]),
        (b"\n\n", [b"", b""]),
    ],
)
def test_lines_end_with_a_newline(tmp_path: Path, data: bytes, lines: list[bytes]) -> None:
    """Nothing else ends a line, and the last one need not have it; an empty file has none."""
    (tmp_path / "f").write_bytes(data)
    with MappedFile(tmp_path / "f") as file:
        assert [bytes(line) for line in file.lines()] == lines
        assert b"".join(file.lines(keepends=True)) == data


def test_an_empty_file(tmp_path: Path) -> None:
    """It has no chunks and no finds, which is no error."""
    (tmp_path / "f").touch()
    with MappedFile(tmp_path / "f") as file:
        assert len(file) == 0
        assert list(file.chunks()) == []
        assert list(file.find_all(b"x")) == []
        assert list(file.find_all(re.compile(b"^"))) == [0]
        assert file.read(0, 10) == b""


def test_a_line_longer_than_many_windows(tmp_path: Path) -> None:
    """It is whole, up to the length that is allowed, which is where it is said to begin."""
    line = os.urandom(5 * WINDOW).replace(b"\n", b"x")
    (tmp_path / "f").write_bytes(b"short\n" + line + b"\nafter")
    with MappedFile(tmp_path / "f") as file:
        assert [bytes(each) for each in file.lines()] == [b"short", line, b"after"]
        assert [len(each) for each in file.lines(longest_line=len(line))] == [5, len(line), 5]
        lines = file.lines(longest_line=len(line) - 1)
        assert bytes(next(lines)) == b"short"
        with pytest.raises(RecordTooLongError, match="the line at offset 6 of"):
            next(lines)


def test_views_are_read_only_and_stay(path: Path) -> None:
    """What a consumer keeps is what it was, also when the file was closed."""
    with MappedFile(path) as file:
        chunks = list(file.chunks(100_000))
        parts = [chunk[10:20] for chunk in file.chunks(100_000)]
        lines = list(file.lines())
    assert b"".join(chunks) == path.read_bytes()
    assert [bytes(part) for part in parts] == [bytes(chunk[10:20]) for chunk in chunks]
    assert [bytes(line) for line in lines] == path.read_bytes().splitlines()
    with pytest.raises(TypeError, match="read-only"):
        chunks[0][0] = 0
    with pytest.raises(TypeError, match="read-only"):
        lines[0][0] = 0


def test_buffers_that_nobody_looks_at_are_used_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two are enough for a loop, whose variable has a view of the one before."""
    made: list[int] = []

    def make(size: int) -> bytearray:
        made.append(size)
        return bytearray(size)

    monkeypatch.setattr(reading, "bytearray", make, raising=False)
    with MappedFile(path) as file:
        for chunk in file.chunks(100_000):
            assert len(chunk)
        assert made == [100_000] * 2
        for line in file.lines():
            assert len(line)
        assert made[2:] == [WINDOW] * 2
        del made[:]
        parts = [chunk[:1] for chunk in file.chunks(100_000)]
        assert len(made) == len(parts)


def test_read_is_a_copy_of_a_part(path: Path) -> None:
    """Beyond the end there is nothing."""
    data = path.read_bytes()
    with MappedFile(path) as file:
        assert file.read(1_000, 50) == data[1_000:1_050]
        assert file.read(len(data) - 3, 50) == data[-3:]
        assert file.read(len(data) + 3, 50) == b""
        for offset, size in ((-1, 1), (1, -1)):
            with pytest.raises(InvalidValueError, match="not negative"):
                file.read(offset, size)


def test_a_file_that_becomes_shorter_is_an_error(path: Path) -> None:
    """Also where changes are allowed: the rest is gone."""
    for allow_changes in (False, True):
        with MappedFile(path, allow_changes=allow_changes) as file:
            chunks = file.chunks()
            size = len(file)
            next(chunks)
            os.truncate(path, size - 5)
            with pytest.raises(
                FileChangedError, match=rf"had {size} bytes .* now, with {size - 5}:"
            ):
                list(chunks)
    assert issubclass(FileChangedError, OSError)
    assert issubclass(FileChangedError, StratatraceError)


@pytest.mark.parametrize("change", ["rewrite", "append"])
def test_a_file_that_is_written_to_is_an_error(path: Path, change: str) -> None:
    """Unless that is allowed; what is appended is not read then."""
    data = path.read_bytes()
    with MappedFile(path) as strict, MappedFile(path, allow_changes=True) as lenient:
        lines, chunks = strict.lines(), lenient.chunks()
        next(lines)
        kept = bytes(next(chunks))
        with path.open("ab" if change == "append" else "r+b") as writer:
            writer.write(b"changed")
        # The clock of files may stand still for some milliseconds.
        os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))
        with pytest.raises(FileChangedError, match="was written to"):
            list(lines)
        assert kept + b"".join(map(bytes, chunks)) == data


def test_a_file_that_is_replaced_is_read_to_its_end(path: Path, tmp_path: Path) -> None:
    """Another file of that name is another file."""
    data = path.read_bytes()
    with MappedFile(path) as file:
        chunks = file.chunks()
        kept = bytes(next(chunks))
        (tmp_path / "new").write_bytes(b"new")
        (tmp_path / "new").replace(path)
        assert kept + b"".join(map(bytes, chunks)) == data


def test_a_file_that_shrinks_at_any_moment_never_ends_the_process() -> None:
    """Beside a process that makes it shorter and longer; a mapping does not survive."""
    ended = subprocess.run(
        [sys.executable, str(PROGRAMS / "shrinking.py")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == ["a mapping: SIGBUS", "MappedFile: only FileChangedError"]


def test_what_is_no_file_is_told_so(tmp_path: Path) -> None:
    """Without waiting for a pipe's other end."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotAFileError, match="is a directory"), MappedFile(tmp_path):
        pass
    for other in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(NotAFileError, match="a device, a pipe or a socket"), MappedFile(other):
            pass
    with pytest.raises(FileNotFoundError, match="nowhere"), MappedFile(tmp_path / "nowhere"):
        pass
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        with pytest.raises(OSError, match="socket"), MappedFile(tmp_path / "socket"):
            pass


@pytest.mark.skipif(sys.platform != "linux", reason="reads a file of Linux")
def test_a_file_without_a_size_is_told_so() -> None:
    """It would read as empty."""
    with pytest.raises(NotAFileError, match="does not tell its size"), MappedFile("/proc/stat"):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="reads a file of Linux")
def test_an_error_of_reading_names_the_file() -> None:
    """As of a broken disk; the first byte of a process's memory cannot be read either."""
    with pytest.raises(OSError, match=r"Input/output error: '/proc/self/mem'"):
        MappedFile("/proc/self/mem").__enter__()


def test_an_unreadable_file_is_told_so() -> None:
    """As an unprivileged user, whom permissions hold up."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        secret = Path(folder) / "secret"
        secret.write_bytes(b"secret")
        secret.chmod(0)
        if os.geteuid() == 0:
            os.chown(secret, 65534, 65534)
        code = (
            "import os, sys; from stratatrace import MappedFile\n"
            "if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n"
            "try:\n    MappedFile(sys.argv[1]).__enter__()\n"
            "except PermissionError as error: print(error)"
        )
        ended = subprocess.run(
            [sys.executable, "-c", code, str(secret)],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert ended.stdout == f"[Errno 13] Permission denied: '{secret}'\n", ended.stderr


def test_a_locked_file_can_be_read(path: Path) -> None:
    """On POSIX locks are for those who ask for them."""
    with path.open("r+b") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        fcntl.lockf(writer, fcntl.LOCK_EX)
        with MappedFile(path) as file:
            assert b"".join(file.chunks()) == path.read_bytes()


def test_it_is_used_inside_the_with_statement(path: Path) -> None:
    """Before and after, and twice at once, is an error; again is none."""
    file = MappedFile(path)
    for use in (lambda: file.find_all(b"x"), file.chunks, file.lines, file.__len__):
        with pytest.raises(NotReadyError, match=r"is not open: write `with MappedFile\("):
            use()
    with file:
        chunks = file.chunks()
        next(chunks)
        with pytest.raises(NotReadyError, match="is open"):
            file.__enter__()
    with pytest.raises(NotReadyError, match="was closed: iterate inside"):
        next(chunks)
    with file:
        # What was begun before does not go on with the file that was opened since.
        with pytest.raises(StopIteration):
            next(chunks)
        assert sum(map(len, file.chunks())) == len(file)


def test_nothing_stays_open(path: Path) -> None:
    """Whoever still has an iterator, or opened something that is no file."""
    before = descriptors()
    with MappedFile(path) as file:
        left = [file.chunks(), file.lines(), file.find_all(b"line")]
        for each in left:
            next(each)
    with pytest.raises(NotAFileError), MappedFile(path.parent):
        pass
    assert descriptors() == before


def test_threads_read_for_themselves(path: Path) -> None:
    """Iterators of one file share no position."""
    data, results = path.read_bytes(), []
    with MappedFile(path) as file:

        def read() -> None:
            results.append(b"".join(file.lines(keepends=True)) == data)

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == [True] * 4


def test_a_forked_child_reads_on(path: Path) -> None:
    """And does not move what its parent reads next."""
    data = path.read_bytes()
    with MappedFile(path) as file:
        chunks = file.chunks(100_000)
        kept = bytes(next(chunks))
        child = os.fork()
        if not child:
            same = kept + b"".join(map(bytes, chunks)) == data
            os._exit(0 if same else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert kept + b"".join(map(bytes, chunks)) == data


def cached_pages(file: BufferedRandom, size: int) -> int:
    """Return how many pages of a file are in memory, for any process."""
    pages = (ctypes.c_ubyte * (size // mmap.PAGESIZE))()
    with mmap.mmap(file.fileno(), size) as mapping:
        place = ctypes.c_char.from_buffer(mapping)
        address = ctypes.c_void_p(ctypes.addressof(place))
        assert ctypes.CDLL(None).mincore(address, ctypes.c_size_t(size), pages) == 0
        del place
    return sum(page & 1 for page in pages)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for what is cached")
@pytest.mark.parametrize("hint", reading.HINTS)
def test_what_is_read_once_is_not_left_in_the_cache(hint: str, tmp_path: Path) -> None:
    """With the other hints it is."""
    size = 4 * WINDOW
    with (tmp_path / "f").open("w+b") as file:
        file.write(os.urandom(size))
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if cached_pages(file, size):
            pytest.skip("this file system keeps its files in memory")
        with MappedFile(file.name, hint=hint) as mapped:
            assert sum(map(len, mapped.chunks())) == size
        assert cached_pages(file, size) == (0 if hint == "once" else size // mmap.PAGESIZE)


def test_misuse_is_told_at_once(path: Path) -> None:
    """Before anything is opened or read."""
    with pytest.raises(InvalidTypeError, match=r"a path is text or a pathlib\.Path, not 3"):
        MappedFile(3)  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="there is no hint 'fast'"):
        MappedFile(path, hint="fast")
    with MappedFile(path) as file:
        with pytest.raises(InvalidValueError, match="greater than zero"):
            file.chunks(0)
        with pytest.raises(InvalidValueError, match="is not a size"):
            file.lines(longest_line="long")


@untraced
@pytest.mark.skipif(sys.platform != "linux", reason="reads the kernel's high-water mark")
@pytest.mark.parametrize("how", ["chunks", "lines", "find_all", "regex", "scan"])
def test_memory_stays_flat(how: str, tmp_path: Path) -> None:
    """By the kernel's own mark, over a file of 400 MB; a mapping takes them all."""
    path = tmp_path / "large"
    with path.open("wb") as file:
        for _ in range(400):
            file.seek(1_000_000 - 7, os.SEEK_CUR)
            file.write(b"needle\n")

    def peak_growth(what: str) -> int:
        program = str(PROGRAMS / "flat.py")
        ended = subprocess.run(
            [sys.executable, program, what, str(path)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return int(ended.stdout)

    assert peak_growth(how) < 8_000_000
    if how == "find_all":
        assert peak_growth("mapping") > 300_000_000
