"""Pressure in a program that forks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[1] / "programs" / "pressed.py"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_forked_children() -> None:
    """A child looks for itself, and its watching starts when it is used."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(PROGRAM)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert json.loads(ran.stdout) == {
        "child inherits a look": False,
        "child inherits a thread": False,
        "child was told": ["critical"],
        "parent was told": ["critical", "normal"],
    }
