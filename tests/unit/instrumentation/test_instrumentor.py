"""The instrumentor measures a program of the SDK's own parts, and puts everything back."""

from __future__ import annotations

import importlib
import sys
import textwrap
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import baggage, context
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import (
    ConcurrentMultiSpanProcessor,
    SpanProcessor,
    SynchronousMultiSpanProcessor,
    TracerProvider,
)
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NoOpTracerProvider

from stratatrace import configure, profile_memory, shutdown
from stratatrace.config import Config
from stratatrace.errors import InvalidTypeError, InvalidValueError, StratatraceError
from stratatrace.recorder import Recorder, active
from stratatrace.testing import recording
from stratatrace.wrapping import is_measured, when_imported

pytest.importorskip(
    "opentelemetry.instrumentation.instrumentor",
    reason="the package opentelemetry-instrumentation is not here; its first version that takes "
    "our wrapt is for a newer API than the oldest that we take",
)

from stratatrace.instrumentation import StratatraceInstrumentor
from stratatrace.processor import MemorySpanProcessor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from opentelemetry.sdk.trace import ReadableSpan

PREFIX = "OTEL_PYTHON_STRATATRACE_"
NO_METERS = NoOpMeterProvider()


class Traced:
    """A tracer provider, and the spans that it has exported."""

    def __init__(self, many: Any = None) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(active_span_processor=many, shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    @property
    def processors(self) -> tuple[SpanProcessor, ...]:
        """All of the provider."""
        return self.provider._active_span_processor._span_processors

    @property
    def own(self) -> list[SpanProcessor]:
        """Those of ours among them."""
        return [one for one in self.processors if isinstance(one, MemorySpanProcessor)]

    def span(self, name: str = "request", scope: str = "app") -> ReadableSpan:
        """Return a span that has come and gone."""
        with self.provider.get_tracer(scope).start_as_current_span(name):
            _ = bytearray(100_000)
        return self.exporter.get_finished_spans()[-1]

    def numbers(self, name: str = "request", scope: str = "app") -> set[str]:
        """Return the names of our attributes of such a span."""
        return {key for key in self.span(name, scope).attributes or {} if "stratatrace" in key}


@pytest.fixture(params=[SynchronousMultiSpanProcessor, ConcurrentMultiSpanProcessor])
def either(request: pytest.FixtureRequest) -> Iterator[Traced]:
    """Trace with each of the SDK's ways to have several processors."""
    many = request.param()
    yield (traced := Traced(many))
    traced.provider.shutdown()
    if isinstance(many, ConcurrentMultiSpanProcessor):
        many._executor.shutdown()


@pytest.fixture
def traced() -> Iterator[Traced]:
    """Trace."""
    yield (traced := Traced())
    traced.provider.shutdown()


@pytest.fixture(scope="module", autouse=True)
def import_hooks_are_there() -> None:
    """Have the finder of import hooks in its place, where it stays."""
    when_imported("stratatrace", lambda _module: None)


@pytest.fixture(autouse=True)
def instrumentor(monkeypatch: pytest.MonkeyPatch) -> Iterator[StratatraceInstrumentor]:
    """Return the one that there is, and have it end what the test began."""
    monkeypatch.setenv(PREFIX + "RSS_PEAK", "lifetime")  # No thread, wherever this is run.
    instrumentor = StratatraceInstrumentor()
    yield instrumentor
    if instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.uninstrument()


def test_spans_have_numbers_until_it_is_taken_back(
    either: Traced, instrumentor: StratatraceInstrumentor
) -> None:
    """The processor is in the provider, and then out of it; others stay, in their order."""
    before = either.processors
    instrumentor.instrument(tracer_provider=either.provider)
    (own,) = either.own
    assert either.processors == (*before, own)
    assert "stratatrace.rss.peak" in either.numbers()

    instrumentor.uninstrument()
    assert either.processors == before
    assert all(one is other for one, other in zip(either.processors, before, strict=True))
    assert either.numbers() == set()


def test_both_ways_are_idempotent(traced: Traced, caplog: pytest.LogCaptureFixture) -> None:
    """A second call of either does nothing; they may take turns any number of times."""
    submit = ThreadPoolExecutor.submit
    for _ in range(3):
        # Not the same expression: the singleton's __init__ runs each time.
        StratatraceInstrumentor().instrument(tracer_provider=traced.provider, propagate=True)
        StratatraceInstrumentor().instrument(tracer_provider=traced.provider, propagate=True)
        assert len(traced.own) == 1
        StratatraceInstrumentor().uninstrument()
        StratatraceInstrumentor().uninstrument()
        assert traced.own == []
        assert ThreadPoolExecutor.submit is submit
    assert {record.name for record in caplog.records} <= {
        "opentelemetry.instrumentation.instrumentor"
    }


class Sealed(SpanProcessor):
    """Takes processors and never tells of them."""

    def __init__(self) -> None:
        self.taken: list[SpanProcessor] = []

    def add_span_processor(self, processor: SpanProcessor) -> None:
        """Take one more."""
        self.taken.append(processor)

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        """Hand it on."""
        for one in self.taken:
            one.on_start(span, parent_context=parent_context)

    def _on_ending(self, span: Any) -> None:
        for one in self.taken:
            if hasattr(one, "_on_ending"):
                one._on_ending(span)

    def on_end(self, span: Any) -> None:
        """Hand it on."""
        for one in self.taken:
            one.on_end(span)


def test_where_it_cannot_be_taken_out_it_is_switched_off(
    instrumentor: StratatraceInstrumentor,
) -> None:
    """In a provider whose processors are kept in some other way."""
    traced = Traced(Sealed())
    instrumentor.instrument(tracer_provider=traced.provider)
    assert traced.numbers()
    instrumentor.uninstrument()
    assert traced.numbers() == set()


@pytest.mark.parametrize("provider", [NoOpTracerProvider(), None])
def test_a_provider_without_processors_is_told_of(
    provider: Any, instrumentor: StratatraceInstrumentor, caplog: pytest.LogCaptureFixture
) -> None:
    """One line, with what to do; everything else works."""
    instrumentor.instrument(tracer_provider=provider, propagate=True)
    (record,) = caplog.records
    assert "measures no spans" in record.getMessage()
    assert "opentelemetry-distro" in record.getMessage()
    assert carries_tenant()


def test_no_spans_are_measured_where_none_are_wanted(
    traced: Traced, instrumentor: StratatraceInstrumentor
) -> None:
    """Only what is decorated is."""
    instrumentor.instrument(tracer_provider=traced.provider, spans=False)
    assert traced.own == []
    profile_memory(textwrap.dedent)("")
    assert [s.name for s in traced.exporter.get_finished_spans()] == ["dedent"]


@pytest.mark.parametrize(
    ("options", "measured", "left"),
    [
        ({"scopes": ["app.*"]}, ("request", "app.web"), ("request", "other")),
        ({"names": ["GET *"]}, ("GET /", "app"), ("POST /", "app")),
        ({"scopes": ["app", "web"], "names": "GET *"}, ("GET /", "web"), ("GET /", "db")),
        ({"kinds": "internal"}, ("request", "app"), None),
        ({"kinds": ["server"]}, None, ("request", "app")),
        ({"min_duration_seconds": 60}, None, ("request", "app")),
    ],
)
def test_options_of_the_processor_are_handed_on(
    options: dict[str, Any],
    measured: tuple[str, str] | None,
    left: tuple[str, str] | None,
    traced: Traced,
    instrumentor: StratatraceInstrumentor,
) -> None:
    """Which spans are measured is its affair."""
    instrumentor.instrument(tracer_provider=traced.provider, **options)
    assert measured is None or traced.numbers(*measured)
    assert left is None or not traced.numbers(*left)


def test_variables_count_where_code_says_nothing(
    traced: Traced, instrumentor: StratatraceInstrumentor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code wins over them."""
    monkeypatch.setenv(PREFIX + "NAMES", "GET *")
    monkeypatch.setenv(PREFIX + "SPANS", "false")
    instrumentor.instrument(tracer_provider=traced.provider, spans=True)
    assert traced.numbers("GET /")
    assert not traced.numbers("POST /")


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"profil": "a:b"}, InvalidTypeError, "has no option 'profil': did you mean profile?"),
        ({"spans": "no"}, InvalidTypeError, "spans is True or False"),
        ({"profile": ["a:b", "nonsense"]}, InvalidValueError, "'nonsense' is not a pattern"),
        ({"probe": "magic"}, InvalidValueError, "there is no probe 'magic'"),
        ({"min_duration_seconds": -1}, InvalidValueError, "min_duration_seconds"),
    ],
)
def test_a_mistake_in_code_is_raised_and_changes_nothing(
    options: dict[str, Any],
    kind: type[Exception],
    said: str,
    traced: Traced,
    instrumentor: StratatraceInstrumentor,
) -> None:
    """It is an error of ours and the fitting builtin, and nothing has begun."""
    submit = ThreadPoolExecutor.submit
    with pytest.raises(kind, match=said) as caught:
        instrumentor.instrument(tracer_provider=traced.provider, propagate=True, **options)
    assert isinstance(caught.value, StratatraceError)
    assert not instrumentor.is_instrumented_by_opentelemetry
    assert traced.own == []
    assert ThreadPoolExecutor.submit is submit
    assert not active.started


class Broken(TracerProvider):
    """A provider that fails where it is asked to take a processor."""

    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        """Fail."""
        msg = f"no room for {span_processor}"
        raise RuntimeError(msg)


def test_what_fails_on_its_way_leaves_nothing_behind(
    instrumentor: StratatraceInstrumentor, caplog: pytest.LogCaptureFixture
) -> None:
    """The program is not disturbed, and reads why in its log."""
    instrumentor.instrument(tracer_provider=Broken(shutdown_on_exit=False))
    assert "could not instrument" in caplog.text
    assert "no room for" in caplog.text
    assert not active.started
    instrumentor.uninstrument()


# --- the recorder ---------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"probe": "rss"}, {"disabled": True}])
def test_the_recorder_is_as_it_was(
    options: dict[str, Any], traced: Traced, instrumentor: StratatraceInstrumentor
) -> None:
    """None where there was none; measuring was on, and is."""
    instrumentor.instrument(tracer_provider=traced.provider, **options)
    assert active.started
    assert active.enabled is not options.get("disabled", False)
    assert active.recorder.config.rss_peak == "lifetime"  # The variable counts beside options.
    instrumentor.uninstrument()
    assert (active.started, active.enabled, active.configured) == (False, True, False)


def test_a_recorder_that_was_made_at_the_first_call_is_put_back(
    traced: Traced, instrumentor: StratatraceInstrumentor
) -> None:
    """The very object."""
    before = active.recorder
    try:
        instrumentor.instrument(tracer_provider=traced.provider, probe="rss")
        assert active.recorder is not before
        instrumentor.uninstrument()
        assert active.recorder is before
        assert not active.configured
    finally:
        active.install(None)


def test_what_the_program_has_configured_stands(
    traced: Traced, instrumentor: StratatraceInstrumentor, caplog: pytest.LogCaptureFixture
) -> None:
    """Options that would change it are told of."""
    with recording(Config(probe="tracemalloc", rss_peak="off")):
        before = active.recorder
        instrumentor.instrument(tracer_provider=traced.provider, probe="rss")
        assert active.recorder is before
        assert "ignores probe of the instrumentor" in caplog.text
        assert traced.numbers()
        instrumentor.uninstrument()
        assert active.recorder is before


def test_what_the_program_configures_later_stays(
    traced: Traced, instrumentor: StratatraceInstrumentor
) -> None:
    """Taken back, the instrumentor leaves it in force."""
    instrumentor.instrument(tracer_provider=traced.provider)
    own = Recorder(Config(probe="rss", rss_peak="off"))
    active.install(own)
    instrumentor.uninstrument()
    assert active.recorder is own
    active.install(None)
    active.configured = False


def test_after_a_shutdown_it_measures_again(
    traced: Traced, instrumentor: StratatraceInstrumentor
) -> None:
    """And is off again when that is taken back."""
    configure(tracer_provider=traced.provider, meter_provider=NO_METERS, rss_peak="off")
    shutdown()
    assert not active.enabled
    instrumentor.instrument(tracer_provider=traced.provider)
    assert active.enabled
    instrumentor.uninstrument()
    assert not active.enabled
    active.install(None)
    active.configured = False


def test_wrong_variables_of_measuring_are_ignored(
    traced: Traced,
    instrumentor: StratatraceInstrumentor,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As without the instrumentor: one line, and the defaults."""
    monkeypatch.setenv(PREFIX + "PROBE", "magic")
    monkeypatch.setenv(PREFIX + "MIN_DURATION_SECONDS", "soon")
    instrumentor.instrument(tracer_provider=traced.provider, rss_peak="off")
    assert active.recorder.config == Config(rss_peak="off")
    assert caplog.text.count("PROBE='magic'") == 1
    assert caplog.text.count("MIN_DURATION_SECONDS='soon'") == 1
    assert traced.own


# --- executors and patterns -----------------------------------------------------------------------


def carries_tenant() -> bool:
    """Tell whether a task of a pool has the baggage of who submitted it."""
    token = context.attach(baggage.set_baggage("tenant", "acme"))
    with ThreadPoolExecutor(1) as pool:
        seen = pool.submit(baggage.get_baggage, "tenant").result(30)
    context.detach(token)
    return seen == "acme"


def test_executors_carry_traces_only_on_request(
    traced: Traced, instrumentor: StratatraceInstrumentor
) -> None:
    """And have their very methods back afterwards."""
    methods = ThreadPoolExecutor.submit, ProcessPoolExecutor.submit
    instrumentor.instrument(tracer_provider=traced.provider, follow_threads=False)
    assert not carries_tenant()
    instrumentor.uninstrument()
    instrumentor.instrument(tracer_provider=traced.provider, propagate=True)
    assert carries_tenant()
    instrumentor.uninstrument()
    assert not carries_tenant()
    assert (ThreadPoolExecutor.submit, ProcessPoolExecutor.submit) == methods


def test_functions_are_measured_by_pattern(
    traced: Traced,
    instrumentor: StratatraceInstrumentor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """By the variable, of a module that comes later; wrong patterns are told of, others count."""
    (tmp_path / "named_by_pattern.py").write_text("def load(): return 1\ndef other(): return 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(PREFIX + "PROFILE", "nonsense,named_by_*:load")
    finders = list(sys.meta_path)
    instrumentor.instrument(tracer_provider=traced.provider)
    module = importlib.import_module("named_by_pattern")
    assert (module.load(), module.other()) == (1, 2)
    assert [s.name for s in traced.exporter.get_finished_spans()] == ["load"]
    assert "'nonsense' is not a pattern" in caplog.text

    instrumentor.uninstrument()
    assert not is_measured(module.load)
    assert sys.meta_path == finders
    del sys.modules["named_by_pattern"]
