"""Subscriptions: told of changes, in a thread that is there while anybody listens."""

from __future__ import annotations

import gc
import threading
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest

from stratatrace.errors import InvalidTypeError, InvalidValueError
from stratatrace.pressure import MemoryScope, Pressure, PressureThresholds, memory_pressure
from stratatrace.pressure import subscribe as really_subscribe
from stratatrace.pressure import watching as module
from stratatrace.pressure.reading import Look
from stratatrace.pressure.sources import readings
from stratatrace.pressure.watching import Subscription, watcher
from stratatrace.testing import under_pressure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Machine:
    """A machine whose memory is in use as it is told to be."""

    def __init__(self) -> None:
        self.used = 1
        self.reads = 0

    def read(self) -> Look:
        self.reads += 1
        return Look((MemoryScope("machine", self.used, 10),))


class Cache:
    """Somebody who can shrink."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def shrink(self, pressure: Pressure) -> None:
        self.told.append(pressure.level)


def _threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "stratatrace-pressure"]


def _until(true: Callable[[], object]) -> None:
    for _ in range(2000):
        if true():
            return
        time.sleep(0.005)
    pytest.fail("it did not come true")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Have a machine to press, and no thread left by others or to others."""
    machine = Machine()
    monkeypatch.setattr(readings, "source", machine)
    readings.forget()
    yield machine
    for subscription in list(watcher._subscriptions):
        subscription.close()
    for thread in _threads():
        thread.join(10)
    readings.forget()


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> Machine:
    """Have looks only when a test makes them."""
    monkeypatch.setattr(module, "_PERIOD_SECONDS", 3600)
    return machine


def subscribe(callback: Any, **options: Any) -> Subscription:
    return really_subscribe(callback, **options)


def test_a_change_is_told_and_nothing_else(by_hand: Machine) -> None:
    """A rise at once, a fall when it has lasted."""
    cache = Cache()
    subscription = subscribe(cache.shrink)
    for used in (1, 8, 8, 9, 9, 1, 1, 1, 1):
        by_hand.used = used
        watcher.tell_all()
    assert cache.told == ["warning", "critical", "normal"]
    assert subscription.level == "normal"


def test_a_level_that_wavers_is_not_told(by_hand: Machine) -> None:
    """What falls and rises again has not fallen."""
    cache = Cache()
    subscription = subscribe(cache.shrink)
    for used in (9, 1, 1, 9, 1, 1, 9):
        by_hand.used = used
        watcher.tell_all()
    assert cache.told == ["critical"]
    assert subscription.level == "critical"


def test_each_has_thresholds_of_its_own(by_hand: Machine) -> None:
    """One look serves all."""
    early, late = Cache(), Cache()
    one = subscribe(early.shrink, thresholds=PressureThresholds(warning_ratio=0.2))
    two = subscribe(late.shrink)
    by_hand.used, by_hand.reads = 3, 0
    watcher.tell_all()
    assert by_hand.reads == 1
    assert (early.told, late.told) == (["warning"], [])
    assert (one.level, two.level) == ("warning", "normal")


