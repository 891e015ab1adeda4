"""Type checkers see of a decorated callable what they would see of the bare one."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHECKED = Path(__file__).parent / "signatures.py"


def _check(*command: str) -> str:
    ran = subprocess.run(
        [*command, str(CHECKED)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": str(ROOT)},
    )
    return "" if ran.returncode == 0 else ran.stdout + ran.stderr


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed")
def test_mypy_sees_the_signatures(tmp_path: Path) -> None:
    """With --strict, which also refuses an ignore that is not needed."""
    assert not _check(sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path))


@pytest.mark.skipif(shutil.which("pyright") is None, reason="pyright is not installed")
def test_pyright_sees_the_signatures() -> None:
    """In its strict mode."""
    assert not _check("pyright", "--pythonpath", sys.executable)
