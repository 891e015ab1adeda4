"""The memory of a process and of its tree: real children, and files that are not there."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil
import pytest
from kernel_trees import MIB, Tree

from stratatrace.errors import ProbeError
from stratatrace.probes import files
from stratatrace.probes import processes as module
from stratatrace.probes.processes import ProcessesProbe, ProcessReading

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads the files of Linux")
SLACK = 4 * MIB

SLEEPER = "import sys; kept = bytearray(b'x') * int(sys.argv[1]); print('up', flush=True); input()"


@contextmanager
def _sleeper(size: int = 0) -> Iterator[subprocess.Popen[str]]:
    """Have a child that holds memory until the block ends."""
    command = [sys.executable, "-c", SLEEPER, str(size)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "up\n"
            yield child
        finally:
            child.kill()


def _process(
    tree: Tree,
    pid: int,
    *,
    pages: int | None = None,
    pss: int | None = None,
    children: str | None = "",
) -> None:
    """Write the files of a process; what is None is absent."""
    if pages is not None:
        tree.write(f"proc/{pid}/statm", f"99999 {pages} 5 1 0 3 0\n")
    if pss is not None:
        tree.write(f"proc/{pid}/smaps_rollup", f"0-1 [rollup]\nRss: 9999 kB\nPss:   {pss} kB\n")
    if children is not None:
        tree.write(f"proc/{pid}/task/{pid}/children", children)


@linux
def test_this_process() -> None:
    """As psutil reads it, with the highest that it has been."""
    reading = ProcessesProbe().read()
    assert reading.used_bytes == pytest.approx(psutil.Process().memory_info().rss, abs=SLACK)
    assert (reading.processes, reading.method) == (1, "rss")
    assert reading.high_water_bytes is not None
    assert reading.high_water_bytes >= reading.used_bytes - SLACK


@linux
def test_memory_that_is_taken() -> None:
    """Is in the next look."""
    before = ProcessesProbe().read().used_bytes
    with mmap.mmap(-1, 64 * MIB) as memory:
        for page in range(0, len(memory), mmap.PAGESIZE):
            memory[page] = 1
        assert ProcessesProbe().read().used_bytes - before == pytest.approx(64 * MIB, abs=SLACK)


@linux
def test_a_child_counts_with_its_parent() -> None:
    """What a child holds is in the tree, and not in the process."""
    probe, alone = ProcessesProbe(children=True), ProcessesProbe()
    before, alone_before = probe.read(), alone.read()
    with _sleeper(64 * MIB):
        reading = probe.read()
        assert reading.processes == before.processes + 1
        assert reading.used_bytes - before.used_bytes >= 64 * MIB
        assert alone.read().used_bytes == pytest.approx(alone_before.used_bytes, abs=SLACK)
    assert probe.read().processes == before.processes


@linux
def test_a_child_of_another_thread_counts() -> None:
    """The kernel lists children by the thread that has started them."""
    probe = ProcessesProbe(children=True)
    before = probe.read().processes
    counted: list[int] = []

    def run() -> None:
        with _sleeper():
            counted.append(probe.read().processes)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert counted == [before + 1]


@linux
def test_shared_pages_count_once() -> None:
    """A forked child has its parent's pages; only added up by PSS is it no more memory."""
    with mmap.mmap(-1, 64 * MIB) as memory:
        for page in range(0, len(memory), mmap.PAGESIZE):
            memory[page] = 1
        probe = ProcessesProbe(children=True)
        before = probe.read()
        if before.method != "pss":
            pytest.skip("PSS cannot be read here")
        read_from, write_to = os.pipe()
        pid = os.fork()
        if not pid:
            os.read(read_from, 1)
            os._exit(0)
        try:
            reading = probe.read()
        finally:
            os.write(write_to, b"x")
            os.waitpid(pid, 0)
            os.close(read_from)
            os.close(write_to)
    assert reading.processes == before.processes + 1
    assert reading.used_bytes - before.used_bytes < 32 * MIB


