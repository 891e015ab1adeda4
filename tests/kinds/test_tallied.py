"""The cross once more, where no span is recorded: a call is in the sums once, and rightly."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from stratatrace.config import Config
from stratatrace.probes import native_obstacle
from stratatrace.recorder import Recorder, active

from .callables import KEPT_BYTES, PASSING_BYTES
from .test_outcomes import MAKERS, TROUBLE, WAYS_AND_ENDINGS, bare_and_measured, near

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .endings import Ending

pytestmark = pytest.mark.skipif(
    native_obstacle() is not None, reason="calls are told one by one without the compiled part"
)

Points = dict[str, list[tuple[str | None, float]]]


@pytest.fixture
def reader() -> Iterator[InMemoryMetricReader]:
    """Measure every call strictly, into metrics and nothing else."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    recorder = Recorder(Config(probe="native"), meter_provider=provider)
    recorder.guard.strict = True
    gc.disable()
    with active.replaced(recorder):
        yield reader
    gc.enable()
    provider.shutdown()


def points_of(reader: InMemoryMetricReader) -> Points:
    """Return the error type and the value of each point that is not zero, by metric."""
    data = reader.get_metrics_data()
    assert data is not None
    points: Points = {}
    for metric in data.resource_metrics[0].scope_metrics[0].metrics:
        for point in metric.data.data_points:
            assert point.attributes is not None
            value: Any = getattr(point, "value", None)
            if value:
                error_type: Any = point.attributes.get("error.type")
                points.setdefault(metric.name, []).append((error_type, value))
    return points


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(("way", "ending"), WAYS_AND_ENDINGS)
def test_a_tallied_call_ends_like_a_bare_one_and_is_counted_once(
    reader: InMemoryMetricReader,
    way: str,
    ending: Ending,
    make: Callable[[Any], Callable[[], Any]],
) -> None:
    """Values, error and sums are right for every kind and every ending."""
    bare, ours, work = bare_and_measured(way, ending, make)
    points = points_of(reader)

    assert ours.values == bare.values
    assert type(ours.error) is type(bare.error)
    assert ours.frames == bare.frames
    if ending.raises:
        assert ours.error is work.error
    error_type = TROUBLE if ending.is_error else None
    assert points["stratatrace.call.count"] == [(error_type, 1)]
    assert points["stratatrace.heap.net"] == [(error_type, near(KEPT_BYTES))]
    assert points["stratatrace.heap.peak"] == [(error_type, near(KEPT_BYTES + PASSING_BYTES))]
    assert points["stratatrace.heap.allocated"] == [(error_type, near(KEPT_BYTES + PASSING_BYTES))]
    assert [error for error, _ in points["stratatrace.rss.peak"]] == [error_type]
    assert [error for error, _ in points["stratatrace.call.time"]] == [error_type]
    assert active.recorder.guard.failures == 0
