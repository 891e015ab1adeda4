"""Fixtures for every test: a clean global state before and after, and a recorder that listens."""

from __future__ import annotations

import gc
import os
import sys
import threading
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratatrace.guards.watchdog import watchdog
from stratatrace.recorder import active
from stratatrace.testing import recording
from stratatrace.wrapping import when_imported

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stratatrace.testing import ListSink

pytest_plugins = ["pytester"]


# numpy starts threads for linear algebra when it is imported, and the time that they take is that
# of another thread in the process that is measured here.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _global_state() -> dict[str, object]:
    return {
        "recorder": active._recorder,
        "enabled": active.enabled,
        "tracing": tracemalloc.is_tracing(),
        "collector callbacks": len(gc.callbacks),
        "collector enabled": gc.isenabled(),
        "threads": {t.name for t in threading.enumerate() if t.is_alive()},
        "excepthook": sys.excepthook,
        "meta path": len(sys.meta_path),
        "recursion limit": sys.getrecursionlimit(),
        "memory limits": list(watchdog.open_limits),
    }


@pytest.fixture(scope="session", autouse=True)
def hypothesis_has_started() -> None:
    """Have Hypothesis add its callback to the collector now, and not within the first test."""

    @settings(max_examples=1, database=None)
    @given(st.none())
    def example(_: None) -> None: ...

    example()


@pytest.fixture(scope="session", autouse=True)
def import_hooks_are_there() -> None:
    """Have the finder of import hooks put into `sys.meta_path` now, where it stays for good."""
    when_imported(f"{__name__}.never_imported", lambda _module: None)


@pytest.fixture(scope="session", autouse=True)
def old_objects_are_left_alone() -> None:
    """Have no collection look at what the tests themselves are made of, which takes a while."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def clean_global_state() -> Iterator[None]:
    """Fail the test that leaves the process other than it found it."""
    before = _global_state()
    yield
    assert _global_state() == before


@pytest.fixture
def sink() -> Iterator[ListSink]:
    """Measure every call by tracemalloc, strictly, into a list."""
    with recording() as sink:
        yield sink


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out what cannot be while something traces lines."""
    if sys.gettrace() is not None and item.get_closest_marker("untraced") is not None:
        pytest.skip("something traces lines")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Iterator[None]:
    """Have no test trace because the one before it failed to stop."""
    try:
        return (yield)
    finally:
        if tracemalloc.is_tracing():
            tracemalloc.stop()
