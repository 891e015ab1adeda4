"""Programs to run, with measurement and without."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the interpreter in a folder of its own: ``run("script.py")``."""

    def run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("OTEL_")},
            **options.pop("env", {}),
        }
        return subprocess.run(
            [sys.executable, *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=options.pop("timeout", 60),
            check=False,
            **options,
        )

    return run


@pytest.fixture
def measured(run: Run) -> Run:
    """Run ``stratatrace run`` likewise: ``measured("-q", "script.py")``."""

    def measured(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return run("-m", "stratatrace", "run", *words, **options)

    return measured
