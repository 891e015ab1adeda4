"""``stratatrace report``: the table of a file again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Run

PROGRAM = """
from stratatrace import profile_memory

@profile_memory(budget="1MB")
def big(): return bytearray(3_000_000)

@profile_memory
def small(): return bytearray(1_000)

big()
for _ in range(5): small()
"""


@pytest.fixture
def file(tmp_path: Path, measured: Run) -> str:
    """A file that a run has written."""
    (tmp_path / "program.py").write_text(PROGRAM)
    assert measured("-q", "-o", "out.jsonl", "program.py").returncode == 0
    return "out.jsonl"


def test_the_same_rows_as_at_the_end_of_the_run(tmp_path: Path, measured: Run, run: Run) -> None:
    """The table that a run shows, later, on stdout."""
    (tmp_path / "program.py").write_text(PROGRAM)
    shown = measured("-o", "out.jsonl", "program.py").stderr
    assert run("-m", "stratatrace", "report", "out.jsonl").stdout == shown.partition("Spans and")[0]


def test_sorted_and_cut(file: str, run: Run) -> None:
    """``--sort calls --top 1`` shows the callsite that was called most."""
    lines = run("-m", "stratatrace", "report", file, "--sort", "calls", "--top", "1").stdout
    assert [line.split()[0] for line in lines.splitlines()] == ["callsite", "__main__.small"]


def test_json_for_machines(file: str, run: Run) -> None:
    """``--json`` has the numbers unrounded, and the score of a budget."""
    told = json.loads(run("-m", "stratatrace", "report", file, "--json").stdout)
    big, small = told["callsites"]
    assert (big["function"], big["calls"], small["calls"]) == ("__main__.big", 1, 5)
    assert big["heap_peak_worst_bytes"] == pytest.approx(3_000_000, rel=0.01)
    assert big["score"] == pytest.approx(100 * (1 / 3) ** 0.7 * (0.25 / 3) ** 0.3, abs=0.1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nope.jsonl"], "'nope.jsonl' cannot be read: No such file"),
        (["program.py"], "is not an OTLP JSON-lines file"),
        (["out.jsonl", "--top", "0"], "--top is a number of callsites, at least 1, not 0"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(
    words: list[str], said: str, file: str, run: Run
) -> None:
    """A file that is missing, or is something else, is told in one line."""
    assert file == "out.jsonl"
    done = run("-m", "stratatrace", "report", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
