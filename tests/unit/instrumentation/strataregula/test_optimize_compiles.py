"""A compile with optimizers is the compile without them: to the byte and to the exception."""

from __future__ import annotations

import logging
import tempfile
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from strataregula_compilers import (
    LIBRARIES,
    Compiling,
    Outcome,
    core,
    library,
    outcome_of,
    switched_on,
)

from stratatrace.config import Config
from stratatrace.instrumentation.strataregula import optimize_pairs
from stratatrace.instrumentation.strataregula.optimize_output import _current
from stratatrace.instrumentation.strataregula.optimize_pairs import PackedPairs
from stratatrace.instrumentation.strataregula.optimizers import OPTIMIZERS
from stratatrace.testing import recording

if TYPE_CHECKING:
    from collections.abc import Iterator

SWITCHES = [*OPTIMIZERS, "all"]
FORMATS = ["python", "json", "yaml"]

part = st.sampled_from(
    ["*", "edge", "hub", "service-hub", "scaled", "tokyo", "kanto", "gateway", "a:b", "é東", "x y"]
)
pattern = st.lists(part, min_size=1, max_size=4).map(".".join)
value = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0, 1, True, None, "1", "quoted", "two\nlines", 'a"b', date(2024, 1, 2)]),
    st.lists(st.integers(0, 3), max_size=2),
)
patterns = st.dictionaries(pattern, value, max_size=25)
regional = st.fixed_dictionaries(
    {},
    optional={
        "prefectures": st.dictionaries(part, part, max_size=4),
        "regions": st.lists(part, max_size=3),
    },
)
broken = st.sampled_from(["a: [", "a: b: c", "\tx", "- 1\n- 2", "", "x: *y", "'", "{a: 1, a: 2}"])
documents = st.one_of(
    patterns.map(lambda found: yaml.dump({"service_times": found}, allow_unicode=True)),
    patterns.map(lambda found: yaml.dump(found, default_flow_style=True)),
    broken,
)


@pytest.fixture(autouse=True)
def measured() -> Iterator[None]:
    """Have the streams of chunks measured, by what costs the least."""
    with recording(Config(probe="rss")):
        yield


@pytest.fixture(scope="module", params=LIBRARIES)
def strataregula(request: pytest.FixtureRequest) -> Iterator[str]:
    with library(request.param):
        core()
        yield request.param


def compiling(traffic: str, prefectures: str | None = None) -> Compiling:
    files: dict[str, str | bytes] = {"traffic.yaml": traffic}
    if prefectures is not None:
        files["prefectures.yaml"] = prefectures
    return Compiling(Path(tempfile.mkdtemp()), files)


@pytest.mark.parametrize("switch", SWITCHES)
@given(
    documents, st.none() | regional.map(yaml.dump) | broken, st.sampled_from(FORMATS), st.booleans()
)
@settings(max_examples=15, deadline=None)
def test_it_is_the_same(
    strataregula: str, switch: str, traffic: str, prefectures: str | None, form: str, large: bool
) -> None:
    """Whatever it compiles: what is returned, written, logged, reported and raised is the same."""
    inputs = compiling(traffic, prefectures)
    how = "large" if large else "traffic"
    bare = inputs.outcomes(how, form)
    with switched_on(switch):
        assert inputs.outcomes(how, form) == bare


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("how", ["traffic", "large"])
def test_debug_messages_are_the_same(strataregula: str, switch: str, how: str) -> None:
    """Who wants debug messages has all of them, with all that is in them."""
    inputs = compiling(yaml.dump({"hub.*": 1, "edge.tokyo": 2, "edge.*": 3, "edge.*.*": 4}))

    def outcomes() -> list[Outcome]:
        return inputs.outcomes(how, level=logging.DEBUG, plugins=lambda name, value: {name: value})

    bare = outcomes()
    assert how == "large" or any("hub.*" in text for _, text in bare[0].logged)
    with switched_on(switch):
        assert outcomes() == bare


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("how", ["traffic", "large"])
def test_what_plugins_expand_is_the_same(strataregula: str, switch: str, how: str) -> None:
    """Plugins may expand to anything, and what they raise is passed by as it was."""
    inputs = compiling(yaml.dump({"a.*": 1, "b.*": 2, "c.*": 3, "edge.*": 4, "d": "5"}))
    plugged: dict[str, Any] = {"a.*": {"x.1": 1, "x.2": 2}, "b.*": {"x.2": "again", "z": None}}

    def plugins(name: str, value: Any) -> dict[Any, Any]:
        if name == "c.*":
            raise ZeroDivisionError
        return dict(plugged.get(name, {name: value}))

    bare = inputs.outcomes(how, plugins=plugins)
    with switched_on(switch):
        assert inputs.outcomes(how, plugins=plugins) == bare


@pytest.mark.parametrize("how", ["traffic", "large"])
def test_keys_that_are_no_texts_are_what_they_were(strataregula: str, how: str) -> None:
    """A plugin that expands to numbers has them formatted, or refused, as they were."""
    inputs = compiling(yaml.dump({"a.*": 1, "edge.*": 4}))

    def plugins(name: str, value: Any) -> dict[Any, Any]:
        return {1: 2, "1": 3} if name == "a.*" else {name: value}

    for form in FORMATS:
        bare = inputs.outcomes(how, form, plugins=plugins)
        with switched_on("all"):
            assert inputs.outcomes(how, form, plugins=plugins) == bare


MANY = {f"edge.{n}.{'*' if n % 3 else 'x'}.gateway": n / 7 for n in range(100)}


