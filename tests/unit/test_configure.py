"""`configure()` and `shutdown()`, each in a process of its own: providers are set but once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from stratatrace import StratatraceError, configure
from stratatrace.reports.summary import read_summary

if TYPE_CHECKING:
    from pathlib import Path


def run(program: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder, and fail where it fails."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        cwd=folder,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def lines_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def span_names(path: Path) -> list[str]:
    return [
        span["name"]
        for line in lines_of(path)
        for resource in line["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


def test_without_providers_and_destination_it_is_the_embedded_file(tmp_path: Path) -> None:
    """The application's own spans go there as well; all is written at exit, and nothing printed."""
    done = run(
        """
        import stratatrace
        from opentelemetry import trace
        stratatrace.configure(probe="tracemalloc")
        @stratatrace.profile_memory
        def f(): return bytearray(10_000)
        with trace.get_tracer("app").start_as_current_span("request"):
            f()
        """,
        tmp_path,
        OTEL_SERVICE_NAME="shop",
    )
    assert done.stdout == done.stderr == ""
    file = tmp_path / "stratatrace.jsonl"
    assert sorted(span_names(file)) == ["f", "request"]
    resource = json.dumps(lines_of(file)[0]["resourceMetrics"][0]["resource"])
    assert '"shop"' in resource


def log_records(path: Path) -> list[Any]:
    return [
        record
        for line in lines_of(path)
        for resource in line.get("resourceLogs", [])
        for scope in resource["scopeLogs"]
        for record in scope["logRecords"]
    ]


