"""Chunks become smaller under pressure, and what they expand to stays the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml
from strataregula_compilers import LIBRARIES, Compiling, core, library, switched_on

from stratatrace.config import Config
from stratatrace.testing import recording, under_pressure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATTERNS = {
    f"{'edge' if number % 3 else 'hub'}.{number}{'.*' * (number % 2)}{'.x' * (number % 5)}": number
    for number in range(200)
}


@pytest.fixture(autouse=True)
def measured() -> Iterator[None]:
    with recording(Config(probe="rss")):
        yield


@pytest.fixture(params=LIBRARIES)
def strataregula(request: pytest.FixtureRequest) -> Iterator[str]:
    with library(request.param):
        yield request.param


def results() -> list[dict[str, Any]]:
    """Return what a fresh processor yields."""
    compiler = core().ConfigCompiler(None, None)
    return list(compiler.streaming_processor.process_large_patterns(PATTERNS))


@pytest.mark.parametrize(("level", "share"), [("normal", 1), ("warning", 2), ("critical", 4)])
def test_chunks_follow_the_pressure(strataregula: str, level: Any, share: int) -> None:
    """They are those of the library, a half or a quarter of them; the order is the same in all."""
    bare = results()
    with switched_on("chunks"), under_pressure(level):
        adapted = results()
    assert len(adapted) == share * len(bare)
    assert [item for each in adapted for item in each.items()] == [
        item for each in bare for item in each.items()
    ]


@pytest.mark.parametrize("switches", [("chunks",), ("chunks", "output"), ("all",)])
@pytest.mark.parametrize("form", ["python", "json", "yaml"])
def test_a_compile_under_pressure_writes_the_same(
    strataregula: str, switches: tuple[str, ...], form: str, tmp_path: Path
) -> None:
    """However many chunks there are, the bytes are the same; only progress is told more often."""
    inputs = Compiling(tmp_path / "in", {"traffic.yaml": yaml.dump(PATTERNS)})
    bare = inputs.outcomes("large", form)
    with switched_on(*switches), under_pressure("critical"):
        adapted = inputs.outcomes("large", form)
    assert [each.written for each in adapted] == [each.written for each in bare]
    assert [len(each.reported) for each in adapted] == [4 * len(each.reported) for each in bare]


def test_a_processor_of_somebody_else(strataregula: str) -> None:
    """What has no size to go by is left as it is."""
    module = core()
    processor = module.StreamingPatternProcessor

    def process_large_patterns(self: Any, patterns: Any) -> Iterator[Any]:
        yield patterns

    processor.process_large_patterns = process_large_patterns
    with switched_on("chunks"):
        assert processor.process_large_patterns is process_large_patterns
