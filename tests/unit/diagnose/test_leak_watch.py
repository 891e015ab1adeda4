"""`LeakWatch`: a service's heap over days, by a clock of the test's own."""

from __future__ import annotations

import gc
import os
import random
import threading
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from tracing import untraced

from stratatrace import LeakWatch
from stratatrace.diagnose.leak_rise import LeakRise
from stratatrace.errors import (
    AlreadyStartedError,
    InvalidTypeError,
    InvalidValueError,
    NotReadyError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from stratatrace.diagnose.leak_rise import LeakAlert

pytestmark = untraced
MIB = 2**20
HOUR = 3600.0


def alerts_of(level: Callable[[float], float], *, until: float) -> list[LeakAlert]:
    """Return the alerts of a run of that level, which is looked at every half minute."""
    rise = LeakRise("test", ("tracemalloc",), least_bytes=MIB)
    alerts, seconds = [], 0.0
    while seconds < until:
        alert = rise.add(seconds, {"tracemalloc": round(level(seconds))})
        if alert is not None:
            alerts.append(alert)
        seconds += 30
    return alerts


def noise(seed: int) -> Callable[[], float]:
    chance = random.Random(seed)
    return lambda: chance.gauss(0, MIB / 4)


def test_a_leak_is_told_of_once() -> None:
    """Though it goes on for hours, beside the sawtooth of the collector."""
    by = noise(1)
    (alert,) = alerts_of(
        lambda t: 100 * MIB + t * 20_000 + (t % 100) * 50_000 + by(), until=6 * HOUR
    )
    assert alert.seconds < HOUR
    assert alert.bytes_per_second == pytest.approx(20_000, rel=0.3)
    assert "test leaks 6" in str(alert)
    assert alert.to_dict()["sources"] == ["tracemalloc"]


def test_a_second_leak_is_told_of_after_a_rest() -> None:
    """After it was quiet for long enough."""
    by = noise(2)

    def level(t: float) -> float:
        return 100 * MIB + 20_000 * (min(t, HOUR) + max(0.0, t - 9 * HOUR)) + by()

    first, second = alerts_of(level, until=10 * HOUR)
    assert first.seconds < HOUR
    assert 9 * HOUR < second.seconds < 10 * HOUR


@pytest.mark.parametrize(
    "level",
    [
        lambda t: 100 * MIB,
        lambda t: 100 * MIB + min(t, 600) * 50_000,
        lambda t: 100 * MIB + (t % 1200) * 20_000,
        lambda t: 100 * MIB + t * 100,
    ],
    ids=["still", "warms_up", "batches", "less_than_asked_for"],
)
def test_what_does_not_leak_is_not_told_of(level: Callable[[float], float]) -> None:
    """A cache that fills, batches, and a rise that is too small to matter."""
    by = noise(3)
    assert not alerts_of(lambda t: level(t) + by(), until=4 * HOUR)


@pytest.mark.parametrize("traced", [True, False])
def test_a_real_heap(caplog: pytest.LogCaptureFixture, *, traced: bool) -> None:
    """Small objects, seen by tracemalloc or by their blocks; with culprits on request."""
    told: list[LeakAlert] = []
    kept: list[object] = []
    gc.collect()
    if traced:
        tracemalloc.start()
    with LeakWatch(
        name="svc", interval_seconds=None, least_growth=50_000, on_leak=told.append
    ) as watch:
        for number in range(60):
            kept += [[object()] for _ in range(40)]
            watch.sample(seconds=60.0 * number)
        culprits = watch.culprits()
    if traced:
        tracemalloc.stop()
    (alert,) = watch.alerts
    assert told == [alert]
    assert alert.sources[0] == ("tracemalloc" if traced else "blocks")
    assert "leak watch: svc leaks" in caplog.text
    assert "list" in {grown.name for grown in culprits.types}
    assert bool(culprits.lines) is traced
    assert any("kept[" in chain for chain in culprits.chains)


def test_a_callback_that_raises_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged; the watch goes on."""

    def broken(_: Any) -> None:
        raise RuntimeError

    kept: list[bytes] = []
    tracemalloc.start()
    with LeakWatch(interval_seconds=None, on_leak=broken) as watch:
        for number in range(60):
            kept.append(bytes(100_000))
            watch.sample(seconds=60.0 * number)
        assert len(watch.alerts) == 1
    tracemalloc.stop()
    assert "could not hand over an alert" in caplog.text


def test_levels_of_another_source_are_not_compared() -> None:
    """Where tracing begins in the midst of a run, it is looked at anew."""
    with LeakWatch(interval_seconds=None) as watch:
        watch.sample(seconds=0)
        before = watch._rise
        tracemalloc.start()
        watch.sample(seconds=1)
        tracemalloc.stop()
        assert watch._rise is not before


def test_a_thread_looks_until_it_is_stopped() -> None:
    """And there is one at a time."""
    looked = threading.Event()
    watch = LeakWatch(interval_seconds=0.001, collect=True)
    look = watch._look

    def seen(seconds: float | None) -> LeakAlert | None:
        looked.set()
        return look(seconds)

    watch._look = seen  # type: ignore[method-assign]
    with watch:
        assert watch.running
        assert looked.wait(10)
        with pytest.raises(AlreadyStartedError):
            watch.start()
    watch.stop()
    assert not watch.running
    assert "stratatrace-leaks" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_begins_anew() -> None:
    """With a thread of its own from its first use, and the child's heap."""
    with LeakWatch(interval_seconds=60) as watch:
        watch.sample()
        child = os.fork()
        if not child:
            code = 1
            try:
                began_anew = watch._rise is None and watch._thread is None and watch.running
                watch.sample()
                names = {thread.name for thread in threading.enumerate()}
                code = 0 if began_anew and "stratatrace-leaks" in names else 2
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_misuse() -> None:
    """At once."""
    with pytest.raises(NotReadyError, match="start"):
        LeakWatch().sample()
    with pytest.raises(NotReadyError, match="start"):
        LeakWatch().culprits()
    with pytest.raises(InvalidTypeError, match="on_leak="):
        LeakWatch(on_leak=5)  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="interval_seconds="):
        LeakWatch(interval_seconds=0)
    with pytest.raises(InvalidTypeError, match="shortest_seconds="):
        LeakWatch(shortest_seconds="5")  # type: ignore[arg-type]
    with pytest.raises(InvalidTypeError, match="name="):
        LeakWatch(name=5)  # type: ignore[arg-type]
