"""The tracemalloc probe: started when needed, stopped when not, and only when it is ours."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import pytest

from stratatrace import profile_memory
from stratatrace.errors import ProbeError
from stratatrace.probes import TracemallocProbe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stratatrace.testing import ListSink

MIB = 2**20


@pytest.fixture
def foreign_tracing() -> Iterator[None]:
    """Have somebody else trace."""
    tracemalloc.start(3)
    yield
    tracemalloc.stop()


def test_it_traces_while_it_has_users() -> None:
    """Every start needs one stop; the last one ends the tracing."""
    probe = TracemallocProbe()
    probe.start()
    probe.start()
    probe.stop()
    assert tracemalloc.is_tracing()
    probe.stop()
    assert not tracemalloc.is_tracing()


def test_it_tells_level_and_peak() -> None:
    """A mark tells the level, the highest since the last one, and begins anew."""
    probe = TracemallocProbe()
    probe.start()
    before = probe.mark().level_bytes
    kept = bytearray(MIB)
    bytearray(2 * MIB)
    first, second = probe.mark(), probe.mark()
    probe.stop()
    assert first.level_bytes - before == pytest.approx(MIB, abs=4096)
    assert first.peak_bytes - before == pytest.approx(3 * MIB, abs=4096)
    assert second.peak_bytes - before == pytest.approx(MIB, abs=4096)
    assert kept


@pytest.mark.usefixtures("foreign_tracing")
def test_the_tracing_of_somebody_else_is_not_stopped(sink: ListSink) -> None:
    """Traces and their depth are those of whoever started, during and after our calls."""
    theirs = bytearray(MIB)
    probe = TracemallocProbe()
    probe.start()
    probe.mark()
    probe.stop()
    profile_memory(lambda: bytearray(10))()
    assert tracemalloc.is_tracing()
    assert tracemalloc.get_traceback_limit() == 3
    assert tracemalloc.get_object_traceback(theirs) is not None
    assert sink.last.heap_net_bytes is not None


def test_a_tracing_that_was_stopped_is_an_error() -> None:
    """Where somebody else has stopped it, there is no number, rather than a 0."""
    probe = TracemallocProbe()
    probe.start()
    tracemalloc.stop()
    with pytest.raises(ProbeError, match="somebody else stopped tracemalloc"):
        probe.mark()
    with pytest.raises(ProbeError, match="somebody else"):
        probe.stop()
    probe.start()
    assert tracemalloc.is_tracing()
    probe.stop()
    assert not tracemalloc.is_tracing()


@pytest.mark.parametrize("disturb", ["restart", "clear"])
def test_traces_that_somebody_else_cleared_are_no_number(disturb: str) -> None:
    """They began anew in the middle: what was counted is lost, and a new tracing is theirs."""
    probe = TracemallocProbe()
    probe.start()
    if disturb == "restart":
        tracemalloc.stop()
        tracemalloc.start(5)
    else:
        tracemalloc.clear_traces()
    with pytest.raises(ProbeError, match="somebody else"):
        probe.stop()
    assert tracemalloc.is_tracing()
    tracemalloc.stop()


def test_it_can_trace_for_good() -> None:
    """From open to close, whether a window needs it or not."""
    probe = TracemallocProbe(always=True)
    probe.open()
    probe.start()
    probe.stop()
    assert tracemalloc.is_tracing()
    probe.close()
    assert not tracemalloc.is_tracing()
    sometimes = TracemallocProbe()
    sometimes.open()
    assert not tracemalloc.is_tracing()
    sometimes.close()


def test_a_forked_child_stops_what_its_parent_started() -> None:
    """The parent's users are gone, and their tracing with them."""
    probe = TracemallocProbe()
    probe.start()
    probe.after_fork_in_child()
    assert not tracemalloc.is_tracing()
    probe.start()
    assert tracemalloc.is_tracing()
    probe.stop()
    assert not tracemalloc.is_tracing()


@pytest.mark.usefixtures("foreign_tracing")
def test_a_forked_child_leaves_a_tracing_that_is_not_ours() -> None:
    """What somebody else started goes on in the child."""
    probe = TracemallocProbe()
    probe.start()
    probe.after_fork_in_child()
    assert tracemalloc.is_tracing()


def test_a_peak_that_another_probe_sets_back_is_not_lost() -> None:
    """Two recorders side by side have the same peak, whoever looks first."""
    one, other = TracemallocProbe(), TracemallocProbe()
    one.start()
    before = one.mark().level_bytes
    other.mark()
    bytearray(2 * MIB)
    peaks = [other.mark().peak_bytes, one.mark().peak_bytes]
    again = one.mark().peak_bytes
    one.stop()
    assert [peak - before for peak in peaks] == pytest.approx([2 * MIB] * 2, abs=4096)
    assert again - before == pytest.approx(0, abs=4096)
