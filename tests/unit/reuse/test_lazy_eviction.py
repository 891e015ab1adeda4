"""Lazy values that are dropped when memory runs short, and what the metrics tell of them."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from stratatrace import lazy
from stratatrace.config import Config
from stratatrace.reuse.lazy_homes import evictor
from stratatrace.testing import recording, under_pressure
from unit.reuse.lazy_classes import Evictable, Plain, Slotted, Value
from unit.reuse.lazy_fixtures import run_strictly  # noqa: F401 -- a fixture of every test

if TYPE_CHECKING:
    from collections.abc import Iterator


def watching() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "stratatrace-pressure"]


def test_values_are_dropped_when_it_is_critical() -> None:
    """Those of all instances, and of functions; they are computed anew when they are asked for."""
    one, two = Evictable(), Evictable()
    values = [weakref.ref(one.value), weakref.ref(two.value)]

    @lazy(evict_under_pressure=True)
    def table() -> Value:
        return Value(None, 1)

    values.append(weakref.ref(table()))
    with under_pressure("warning"):
        assert all(value() is not None for value in values)
    with under_pressure("critical"):
        assert all(value() is None for value in values)
        assert not Evictable.value.is_computed(one)
        assert not table.is_computed()
        assert one.value.number == 2
        assert table() is table()
    assert one.value.number == 2


def test_other_values_stay() -> None:
    """Those that were not given up."""
    plain, slotted = Plain(), Slotted()
    first, second = plain.value, slotted.value
    _ = Evictable().value
    with under_pressure("critical"):
        assert plain.value is first
        assert slotted.value is second


def test_what_was_assigned_is_dropped_too() -> None:
    """It was put in the place of what can be computed."""
    owner = Evictable()
    owner.value = Value(owner, 0)
    with under_pressure("critical"):
        assert owner.value.number == 1


def test_coroutines() -> None:
    """Their values are dropped alike."""
    calls = []

    @lazy(evict_under_pressure=True)
    async def table() -> Value:
        calls.append(1)
        await asyncio.sleep(0)
        return Value(None, len(calls))

    assert asyncio.run(table()).number == 1
    assert asyncio.run(table()).number == 1
    with under_pressure("critical"):
        assert not table.is_computed()
    assert asyncio.run(table()).number == 2


def test_it_is_watched_from_the_first_value_on() -> None:
    """By one thread for all, and by none where nothing can be dropped."""
    _ = Plain().value
    one, two = Evictable(), Evictable()
    assert watching() == []
    _ = (one.value, two.value)
    assert watching() == ["stratatrace-pressure"]


def test_what_is_gone_is_not_watched() -> None:
    """Neither a function nor a class is kept alive."""

    @lazy(evict_under_pressure=True)
    def table() -> Value:
        return Value(None, 1)

    table()
    gone = weakref.ref(table._self_value.home)
    assert gone() in list(evictor._evictables)
    del table
    gc.collect()
    assert gone() is None


def test_a_value_that_comes_meanwhile() -> None:
    """Computed while all others are dropped, it is whole."""

    class Owner:
        @lazy(evict_under_pressure=True)
        def value(self) -> list[int]:
            return [id(self)] * 10

    stop = threading.Event()
    failures: list[BaseException] = []

    def read() -> None:
        try:
            owners = [Owner() for _ in range(20)]
            for _ in range(2_000):
                if stop.is_set():
                    return
                for owner in owners:
                    assert owner.value == [id(owner)] * 10
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        Owner.value._aside.evict()
    stop.set()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert failures == []


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture(autouse=True)
def provider(
    reader: InMemoryMetricReader,
    run_strictly: None,  # noqa: F811 -- the fixture, which comes first
) -> Iterator[MeterProvider]:
    """Have metrics told to a provider of the test's own."""
    provider = MeterProvider([reader], shutdown_on_exit=False)
    with recording(Config(probe="rss", rss_peak="off"), meter_provider=provider):
        yield provider
    provider.shutdown()


def told(reader: InMemoryMetricReader) -> dict[str, dict[str, float]]:
    """Return the values of the lazy metrics, by their last word and the name of the function."""
    data = reader.get_metrics_data()
    assert data is not None
    return {
        metric.name.rpartition(".")[2]: {
            str((point.attributes or {}).get("stratatrace.callsite")): point.value  # type: ignore[union-attr]
            for point in metric.data.data_points
            if (point.attributes or {}).get("stratatrace.callsite")
        }
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name.startswith("stratatrace.lazy.")
    }


def test_metrics(reader: InMemoryMetricReader) -> None:
    """Computed, dropped, and alive: where values are kept beside."""

    class Owner:
        @lazy(name="plain")
        def plain(self) -> Value:
            return Value(self, 1)

        @lazy(name="evictable", evict_under_pressure=True)
        def evictable(self) -> Value:
            return Value(self, 1)

        @lazy(name="weak", weak=True)
        def weak(self) -> Value:
            return Value(self, 1)

    @lazy(name="function", evict_under_pressure=True)
    def function() -> Value:
        return Value(None, 1)

    owners = [Owner() for _ in range(3)]
    held: list[Any] = [owner.plain for owner in owners]
    held += [owner.evictable for owner in owners[:2]]
    held += [owners[0].weak, function(), function()]
    assert told(reader) == {
        "computations": {"plain": 3, "evictable": 2, "weak": 1, "function": 1},
        "live": {"evictable": 2, "weak": 1, "function": 1},
    }
    held.clear()
    del owners[0]
    assert told(reader)["live"] == {"evictable": 1, "weak": 0, "function": 1}
    with under_pressure("critical"):
        assert told(reader) == {
            "computations": {"plain": 3, "evictable": 2, "weak": 1, "function": 1},
            "evictions": {"evictable": 1, "function": 1},
            "live": {"evictable": 0, "weak": 0, "function": 0},
        }
    del Owner, owners, function
    gc.collect()
    assert not told(reader)["live"]


def test_failures_are_not_counted(reader: InMemoryMetricReader) -> None:
    """They are in the metrics of the call, with their error."""

    @lazy(name="fallible")
    def fallible() -> int:
        if failing:
            raise KeyError
        return 5

    failing = [1]
    with pytest.raises(KeyError):
        fallible()
    failing.clear()
    fallible()
    assert told(reader)["computations"] == {"fallible": 1}


def test_where_measuring_is_off(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    """Nothing is counted."""

    @lazy(name="silent")
    def silent() -> int:
        return 5

    @lazy(name="loud")
    def loud() -> int:
        return 5

    with recording(Config(disabled=True), meter_provider=provider):
        assert silent() == 5
    assert loud() == 5
    assert told(reader)["computations"] == {"loud": 1}
