"""The monitor in programs: forked children, and ends of all kinds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).parents[1] / "programs" / "monitored.py"


@pytest.fixture(scope="module")
def forked() -> dict[str, Any]:
    """Run the program that forks; nothing may be printed beside what it tells."""
    if not hasattr(os, "fork"):
        pytest.skip("there is no fork here")
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(PROGRAM)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    lines = [line for line in ran.stderr.splitlines() if "memory monitor" not in line]
    assert (ran.returncode, lines) == (0, [])
    return dict(json.loads(ran.stdout))


def test_a_forked_child_begins_anew(forked: dict[str, Any]) -> None:
    """With its own memory and counts; its thread is started by the first use."""
    child = forked["child"]
    assert child["running"] is True
    assert child["threads at first"] == []
    assert child["threads when used"] == ["stratatrace-monitor"]
    assert child["threads at last"] == []
    assert child["alerts at first"] == 0
    assert child["report"]["looked"]
    assert child["report"]["peak"] < 200
    assert child["stopped"]["alerts"] == 0
    assert child["stopped"]["pid"] != forked["parent"]["pid"]


def test_the_parent_goes_on(forked: dict[str, Any]) -> None:
    """Nothing of what it has seen is lost."""
    assert forked["parent"]["peak"] >= 250
    assert forked["parent"]["alerts"] == forked["parent"]["counted"] == 1


@pytest.mark.parametrize("ending", ["", "import sys; sys.exit(3)", "raise SystemExit(3)"])
def test_a_process_ends_while_it_runs(ending: str) -> None:
    """As if there were no monitor; nothing is printed."""
    program = (
        "from stratatrace import MemoryMonitor\n"
        "MemoryMonitor(interval_seconds=0.001, children=True).start()\n"
        f"kept = bytearray(10_000_000)\n{ending}\n"
    )
    for _ in range(5):
        ran = subprocess.run(
            [sys.executable, "-W", "error", "-c", program],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (ran.returncode, ran.stdout, ran.stderr) == (3 if ending else 0, "", "")


def test_an_exit_handler_stops_it() -> None:
    """And has the report."""
    program = (
        "import atexit\n"
        "from stratatrace import MemoryMonitor\n"
        "monitor = MemoryMonitor(interval_seconds=0.001).start()\n"
        "atexit.register(lambda: print(monitor.stop().looks > 1))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "True\n", "")