def test_a_broken_budget_is_a_line_of_the_file(tmp_path: Path) -> None:
    """A log record beside the spans, by whose ids it is found; who reads the calls is not put off.

    Of children, each has its own, as they have of the spans.
    """
    run(
        """
        import os
        import stratatrace
        @stratatrace.profile_memory(budget="1 KiB")
        def f(): return len(bytearray(10_000))
        stratatrace.configure(output="t.jsonl", probe="tracemalloc")
        f(); f()
        if os.fork() == 0:
            f()
            stratatrace.shutdown()
            os._exit(0)
        os.wait()
        """,
        tmp_path,
    )
    file = tmp_path / "t.jsonl"
    spans = [
        (span["traceId"], span["spanId"])
        for line in lines_of(file)
        for resource in line["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]
    records = log_records(file)
    assert len(spans) == 3
    assert len(records) == 2, "of the parent's two, the second has no turn"
    assert {(record["traceId"], record["spanId"]) for record in records} < set(spans)
    assert {record["severityText"] for record in records} == {"WARN"}
    summary = read_summary(file)
    assert summary.unreadable_lines == 0
    assert [row.calls for row in summary.rows] == [3]


@pytest.mark.parametrize("when", ["global", "given"])
def test_the_applications_logger_provider_is_used(when: str, tmp_path: Path) -> None:
    """Set globally before or after, or given: its exporter has the record, and our file has not."""
    done = run(
        f"""
        import stratatrace
        @stratatrace.profile_memory(budget="1 KiB")
        def f(): return len(bytearray(10_000))
        from opentelemetry import _logs
        from opentelemetry.sdk._logs import LoggerProvider, export
        make = getattr(export, "InMemoryLogRecordExporter", None) or export.InMemoryLogExporter
        kept, provider = make(), LoggerProvider()
        provider.add_log_record_processor(export.SimpleLogRecordProcessor(kept))
        given = provider if {when!r} == "given" else None
        if given is None:
            _logs.set_logger_provider(provider)
        stratatrace.configure(output="t.jsonl", probe="tracemalloc", logger_provider=given)
        f()
        print(len(kept.get_finished_logs()))
        """,
        tmp_path,
    )
    assert done.stdout == "1\n"
    assert span_names(tmp_path / "t.jsonl") == ["f"]
    assert log_records(tmp_path / "t.jsonl") == []


def test_decorated_before_configured_works(tmp_path: Path) -> None:
    """Configuration is read at call time; a second one replaces the first."""
    run(
        """
        import stratatrace
        @stratatrace.profile_memory
        def f(): pass
        stratatrace.configure(output="one.jsonl")
        f()
        stratatrace.configure(output="two.jsonl")
        f(); f()
        stratatrace.configure(disabled=True)
        f()
        """,
        tmp_path,
    )
    assert span_names(tmp_path / "one.jsonl") == ["f"]
    assert span_names(tmp_path / "two.jsonl") == ["f", "f"]


@pytest.mark.parametrize("when", ["before", "after", "never"])
def test_the_applications_providers_are_used_and_never_replaced(when: str, tmp_path: Path) -> None:
    """Set before or after import, with or without configure(): they get our spans and metrics."""
    done = run(
        f"""
        from opentelemetry import metrics, trace
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
        def set_up():
            provider = TracerProvider()
            provider.add_span_processor(SimpleSpanProcessor(spans))
            trace.set_tracer_provider(provider)
            metrics.set_meter_provider(MeterProvider([reader]))
            return provider
        when = {when!r}
        if when == "before":
            provider = set_up()
        import stratatrace
        if when == "before":
            stratatrace.configure(probe="tracemalloc")
        @stratatrace.profile_memory
        def f(): pass
        if when != "before":
            f()
            provider = set_up()
        if when == "after":
            stratatrace.configure(probe="tracemalloc")
        f()
        assert trace.get_tracer_provider() is provider
        print(*[span.name for span in spans.get_finished_spans()])
        told = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
        (count,) = [m for m in told if m.name == "stratatrace.call.count"]
        print(*[point.value for point in count.data.data_points])
        """,
        tmp_path,
    )
    names, counts = done.stdout.splitlines()
    assert names == "f"
    assert counts == ("1" if when == "before" else "2")
    assert not list(tmp_path.iterdir()), "no file beside providers of the application's own"


def test_environment_variables_mirror_the_options(tmp_path: Path) -> None:
    """An option that was given wins over its variable."""
    done = run(
        """
        import stratatrace
        from stratatrace.recorder import active
        stratatrace.configure(probe="rss", output="f.jsonl")
        config = active.recorder.config
        print(config.probe, config.sample_ratio, config.disabled)
        """,
        tmp_path,
        OTEL_PYTHON_STRATATRACE_PROBE="tracemalloc",
        OTEL_PYTHON_STRATATRACE_SAMPLE_RATIO="0.25",
        OTEL_PYTHON_STRATATRACE_DISABLED="false",
    )
    assert done.stdout == "rss 0.25 False\n"


def test_disabled_by_the_environment_runs_bare(tmp_path: Path) -> None:
    """No span, no file, no tracing; a block still has a Measurement, an empty one."""
    done = run(
        """
        import tracemalloc, stratatrace
        stratatrace.configure(probe="tracemalloc")
        @stratatrace.profile_memory
        def f(): return tracemalloc.is_tracing()
        with stratatrace.profile_memory("block") as block: pass
        print(f(), block.measurement.duration_ns, stratatrace.measure(f)[1].heap_peak_bytes)
        """,
        tmp_path,
        OTEL_PYTHON_STRATATRACE_DISABLED="true",
    )
    assert done.stdout == "False None None\n"
    assert not list(tmp_path.iterdir())


def test_shutdown_flushes_and_measures_no_more(tmp_path: Path) -> None:
    """What was measured is in the file at once; later calls run bare until configured anew."""
    done = run(
        """
        import stratatrace
        from opentelemetry import trace
        @stratatrace.profile_memory
        def f(): pass
        stratatrace.configure(output="f.jsonl")
        f()
        stratatrace.shutdown()
        with open("f.jsonl") as file: print(len(file.readlines()))
        assert stratatrace.measure(f)[1].duration_ns is None
        f()
        stratatrace.shutdown()
        stratatrace.configure(output="g.jsonl")
        with trace.get_tracer("app").start_as_current_span("request"): f()
        """,
        tmp_path,
    )
    assert (done.stdout, done.stderr) == ("2\n", "")
    assert span_names(tmp_path / "f.jsonl") == ["f"]
    assert sorted(span_names(tmp_path / "g.jsonl")) == ["f", "request"]


def test_children_of_multiprocessing_flush_at_their_end(tmp_path: Path) -> None:
    """A fork's own spans are written, once, and its counters begin at zero."""
    run(
        """
        import multiprocessing, stratatrace
        stratatrace.configure(output="f.jsonl", probe="tracemalloc")
        @stratatrace.profile_memory
        def f(): pass
        f(); f()
        child = multiprocessing.get_context("fork").Process(target=f)
        child.start(); child.join()
        f()
        """,
        tmp_path,
    )
    file = tmp_path / "f.jsonl"
    assert span_names(file) == ["f"] * 4
    counts = {
        point["asInt"]
        for line in lines_of(file)
        for resource in line.get("resourceMetrics", ())
        for metric in resource["scopeMetrics"][0]["metrics"]
        if metric["name"] == "stratatrace.call.count"
        for point in metric["sum"]["dataPoints"]
    }
    assert counts == {"1", "3"}


@pytest.mark.parametrize(
    ("options", "builtin", "said"),
    [
        ({"prob": "rss"}, TypeError, "no option 'prob': did you mean probe?"),
        ({"probe": "tea leaves"}, ValueError, "there is no probe 'tea leaves': choose one of"),
        ({"sample_ratio": 1.5}, ValueError, "a share of the calls, from 0 to 1"),
        ({"sample_ratio": "half"}, TypeError, "a number from 0 to 1, not 'half'"),
        ({"scorer": "nice"}, ValueError, "there is no scorer 'nice'"),
        ({"scorer": 3}, TypeError, "has a score"),
        ({"sinks": [print]}, TypeError, "a sink has an emit"),
        ({"endpoint": "nowhere"}, ValueError, "an endpoint is a URL like"),
        ({"output": "/no/such/folder/f.jsonl"}, OSError, "cannot be written to"),
    ],
)
def test_misuse_raises_at_once(options: dict[str, Any], builtin: type, said: str) -> None:
    """A StratatraceError that is the fitting builtin, and says what to do."""
    with pytest.raises(StratatraceError, match=said) as caught:
        configure(**options)
    assert isinstance(caught.value, builtin)


def test_a_wrong_variable_is_told_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """configure() raises for the environment as it does for its options."""
    monkeypatch.setenv("OTEL_PYTHON_STRATATRACE_SAMPLE_RATIO", "lots")
    with pytest.raises(StratatraceError, match="OTEL_PYTHON_STRATATRACE_SAMPLE_RATIO='lots'"):
        configure()


def test_destinations_beside_providers_of_the_applications_own_are_refused(
    tmp_path: Path,
) -> None:
    """Nothing could be written there, and silence would hide it."""
    done = run(
        """
        import stratatrace
        from opentelemetry import metrics, trace
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.trace import TracerProvider
        trace.set_tracer_provider(TracerProvider())
        metrics.set_meter_provider(MeterProvider())
        try:
            stratatrace.configure(output="f.jsonl")
        except ValueError as error:
            print(error)
        """,
        tmp_path,
    )
    assert "drop them, its providers export" in done.stdout
    assert not list(tmp_path.iterdir())
