"""A limit that is exceeded is a span's status, a metric, a log record, and the user's callback."""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from stratatrace import MemoryLimitExceeded, memory_limit, profile_memory
from stratatrace.config import Config
from stratatrace.guards import telling
from stratatrace.testing import recording

from .growing import MB, grow, linger, take

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.trace import ReadableSpan

NAME = "stratatrace.limit.exceeded"


class Told:
    """What a provider was told."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracer_provider = TracerProvider(shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meter_provider = MeterProvider([self.reader], shutdown_on_exit=False)

    @property
    def span(self) -> ReadableSpan:
        """The only span that has ended."""
        (span,) = self.exporter.get_finished_spans()
        return span

    def counts(self) -> dict[Any, Any]:
        """Return what the metric says, by what was limited."""
        data = self.reader.get_metrics_data()
        return {
            (point.attributes or {}).get("stratatrace.callsite"): point.value  # type: ignore[union-attr]
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == NAME
            for point in metric.data.data_points
        }


@pytest.fixture
def told() -> Iterator[Told]:
    """Measure into providers of the test's own."""
    told = Told()
    with recording(
        Config(probe="rss"),
        tracer_provider=told.tracer_provider,
        meter_provider=told.meter_provider,
    ):
        yield told
    told.tracer_provider.shutdown()
    told.meter_provider.shutdown()


def test_it_is_the_status_of_the_enclosing_span(
    told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether the call fails by it or not; the metric counts once, and so does the log."""

    @profile_memory
    def load() -> str:
        try:
            with memory_limit("60MB", name="rows"):
                bytearray(1000 * MB)
        except MemoryLimitExceeded:
            return "without"
        return "with"

    assert load() == "without"
    attributes = told.span.attributes or {}
    assert attributes[NAME] is True
    assert attributes["stratatrace.limit.budget"] == 60 * MB
    assert "stratatrace.limit.used" in attributes
    assert told.span.status.status_code is StatusCode.ERROR
    assert told.span.status.description == "stratatrace.errors.MemoryLimitExceeded"
    assert told.counts() == {"rows": 1}
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("stratatrace", logging.WARNING)
    assert "rows: an allocation was refused" in record.getMessage()


def test_every_time_is_counted_and_no_other(told: Told) -> None:
    """By the name that was given."""
    for _ in range(3):
        with pytest.raises(MemoryLimitExceeded), memory_limit("60MB", name="many"):
            bytearray(1000 * MB)
    with memory_limit("60MB", name="none"):
        pass
    with pytest.raises(MemoryError), memory_limit("60MB", name="others"):
        raise MemoryError
    assert told.counts() == {"many": 3}


def test_one_that_was_swallowed_is_told(told: Told) -> None:
    """It was exceeded all the same."""
    with memory_limit("30MB", name="swallowed"), contextlib.suppress(MemoryLimitExceeded):
        grow()
    assert told.counts() == {"swallowed": 1}


def test_nested_limits_tell_of_one(told: Told) -> None:
    """That which was exceeded."""
    with (
        pytest.raises(MemoryLimitExceeded),
        memory_limit("300MB", name="outer"),
        memory_limit("60MB", name="inner"),
    ):
        bytearray(1000 * MB)
    assert told.counts() == {"inner": 1}


@pytest.mark.parametrize("how", ["block", "end"])
def test_to_be_warned_is_no_error(
    how: str, told: Told, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is raised and nothing refused; it is told while the block runs, or at its end."""
    if how == "end":
        monkeypatch.setattr("stratatrace.guards.watchdog.watchdog._look", lambda: None)
    kept: list[Any] = []

    @profile_memory
    def load() -> str:
        with memory_limit("30MB", on_exceed="warn", name="soft") as limit:
            take(kept, 300)
            linger(0.1)
            assert limit.exceeded is (how == "block")
        assert limit.exceeded
        return "all of it"

    assert load() == "all of it"
    assert told.counts() == {"soft": 1}
    assert (told.span.attributes or {})[NAME] is True
    assert told.span.status.status_code is StatusCode.UNSET
    assert len(caplog.records) == 1


def test_a_callback_is_called_once(told: Told) -> None:
    """With the error that is not raised, in a thread of its own."""
    called = threading.Event()
    errors: list[tuple[MemoryLimitExceeded, str]] = []

    def on_exceed(error: MemoryLimitExceeded) -> None:
        errors.append((error, threading.current_thread().name))
        called.set()

    with memory_limit("30MB", on_exceed=on_exceed, name="called"):
        kept = grow(60)
        assert called.wait(20)
        kept += grow(30)
    ((error, thread),) = errors
    assert isinstance(error, MemoryLimitExceeded)
    assert error.budget_bytes == 30 * MB
    assert (error.used_bytes or 0) > 30 * MB
    assert thread == "stratatrace-limit-callback"
    assert told.counts() == {"called": 1}


def test_a_soft_limit_does_not_hide_a_hard_one() -> None:
    """The innermost that raises is raised."""
    with (
        pytest.raises(MemoryLimitExceeded) as caught,
        memory_limit("60MB", name="outer"),
        memory_limit("20MB", on_exceed="warn", name="soft"),
    ):
        grow()
    assert caught.value.callsite is not None
    assert caught.value.callsite.label == "outer"


def test_a_callback_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The program is not affected."""
    called = threading.Event()

    def fail(_error: MemoryLimitExceeded) -> None:
        called.set()
        raise RuntimeError

    with memory_limit("20MB", on_exceed=fail):
        kept = grow(40)
        assert called.wait(20)
        del kept
    for thread in threading.enumerate():
        if thread.name == "stratatrace-limit-callback":
            thread.join(20)
    assert "on_exceed" in caplog.text


def test_steps_tell_once(told: Told) -> None:
    """A generator whose every step is over a soft limit."""

    @memory_limit("20MB", on_exceed="warn", name="steps")
    def items() -> Iterator[int]:
        kept: list[Any] = []
        for number in range(5):
            take(kept, 15)
            yield number

    assert list(items()) == [0, 1, 2, 3, 4]
    assert told.counts() == {"steps": 1}


def test_telemetry_that_fails_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And the limit holds."""

    def fail(*_args: object, **_options: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(telling, "mark_span", fail)
    with pytest.raises(MemoryLimitExceeded), memory_limit("60MB"):
        bytearray(1000 * MB)
    assert "could not tell" in caplog.text


def test_the_number_of_series_is_bounded(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is beyond is counted together."""
    monkeypatch.setattr("stratatrace.telemetry.limits.MOST_SERIES", 2)
    for name in ("a", "b", "c", "d"):
        with pytest.raises(MemoryLimitExceeded), memory_limit("60MB", name=name):
            bytearray(1000 * MB)
    assert told.counts() == {"a": 1, "b": 1, None: 2}
