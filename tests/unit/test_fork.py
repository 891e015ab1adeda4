"""Forked children: their own memory, their own counts, and no call told twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from heap_probes import PROBES

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

PROGRAM = Path(__file__).parent / "programs" / "forking.py"
MIB = 2**20


@pytest.fixture(scope="module", params=PROBES)
def forked(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Run the program once for each probe; nothing may be printed beside what it tells."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(PROGRAM), request.param],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return dict(json.loads(ran.stdout))


def test_a_call_under_way_is_told_of_once(forked: dict[str, Any]) -> None:
    """By the parent, in whose process it began."""
    assert forked["parent"]["names"] == ["grows", "forks", "suspended"]
    assert forked["child"]["names"] == ["grows"]
    assert "forks" not in forked["child"]["after"]["totals"]
    assert "suspended" not in forked["child"]["after"]["totals"]


def test_a_child_counts_from_zero(forked: dict[str, Any]) -> None:
    """What the parent has counted is the parent's."""
    assert forked["child"]["inherited"]["totals"] == {}
    assert forked["child"]["after"]["totals"] == {"grows": 1}
    assert forked["parent"]["totals"] == {"grows": 1, "forks": 1, "suspended": 1}


def test_a_child_reads_its_own_memory(forked: dict[str, Any]) -> None:
    """Heap and resident set of what it took itself, after the parent had taken the same."""
    assert forked["child"]["heap"] == pytest.approx(64 * MIB, rel=0.01)
    assert forked["child"]["rss growth"] == pytest.approx(64 * MIB, rel=0.05, abs=3 * MIB)


def test_a_generator_goes_on_in_both(forked: dict[str, Any]) -> None:
    """The program does not notice; only one of the two tells of it."""
    assert forked["child"]["rest"] == forked["parent"]["rest"] == [1, 2, 3]


@pytest.mark.parametrize("process", ["child", "parent"])
def test_nothing_is_left_open(forked: dict[str, Any], process: str) -> None:
    """No tab, no tracing and no failure, in either process."""
    told = forked["child"]["after"] if process == "child" else forked["parent"]
    assert (told["heap charging"], told["rss charging"]) == (False, False)
    assert told["tracing"] is False
    assert told["failures"] == 0


def test_a_collection_that_comes_before_us_does_not_hang() -> None:
    """Whoever was in the midst of an account when the process forked is not there to leave it."""
    program = """
import gc, os, threading, time
os.register_at_fork(after_in_child=gc.collect)  # Before anything of ours.
from stratatrace import profile_memory
from stratatrace.config import Config
from stratatrace.recorder import active
from stratatrace.testing import recording

over = threading.Event()

def hold():
    while not over.is_set():
        with active.recorder.accounts.heap._lock.here:
            time.sleep(0.005)

@profile_memory
def fork():
    for _ in range(20):
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)

with recording(Config(probe="tracemalloc"), strict=False):
    thread = threading.Thread(target=hold)
    thread.start()
    fork()
    over.set()
    thread.join()
print("done")
"""
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("done\n", "")