@linux
def test_a_child_that_is_not_waited_for() -> None:
    """Has ended, is still listed, and uses nothing."""
    probe = ProcessesProbe(children=True)
    before = probe.read().processes
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    reading = probe.read()
    os.waitpid(pid, 0)
    assert reading.processes == before
    assert reading.method == probe.read().method


@linux
def test_children_that_die_while_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever file it is that is gone, the others are counted."""
    probe = ProcessesProbe(children=True)
    before = probe.read().processes
    with _sleeper() as child:
        read = files.read_file

        def kill_then_read(path: str) -> str | None:
            if f"/{child.pid}/smaps_rollup" in path:
                os.kill(child.pid, signal.SIGKILL)
                child.wait(60)
            return read(path)

        monkeypatch.setattr(module, "read_file", kill_then_read)
        assert probe.read().processes == before


def test_a_tree_of_files(tmp_path: Path) -> None:
    """Grandchildren, a child that came while it was read, and one whose files cannot be read."""
    tree = Tree(tmp_path)
    _process(tree, 10, pages=1, pss=1000, children="11 12 ")
    tree.write("proc/10/task/77/children", "13 10\n")
    _process(tree, 11, pages=1, pss=200, children="14\n")
    _process(tree, 12, pages=3, children=None)
    _process(tree, 14, pages=1, pss=30)
    reading = ProcessesProbe(children=True, root=tree.root, pid=10).read()
    expected = 1230 * 1024 + 3 * module._PAGE_BYTES
    assert reading == ProcessReading(expected, 4, "mixed")


def test_without_pss(tmp_path: Path) -> None:
    """It is resident sets, and said to be."""
    tree = Tree(tmp_path)
    _process(tree, 10, pages=5, children="11")
    _process(tree, 11, pages=2)
    reading = ProcessesProbe(children=True, root=tree.root, pid=10).read()
    assert reading == ProcessReading(7 * module._PAGE_BYTES, 2, "rss")


@pytest.mark.parametrize("text", ["", "5", "a b c", "1 0 0"])
@pytest.mark.parametrize("children", [False, True])
def test_what_tells_nothing(tmp_path: Path, text: str, children: bool) -> None:
    """Raises what the monitor takes note of, and says where it looked."""
    tree = Tree(tmp_path)
    tree.write("proc/10/statm", text)
    tree.write("proc/10/status", "VmRSS: lots kB\nVmHWM:\n")
    with pytest.raises(ProbeError, match=r"process 10 cannot be read, neither in .*/proc nor"):
        ProcessesProbe(children=children, root=tree.root, pid=10).read()


def test_without_a_status(tmp_path: Path) -> None:
    """The resident set is known from another file."""
    tree = Tree(tmp_path)
    _process(tree, 10, pages=5)
    reading = ProcessesProbe(root=tree.root, pid=10).read()
    assert reading == ProcessReading(5 * module._PAGE_BYTES, 1, "rss", None)


@pytest.mark.parametrize("children", [False, True])
def test_without_proc_psutil_is_asked(monkeypatch: pytest.MonkeyPatch, children: bool) -> None:
    """It knows resident sets, of children too."""
    monkeypatch.setattr(module, "read_file", lambda _path: None)
    probe = ProcessesProbe(children=children)
    before = probe.read().processes
    with _sleeper(16 * MIB):
        reading = probe.read()
    assert reading.method == "rss"
    assert reading.processes == before + children
    assert reading.used_bytes > 16 * MIB

    def hidden(_pid: int) -> None:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "Process", hidden)
    with pytest.raises(ProbeError):
        probe.read()


def test_a_tree_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is followed so far."""
    monkeypatch.setattr(module, "_MOST_PROCESSES", 3)
    tree = Tree(tmp_path)
    for pid in range(10, 20):
        _process(tree, pid, pages=1, children=str(pid + 1))
    assert ProcessesProbe(children=True, root=tree.root, pid=10).read().processes == 3
