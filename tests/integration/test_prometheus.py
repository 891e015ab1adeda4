"""What a backend for metrics scrapes of ours and answers when it is queried."""

from __future__ import annotations

import http.client
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from .expected import of_function
from .running import serving_program, unique
from .servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .backends import Prometheus, Sample

pytestmark = pytest.mark.e2e

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Scraped:
    """One run of the service: what it measured, and how to ask for what was scraped of it."""

    prometheus: Prometheus
    instance: str
    service: str
    measurements: Sequence[Mapping[str, Any]]

    def sample(self, expression: str, function: str) -> Sample:
        """Return the one series of a function; ``{}`` in the expression is where it is chosen."""
        (sample,) = self.prometheus.query(
            expression.replace(
                "{}", f'{{instance="{self.instance}",code_function_name=~".*[.]{function}"}}'
            )
        )
        return sample

    def numbers(self, function: str, field: str) -> list[Any]:
        """Return what the calls of a function measured."""
        return [measurement[field] for measurement in of_function(self.measurements, function)]


@pytest.fixture(scope="module")
def scraped(prometheus: Prometheus) -> Iterator[Scraped]:
    """One run of the service, scraped every second until the last test of this module."""
    port, service = free_port(), unique("scraped")
    settings = {"OTEL_SERVICE_NAME": service}
    with serving_program("scraped.py", str(port), environment=settings) as told:
        prometheus.scrape(port)
        yield Scraped(prometheus, f"127.0.0.1:{port}", service, told)


def test_resource_is_in_target_info(scraped: Scraped) -> None:
    """The service's name is found beside its metrics."""
    (sample,) = scraped.prometheus.query(f'target_info{{instance="{scraped.instance}"}}')
    assert sample.labels["service_name"] == scraped.service


@pytest.mark.parametrize(("function", "calls"), [("build", 3), ("keep", 2), ("release", 1)])
def test_calls_are_counted(scraped: Scraped, function: str, calls: int) -> None:
    """The counter has every call once, of our scope, and the time is the sum of theirs."""
    count = scraped.sample("stratatrace_call_count_total{}", function)
    assert count.value == calls
    assert count.labels["otel_scope_name"] == "stratatrace"
    seconds = scraped.sample("stratatrace_call_time_seconds_total{}", function)
    assert seconds.value == pytest.approx(sum(scraped.numbers(function, "duration_ns")) / 1e9)


def test_failures_are_a_series_of_their_own(scraped: Scraped) -> None:
    """A call that raised is counted under its error's type."""
    failed = scraped.sample("stratatrace_call_count_total{}", "fail")
    assert (failed.value, failed.labels["error_type"]) == (1, "LookupError")


def test_net_falls_when_memory_is_given_back(scraped: Scraped) -> None:
    """The net is a signed sum: what was kept and given back adds up to what is still held."""
    nets = {
        function: scraped.sample("stratatrace_heap_net_bytes{}", function).value
        for function in ("build", "keep", "release")
    }
    for function, net in nets.items():
        assert net == sum(scraped.numbers(function, "heap_net_bytes"))
    assert nets["keep"] + nets["release"] == pytest.approx(3 * MIB, rel=0.01)


def test_gauges_hold_the_highest(scraped: Scraped) -> None:
    """The highest call since the last scrape is the gauge of the first scrape after it."""
    for metric, field in {
        "stratatrace_heap_peak_bytes": "heap_peak_bytes",
        "stratatrace_rss_peak_bytes": "rss_peak_bytes",
    }.items():
        # Later scrapes have no new calls to tell of, so the past is asked, not this moment.
        sample = scraped.sample(f"max_over_time({metric}{{}}[5m])", "build")
        assert sample.value == max(scraped.numbers("build", field))
    heap = scraped.sample("max_over_time(stratatrace_heap_peak_bytes{}[5m])", "build")
    assert heap.value == pytest.approx(8 * MIB, rel=0.01)


def test_score_is_of_calls_with_a_budget(scraped: Scraped) -> None:
    """The score of a function with a budget lies between those of its worst and best call."""
    scores = scraped.numbers("build", "efficiency_score")
    sample = scraped.sample(
        'max_over_time({__name__=~"stratatrace_efficiency_score.*"}[5m])'.replace(
            '.*"}', f'.*",instance="{scraped.instance}",code_function_name=~".*[.]build"}}'
        ),
        "build",
    )
    assert min(scores) <= sample.value <= max(scores)
    assert 0 <= sample.value <= 100


def test_histogram_answers_a_quantile(scraped: Scraped) -> None:
    """Buckets made for bytes let the backend tell the median call: 5 MiB of 2, 5 and 8."""
    count = scraped.sample("stratatrace_call_heap_peak_bytes_count{}", "build")
    total = scraped.sample("stratatrace_call_heap_peak_bytes_sum{}", "build")
    peaks = scraped.numbers("build", "heap_peak_bytes")
    assert (count.value, total.value) == (3, sum(peaks))
    median = scraped.sample(
        "histogram_quantile(0.5, stratatrace_call_heap_peak_bytes_bucket{})", "build"
    )
    # A quantile is as exact as its bucket is wide, and ours are four times as high as they begin.
    assert 4 * MIB / 4 < median.value <= 16 * MIB


@pytest.mark.parametrize(
    ("metric", "field"),
    [
        ("stratatrace_call_heap_peak_bytes", "heap_peak_bytes"),
        ("stratatrace_call_rss_peak_bytes", "rss_peak_bytes"),
    ],
)
def test_an_exemplar_is_the_trace_of_the_call_that_filled_the_bucket(
    scraped: Scraped, metric: str, field: str
) -> None:
    """The backend leads from a bucket to the very call: of each bucket, the latest."""
    calls = of_function(scraped.measurements, "build")
    of_buckets: dict[float, Mapping[str, Any]] = {}
    for call in calls:
        bound = next(4.0**power for power in range(5, 19) if call[field] <= 4**power)
        of_buckets[bound] = call
    exemplars = scraped.prometheus.exemplars(
        f'{metric}_bucket{{instance="{scraped.instance}",code_function_name=~".*[.]build"}}',
        count=len(of_buckets),
    )
    found = {float(each.series["le"]): each for each in exemplars}
    assert {bound: (e.labels, e.value) for bound, e in found.items()} == {
        bound: ({"trace_id": call["trace_id"], "span_id": call["span_id"]}, call[field])
        for bound, call in of_buckets.items()
    }


def test_only_openmetrics_has_exemplars(scraped: Scraped) -> None:
    """Who asks for it gets it; the older text format has no place for them."""
    host, _, port = scraped.instance.partition(":")
    exposed = {}
    for wanted in ("application/openmetrics-text; version=1.0.0", "text/plain"):
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        connection.request("GET", "/metrics", headers={"Accept": wanted})
        answer = connection.getresponse()
        exposed[str(answer.headers.get_content_type())] = answer.read().decode()
        connection.close()
    (call,) = of_function(scraped.measurements, "keep")[-1:]
    line = f'# {{span_id="{call["span_id"]}",trace_id="{call["trace_id"]}"}}'
    assert line in exposed["application/openmetrics-text"]
    assert exposed["application/openmetrics-text"].endswith("# EOF\n")
    assert "trace_id" not in exposed["text/plain"]
