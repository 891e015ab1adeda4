"""Fixtures for every test: a clean global state before and after, and a recorder that listens."""

from __future__ import annotations

import gc
import sys
import threading
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from stratatrace.recorder import active
from stratatrace.testing import recording

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stratatrace.testing import ListSink


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
    }


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
