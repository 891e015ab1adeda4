"""What a pool tells: spans of slow requests, the measured factory, metrics, and what was saved."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from stratatrace import MemoryPool, measure, profile_memory
from stratatrace.config import Config
from stratatrace.errors import PoolExhaustedError
from stratatrace.telemetry import pools as module
from stratatrace.telemetry import semconv
from stratatrace.telemetry.pools import PoolMetrics, pool_metrics
from stratatrace.testing import recording

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stratatrace.testing import ListSink

SIZE = 200_000


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def sink(reader: InMemoryMetricReader, exporter: InMemorySpanExporter) -> Iterator[ListSink]:
    tracers, meters = TracerProvider(shutdown_on_exit=False), MeterProvider([reader])
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    with recording(tracer_provider=tracers, meter_provider=meters) as sink:
        yield sink
    meters.shutdown()
    tracers.shutdown()


def make_buffer() -> bytearray:
    return bytearray(SIZE)


def points(reader: InMemoryMetricReader) -> dict[str, dict[tuple[Any, ...], Any]]:
    """Return the values, and the counts of histograms, by metric and attributes."""
    data = reader.get_metrics_data()
    assert data is not None
    return {
        metric.name.removeprefix("stratatrace.pool."): {
            tuple((point.attributes or {}).values()): getattr(point, "value", None)
            if not hasattr(point, "count")
            else point.count
            for point in metric.data.data_points
        }
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name.startswith("stratatrace.pool.")
    }


def test_only_slow_requests_are_spans(sink: ListSink, exporter: InMemorySpanExporter) -> None:
    """One that has an object made, with the factory's call in it; none that uses one again."""
    pool = MemoryPool(make_buffer, max_size=1, reset=None, name="buffers")
    for _ in range(3):
        with pool.lease():
            pass
    made, acquired = exporter.get_finished_spans()
    assert (made.name, acquired.name) == ("make_buffer", "acquire buffers")
    assert made.parent is not None
    assert acquired.context is not None
    assert made.parent.span_id == acquired.context.span_id
    attributes = dict(acquired.attributes or {})
    assert attributes["stratatrace.pool.name"] == "buffers"
    assert attributes["stratatrace.pool.object_created"] is True
    assert dict(made.attributes or {})["stratatrace.pool.name"] == "buffers"
    assert dict(made.attributes or {})["code.function.name"] == f"{__name__}.make_buffer"


def test_a_wait_is_a_span(sink: ListSink, exporter: InMemorySpanExporter) -> None:
    """With how long it was, of threads and of tasks; one that was in vain has an error."""
    pool = MemoryPool(make_buffer, max_size=1, reset=None, name="buffers")
    buffer = pool.acquire()
    exporter.clear()
    thread = threading.Thread(target=lambda: pool.release(pool.acquire()))
    thread.start()
    while not pool.stats().waiting:
        time.sleep(0.001)
    pool.release(buffer)
    thread.join()

    async def wait() -> None:
        buffer = await pool.acquire_async()
        task = asyncio.create_task(pool.acquire_async())
        await asyncio.sleep(0.01)
        pool.release(buffer)
        pool.release(await task)

    asyncio.run(wait())
    buffer = pool.acquire()
    with pytest.raises(PoolExhaustedError):
        pool.acquire(timeout=0.001)
    of_thread, of_task, in_vain = exporter.get_finished_spans()
    for span in (of_thread, of_task):
        attributes = dict(span.attributes or {})
        assert span.name == "acquire buffers"
        assert float(str(attributes["stratatrace.pool.wait"])) > 0
        assert attributes["stratatrace.pool.object_created"] is False
    assert dict(in_vain.attributes or {})["error.type"] == "stratatrace.errors.PoolExhaustedError"


def test_the_cost_of_an_object_and_what_was_saved(sink: ListSink) -> None:
    """Are of the factory's own measured call."""
    pool = MemoryPool(make_buffer, max_size=3, reset=None)
    assert pool.stats().saved_bytes is None
    for _ in range(5):
        with pool.lease():
            pass
    (made,) = sink.of("make_buffer")
    assert made.heap_net_bytes == pytest.approx(SIZE, abs=2000)
    assert pool.stats().object_bytes == made.heap_net_bytes
    assert pool.stats().saved_bytes == 4 * (made.heap_net_bytes or 0)
    assert "saved" in str(pool.stats())


def test_the_cost_is_known_where_few_calls_are_traced() -> None:
    """The first calls of the factory are traced whatever the ratio says."""
    with recording(Config(probe="tracemalloc", sample_ratio=0)):
        pool = MemoryPool(make_buffer, max_size=3, reset=None)
        pool.release(pool.acquire())
        assert pool.stats().object_bytes == pytest.approx(SIZE, abs=2000)


def test_where_the_heap_is_not_measured_the_cost_is_unknown() -> None:
    """And not zero."""
    for config in (Config(probe="rss"), Config(disabled=True)):
        with recording(config):
            pool = MemoryPool(make_buffer, max_size=3, reset=None)
            for _ in range(2):
                pool.release(pool.acquire())
            assert (pool.stats().object_bytes, pool.stats().saved_bytes) == (None, None)
            assert pool.stats().reused == 1


def test_the_pool_is_not_charged_to_its_user(sink: ListSink) -> None:
    """A request that has an object made is charged the object, and little else."""
    pool = MemoryPool(make_buffer, max_size=3, reset=None)

    def use() -> None:
        pool.release(pool.acquire())

    _, first = measure(use)
    assert first.heap_net_bytes == pytest.approx(SIZE, abs=2500)

    def use_often() -> None:
        for _ in range(1000):
            pool.release(pool.acquire())

    _, often = measure(use_often)
    assert often.heap_net_bytes == pytest.approx(0, abs=500)
    assert (often.heap_peak_bytes or 0) < 2000


