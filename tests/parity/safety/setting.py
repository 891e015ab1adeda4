"""What the programs beside this have in common: a recorder, and a look at whether all is well."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from stratatrace import profile_memory
from stratatrace.accounts import Account
from stratatrace.config import Config
from stratatrace.probes import _counters
from stratatrace.recorder import Recorder, active
from stratatrace.testing import ListSink

if TYPE_CHECKING:
    from collections.abc import Callable

    from stratatrace.tallies import Tallied

__all__ = ["assert_all_is_well", "install", "measured", "recorder_for", "tallied_of"]

# The programs give it what no type checker would let pass.
measured: Callable[..., Any] = profile_memory

BLOCK_BYTES = 500_000


@measured
def _holds() -> None:
    """End our own work, be it by as many holds as it is within."""


def recorder_for(way: str) -> Recorder:
    """Return a recorder whose calls are only added up, or told in full, or traced by Python."""
    sinks = () if way == "tallied" else (ListSink(),)
    probe = "tracemalloc" if way == "traced" else "native"
    return Recorder(Config(probe=probe), sinks=sinks)


def install(way: str) -> Recorder:
    """Have such a recorder in force."""
    recorder = recorder_for(way)
    active.install(recorder)
    return recorder


def tallied_of(recorder: Recorder) -> list[Tallied]:
    """Return the sums of *recorder*, none where it tells of each call."""
    return [] if recorder.tallies is None else list(recorder.tallies.tallied.values())


def assert_all_is_well(recorder: Recorder) -> None:
    """Fail where a call is still charged, or what the program takes is not counted."""
    assert active.enabled
    assert recorder.accounts.heap is not None
    assert not recorder.accounts.heap.charging
    rss = recorder.accounts.rss
    # The account that is written in Python may miss an end that there was no memory for.
    assert rss is None or isinstance(rss, Account) or not rss.charging
    assert not recorder.work.is_under_way
    _holds()
    before, _ = _counters.mark()
    block = bytearray(BLOCK_BYTES)
    _holds()  # Were a hold left over, this would put the counters back to where they stood.
    after, _ = _counters.mark()
    assert abs(after - before - sys.getsizeof(block)) < BLOCK_BYTES / 10, (before, after)
