"""The machine's memory: from /proc/meminfo, or from psutil where there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_trees import MIB, Tree

from stratatrace.probes import machine as module
from stratatrace.probes.machine import MachineProbe, MachineUse

if TYPE_CHECKING:
    from pathlib import Path


def test_meminfo(tmp_path: Path) -> None:
    """Total, and what could be had."""
    tree = Tree(tmp_path)
    tree.machine(16_000 * MIB, 4_000 * MIB)
    assert MachineProbe(tree.root).read() == MachineUse(16_000 * MIB, 4_000 * MIB)


def test_without_the_kernels_estimate(tmp_path: Path) -> None:
    """It is what is free and what can be taken back; shared memory cannot."""
    Tree(tmp_path).write(
        "proc/meminfo",
        "MemTotal: 1000 kB\nMemFree: 100 kB\nBuffers: 20 kB\nCached: 300 kB\n"
        "Shmem: 50 kB\nSReclaimable: 7 kB\n",
    )
    assert MachineProbe(str(tmp_path)).read() == MachineUse(1000 * 1024, 377 * 1024)


@pytest.mark.parametrize(
    "text", ["", "MemTotal: 0 kB\nMemAvailable: 1 kB\n", "MemTotal: many kB\n", "MemTotal: 5 kB\n"]
)
def test_what_tells_nothing(tmp_path: Path, text: str) -> None:
    """There is no number, and no error."""
    Tree(tmp_path).write("proc/meminfo", text)
    assert MachineProbe(str(tmp_path)).read() is None


def test_more_available_than_there_is(tmp_path: Path) -> None:
    """A sandbox may show a part of the total, and all of what is available outside."""
    tree = Tree(tmp_path)
    tree.machine(total=100 * MIB, available=900 * MIB)
    assert MachineProbe(tree.root).read() == MachineUse(100 * MIB, 100 * MIB)


def test_this_machine() -> None:
    """As psutil reads it."""
    use, expected = MachineProbe().read(), psutil.virtual_memory()
    assert use is not None
    assert use.total_bytes == expected.total
    assert use.available_bytes == pytest.approx(expected.available, rel=0.2)


def test_without_proc_psutil_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """And where it does not know either, there is no number."""
    monkeypatch.setattr(module, "read_file", lambda _path: None)
    use = MachineProbe().read()
    assert use is not None
    assert use.total_bytes == psutil.virtual_memory().total

    def unknown() -> None:
        raise RuntimeError

    monkeypatch.setattr(psutil, "virtual_memory", unknown)
    assert MachineProbe().read() is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.binary(max_size=200))
def test_garbage_never_fails(tmp_path: Path, blob: bytes) -> None:
    """Whatever stands there."""
    Tree(tmp_path).write("proc/meminfo", "")
    (tmp_path / "proc/meminfo").write_bytes(b"MemTotal: 9 kB\n" + blob)
    use = MachineProbe(str(tmp_path)).read()
    assert use is None or 0 <= use.available_bytes <= use.total_bytes
