"""Runs of pytest within a test, in its own process where nothing else is asked for."""

from __future__ import annotations

from typing import Protocol

import pytest
from malloc import give_back

from stratatrace.probes import native_obstacle
from stratatrace.probes.native import NO_EXTENSION_VARIABLE

# What a run imports first is gone after it, and would be imported by each.
from stratatrace.pytest_plugin.plugin import MemoryPlugin

__all__ = ["Run"]

assert MemoryPlugin is not None


class Run(Protocol):
    """Runs pytest on a file."""

    def __call__(self, text: str, *options: str) -> pytest.RunResult:
        """Return what came of a file of that text, with these options."""
        ...


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Run pytest on a text, in this process, with warnings as errors."""

    def run(text: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(test_it=text)
        give_back()
        return pytester.runpytest_inprocess("-p", "no:cacheprovider", "-Werror", *options)

    return run


@pytest.fixture(params=["native", "tracemalloc"])
def probe(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have the heap measured by one of the two."""
    name: str = request.param
    if name == "tracemalloc":
        monkeypatch.setenv(NO_EXTENSION_VARIABLE, "1")
    elif native_obstacle() is not None:
        pytest.skip("nothing is compiled here")
    return name
