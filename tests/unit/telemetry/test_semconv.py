"""The names and units: each once, well formed, and as the fields of Measurement say."""

from __future__ import annotations

import dataclasses
import re

import pytest

from stratatrace.measurement import Measurement
from stratatrace.telemetry import semconv

METRICS: tuple[semconv.Metric, ...] = (
    *semconv.METRICS,
    *semconv.MONITOR_METRICS,
    *semconv.STORE_METRICS,
    *semconv.CACHE_METRICS,
    *semconv.LAZY_METRICS,
    *semconv.POOL_METRICS,
    *semconv.STRATAREGULA_METRICS,
)
OTHERS = (
    semconv.LOG_ATTRIBUTES,
    semconv.MONITOR_ATTRIBUTES,
    semconv.STORE_ATTRIBUTES,
    semconv.CACHE_ATTRIBUTES,
    semconv.POOL_ATTRIBUTES,
    semconv.STRATAREGULA_ATTRIBUTES,
)
NAMES = [[a.name for a in each] for each in (semconv.SPAN_ATTRIBUTES, METRICS, *OTHERS)]
UNITS = {"By", "s", "1", "By/s"}
# Of what is counted, in braces and in the singular.
COUNTED = re.compile(r"\{([a-z]+[^s]|miss|process)\}")


@pytest.mark.parametrize("names", NAMES)
def test_names_are_unique_and_well_formed(names: list[str]) -> None:
    """Lowercase, dotted, in our namespace or one of the stable ones, and without `_total`."""
    assert len(set(names)) == len(names)
    for name in names:
        assert re.fullmatch(r"(stratatrace|code|error)(\.[a-z]+(_[a-z]+)*)+", name), name
        assert "total" not in name


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_metrics_have_a_unit_and_a_fitting_instrument(metric: semconv.Metric) -> None:
    """Units are UCUM; bytes that can shrink are in no Counter and no Histogram."""
    assert metric.unit in UNITS or COUNTED.fullmatch(metric.unit)
    assert metric.brief.endswith((".", "retain."))
    assert metric.instrument in {"Counter", "UpDownCounter", "Gauge", "Histogram"}
    if metric.name.endswith(".net"):
        assert metric.instrument == "UpDownCounter"


def test_every_measured_field_is_an_attribute() -> None:
    """No number of a Measurement is forgotten on the span, and each is there once."""
    carried = [a.field for a in semconv.MEASURED]
    assert len(set(carried)) == len(carried)
    fields = {f.name for f in dataclasses.fields(Measurement)}
    # The span has its own duration; the collector's time is told in seconds, lines as three lists.
    told_otherwise = {"callsite", "duration_ns", "gc_time_ns", "top_lines", "peak_lines"}
    assert fields - set(carried) == told_otherwise


def test_the_names_that_are_promised() -> None:
    """The names that dashboards are built on."""
    assert {
        "code.function.name",
        "code.file.path",
        "code.line.number",
        "error.type",
        "stratatrace.heap.net",
        "stratatrace.heap.peak",
        "stratatrace.heap.allocated",
        "stratatrace.heap.allocations",
        "stratatrace.rss.before",
        "stratatrace.rss.net",
        "stratatrace.rss.peak",
        "stratatrace.rss.peak_method",
        "stratatrace.gc.time",
        "stratatrace.gc.collections",
        "stratatrace.gc.reclaimed",
        "stratatrace.efficiency.score",
        "stratatrace.attribution",
        "stratatrace.probe",
        "stratatrace.budget",
    } <= set(NAMES[0])


def test_bounds_of_the_byte_histograms_are_bytes() -> None:
    """They rise from a KiB to 64 GiB."""
    bounds = semconv.BYTE_BOUNDARIES
    assert list(bounds) == sorted(set(bounds))
    assert (bounds[0], bounds[-1]) == (2**10, 64 * 2**30)
