"""The pool in a forked child: it begins with nothing, and leaves what is the parent's alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

PROGRAM = Path(__file__).parent / "programs" / "pool_forking.py"


@pytest.fixture(scope="module")
def forked() -> dict[str, Any]:
    """Run the program once; nothing may be printed beside what it tells."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(PROGRAM)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return dict(json.loads(ran.stdout))


def test_a_child_begins_with_nothing(forked: dict[str, Any]) -> None:
    """All places are free, also those whose threads are not there, and nothing was counted."""
    child = forked["child"]
    assert child["inherited"] == {"idle": 0, "used": 0, "size": 0, "allocated": 0, "waiting": 0}
    assert child["capacity"] == 4
    assert child["made by"] == [child["pid"]]


def test_a_child_leaves_the_parents_objects_alone(forked: dict[str, Any]) -> None:
    """None is used again, disposed of or finalized in the child; each may be given back once."""
    child = forked["child"]
    assert child["disposed"] == []
    assert child["finalized"] == []
    assert child["given back"] == [None, "PoolMisuseError"]
    assert child["forked"] == 1


def test_a_parent_goes_on(forked: dict[str, Any]) -> None:
    """With the objects that it had, and who waits in it gets what comes back."""
    parent = forked["parent"]
    assert parent["waiter got"] is True
    assert parent["allocated"] == 4
    assert parent["leaked"] == 0
    assert parent["disposed"] == []
