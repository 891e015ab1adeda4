"""The configuration: mistakes are told when they are made, in code or in the environment."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stratatrace.config import Config
from stratatrace.errors import StratatraceError
from stratatrace.probes import native_obstacle

PREFIX = "OTEL_PYTHON_STRATATRACE_"


@pytest.mark.parametrize(
    ("given", "builtin", "says"),
    [
        ({"probe": "memray"}, ValueError, r"no probe 'memray': choose one of 'auto'"),
        ({"sample_ratio": 1.5}, ValueError, r"from 0 to 1, and 1\.5 is not"),
        ({"sample_ratio": -0.1}, ValueError, "from 0 to 1"),
        ({"sample_ratio": float("nan")}, ValueError, "from 0 to 1"),
        ({"sample_ratio": "half"}, TypeError, "from 0 to 1, not 'half'"),
        ({"sample_ratio": True}, TypeError, "from 0 to 1, not True"),
        ({"max_overhead": 0}, ValueError, "above 0 and up to 1 .* say disabled=True"),
        ({"max_overhead": -0.1}, ValueError, "say disabled=True"),
        ({"max_overhead": 1.01}, ValueError, r"up to 1 \(0.02 is 2%\), and 1.01 is not"),
        ({"max_overhead": float("nan")}, ValueError, "above 0 and up to 1"),
        ({"max_overhead": "2%"}, TypeError, "a number above 0 and up to 1, not '2%'"),
        ({"max_overhead": True}, TypeError, "up to 1, not True"),
        ({"rss_peak": "exact"}, ValueError, r"no way 'exact' .*: choose one of 'auto'"),
        ({"scorer": "kind"}, ValueError, "no scorer 'kind': choose one of 'budget'"),
        ({"scorer": 5}, TypeError, "has a score"),
        ({"scorer": None}, TypeError, "has a score"),
    ],
)
def test_a_wrong_value_is_told(given: dict[str, Any], builtin: type[Exception], says: str) -> None:
    """What was given, what was expected; ours and the fitting builtin."""
    with pytest.raises(builtin, match=says) as caught:
        Config(**given)
    assert isinstance(caught.value, StratatraceError)


@pytest.mark.parametrize(
    ("given", "ratio"),
    [
        ({"probe": "tracemalloc"}, 1.0),
        ({"probe": "auto", "sample_ratio": 0.5}, 0.5),
        ({"probe": "tracemalloc", "sample_ratio": 0}, 0),
    ],
)
def test_the_share_of_traced_calls(given: dict[str, Any], ratio: float) -> None:
    """Every call, unless told otherwise."""
    assert Config(**given).trace_ratio == ratio


def test_where_it_has_to_trace_auto_takes_one_call_in_a_hundred(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Native counting is cheap enough for all."""
    if native_obstacle() is None:
        assert Config(probe="auto").trace_ratio == 1.0
    monkeypatch.setenv("STRATATRACE_NO_EXTENSION", "1")
    assert Config(probe="auto").trace_ratio == 0.01


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each variable has its field; what is given in code wins; None is not given."""
    for name, text in {
        "PROBE": "tracemalloc",
        "SAMPLE_RATIO": " 0.25 ",
        "SCORER": "legacy",
        "RSS_PEAK": "lifetime",
        "MAX_OVERHEAD": "0.02",
        "DISABLED": "TRUE",
    }.items():
        monkeypatch.setenv(PREFIX + name, text)
    expected = Config(
        probe="tracemalloc",
        sample_ratio=0.25,
        rss_peak="lifetime",
        scorer="legacy",
        max_overhead=0.02,
        disabled=True,
    )
    assert Config.from_environment() == expected
    assert Config.from_environment(probe=None) == expected
    given = Config.from_environment(probe="rss", disabled=False)
    assert given == replace(expected, probe="rss", disabled=False)


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the OpenTelemetry specification has it."""
    monkeypatch.setenv(PREFIX + "PROBE", "")
    monkeypatch.setenv(PREFIX + "DISABLED", "  ")
    assert Config.from_environment() == Config()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("PROBE", "memray"),
        ("SAMPLE_RATIO", "many"),
        ("SAMPLE_RATIO", "2"),
        ("SCORER", "kind"),
        ("MAX_OVERHEAD", "2%"),
        ("MAX_OVERHEAD", "0"),
        ("DISABLED", "perhaps"),
        ("DISABLED", "1"),
    ],
)
def test_a_wrong_variable_is_told_by_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    """Name and value of the variable are in the message; what is given in code hides it."""
    monkeypatch.setenv(PREFIX + name, text)
    with pytest.raises(ValueError, match=f"{PREFIX}{name}={text!r}") as caught:
        Config.from_environment()
    assert isinstance(caught.value, StratatraceError)


def test_a_variable_that_is_not_used_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake in a variable that the code overrides is no matter."""
    monkeypatch.setenv(PREFIX + "PROBE", "memray")
    assert Config.from_environment(probe="rss").probe == "rss"
