"""The traps of limiting memory, each in a process of its own, privileged and not."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import pytest

import stratatrace

from .programs.traps import CASES

PROGRAM = Path(__file__).parent / "programs" / "traps.py"
NOBODY = "nobody"
# What hangs can only be killed. The slowest case takes two seconds.
TIMEOUT_SECONDS = 120


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    # The package as this process has it, whether it is installed or not.
    folder = str(Path(stratatrace.__file__).parents[1])
    kept = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    return subprocess.run(
        # Python warns of forking beside threads, which is just what some cases do.
        [
            *(sys.executable, "-W", "error", "-W", "ignore:This process:DeprecationWarning"),
            *(str(PROGRAM), *arguments),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_SECONDS,
        env={**kept, "PYTHONPATH": folder, "OPENBLAS_NUM_THREADS": "2"},
    )


@lru_cache
def may_read_python() -> bool:
    """Tell whether the other user can start the interpreter, and import what is not yet there."""
    try:
        entry = pwd.getpwnam(NOBODY)
        ran = subprocess.run(
            [sys.executable, "-c", "import numpy"],
            user=entry.pw_uid,
            group=entry.pw_gid,
            extra_groups=[],
            capture_output=True,
            check=False,
        )
    except (KeyError, OSError):
        return False
    return ran.returncode == 0


@pytest.mark.parametrize("case", CASES)
def test_a_trap(case: str) -> None:
    """It holds, ends in time, and prints nothing but that."""
    assert_held(run(case))


@pytest.mark.skipif(os.geteuid() != 0, reason="the tests are run without privileges already")
@pytest.mark.parametrize("case", CASES)
def test_a_trap_without_privileges(case: str) -> None:
    """Likewise for a user who could never raise a hard limit again."""
    if case in {"import_numpy", "subprocess_inherits"} and not may_read_python():
        pytest.skip(f"{NOBODY} cannot read this interpreter")
    assert_held(run(case, NOBODY))


def assert_held(ran: subprocess.CompletedProcess[str]) -> None:
    errors = [line for line in ran.stderr.splitlines() if "memory limit exceeded" not in line]
    assert (ran.returncode, ran.stdout, errors) == (0, "held\n", []), ran.stderr
