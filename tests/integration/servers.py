"""Starting, watching and stopping one real server, and asking it over HTTP. Knows no server."""

from __future__ import annotations

import http.client
import json
import os
import random
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlencode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["LOOPBACK", "Server", "answers", "free_port", "get", "get_json", "poll"]

Found = TypeVar("Found")

LOOPBACK = "127.0.0.1"

_PORTS = range(20_000, 32_000)
_PORT_TRIES = 100
_HTTP_SECONDS = 10
_STOP_SECONDS = 10
_LOG_TAIL = 4_000


def free_port() -> int:
    """Return a port that nobody listens on.

    The operating system would choose one of its ephemeral range, from 32768, where a connection
    that some client opens meanwhile can take it.
    """
    for port in random.sample(_PORTS, _PORT_TRIES):
        with socket.socket() as listener:
            try:
                # All interfaces, because a server that binds them all must find it free too.
                listener.bind(("", port))
            except OSError:
                continue
            return port
    msg = f"none of {_PORT_TRIES} ports from {_PORTS.start} to {_PORTS.stop} is free"
    raise RuntimeError(msg)


def poll(
    read: Callable[[], Found | None], what: str, *, seconds: float, step: float = 0.1
) -> Found:
    """Return what `read` finds, asking again until the deadline while it finds None."""
    deadline = time.monotonic() + seconds
    while True:
        found = read()
        if found is not None:
            return found
        if time.monotonic() > deadline:
            msg = f"{what}: not within {seconds:g} s"
            raise TimeoutError(msg)
        time.sleep(step)


def answers(port: int) -> bool:
    """Whether somebody accepts connections on a port."""
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex((LOOPBACK, port)) == 0


def get(port: int, path: str) -> tuple[int, bytes]:
    """Return status and body of a GET; status 0 where nobody answered."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=_HTTP_SECONDS)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def get_json(port: int, path: str, parameters: Mapping[str, str | int]) -> object | None:
    """Return the decoded body of a GET, or None where the answer is not a 200."""
    status, body = get(port, f"{path}?{urlencode(parameters)}")
    return json.loads(body) if status == http.client.OK else None


class Server:
    """A child process whose output is kept in two files.

    Args:
        command: The executable and its arguments.
        environment: What is set in its environment besides the test's own.
        directory: Where it runs and where its output goes.
    """

    def __init__(
        self, command: Sequence[str], directory: Path, environment: Mapping[str, str]
    ) -> None:
        self.output = directory / "stdout.log"
        self._log = directory / "stderr.log"
        # The settings of OpenTelemetry are for the programs under test, not for the servers.
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("OTEL_", "PYTHON"))
        }
        self._name = Path(command[0]).name
        with self.output.open("wb") as stdout, self._log.open("wb") as stderr:
            self._process = subprocess.Popen(
                command,
                cwd=directory,
                env={**inherited, **environment},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )

    def wait_ready(self, ready: Callable[[], bool], *, seconds: float) -> None:
        """Wait until it is ready, or fail with the end of its output."""

        def look() -> bool | None:
            if self._process.poll() is not None:
                msg = f"{self._name} ended with {self._process.returncode}\n{self.tail()}"
                raise RuntimeError(msg)
            return ready() or None

        try:
            poll(look, f"{self._name} is ready", seconds=seconds)
        except TimeoutError as error:
            error.add_note(self.tail())
            raise

    def stop(self) -> None:
        """End it: politely, then not."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_STOP_SECONDS)

    def tail(self) -> str:
        """Return the end of what it wrote, for the message of a failure."""
        return "\n".join(
            f"--- {path}\n{path.read_text(errors='replace')[-_LOG_TAIL:]}"
            for path in (self._log, self.output)
        )
