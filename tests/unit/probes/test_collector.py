"""The garbage collector's work: counted, and charged to nobody."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

from stratatrace import profile_memory
from stratatrace.errors import ProbeError
from stratatrace.probes import CollectorProbe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stratatrace.testing import ListSink

MIB = 2**20


class Ledger:
    """Notes when it is held, and says that a collection freed 100 bytes."""

    def __init__(self, *, failing: bool = False, taken_bytes: int = -100) -> None:
        self.held = 0
        self.failing = failing
        self.taken_bytes = taken_bytes
        self.told: list[tuple[int, int]] = []

    def hold(self) -> int | None:
        """Say a level, or fail."""
        if self.failing:
            msg = "broken"
            raise ProbeError(msg)
        self.held += 1
        return 7

    def unhold(self, level_bytes: int) -> int:
        """Say what was taken."""
        assert level_bytes == 7
        self.held -= 1
        return self.taken_bytes

    def collected(self, time_ns: int, reclaimed_bytes: int, /) -> None:
        """Note what is told of a collection."""
        self.told.append((time_ns, reclaimed_bytes))


@pytest.fixture
def automatic_off() -> Iterator[None]:
    """Let collections come only when they are asked for."""
    gc.disable()
    yield
    gc.enable()


def test_it_counts_collections_time_and_bytes(automatic_off: None) -> None:
    """Each collection is one, took time, and gave back what the ledger says."""
    ledger = Ledger()
    probe = CollectorProbe(ledger)
    probe.start()
    gc.collect(0)
    gc.collect(0)
    probe.stop()
    gc.collect(0)
    assert (probe.collections, probe.reclaimed_bytes, ledger.held) == (2, 200, 0)
    assert probe.time_ns > 0
    assert sum(time_ns for time_ns, _ in ledger.told) == probe.time_ns
    assert [reclaimed_bytes for _, reclaimed_bytes in ledger.told] == [100, 100]


def test_what_a_collection_takes_is_not_reclaimed(automatic_off: None) -> None:
    """A finalizer that allocates does not make the bytes negative."""
    probe = CollectorProbe(Ledger(taken_bytes=50))
    probe.start()
    gc.collect(0)
    probe.stop()
    assert probe.reclaimed_bytes == 0


@pytest.mark.parametrize("ledger", [None, Ledger(failing=True)])
def test_it_counts_without_a_ledger_that_can_be_read(
    automatic_off: None, ledger: Ledger | None
) -> None:
    """Where no heap is measured, or cannot be read, the rest is still counted."""
    probe = CollectorProbe(ledger)
    probe.start()
    gc.collect(0)
    probe.stop()
    assert (probe.collections, probe.reclaimed_bytes) == (1, 0)


def test_listening_is_idempotent() -> None:
    """Starting twice listens once; stopping twice is harmless."""
    before = list(gc.callbacks)
    probe = CollectorProbe(None)
    probe.start()
    probe.start()
    assert len(gc.callbacks) == len(before) + 1
    probe.stop()
    probe.stop()
    assert gc.callbacks == before


def test_the_end_of_a_collection_whose_start_was_not_seen_is_ignored() -> None:
    """Listening that begins in the middle of a collection counts from the next."""
    probe = CollectorProbe(Ledger())
    probe._on_collection("stop", {})
    assert (probe.collections, probe.time_ns) == (0, 0)


def test_a_collection_in_a_call_is_not_its_gain(automatic_off: None, sink: ListSink) -> None:
    """The garbage of others, collected in a measured call, is told apart from its own net."""

    class Cycle:
        def __init__(self) -> None:
            self.me = self
            self.payload = bytearray(MIB)

    @profile_memory
    def collects() -> None:
        gc.collect()

    @profile_memory
    def litters() -> None:
        Cycle()

    @profile_memory
    def outer() -> None:
        litters()
        collects()

    outer()
    inner = sink.of(collects.__qualname__)[0]
    assert inner.heap_net_bytes == pytest.approx(0, abs=4096)
    assert inner.gc_reclaimed_bytes == pytest.approx(MIB, rel=0.05)
    assert inner.gc_collections == 1
    assert inner.gc_time_ns is not None
    assert inner.gc_time_ns > 0
    assert sink.of(litters.__qualname__)[0].gc_collections == 0
    assert sink.last.gc_collections == 1
    assert sink.last.heap_net_bytes == pytest.approx(MIB, rel=0.05)
