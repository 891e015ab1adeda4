"""Forked children: nobody there waits for a thread that stayed with the parent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

PROGRAM = Path(__file__).parent / "programs" / "lazy_forking.py"


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


def test_what_another_thread_computes_is_computed_anew(forked: dict[str, Any]) -> None:
    """In the child; the parent's thread goes on."""
    assert forked["child"]["slow"] == "computed in the child"
    assert forked["parent"]["slow"] == "computed in the parent"


def test_what_another_threads_loop_computes_is_computed_anew(forked: dict[str, Any]) -> None:
    """No loop of the parent runs in the child."""
    assert forked["child"]["awaited"] == "computed in the child"
    assert forked["parent"]["awaited"] == "computed in the parent"


def test_what_the_forking_thread_computes_goes_on_in_both(forked: dict[str, Any]) -> None:
    """And is kept by each."""
    assert forked["child"]["forks"] == "went on in the child"
    assert forked["parent"]["forks"] == "went on in the parent"
    assert forked["child"]["kept"] is forked["parent"]["kept"] is True
    assert forked["child"]["under way"] == forked["parent"]["under way"] == 0


def test_what_it_computes_still_knows_that_it_needs_itself(forked: dict[str, Any]) -> None:
    """An error and no deadlock, in the child as well."""
    assert forked["parent"]["itself"] == "3"


def test_values_are_inherited(forked: dict[str, Any]) -> None:
    """What was there stays there."""
    assert forked["child"]["before"] == ["parent"]


def test_values_are_dropped_in_both(forked: dict[str, Any]) -> None:
    """The child watches by itself from its next value on."""
    for process in ("child", "parent"):
        assert forked[process]["evicted"]
        assert forked[process]["table"] == [process]
        assert forked[process]["threads"] == ["stratatrace-pressure"]