@pytest.mark.parametrize("form", ["python", "json"])
@pytest.mark.parametrize("how", ["traffic", "large"])
def test_many_pieces_make_the_whole(
    strataregula: str, form: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is packed in several parts is written as one; and it was packed."""
    inputs = compiling(yaml.dump(MANY))
    bare = inputs.outcomes(how, form)
    packs: list[int] = []
    chunks = PackedPairs.chunks

    def counted(self: PackedPairs) -> Any:
        packs.append(len(self))
        return chunks(self)

    monkeypatch.setattr(PackedPairs, "chunks", counted)
    monkeypatch.setattr(optimize_pairs, "_CHUNK", 40)
    with switched_on("output"):
        assert inputs.outcomes(how, form) == bare
    assert max(packs) > 100


@pytest.mark.parametrize(
    "texts",
    [
        {"edge.tokyo": 1, "edge.*": 2, "edge.*.x": 3},  # One comes of the other, too.
        {"line\nbreak": 1, "edge.*": 2},
        {"\ud800": 1, "edge.*": 2},  # It cannot be written.
        {"edge.*": date(2024, 1, 2)},  # There is no JSON of it.
        {"edge.x": date(2024, 1, 2), "hub": {1}},
        {},
        {"only": 1},
        {"a.b": [1, {"c": "d"}], "e.f": {"g": None}},
    ],
    ids=repr,
)
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("how", ["traffic", "large"])
def test_what_is_out_of_the_ordinary(
    strataregula: str, texts: dict[str, Any], form: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Duplicates, what cannot be written and what cannot be formatted end as they did."""
    monkeypatch.setattr(core().ConfigCompiler, "_load_file", lambda _self, _path: dict(texts))
    inputs = compiling("")
    bare = inputs.outcomes(how, form)
    with switched_on("all"):
        assert inputs.outcomes(how, form) == bare
    assert _current.get() is None


def test_nothing_packed_is_seen_outside(strataregula: str) -> None:
    """Who calls the stages gets what they always returned: dictionaries and texts."""
    module = core()
    with switched_on("all"):
        compiler = module.ConfigCompiler(None, None)
        mapping = compiler.expander.compile_to_static_mapping({"edge.*": 1})
        assert type(mapping["component_mapping"]) is dict
        (provenance,) = (
            compiler._generate_provenance([Path("x")], *start)
            for start in ([] if strataregula == "stand-in" else [0.0],)
        )
        context = compiler._create_output_context(mapping, provenance)
        assert {type(each) for each in context.values()} == {str}


def test_a_compiler_of_somebody_else_is_left_alone(strataregula: str) -> None:
    """What a subclass overrides is given what it was always given."""
    module = core()

    base: Any = module.ConfigCompiler

    class Own(base):  # type: ignore[misc] # not known before it runs
        def _create_output_context(self, compiled_mapping: Any, provenance: Any) -> Any:
            seen.append(type(compiled_mapping["component_mapping"]))
            return super()._create_output_context(compiled_mapping, provenance)

    seen: list[type] = []
    inputs = compiling(yaml.dump({"edge.*": 1}))
    output = inputs.folder / "output"
    with switched_on("all"):
        Own(None, None).compile_traffic_config(inputs.folder / "traffic.yaml", None, output)
        compiler = module.ConfigCompiler(None, None)
        bare = compiler.template_engine.render

        def render(name: str, context: Any) -> Any:
            seen.extend({type(each) for each in context.values()})
            return bare(name, context)

        compiler.template_engine.render = render
        compiler.compile_traffic_config(inputs.folder / "traffic.yaml", None, output)
    assert seen == [dict, str]


def test_what_has_not_its_parts_fails_as_it_did(strataregula: str, tmp_path: Path) -> None:
    """A compiler that was never initialised raises what it raised."""
    module = core()
    for name in ("compile_traffic_config", "compile_large_config"):
        arguments = (object.__new__(module.ConfigCompiler), tmp_path / "x.yaml", tmp_path / "y")
        bare = outcome_of(getattr(module.ConfigCompiler, name), *arguments)
        with switched_on("all"):
            assert outcome_of(getattr(module.ConfigCompiler, name), *arguments) == bare
        assert bare.raised is not None


def test_what_stands_between_is_left_alone(
    strataregula: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has replaced a stage after us is given what it was always given."""
    module = core()
    inputs = compiling(yaml.dump({"edge.*": 1}))
    seen: list[type] = []
    with switched_on("output"), monkeypatch.context() as patch:
        ours = module.ConfigCompiler._create_output_context

        def between(self: Any, mapping: Any, provenance: Any) -> Any:
            seen.append(type(mapping["component_mapping"]))
            return ours(self, mapping, provenance)

        patch.setattr(module.ConfigCompiler, "_create_output_context", between)
        inputs.outcomes()
    assert set(seen) == {dict}


def test_a_compile_that_fails_leaves_the_output_alone(
    strataregula: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails as its last piece is made has written none of them."""
    monkeypatch.setattr(optimize_pairs, "_CHUNK", 40)
    texts: dict[str, Any] = {**MANY, "zz.zz.zz.zz": date(2024, 1, 2)}
    inputs = compiling(yaml.dump(texts))
    with switched_on("all"):
        for outcome in (*inputs.outcomes("large", "json"), *inputs.outcomes("traffic", "json")):
            assert outcome.raised is not None
            assert outcome.raised[0] is TypeError
            assert outcome.written == b"before"
