"""The guard: what fails inside of us is logged once a callsite, counted, and goes no further."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from stratatrace.config import Config
from stratatrace.guard import Guard
from stratatrace.measurement import Callsite
from stratatrace.testing import recording

FIRST, SECOND = (Callsite(name=n, function=f"app.{n}") for n in ("first", "second"))


def _fail(guard: Guard, callsite: Callsite, error: Exception | None = None) -> None:
    try:
        raise error or ValueError("broken")  # noqa: TRY301 -- to be caught here
    except Exception:
        guard.caught(callsite, "do its work")


def test_the_first_failure_of_a_callsite_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Each callsite has one warning with its traceback; every failure is counted."""
    guard = Guard()
    for callsite in (FIRST, FIRST, SECOND, FIRST):
        _fail(guard, callsite)
    assert guard.failures == 4
    assert [r.args for r in caplog.records] == [
        ("do its work", "app.first"),
        ("do its work", "app.second"),
    ]
    record = caplog.records[0]
    assert (record.levelno, record.name) == (logging.WARNING, "stratatrace")
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)
    assert "the program is not affected" in record.getMessage()


def test_strict_raises_what_it_would_swallow() -> None:
    """For tests: the very exception comes through, and nothing is counted."""
    guard, error = Guard(strict=True), ValueError("broken")
    with pytest.raises(ValueError, match="broken") as caught:
        _fail(guard, FIRST, error)
    assert caught.value is error
    assert guard.failures == 0


def test_the_log_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """Callsites made without end do not fill the log, or the memory."""
    guard = Guard()
    for number in range(1200):
        _fail(guard, Callsite(name="f", function=f"app.f{number}"))
    assert guard.failures == 1200
    assert len(caplog.records) == 1000


def test_failures_of_threads_are_all_counted() -> None:
    """No failure is lost between threads."""
    guard = Guard()

    def fail() -> None:
        for _ in range(200):
            _fail(guard, FIRST)

    threads = [threading.Thread(target=fail) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert guard.failures == 800


def test_a_forked_child_counts_from_zero() -> None:
    """And does not wait for a lock that a thread of the parent held."""
    guard = Guard()
    _fail(guard, FIRST)
    guard._lock.acquire()
    guard.after_fork_in_child()
    assert guard.failures == 0
    _fail(guard, FIRST)
    assert guard.failures == 1


def test_what_fails_outside_of_calls_is_counted_too(caplog: pytest.LogCaptureFixture) -> None:
    """A mistake in a variable, and what cannot be delivered, are among stratatrace's own errors."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)

    def errors() -> int:
        data: Any = reader.get_metrics_data()
        (count,) = (
            point.value
            for metric in data.resource_metrics[0].scope_metrics[0].metrics
            if metric.name == "stratatrace.self.errors"
            for point in metric.data.data_points
        )
        return int(count)

    with recording(Config(probe="rss"), meter_provider=provider):
        before = errors()
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("OTEL_PYTHON_STRATATRACE_PROBE", "nonsense")
            Config.at_run_time()
        assert errors() == before + 1
        assert "there is no probe 'nonsense'" in caplog.text
    provider.shutdown()
