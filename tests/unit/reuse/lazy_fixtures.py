"""What every test of lazy values is run in; a module that imports the fixture has it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from stratatrace.config import Config
from stratatrace.pressure.watching import watcher
from stratatrace.reuse.lazy_awaiting import _under_way as tasks
from stratatrace.reuse.lazy_homes import evictor
from stratatrace.reuse.lazy_once import _under_way as computations
from stratatrace.reuse.lazy_once import _waiting as waiting
from stratatrace.testing import recording

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["run_strictly"]


@pytest.fixture(autouse=True)
def run_strictly() -> Iterator[None]:
    """Have every failure of ours raised, and no thread and no computation left."""
    with recording(Config(probe="rss", rss_peak="off")):
        yield
    if evictor.subscription is not None:
        evictor.subscription.close()
        evictor.subscription = None
    for thread in threading.enumerate():
        if thread.name == "stratatrace-pressure":
            thread.join(10)
    assert watcher.idle
    assert not tasks
    assert not computations
    assert not waiting
