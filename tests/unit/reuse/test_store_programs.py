"""Stores in processes of their own: full disks, forks, and an end without warning."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

PROGRAMS = Path(__file__).parent / "programs"


def run(program: str, *arguments: object, status: int = 0) -> Any:
    """Return what a program tells; nothing may be printed beside that."""
    # It forks beside threads on purpose, of which newer Pythons warn.
    quiet = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]
    ran = subprocess.run(
        [sys.executable, *quiet, str(PROGRAMS / program), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (status, "")
    return json.loads(ran.stdout or "null")


@pytest.mark.parametrize("dictionary", ["dictionary", "none"])
def test_a_full_disk(tmp_path: Path, dictionary: str) -> None:
    """What the kernel refuses to write is refused, and nothing else is lost; then it goes on."""
    told = run("spilling.py", tmp_path, dictionary)
    assert told["lost"] == 0
    assert told["refused"] > 100
    assert told["held"] + told["refused"] == told["entries"] == 3_000
    assert told["memory"] <= 50_000
    assert list(tmp_path.iterdir()) == []


def test_an_end_without_warning(tmp_path: Path) -> None:
    """Leaves no file."""
    run("killed.py", tmp_path, status=-signal.SIGKILL)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def forked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run the program that forks, which leaves a store open and no file behind."""
    directory = tmp_path_factory.mktemp("forked")
    told = run("forking_stores.py", directory)
    assert list(directory.iterdir()) == []
    return dict(told)


def test_a_child_has_what_was_in_memory(forked: dict[str, Any]) -> None:
    """And its keys; what is on its parent's disk is an error that says so."""
    child = forked["spilled"]["child"]
    assert (child["length"], child["in memory"]) == (3_000, True)
    assert child["on disk"] == (
        f"SpillError: the entry 0 was spilled by process {child['parent']}, from which this one "
        "was forked, and only that one can read it: set it again, or delete it"
    )
    assert child["items"] == child["on disk, later"] == "SpillError"


def test_a_child_spills_to_a_file_of_its_own(forked: dict[str, Any]) -> None:
    """Within its budget; so does a child of the child."""
    child = forked["spilled"]["child"]
    assert (child["own"], child["bounded"], child["again"]) == (True, True, True)
    assert child["grandchild"] == child["entries"] > 120
    assert child["files"] == []


def test_a_parent_does_not_notice(forked: dict[str, Any]) -> None:
    """That children have written, cleared, closed theirs, or come to their end."""
    spilled = forked["spilled"]
    assert (spilled["exits"], spilled["intact"], spilled["goes on"]) == (3_000, True, True)


def test_a_file_of_the_callers_is_the_parents(forked: dict[str, Any]) -> None:
    """The child's has no name."""
    assert forked["named"] == {"files": ["named"], "intact": True, "after": ["named"]}


def test_forks_beside_threads(forked: dict[str, Any]) -> None:
    """No child finds a store in the middle of a change, and none hangs."""
    assert forked["beside_threads"]["whole"] == [True] * 30
    assert forked["beside_threads"]["readable"]


def test_a_fork_does_not_wait_for_ever(forked: dict[str, Any]) -> None:
    """The child is told that it has not got the store."""
    held = forked["held"]
    assert (held["hung"], held["parent"]) == (False, "1")
    for told in held["child"]:
        assert told.startswith("NotReadyError: the store 'default' was being changed by another")
