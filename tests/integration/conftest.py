"""The servers as fixtures: started when a test first asks, stopped when the run ends.

A server that is not installed skips the tests that need it, and says how to get it; where the
variable CI is set it fails them, so that a broken installation does not pass for a green run.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, TypeVar

import pytest

from .backends import BackendMissingError, phoenix_server, prometheus_server, rotel_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from .backends import Phoenix, Prometheus, Rotel

Backend = TypeVar("Backend")


def _running(server: AbstractContextManager[Backend]) -> Iterator[Backend]:
    with ExitStack() as stack:
        try:
            backend = stack.enter_context(server)
        except BackendMissingError as missing:
            if os.environ.get("CI"):
                pytest.fail(str(missing), pytrace=False)
            pytest.skip(str(missing))
        yield backend


@pytest.fixture(scope="session")
def rotel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rotel]:
    """Run a rotel that keeps what it receives to itself."""
    yield from _running(rotel_server(tmp_path_factory.mktemp("rotel")))


@pytest.fixture(scope="session")
def phoenix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phoenix]:
    """Run a Phoenix with an empty database."""
    yield from _running(phoenix_server(tmp_path_factory.mktemp("phoenix")))


@pytest.fixture(scope="session")
def rotel_to_phoenix(phoenix: Phoenix, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rotel]:
    """Run a rotel that forwards the traces to Phoenix, as a collector in production would."""
    directory = tmp_path_factory.mktemp("rotel-to-phoenix")
    yield from _running(rotel_server(directory, forward_to=phoenix.http_endpoint))


@pytest.fixture(scope="session")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Run a Prometheus that scrapes what it is told to, every second."""
    yield from _running(prometheus_server(tmp_path_factory.mktemp("prometheus")))
