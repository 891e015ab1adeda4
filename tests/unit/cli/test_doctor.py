"""`stratatrace doctor`: what is in use, why, and what to do about what is missing."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

from stratatrace import cli
from stratatrace.cli import doctor
from stratatrace.probes import native_obstacle

if TYPE_CHECKING:
    from .conftest import Run

WITHOUT = {"STRATATRACE_NO_EXTENSION": "1"}


def findings(run: Run, **environment: str) -> dict[str, Any]:
    """Return what it says for machines."""
    done = run("-m", "stratatrace", "doctor", "--json", env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def test_it_says_each_thing_in_a_line(run: Run) -> None:
    """For people: a word, and what there is to say."""
    done = run("-m", "stratatrace", "doctor")
    assert (done.returncode, done.stderr) == (0, "")
    lines = dict(line.split("  ", 1) for line in done.stdout.splitlines())
    assert lines["measuring"].strip() == "on"
    assert "every call" in lines["heap probe"] or "of the calls" in lines["heap probe"]
    assert lines["file"].strip() == "installed"


@pytest.mark.skipif(native_obstacle() is not None, reason="the native probe is not built here")
def test_the_native_probe_is_in_use_where_it_can_be(run: Run) -> None:
    """It is the best at hand."""
    said = findings(run)
    assert said["heap probe"] == "native, on every call (the best at hand)"
    assert said["native probe"] == "ready"


def test_without_it_the_reason_is_told(run: Run) -> None:
    """And what is traced in its place."""
    said = findings(run, **WITHOUT)
    assert said["heap probe"] == "tracemalloc, on 0.01 of the calls (the best at hand)"
    assert "STRATATRACE_NO_EXTENSION=1 turns" in said["native probe"]
    assert said["free lists"].startswith("not read")


@pytest.mark.parametrize(
    ("environment", "name", "said"),
    [
        ({"PROBE": "rss"}, "heap probe", "none: no heap numbers"),
        ({"PROBE": "tracemalloc"}, "heap probe", "tracemalloc, on every call (asked for)"),
        ({"PROBE": "tracemalloc", "SAMPLE_RATIO": "0.5"}, "heap probe", "tracemalloc, on 0.5 of"),
        ({"RSS_PEAK": "lifetime"}, "peak RSS", "lifetime: an upper bound"),
        ({"RSS_PEAK": "sampled"}, "peak RSS", "sampled: by a thread"),
        ({"DISABLED": "true"}, "measuring", "off: OTEL_PYTHON_STRATATRACE_DISABLED=true"),
    ],
)
def test_the_environment_counts(
    run: Run, environment: dict[str, str], name: str, said: str
) -> None:
    """As it does for a program that configures nothing."""
    variables = {f"OTEL_PYTHON_STRATATRACE_{key}": value for key, value in environment.items()}
    assert findings(run, **variables)[name].startswith(said)


@pytest.mark.skipif(
    find_spec("opentelemetry.distro") is None, reason="opentelemetry-distro is not here"
)
def test_a_program_without_code_would_be_measured(run: Run) -> None:
    """The instrumentor is found where stratatrace is installed, and providers are set up."""
    assert findings(run)["opentelemetry-instrument"] == "ready"


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("module", "run `pip install 'stratatrace[auto]'`"),
        ("opentelemetry_instrumentor", "does not find stratatrace"),
        ("opentelemetry_configurator", "run `pip install opentelemetry-distro`"),
    ],
)
def test_what_is_missing_for_it_is_told(
    missing: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what to install."""
    monkeypatch.setattr(doctor, "_is_installed", lambda _module: missing != "module")
    monkeypatch.setattr(doctor, "entry_points", lambda *, group, **_name: group != missing)
    cli.main(["doctor", "--json"])
    assert said in json.loads(capsys.readouterr().out)["opentelemetry-instrument"]


def test_a_mistake_in_the_environment_is_one_line(run: Run) -> None:
    """With the variable, and what it may be."""
    done = run("-m", "stratatrace", "doctor", env={"OTEL_PYTHON_STRATATRACE_PROBE": "magic"})
    assert (done.returncode, done.stdout) == (2, "")
    assert "OTEL_PYTHON_STRATATRACE_PROBE='magic': there is no probe 'magic'" in done.stderr
    assert done.stderr.count("\n") == 1
