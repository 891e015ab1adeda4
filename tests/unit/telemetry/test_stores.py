"""The metrics of stores: of those that are open, by their names, to whoever is told of calls."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from stratatrace import CompressedStore
from stratatrace.config import Config
from stratatrace.guard import Guard
from stratatrace.pressure.sources import readings
from stratatrace.telemetry import semconv
from stratatrace.telemetry import stores as module
from stratatrace.telemetry.stores import Stored, StoreMetrics, store_metrics
from stratatrace.testing import recording

if TYPE_CHECKING:
    from pathlib import Path

LONG = "the same words again and again, " * 40


class Store:
    """Knows what it is made with."""

    def __init__(self, name: str, stored: Stored | None) -> None:
        self.name = name
        self.stored = stored

    def observed(self) -> Stored | None:
        return self.stored


def collected(reader: InMemoryMetricReader) -> dict[str, dict[tuple[Any, ...], float]]:
    """Return the values of all points, by metric and attributes."""
    data = reader.get_metrics_data()
    return {
        metric.name: {
            tuple((point.attributes or {}).values()): point.value  # type: ignore[union-attr]
            for point in metric.data.data_points
        }
        for resource in (data.resource_metrics if data is not None else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def of_stores(reader: InMemoryMetricReader) -> dict[str, dict[tuple[Any, ...], float]]:
    """Return those of the metrics of stores."""
    return {name: told for name, told in collected(reader).items() if ".store." in name}


@pytest.fixture
def metrics(meter_provider: MeterProvider) -> StoreMetrics:
    return StoreMetrics(meter_provider)


def test_all_that_is_known(metrics: StoreMetrics, reader: InMemoryMetricReader) -> None:
    """Stores of one name are added up; one that is closed or gone is told no more."""
    stores = [
        Store("a", Stored(1, 100, 20, 5)),
        Store("a", Stored(2, 200, 80, 0)),
        Store("b", Stored(0, 0, 0, 0)),
        Store("closed", None),
    ]
    for store in (*stores, stores[0]):
        metrics.add(store)
    assert collected(reader) == {
        "stratatrace.store.entries": {("a",): 3, ("b",): 0},
        "stratatrace.store.raw": {("a",): 300, ("b",): 0},
        "stratatrace.store.stored": {("a",): 100, ("b",): 0},
        "stratatrace.store.spilled": {("a",): 5, ("b",): 0},
        "stratatrace.store.ratio": {("a",): 3.0},
    }
    metrics.remove(stores[0])
    metrics.remove(stores[0])
    assert collected(reader)["stratatrace.store.entries"] == {("a",): 2, ("b",): 0}
    del stores[1], store
    gc.collect()
    assert collected(reader)["stratatrace.store.entries"] == {("b",): 0}


def test_names_are_bounded(
    metrics: StoreMetrics, reader: InMemoryMetricReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store with a name of its own for each request does not fill the memory."""
    monkeypatch.setattr(module, "MOST_SERIES", 2)
    stores = [Store(f"request {number}", Stored(1, 1, 1, 0)) for number in (1, 2, 3, 4, 1)]
    for store in stores:
        metrics.add(store)
    assert collected(reader)["stratatrace.store.entries"] == {
        ("request 1",): 2,
        ("request 2",): 1,
        (True,): 2,
    }


def test_units_are_those_of_the_conventions(
    metrics: StoreMetrics, reader: InMemoryMetricReader
) -> None:
    """And every metric of the conventions is told."""
    store = Store("a", Stored(1, 1, 1, 1))
    metrics.add(store)
    data = reader.get_metrics_data()
    assert data is not None
    told = {m.name: m.unit for m in data.resource_metrics[0].scope_metrics[0].metrics}
    assert told == {metric.name: metric.unit for metric in semconv.STORE_METRICS}


def test_instruments_are_made_once_a_provider(meter_provider: MeterProvider) -> None:
    """None is the application's."""
    assert store_metrics(meter_provider) is store_metrics(meter_provider)
    assert store_metrics(None) is store_metrics(None)
    assert store_metrics(None) is not store_metrics(meter_provider)


def test_of_a_real_store(
    meter_provider: MeterProvider, reader: InMemoryMetricReader, tmp_path: Path
) -> None:
    """They are its statistics, until it is closed."""
    with recording(Config(probe="rss"), meter_provider=meter_provider):
        store = CompressedStore[int, str](name="pages", max_bytes=1, spill=tmp_path)
        store[1] = LONG
        stats = store.stats()
        assert of_stores(reader) == {
            "stratatrace.store.entries": {("pages",): 1},
            "stratatrace.store.raw": {("pages",): stats.raw_bytes},
            "stratatrace.store.stored": {("pages",): stats.stored_bytes},
            "stratatrace.store.spilled": {("pages",): stats.stored_bytes},
            "stratatrace.store.ratio": {("pages",): stats.ratio},
        }
        store.close()
        assert of_stores(reader) == {}


def test_a_store_that_was_there_first(
    meter_provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """Is told to the provider that is configured later, and no longer to the one before."""
    before = InMemoryMetricReader()
    first = MeterProvider([before], shutdown_on_exit=False)
    with recording(Config(probe="rss"), meter_provider=first):
        store = CompressedStore[int, str](name="pages")
        assert collected(before)["stratatrace.store.entries"] == {("pages",): 0}
    with recording(Config(probe="rss"), meter_provider=meter_provider):
        for number in range(256):
            store[number] = "a"
        assert collected(reader)["stratatrace.store.entries"] == {("pages",): 256}
        assert "stratatrace.store.entries" not in collected(before)
    first.shutdown()
    store.close()


def test_metrics_that_cannot_be_made(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Do not reach the program: it is logged, and the store works."""

    def broken(_: object) -> StoreMetrics:
        msg = "no metrics today"
        raise OSError(msg)

    monkeypatch.setattr(readings, "guard", Guard())
    monkeypatch.setattr("stratatrace.reuse.store_holding.store_metrics", broken)
    store = CompressedStore[str, str]({"a": LONG})
    assert store["a"] == LONG
    store.close()
    assert "offer its numbers" in caplog.text
