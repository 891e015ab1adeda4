"""What we offer to tests: a list of measurements, and a recorder for a block."""

from __future__ import annotations

import pytest

from stratatrace import profile_memory, shutdown
from stratatrace.config import Config
from stratatrace.recorder import active
from stratatrace.testing import ListSink, recording


@profile_memory
def call() -> None:
    """Do nothing."""


def test_recording_listens_within_its_block_only() -> None:
    """Before and after, what was configured is in force."""
    before = active._recorder
    with recording() as sink:
        inside = active.recorder
        call()
        assert inside is not before
    assert active._recorder is before
    assert [m.callsite.name for m in sink.measurements] == ["call"]
    assert sink.last is sink.of("call")[0]
    assert sink.of("other") == []


def test_recordings_nest() -> None:
    """The inner block has its own configuration, and the outer goes on afterwards."""
    with recording() as outer:
        call()
        with recording(Config(probe="rss")) as inner:
            call()
        call()
    assert len(outer.measurements) == 2
    assert inner.last.heap_net_bytes is None
    assert outer.last.heap_net_bytes is not None


def test_recording_ends_with_an_exception() -> None:
    """What is raised in the block leaves it as it was."""
    before = active._recorder
    with pytest.raises(ZeroDivisionError), recording():
        raise ZeroDivisionError
    assert active._recorder is before


def test_a_shutdown_in_the_block_ends_with_it() -> None:
    """Measuring is on again as it was before."""
    before = (active._recorder, active.enabled, active.configured)
    with recording():
        shutdown()
        assert not active.enabled
    assert (active._recorder, active.enabled, active.configured) == before


def test_an_empty_list_has_no_last() -> None:
    """Asking for the latest of none is an IndexError, as of a list."""
    with pytest.raises(IndexError):
        _ = ListSink().last
