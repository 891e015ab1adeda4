"""Every example runs, alone and measured, and its numbers are what they must be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
MB = 1_000_000

# What each example is bound to measure, by the names of its spans.
SPANS = {
    "asyncio_worker": {"prepare", "load_pages", "count_ink"},
    "catalog_import": {
        "import",
        "read_lines",
        "parse_products",
        "index_by_category",
        "summarise",
        "write_report",
    },
    "catalog_import_fixed": {"import", "sum_up", "summarise", "write_report"},
    "decorated_class": {
        "Archive.add_day",
        "Archive.average",
        "Archive.export",
        "export a month",
        "write_lines",
    },
    "lazy_gazetteer": {
        "abbreviations",
        "find",
        "near",
        "Gazetteer.by_name",
        "Gazetteer.by_square",
    },
    "locality": {"over_lists", "over_arrays"},
    "pooled_matchers": {"Matcher", "acquire matchers", "search_all", "search_batch"},
}


@dataclass(frozen=True)
class Span:
    """A span of the OTLP file."""

    name: str
    id: str
    parent: str | None
    attributes: dict[str, Any]

    @property
    def peak_bytes(self) -> int:
        return int(self.attributes["stratatrace.heap.peak"])


@dataclass(frozen=True)
class Run:
    """What an example did under ``stratatrace run``."""

    stdout: str
    stderr: str
    spans: list[Span]

    def of(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]


class Runner:
    """Runs each example once each way, in an empty folder that must stay empty."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._plain: dict[str, str] = {}
        self._measured: dict[str, Run] = {}

    def plain(self, name: str) -> str:
        """Return what the example prints when Python runs it."""
        if name not in self._plain:
            self._plain[name] = self._run(str(EXAMPLES / f"{name}.py")).stdout
        return self._plain[name]

    def measured(self, name: str) -> Run:
        """Return what came of it under ``stratatrace run``."""
        if name not in self._measured:
            output = self._folder / f"{name}.jsonl"
            script = str(EXAMPLES / f"{name}.py")
            ended = self._run("-m", "stratatrace", "run", "-o", str(output), script)
            self._measured[name] = Run(ended.stdout, ended.stderr, read_spans(output))
        return self._measured[name]

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        current = self._folder / "current"
        current.mkdir(exist_ok=True)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
        ended = subprocess.run(
            [sys.executable, "-W", "error", *arguments],
            cwd=current,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        assert not list(current.iterdir())
        return ended


def read_spans(path: Path) -> list[Span]:
    """Return the spans of an OTLP JSON-lines file."""
    return [
        Span(
            span["name"],
            span["spanId"],
            span.get("parentSpanId"),
            {each["key"]: _value(each["value"]) for each in span["attributes"]},
        )
        for line in path.read_text(encoding="utf-8").splitlines()
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


def _value(value: dict[str, Any]) -> Any:
    ((kind, content),) = value.items()
    return int(content) if kind == "intValue" else content


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    return Runner(tmp_path_factory.mktemp("examples"))


def test_every_example_is_known() -> None:
    """A new example is run by these tests."""
    runnable = {path.stem for path in EXAMPLES.glob("*.py") if "__main__" in path.read_text()}
    assert runnable == set(SPANS)


@pytest.mark.parametrize("name", SPANS)
def test_it_prints_the_same_alone_and_measured(name: str, runner: Runner) -> None:
    """Being measured changes nothing of what a program says."""
    assert runner.plain(name)
    assert runner.measured(name).stdout == runner.plain(name)


@pytest.mark.parametrize("name", SPANS)
def test_it_has_spans_and_a_table(name: str, runner: Runner) -> None:
    """Each of its callsites has spans with exact heap numbers, and a row."""
    measured = runner.measured(name)
    assert {span.name for span in measured.spans} == SPANS[name]
    for span in measured.spans:
        assert span.attributes["stratatrace.attribution"] == "exact"
        assert span.peak_bytes >= span.attributes["stratatrace.heap.net"]
        assert span.name in measured.stderr


def test_the_catalogue_is_held_three_times(runner: Runner) -> None:
    """The import holds the lines, the products and the copies; its steps tell which is which."""
    measured = runner.measured("catalog_import")
    (whole,) = measured.of("import")
    (lines,) = measured.of("read_lines")
    (products,) = measured.of("parse_products")
    (index,) = measured.of("index_by_category")
    # Some 20 MB of text, read at once and split.
    assert 30 * MB < lines.peak_bytes < 60 * MB
    assert 15 * MB < lines.attributes["stratatrace.heap.net"] < 30 * MB
    assert products.peak_bytes > 2 * lines.attributes["stratatrace.heap.net"]
    held = sum(span.attributes["stratatrace.heap.net"] for span in (lines, products, index))
    assert whole.peak_bytes == pytest.approx(held, rel=0.05)
    assert whole.attributes["stratatrace.budget.exceeded"] is True
    assert {span.parent for span in measured.spans} == {None, whole.id}


def test_the_fixed_import_writes_the_same_from_less(runner: Runner) -> None:
    """The report is the same; the peak is lower by far more than five times."""
    before, after = runner.measured("catalog_import"), runner.measured("catalog_import_fixed")
    assert after.stdout == before.stdout
    (before_span,), (after_span,) = before.of("import"), after.of("import")
    assert after_span.peak_bytes * 5 < before_span.peak_bytes
    assert after_span.peak_bytes < MB
    assert "stratatrace.budget.exceeded" not in after_span.attributes
    assert after_span.attributes["stratatrace.efficiency.score"] == 100


def test_each_job_has_its_own_memory(runner: Runner) -> None:
    """Jobs that interleave are told apart: each is charged its own pages, and one copy."""
    measured = runner.measured("asyncio_worker")
    pages = (1, 1, 2, 6, 12, 24)
    of_jobs = sorted(span.peak_bytes for span in measured.of("prepare"))
    assert of_jobs == pytest.approx([(count + 1) * MB for count in pages], rel=0.05)
    of_loads = sorted(span.peak_bytes for span in measured.of("load_pages"))
    assert of_loads == pytest.approx([count * MB for count in pages], rel=0.05)
    assert len(measured.of("count_ink")) == sum(pages)
    assert f"at most {24 + 1:3} MB held" in measured.stdout


def test_a_pool_in_a_trace(runner: Runner) -> None:
    """What was slow is a span, and in it is why; most batches had a matcher at once."""
    measured = runner.measured("pooled_matchers")
    made = measured.of("Matcher")
    acquired = {span.id: span for span in measured.of("acquire matchers")}
    batches = {span.id for span in measured.of("search_batch")}
    assert 1 <= len(made) <= 2
    assert len(batches) == 48
    for span in made:
        parent = acquired[str(span.parent)]
        assert parent.attributes["stratatrace.pool.object_created"] is True
        assert parent.parent in batches
        assert span.attributes["stratatrace.pool.name"] == "matchers"
    assert "1 matcher made, and used 23 times more" in measured.stdout


def test_one_call_breaks_the_budget(runner: Runner) -> None:
    """Of all calls of the class's methods one breaks the budget, and its span says so."""
    measured = runner.measured("decorated_class")
    broken = [
        span.name for span in measured.spans if "stratatrace.budget.exceeded" in span.attributes
    ]
    assert sorted(broken) == ["Archive.export", "export a month"]
    of_class = [span for span in measured.spans if span.name.startswith("Archive.")]
    assert len(of_class) == 33
    for span in of_class:
        assert span.attributes["stratatrace.budget"] == 2 * MB
        assert span.attributes["site"] == "roof"
    assert "which breaks the budget" in measured.stdout
    (streamed,) = measured.of("write_lines")
    assert streamed.peak_bytes < MB


def test_an_index_is_made_by_the_first_who_asks(runner: Runner) -> None:
    """Its span and its memory are in those of the first question, and of no other."""
    measured = runner.measured("lazy_gazetteer")
    for question, made in (("find", "Gazetteer.by_name"), ("near", "Gazetteer.by_square")):
        first, *others = measured.of(question)
        (index,) = measured.of(made)
        assert len(others) == 2
        assert index.parent == first.id
        kept = index.attributes["stratatrace.heap.net"]
        assert kept > MB / 4
        assert first.attributes["stratatrace.heap.net"] == pytest.approx(kept, rel=0.01)
        assert max(other.peak_bytes for other in others) < MB / 100
    assert len(measured.of("abbreviations")) == 1
    assert "indexes made: by_name, by_square\n" in measured.stdout


def test_inputs_for_strataregula(tmp_path: Path) -> None:
    """The same options write the same bytes, which say what was printed; others do not."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / "strataregula" / "generate.py")]

    def written(name: str, *options: str) -> tuple[str, bytes, bytes]:
        folder = tmp_path / name
        ended = subprocess.run(
            [*command, str(folder), *options], capture_output=True, text=True, check=True
        )
        traffic, regional = folder / "traffic.yaml", folder / "prefectures.yaml"
        told = ended.stdout.replace(str(folder), "")
        return told, traffic.read_bytes(), regional.read_bytes()

    first = written("first", "--patterns", "200")
    assert written("again", "--patterns", "200") == first
    told, traffic, regional = first
    assert told == (
        f"/traffic.yaml: 200 patterns, {len(traffic):,} bytes\n"
        f"/prefectures.yaml: 47 prefectures, {len(regional):,} bytes\n"
    )
    patterns = traffic.splitlines()[1:]
    assert len({pattern.split(b":")[0] for pattern in patterns}) == 200
    assert 40 < sum(b"*" in pattern for pattern in patterns) < 120
    assert written("other", "--patterns", "200", "--seed", "2")[1] != traffic
    literal = written("literal", "--patterns", "200", "--wildcards", "0", "--prefectures", "60")
    assert b"*" not in literal[1]
    assert literal[2].count(b"district-") == 13
    refused = subprocess.run([*command, str(tmp_path), "--patterns", "0"], check=False)
    assert refused.returncode == 2
