"""Pressure stall information: the shares of time, where the kernel counts them."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_trees import Tree, stall_text

from stratatrace.probes.files import read_file, read_number
from stratatrace.probes.psi import Stall, StallProbe, parse_stall


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir())) if sys.platform == "linux" else 0


def test_the_system(tmp_path: Path) -> None:
    """Of 10 and of 60 seconds."""
    Tree(tmp_path).write("proc/pressure/memory", stall_text(12.34, 5.6, 0.78))
    assert StallProbe(str(tmp_path)).read() == Stall(12.34, 5.6, 0.78)


def test_where_it_is_not_counted(tmp_path: Path) -> None:
    """It is None, and no error."""
    assert StallProbe(str(tmp_path)).read() is None


def test_without_full() -> None:
    """Some kernels tell only of some tasks."""
    assert parse_stall(stall_text(1, 2).splitlines()[0]) == Stall(1, 2, None)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "\n\n",
        "some\n",
        "some avg10=1.0\n",
        "some avg10=x avg60=1\n",
        "some avg10=nan avg60=1.0\n",
        "some avg10=101 avg60=1.0\n",
        "some avg10=1 avg60=-1.0\n",
        "full avg10=1 avg60=1\n",
    ],
)
def test_what_is_no_share(text: str | None) -> None:
    """Is not told."""
    assert parse_stall(text) is None


@given(st.text())
def test_garbage_never_fails(text: str) -> None:
    """And what is told is a share."""
    stall = parse_stall(text)
    assert stall is None or 0 <= stall.some_avg10_percent <= 100


@pytest.mark.skipif(sys.platform != "linux", reason="reads the files of Linux")
def test_this_machine() -> None:
    """Where the file is there, it is understood."""
    assert (StallProbe().read() is not None) == (read_file("/proc/pressure/memory") is not None)


def test_a_file_that_cannot_be_read_while_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel opens it and then says that it does not count: None, and nothing stays open."""

    def unsupported(*_: object) -> bytes:
        raise OSError(errno.EOPNOTSUPP, "not counted")

    (tmp_path / "file").write_text("5\n")
    before = _descriptors()
    with monkeypatch.context() as patched:
        patched.setattr(os, "read", unsupported)
        assert read_file(str(tmp_path / "file")) is None
    assert read_number(str(tmp_path / "file")) == 5
    assert _descriptors() == before


def test_what_is_not_a_file(tmp_path: Path) -> None:
    """A folder, a name with a zero in it, nothing at all."""
    for path in (str(tmp_path), "a\0b", str(tmp_path / "missing")):
        assert read_file(path) is None
        assert read_number(path) is None


def test_a_long_file_is_read_whole(tmp_path: Path) -> None:
    """A machine with many containers has a long list of mounts."""
    (tmp_path / "long").write_text("x" * 200_000)
    assert read_file(str(tmp_path / "long")) == "x" * 200_000
