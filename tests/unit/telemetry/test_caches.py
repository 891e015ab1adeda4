"""The metrics of caches: sums by name, which go on when a cache is gone."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest

from stratatrace import BoundedCache, WeakCache, cached
from stratatrace.config import Config
from stratatrace.telemetry import caches as module
from stratatrace.telemetry import semconv
from stratatrace.telemetry.caches import CacheCounts, CacheMetrics, ObservedCache
from stratatrace.testing import recording

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader


class Cache:
    """Holds what it is told to."""

    def __init__(self, name: str, entries: int = 0, size_bytes: int | None = None) -> None:
        self.counts = CacheCounts(name)
        self.holds = ObservedCache(entries, size_bytes)

    def observed(self) -> ObservedCache:
        return self.holds


def collected(reader: InMemoryMetricReader) -> dict[str, dict[tuple[Any, ...], float]]:
    """Return the values of all points, by metric and attributes."""
    data = reader.get_metrics_data()
    if data is None:
        return {}
    return {
        metric.name.removeprefix("stratatrace.cache."): {
            tuple((point.attributes or {}).values()): point.value  # type: ignore[union-attr]
            for point in metric.data.data_points
        }
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


@pytest.fixture
def metrics(meter_provider: MeterProvider) -> CacheMetrics:
    made = CacheMetrics()
    made.offer(meter_provider)
    made.offer(meter_provider)
    return made


def test_caches_of_one_name_are_added_up(
    metrics: CacheMetrics, reader: InMemoryMetricReader
) -> None:
    """What happened to those that are gone stays in the counters, and what they held goes."""
    one, other, weak = Cache("rows", 3, 100), Cache("rows", 4, 50), Cache("views", 5)
    for cache in (one, other, weak):
        cache.counts.hits, cache.counts.misses, cache.counts.refused = 5, 2, 1
        cache.counts.evictions.update(bytes=3, expired=1)
        metrics.add(cache, cache.counts)
    expected = {
        "hits": {("rows",): 10, ("views",): 5},
        "misses": {("rows",): 4, ("views",): 2},
        "refused": {("rows",): 2, ("views",): 1},
        "evictions": {
            ("rows", "bytes"): 6,
            ("rows", "expired"): 2,
            ("views", "bytes"): 3,
            ("views", "expired"): 1,
        },
        "entries": {("rows",): 7, ("views",): 5},
        "size": {("rows",): 150},
    }
    assert collected(reader) == expected
    other.counts.hits += 1
    del one, cache, weak
    gc.collect()
    for _ in range(2):
        told = collected(reader)
        assert told["hits"] == {("rows",): 11, ("views",): 5}
        assert told["evictions"] == expected["evictions"]
        assert told["entries"] == {("rows",): 4, ("views",): 0}
        assert told["size"] == {("rows",): 50}


def test_a_forked_child_counts_from_zero(
    metrics: CacheMetrics, reader: InMemoryMetricReader
) -> None:
    """What it has inherited is held by it, too."""
    cache = Cache("rows", 3, 100)
    cache.counts.hits = 5
    metrics.add(cache, cache.counts)
    metrics.after_fork_in_child()
    assert collected(reader)["hits"] == {("rows",): 0}
    assert collected(reader)["entries"] == {("rows",): 3}


def test_names_are_bounded(
    metrics: CacheMetrics, reader: InMemoryMetricReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache with a name of its own for each request does not fill the memory."""
    monkeypatch.setattr(module, "MOST_SERIES", 2)
    monkeypatch.setattr(module, "_FIRST_SWEEP", 4)
    for number in range(50):
        counts = Cache(f"request {number % 40}").counts
        counts.hits = 1
        metrics.add(Cache("x"), counts)
    assert collected(reader)["hits"] == {("request 0",): 2, ("request 1",): 2, (True,): 46}
    assert len(metrics._caches) + len(metrics._gone) < 10


def test_what_was_never_used_leaves_nothing(
    metrics: CacheMetrics, reader: InMemoryMetricReader
) -> None:
    """No series of zeros for good."""
    metrics.add(Cache("brief"), CacheCounts("brief"))
    gc.collect()
    assert collected(reader) == {}


def test_all_caches_tell(meter_provider: MeterProvider, reader: InMemoryMetricReader) -> None:
    """The provider of the recorder in force; all names and units are those of the conventions."""
    bounded: BoundedCache[str, bytes] = BoundedCache(
        max_bytes=2_000, name="test.bounded", on_too_large="skip", shrink_under_pressure=False
    )
    weak: WeakCache[str, Any] = WeakCache(name="test.weak")
    function = cached(max_entries=1, name="test.cached", shrink_under_pressure=False)(
        lambda number: f"{number}"
    )

    with recording(Config(probe="rss"), meter_provider=meter_provider):
        bounded["a"] = bytes(1_000)
        bounded["b"] = bytes(1_000)
        bounded["c"] = bytes(9_000)
        assert (bounded.get("a"), len(bounded["b"])) == (None, 1_000)
        weak.get("a", set)
        assert [function(1), function(2), function(2)] == ["1", "2", "2"]
        data = reader.get_metrics_data()
    assert data is not None
    told = {m.name: m.unit for m in data.resource_metrics[0].scope_metrics[0].metrics}
    assert {metric.name: metric.unit for metric in semconv.CACHE_METRICS}.items() <= told.items()
    numbers = collected(reader)
    mine = {
        name: {key: value for key, value in points.items() if str(key).startswith("('test.")}
        for name, points in numbers.items()
    }
    assert mine["hits"] == {("test.bounded",): 1, ("test.weak",): 0, ("test.cached",): 1}
    assert mine["misses"] == {("test.bounded",): 1, ("test.weak",): 1, ("test.cached",): 2}
    assert mine["refused"][("test.bounded",)] == 1
    assert mine["evictions"] == {
        ("test.bounded", "bytes"): 1,
        ("test.weak", "collected"): 1,
        ("test.cached", "entries"): 1,
    }
    assert mine["entries"] == {("test.bounded",): 1, ("test.weak",): 0, ("test.cached",): 1}
    assert mine["size"] == {("test.bounded",): bounded.stats().size_bytes}
