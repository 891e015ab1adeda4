"""Leaves no thread behind that watches memory pressure."""

from __future__ import annotations

import gc
import threading
from typing import TYPE_CHECKING

import pytest

from stratatrace.pressure.watching import watcher

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["nobody_watches_afterwards"]


@pytest.fixture(autouse=True)
def nobody_watches_afterwards() -> Iterator[None]:
    """Have the thread end that the test's caches, pools and lazy values have started."""
    yield
    watching = [t for t in threading.enumerate() if t.name == "stratatrace-pressure"]
    if watching:
        gc.collect()
        for subscription in list(watcher._subscriptions):
            subscription.close()
        for thread in watching:
            thread.join(10)
