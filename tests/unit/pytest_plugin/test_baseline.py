"""The file of a baseline: stable, for people to read the changes of, and checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from stratatrace.errors import InvalidValueError, OutputError
from stratatrace.pytest_plugin.baseline import Baseline, environment_of

ROOT = Path(__file__).parent


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Have a place for the file."""
    (tmp_path / "test_a.py").touch()
    return tmp_path / "baseline.json"


def test_a_test_is_a_line_and_lines_are_sorted(path: Path) -> None:
    """So that a change of one test is a change of one line."""
    baseline = Baseline(path, "here", must_exist=False)
    assert baseline.update({"test_a.py::z[1]": 3, 'test_a.py::"{b}"': 2}, root=path.parent)
    assert path.read_text() == (
        "{\n"
        '  "version": 1,\n'
        '  "environments": {\n'
        '    "here": {\n'
        '      "test_a.py::\\"{b}\\"": {"heap_peak_bytes": 2},\n'
        '      "test_a.py::z[1]": {"heap_peak_bytes": 3}\n'
        "    }\n"
        "  }\n"
        "}\n"
    )
    again = Baseline(path, "here", must_exist=True)
    assert again.peaks == {"test_a.py::z[1]": 3, 'test_a.py::"{b}"': 2}
    assert not again.update({"test_a.py::z[1]": 3}, root=path.parent)
    assert list(path.parent.glob("*.tmp")) == []


def test_other_environments_and_tests_that_did_not_run_are_kept(path: Path) -> None:
    """Only those whose file is gone are dropped."""
    Baseline(path, "there", must_exist=False).update({"gone.py::t": 1}, root=path.parent)
    here = Baseline(path, "here", must_exist=False)
    here.update({"gone.py::t": 1, "test_a.py::t": 2}, root=path.parent)
    here.update({"test_a.py::u": 3}, root=path.parent)
    assert Baseline(path, "here", must_exist=True).peaks == {"test_a.py::t": 2, "test_a.py::u": 3}
    assert Baseline(path, "there", must_exist=True).peaks == {"gone.py::t": 1}
    assert here.environments == ["here", "there"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (None, "there is no memory baseline"),
        ("{", "cannot be read"),
        ("[]", "is no memory baseline"),
        ('{"version": 2, "environments": {}}', "version 2"),
        ('{"version": 1, "environments": {"here": {"t": 5}}}', "is no memory baseline"),
        ('{"version": 1, "environments": {"here": []}}', "is no memory baseline"),
    ],
)
def test_a_file_that_is_none_is_refused(path: Path, text: str | None, complaint: str) -> None:
    """With what is wrong with it, and what writes a better one."""
    if text is not None:
        path.write_text(text)
    with pytest.raises(InvalidValueError, match=complaint):
        Baseline(path, "here", must_exist=True)


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """It says which."""
    baseline = Baseline(tmp_path / "none" / "b.json", "here", must_exist=False)
    with pytest.raises(OutputError, match=r"b\.json cannot be written"):
        baseline.update({"t": 1}, root=tmp_path)


def test_pythons_and_probes_differ() -> None:
    """Each has a section of its own."""
    assert environment_of("native") != environment_of("tracemalloc")
    assert environment_of("native").startswith("cpython-3.")