def test_all_metrics(sink: ListSink, reader: InMemoryMetricReader) -> None:
    """Of a pool that has seen everything."""

    def reset(buffer: bytearray) -> None:
        if buffer:
            raise ValueError

    pool = MemoryPool(bytearray, max_size=2, max_idle=1, reset=reset, name="buffers")

    async def cancel(held: bytearray) -> None:
        task = asyncio.create_task(pool.acquire_async())
        await asyncio.sleep(0.01)
        waiting = asyncio.create_task(pool.acquire_async())
        await asyncio.sleep(0.01)
        assert points(reader)["pending_requests"] == {("buffers",): 2}
        task.cancel()
        await asyncio.sleep(0.01)
        pool.release(held)
        pool.release(await waiting)

    one, two = pool.acquire(), pool.acquire()
    with pytest.raises(PoolExhaustedError):
        pool.acquire(timeout=0)
    asyncio.run(cancel(one))
    two += b"not empty"
    pool.release(two)
    pool.acquire()
    del one, two
    pool._sweep()
    kept = pool.acquire()
    told = points(reader)
    named = ("buffers",)
    assert told.pop("use_time")[named] > 0
    assert told == {
        "count": {("buffers", "idle"): 0, ("buffers", "used"): 1},
        "max": {named: 2},
        "idle.max": {named: 1},
        "pending_requests": {named: 0},
        "timeouts": {named: 1},
        "abandoned": {named: 1},
        "create_time": {named: 3},
        "wait_time": {named: 1},
        "created": {named: 3},
        "reused": {named: 2},
        "discarded": {("buffers", "reset"): 1},
        "leaked": {named: 1},
        "memory_saved": {named: pool.stats().saved_bytes},
    }
    pool.release(kept)


def test_counters_outlive_their_pools(sink: ListSink, reader: InMemoryMetricReader) -> None:
    """Two pools of one name are told together, and what one that is gone has done stays."""
    pools = [MemoryPool(bytearray, reset=None, name="buffers") for _ in range(2)]
    for pool in pools:
        for _ in range(3):
            pool.release(pool.acquire())
    assert points(reader)["reused"] == {("buffers",): 4}
    assert points(reader)["count"] == {("buffers", "idle"): 2, ("buffers", "used"): 0}
    del pool
    pools.pop()
    gc.collect()
    for _ in range(2):
        told = points(reader)
        assert told["reused"] == {("buffers",): 4}
        assert told["created"] == {("buffers",): 2}
        assert told["count"] == {("buffers", "idle"): 1, ("buffers", "used"): 0}


def test_names_are_bounded(
    sink: ListSink, reader: InMemoryMetricReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pools with a name of their own for each request do not fill the memory."""
    monkeypatch.setattr(module, "MOST_SERIES", 2)
    for number in range(5):
        pool = MemoryPool(bytearray, reset=None, name=f"request {number}")
        pool.release(pool.acquire())
    del pool
    told = points(reader)
    assert set(told["created"]) == {("request 0",), ("request 1",), (True,)}
    assert sum(told["created"].values()) == 5


def test_units_are_those_of_the_conventions(sink: ListSink, reader: InMemoryMetricReader) -> None:
    """And every metric of the conventions is told."""
    pool = MemoryPool(bytearray, max_size=1, name="buffers")
    buffer = pool.acquire()
    thread = threading.Thread(target=pool.acquire)
    thread.start()
    while not pool.stats().waiting:
        time.sleep(0.001)
    pool.discard(buffer)
    thread.join()
    pool._sweep()
    data = reader.get_metrics_data()
    assert data is not None
    told = {
        m.name: m.unit
        for m in data.resource_metrics[0].scope_metrics[0].metrics
        if m.name.startswith("stratatrace.pool")
    }
    assert told == {metric.name: metric.unit for metric in semconv.POOL_METRICS}


def test_instruments_are_made_once_a_provider() -> None:
    """None is the application's."""
    provider = MeterProvider()
    assert pool_metrics(provider) is pool_metrics(provider)
    assert isinstance(pool_metrics(provider), PoolMetrics)
    assert pool_metrics(provider) is not pool_metrics(None)
    provider.shutdown()


def test_a_pool_that_is_made_before_measuring_is_configured() -> None:
    """Tells the provider that is in force when it is next slow."""
    reader = InMemoryMetricReader()
    pool = MemoryPool(bytearray, max_size=2, name="early")
    with recording(Config(probe="rss")):
        kept = pool.acquire()
    provider = MeterProvider([reader])
    with recording(Config(probe="rss"), meter_provider=provider):
        pool.acquire()
        assert points(reader)["created"] == {("early",): 2}
    provider.shutdown()
    pool.release(kept)


def test_a_measured_factory(sink: ListSink) -> None:
    """May be measured already."""
    pool = MemoryPool(profile_memory(make_buffer), reset=None)
    pool.release(pool.acquire())
    assert len(sink.of("make_buffer")) == 2
    assert pool.stats().object_bytes == pytest.approx(SIZE, abs=2000)


def test_telemetry_that_fails_leaves_the_pool_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is logged and counted, and the object is had."""

    def refuse(*_: object) -> None:
        msg = "no metrics"
        raise RuntimeError(msg)

    monkeypatch.setattr(PoolMetrics, "add", refuse)
    monkeypatch.setattr(PoolMetrics, "record_create_time", refuse)
    with recording(Config(probe="rss"), strict=False):
        pool = MemoryPool(bytearray, max_size=1)
        pool.release(pool.acquire(timeout=0))
        assert pool.stats().idle == 1
