"""What is told: spans that are nested as the calls are, with their status, sizes and names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stratatrace.telemetry import semconv

from . import scenarios
from .scenarios import PARALLEL, SCENARIOS

if TYPE_CHECKING:
    from .conftest import Library, Told
    from .scenarios import Scenario


def outcome_of(scenario: Scenario, library: Library) -> tuple[object, str | None]:
    """Return what a scenario returns, and what it raises."""
    try:
        return scenario(library), None
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"


@pytest.mark.parametrize(("scenario", "spans"), SCENARIOS.values(), ids=SCENARIOS)
def test_spans_are_those_of_the_calls(
    library: Library, told: Told, scenario: Scenario, spans: list[str]
) -> None:
    """Each stage has a span, below that of its caller; its status tells also of failed results."""
    outcome_of(scenario, library)
    assert told.ended == spans


def test_work_in_a_pool_is_below_what_has_asked_for_it(library: Library, told: Told) -> None:
    """Documents that threads process are in the trace of the call that hands them out."""
    scenario, spans = PARALLEL
    outcome_of(scenario, library)
    assert sorted(told.ended) == spans


def test_failed_results_are_told_by_one_error_type(library: Library, told: Told) -> None:
    """It is a word of ours, and nothing of the message, which may hold data."""
    outcome_of(scenarios.convert, library)
    failed = [span for span in told.spans if not span.status.is_unset]
    assert len(failed) == 2
    for span in failed:
        assert span.attributes is not None
        assert span.attributes[semconv.ERROR_TYPE.name] == "failed_result"
        assert span.status.description == "failed_result"


def test_stages_have_their_memory(library: Library, told: Told) -> None:
    """Spans are ordinary measured calls; of a stream of expansions there are no bytes."""
    outcome_of(scenarios.compile_config, library)
    for span in told.spans:
        attributes: Any = span.attributes
        assert attributes[semconv.STRATAREGULA_COMPONENT.name]
        counted_only = span.name.endswith("expand_pattern_stream")
        assert ("stratatrace.heap.peak" in attributes) is not counted_only
        assert ("stratatrace.gc.collections" in attributes) is not counted_only


def test_sizes_of_a_compile(library: Library, told: Told) -> None:
    """The spans carry what was read, expanded, looked up and written."""
    lines: Any = scenarios.compile_config(library)
    stream = told.of("EnhancedPatternExpander.expand_pattern_stream")
    assert stream.pop("expansions") == sum("edge." in line or "api.web" in line for line in lines)
    assert stream == {"patterns": 13, "cache.hits": 0, "cache.misses": 13}
    mapping = told.of("EnhancedPatternExpander.compile_to_static_mapping")
    assert mapping["patterns"] == 13
    assert told.of("ConfigCompiler._extract_service_patterns") == {"patterns": 13}
    assert told.of("ConfigCompiler._create_output_context") == {"expansions": mapping["expansions"]}
    written = told.of("TemplateEngine.render")
    assert written.pop("template") == "python"
    assert written == told.of("ConfigCompiler.compile_traffic_config")
    loaded = [
        span.attributes[semconv.STRATAREGULA_INPUT_SIZE.name]
        for span in told.spans
        if span.name == "ConfigCompiler._load_file" and span.attributes
    ]
    assert loaded == [Path(name).stat().st_size for name in ("traffic.json", "regions.json")]


def test_look_ups_are_those_of_the_stream(library: Library, told: Told) -> None:
    """The second time all are found; a stream that is abandoned tells what it has done."""
    streams: Any = scenarios.expand_twice(library)
    once, again = (span.attributes or {} for span in told.spans)
    hits, misses = semconv.STRATAREGULA_CACHE_HITS.name, semconv.STRATAREGULA_CACHE_MISSES.name
    assert (once[hits], once[misses]) == (0, 13)
    assert (again[hits], again[misses]) == (13, 0)
    assert told.points("patterns") == {"expander": 26}
    assert told.points("expansions") == {"expander": sum(map(len, streams))}
    assert told.points("cache.hits") == {"expander": 13}
    assert told.points("cache.misses") == {"expander": 13}


def test_look_ups_are_counted_from_the_first_step(library: Library, told: Told) -> None:
    """What another stream of the same expander has looked up before is not among them."""
    expander = library.core__pattern_expander.EnhancedPatternExpander()
    before = expander.expand_pattern_stream({"a": 1, "b": 2})
    next(before)
    for _ in range(2):
        assert list(expander.expand_pattern_stream({"a": 1})) == [("a", 1)]
    assert list(before) == [("b", 2)]
    outer, *inner = (span.attributes or {} for span in told.spans)
    hits, misses = semconv.STRATAREGULA_CACHE_HITS.name, semconv.STRATAREGULA_CACHE_MISSES.name
    assert [(each[hits], each[misses]) for each in inner] == [(1, 0), (1, 0)]
    # While it was open; those of the other streams are among them.
    assert (outer[hits], outer[misses]) == (2, 2)


def test_an_abandoned_stream_tells_what_it_has_given(library: Library, told: Told) -> None:
    """What was given and looked up until then, and no more."""
    scenarios.expand_abandoned(library)
    assert told.of("EnhancedPatternExpander.expand_pattern_stream") == {
        "patterns": 13,
        "expansions": 1,
        "cache.hits": 0,
        "cache.misses": 1,
    }


def test_chunks_of_a_large_compile(library: Library, told: Told) -> None:
    """Ten chunks, and all of their expansions."""
    scenarios.compile_large(library)
    assert told.of("StreamingPatternProcessor.process_large_patterns") == {
        "patterns": 100,
        "chunks": 10,
        "expansions": 100,
    }


def test_results_of_streams(library: Library, told: Told) -> None:
    """Chunks and errors are on the spans, and once in the metrics."""
    scenarios.stream_sync(library)
    assert told.of("StreamProcessor.process_stream_sync") == {"chunks": 3, "errors": 1}
    assert told.points("chunks") == {"stream": 3}
    assert told.points("errors") == {"stream": 1}


def test_documents_side_by_side(library: Library, told: Told) -> None:
    """How many there were, and what came of them."""
    scenarios.stream_parallel(library)
    assert told.of("StreamProcessor.process_parallel") == {"items": 2, "chunks": 3, "errors": 1}
    assert told.points("chunks") == {"stream": 3}


def test_names_and_counts_of_an_index(library: Library, told: Told) -> None:
    """The provider that was resolved, the files and the matches."""
    scenarios.search_index(library)
    provider = {"index.provider": "fastindex"}
    assert told.of("resolve_provider") == provider
    assert told.of("Provider.changed_py") == {**provider, "files": 1}
    assert told.of("search_content") == {**provider, "files": 1, "matches": 1}
    assert told.of("Provider.search") == {**provider, "files": 1, "matches": 0}


def test_the_memory_of_plugins(library: Library, told: Told) -> None:
    """Each has what loading it took; those that fail have none."""
    scenarios.written("plugins/good.py", scenarios.GOOD_PLUGIN)
    scenarios.written("plugins/raising.py", scenarios.RAISING_PLUGIN)
    loader = library.plugins__loader.PluginLoader("of.nobody")
    loader.discover_plugins()
    assert loader.load_plugin("good").success
    assert not loader.load_plugin("raising").success
    (name,) = told.points("plugin.memory")
    assert name == "plugins good"
    held = told.points("plugin.memory")[name]
    assert held > 10_000 * 50
    assert told.of("PluginLoader.discover_plugins") == {"plugins": 2}


def test_names_of_conversions_queries_and_views(library: Library, told: Told) -> None:
    """Formats, matches and views, and no contents."""
    library.json_processor__converter.FormatConverter().convert({"a": 1}, "json", to_format="json")
    converted = told.of("FormatConverter.convert")
    assert converted.pop("output.size") > 0
    assert converted == {"format.from": "json", "format.to": "json"}
    library.json_processor__jsonpath.JSONPathProcessor().query({"a": 1}, "$.a")
    assert told.of("JSONPathProcessor.query") == {"matches": 1}
    library.json_processor__validator.JSONValidator().validate({}, "basic")
    assert told.of("JSONValidator.validate") == {"schema": "basic"}


def test_the_kernels_cache(library: Library, told: Told) -> None:
    """A look-up is a miss and then a hit, and passes are counted."""
    scenarios.ask_kernel(library)
    queries = [span.attributes or {} for span in told.spans if span.name == "Kernel.query"]
    assert [each[semconv.STRATAREGULA_CACHE_HITS.name] for each in queries] == [0, 1]
    assert [each[semconv.STRATAREGULA_CACHE_MISSES.name] for each in queries] == [1, 0]
    assert told.of("Kernel._compile") == {"passes": 1}
    assert told.points("cache.hits") == {"kernel": 1}
