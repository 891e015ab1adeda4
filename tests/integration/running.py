"""Running a program of `programs/` in a fresh interpreter.

Providers of OpenTelemetry are set once in a process and for good, so no test sets any in its own.
A program prints a line of JSON: what it knows about its own run, for the test to compare.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .servers import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["PROGRAMS", "Finished", "run", "run_program", "serving_program", "unique"]

PROGRAMS = Path(__file__).with_name("programs")

_RUN_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Finished:
    """A program that ended well."""

    stdout: str
    stderr: str

    @property
    def told(self) -> list[dict[str, Any]]:
        """What it printed, decoded."""
        told: list[dict[str, Any]] = json.loads(self.stdout)
        return told


def unique(name: str) -> str:
    """Return a name that no other run uses, to find the telemetry of one run by."""
    return f"{name}-{uuid.uuid4().hex[:12]}"


def run_program(name: str, *arguments: str, environment: Mapping[str, str]) -> Finished:
    """Run a program to its end."""
    return run(str(PROGRAMS / name), *arguments, environment=environment)


def run(*arguments: str, environment: Mapping[str, str]) -> Finished:
    """Run the interpreter to its end; anything but success fails the test."""
    # Elsewhere than in the checkout, whose package `-m` would prefer to the installed one.
    with tempfile.TemporaryDirectory() as directory:
        finished = subprocess.run(
            [sys.executable, *arguments],
            cwd=directory,
            env=_environment(environment),
            capture_output=True,
            text=True,
            timeout=_RUN_SECONDS,
            check=False,
        )
    assert finished.returncode == 0, f"{arguments}: {finished.stdout}\n{finished.stderr}"
    return Finished(finished.stdout, finished.stderr)


@contextmanager
def serving_program(name: str, *arguments: str, environment: Mapping[str, str]) -> Iterator[Any]:
    """Run a program that goes on until its standard input ends; the value is what it told."""
    with subprocess.Popen(
        [sys.executable, str(PROGRAMS / name), *arguments],
        env=_environment(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
            process.stdin.close()
            assert process.wait(_RUN_SECONDS) == 0
        finally:
            process.kill()


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the run with no setting of telemetry but the given ones."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    # A proxy for the outside world must not get what is meant for loopback.
    return {**inherited, "NO_PROXY": LOOPBACK, "no_proxy": LOOPBACK, **settings}
