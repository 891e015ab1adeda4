"""A watchdog that rests between tests, and memory to grow by."""

from __future__ import annotations

import gc
import sys
from functools import partial
from typing import TYPE_CHECKING

import pytest

from stratatrace.guards import firing
from stratatrace.guards.watchdog import watchdog

from .growing import take

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable, Iterator

if sys.platform != "win32":
    import resource


@pytest.fixture(scope="module", autouse=True)
def older_objects_are_left_alone() -> None:
    """Have collections look at the objects of one test alone."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Fail the test that leaves a limit, a lowered rlimit or an exception behind."""
    gc.collect()  # What is freed within a test would stand against what it takes.
    before = resource.getrlimit(resource.RLIMIT_DATA)
    yield
    assert not watchdog._open
    watchdog.rest()
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert not firing._announced


@pytest.fixture
def hold() -> Iterator[Callable[[int], None]]:
    """Return a function that takes so many megabytes, which are kept until the test ends."""
    held: list[mmap.mmap] = []

    yield partial(take, held)
    held.clear()


@pytest.fixture
def unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nobody look while a block runs."""
    monkeypatch.setattr(watchdog, "_look", lambda: None)
