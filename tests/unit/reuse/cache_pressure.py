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
    """Have the thread end that the test's caches have started."""
    yield
    gc.collect()
    for subscription in list(watcher._subscriptions):
        subscription.close()
    for thread in threading.enumerate():
        if thread.name == "stratatrace-pressure":
            thread.join(10)