def test_by_its_thread(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a daemon with a name, there is one, and it ends with the last subscription."""
    monkeypatch.setattr(module, "_PERIOD_SECONDS", 0.005)
    told: list[tuple[str, str]] = []

    def callback(pressure: Pressure) -> None:
        told.append((pressure.level, threading.current_thread().name))

    machine.used = 9
    with subscribe(callback) as first, subscribe(callback):
        _until(lambda: len(told) == 2)
        (thread,) = _threads()
        assert thread.daemon
        first.close()
        first.close()
    thread.join(10)
    assert not thread.is_alive()
    assert watcher.idle
    assert told == [("critical", "stratatrace-pressure")] * 2


def test_the_thread_comes_back(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the next subscription, however soon that is after the last one ended."""
    monkeypatch.setattr(module, "_PERIOD_SECONDS", 0.001)
    machine.used = 9
    for _ in range(200):
        cache = Cache()
        with subscribe(cache.shrink):
            assert len(_threads()) >= 1
    cache = Cache()
    with subscribe(cache.shrink):
        _until(lambda: cache.told == ["critical"])


def test_its_thread_holds_no_account(by_hand: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """By tracemalloc that would leave out what a measured call of another thread takes."""
    held: list[bool] = []

    def own_work() -> nullcontext[None]:
        held.append(True)
        return nullcontext()

    monkeypatch.setattr(readings, "own_work", own_work)
    with subscribe(print):
        watcher.tell_all()
    assert held == []


def test_nothing_is_told_after_the_end(by_hand: Machine) -> None:
    """A closed one is told nothing; the others are."""
    closed, open_ = Cache(), Cache()
    first, second = subscribe(closed.shrink), subscribe(open_.shrink)
    first.close()
    by_hand.used = 9
    watcher.tell_all()
    assert (closed.told, open_.told) == ([], ["critical"])
    assert (first.closed, second.closed) == (True, False)


def test_one_closes_another_in_the_same_round(by_hand: Machine) -> None:
    """It is told nothing any more, though its turn would have come."""
    later = Cache()
    subscriptions: list[Subscription] = []
    subscribe(lambda _: subscriptions[0].close())
    subscriptions.append(subscribe(later.shrink))
    by_hand.used = 9
    watcher.tell_all()
    assert later.told == []


def test_a_forgotten_subscriber_is_collected(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A method does not keep its object; when it is gone, so are subscription and thread."""
    monkeypatch.setattr(module, "_PERIOD_SECONDS", 0.005)
    cache = Cache()
    subscription = subscribe(cache.shrink)
    (thread,) = _threads()
    del cache
    gc.collect()
    assert subscription.closed
    thread.join(10)
    assert not thread.is_alive()
    assert not watcher._subscriptions


def test_a_function_is_kept(by_hand: Machine) -> None:
    """Even where nobody keeps the subscription."""
    told: list[str] = []
    subscribe(lambda pressure: told.append(pressure.level))
    gc.collect()
    by_hand.used = 9
    watcher.tell_all()
    assert told == ["critical"]


def test_a_callback_that_raises(
    by_hand: Machine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is logged once and counted, and the others are told."""
    monkeypatch.setattr(readings.guard, "_named", set())
    before = readings.guard.failures

    def broken(_: Pressure) -> None:
        raise ValueError

    cache = Cache()
    first, _ = subscribe(broken), subscribe(cache.shrink)
    for used in (8, 9):
        by_hand.used = used
        watcher.tell_all()
    assert cache.told == ["warning", "critical"]
    assert first.failures == 2
    assert readings.guard.failures == before + 2
    (record,) = caplog.records
    assert f"tell of memory pressure for {__name__}" in record.getMessage()


def test_a_round_that_fails(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Is not the last one."""
    monkeypatch.setattr(readings.guard, "_named", set())
    monkeypatch.setattr(module, "_PERIOD_SECONDS", 0.005)
    failures = readings.guard.failures
    cache = Cache()
    machine.used = 9
    with monkeypatch.context() as patched:
        patched.setattr(readings, "read", lambda *_, **__: 1 / 0)
        subscription = subscribe(cache.shrink)
        _until(lambda: readings.guard.failures > failures + 1)
    _until(lambda: cache.told == ["critical"])
    subscription.close()
    assert "could not look for memory pressure" in caplog.text


def test_a_callback_subscribes_and_closes(by_hand: Machine) -> None:
    """No lock is held while it runs."""
    cache = Cache()
    subscriptions: list[Subscription] = []

    def callback(_: Pressure) -> None:
        subscriptions[0].close()
        thread = threading.Thread(target=lambda: subscriptions.append(subscribe(cache.shrink)))
        thread.start()
        thread.join(10)
        assert not thread.is_alive()

    subscriptions.append(subscribe(callback))
    by_hand.used = 9
    watcher.tell_all()
    watcher.tell_all()
    assert cache.told == ["critical"]


def test_no_thread_can_be_started(
    by_hand: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Subscribing does not fail; it is tried again by who keeps watching."""
    monkeypatch.setattr(readings.guard, "_named", set())
    with monkeypatch.context() as patched:

        def refused(_self: threading.Thread) -> None:
            raise RuntimeError

        patched.setattr(threading.Thread, "start", refused)
        subscription = subscribe(print)
    assert watcher.idle
    assert "could not start a thread" in caplog.text
    subscription.keep_watching()
    assert len(_threads()) == 1
    subscription.close()
    subscription.keep_watching()


@pytest.mark.parametrize("options", [{"callback": None}, {"callback": print, "thresholds": 0.8}])
def test_misuse_raises(options: dict[str, Any]) -> None:
    """At once, and nothing is subscribed."""
    with pytest.raises(InvalidTypeError):
        subscribe(**options)
    assert not watcher._subscriptions
    assert not _threads()


def test_pressure_for_a_test(by_hand: Machine) -> None:
    """Whoever is subscribed has been told within the block, and again after it."""
    cache = Cache()
    with subscribe(cache.shrink):
        with under_pressure("warning"):
            assert memory_pressure().level == "warning"
            assert cache.told == ["warning"]
            with under_pressure():
                assert memory_pressure().level == "critical"
        assert memory_pressure().level == "normal"
    assert cache.told == ["warning", "critical", "warning", "normal"]
    with pytest.raises(InvalidValueError, match="'high'"), under_pressure("high"):  # type: ignore[arg-type]
        pass
