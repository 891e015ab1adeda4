"""An OTLP endpoint that answers, refuses, or says nothing: the program is never held up."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = """
import logging, stratatrace
logging.basicConfig(format="%(name)s %(levelname)s %(message)s")
stratatrace.configure(endpoint={endpoint!r}, probe="tracemalloc")
@stratatrace.profile_memory(budget="1 KiB")  # So that there is a log record to deliver as well.
def f(): return len(bytearray(10_000))
for _ in range(7): f()
print("done")
"""


def run(endpoint: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM.format(endpoint=endpoint))],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.fixture
def silent() -> Iterator[str]:
    """An endpoint that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_refused_is_told_once_and_the_loss_is_counted(protocol: str, tmp_path: Path) -> None:
    """One warning and one count, however often the SDK tries; its own lines are not printed."""
    done = run("http://127.0.0.1:9", tmp_path, OTEL_EXPORTER_OTLP_PROTOCOL=protocol)
    assert (done.returncode, done.stdout) == (0, "done\n")
    first, last = done.stderr.splitlines()
    assert first.startswith("stratatrace WARNING stratatrace cannot deliver to http://127.0.0.1:9")
    assert last == "stratatrace WARNING stratatrace lost 7 spans, which could not be delivered"


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_silence_ends_within_the_bound(protocol: str, silent: str, tmp_path: Path) -> None:
    """The end of the program waits for an endpoint that says nothing, but not for long."""
    done = run(silent, tmp_path, OTEL_EXPORTER_OTLP_PROTOCOL=protocol)  # `run` has a time limit.
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert "lost 7 spans" in done.stderr


def test_an_exporter_of_the_applications_own_still_logs() -> None:
    """Only what our attempt logs is redirected."""
    from stratatrace.exporters.endpoint import _redirect  # noqa: PLC0415

    record = logging.LogRecord("opentelemetry.exporter.otlp.x", 40, "f", 1, "theirs", (), None)
    assert _redirect(record)
