"""The options of the instrumentor outside of code: a mistake is logged, and ends nothing."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from stratatrace.config import Config
from stratatrace.errors import StratatraceError
from stratatrace.instrumentation import environment_variables
from stratatrace.instrumentation.options import (
    OPTIONS,
    DeclaredOptions,
    option_named,
    options_of_environment,
)
from stratatrace.instrumentation.strataregula import optimizers
from stratatrace.patching import Pattern

PREFIX = "OTEL_PYTHON_STRATATRACE_"


def plain(value: object) -> object:
    """Return a value with the text of each pattern in place of it."""
    if isinstance(value, tuple):
        return [one.text if isinstance(one, Pattern) else one for one in value]
    return value


def test_every_option_is_a_flag() -> None:
    """The module that flags are made of has the variable of each, and what `Config` reads."""
    names = {name for name in dir(environment_variables) if name.startswith("OTEL_")}
    assert names == {option.variable for option in OPTIONS} | {optimizers.VARIABLE}
    assert names >= {f"{PREFIX}{field.name.upper()}" for field in fields(Config)}
    assert all(getattr(environment_variables, name) == name for name in names)


GOOD = [
    ("spans", "false", False),
    ("spans", " TRUE ", True),
    ("scopes", "app, opentelemetry.*", ["app", "opentelemetry.*"]),
    ("names", "GET *", ["GET *"]),
    ("kinds", "server,Consumer", ["server", "Consumer"]),
    ("numbers", "heap,gc", ["heap", "gc"]),
    ("min_duration_seconds", "0.25", 0.25),
    ("profile", "app:main ,app.jobs:*,", ["app:main", "app.jobs:*"]),
    ("propagate", "true", True),
]
BAD = [
    ("spans", "perhaps", "expected true or false"),
    ("kinds", "servant", "no kind 'servant' of spans: choose from 'internal', 'server'"),
    ("numbers", "cpu", "no numbers 'cpu': choose from 'heap', 'rss', 'gc'"),
    ("min_duration_seconds", "soon", "soon"),
    ("min_duration_seconds", "-1", "from 0 on, and -1.0 is not"),
    ("min_duration_seconds", "inf", "from 0 on, and inf is not"),
    ("min_duration_seconds", "nan", "from 0 on, and nan is not"),
    ("propagate", "1", "expected true or false"),
    ("profile", "app", "'app' is not a pattern"),
]


@pytest.mark.parametrize(("name", "text", "value"), GOOD)
def test_a_variable_is_read(
    name: str, text: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lists have commas, and truth is spelled as for all of OpenTelemetry's variables."""
    monkeypatch.setenv(PREFIX + name.upper(), text)
    assert {key: plain(found) for key, found in options_of_environment().items()} == {name: value}


@pytest.mark.parametrize(("name", "text", "said"), BAD)
def test_a_wrong_variable_is_logged_and_not_used(
    name: str,
    text: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Once, with the name and the value, and the others count."""
    monkeypatch.setenv(PREFIX + name.upper(), text)
    monkeypatch.setenv(PREFIX + "SCOPES", "app")
    assert options_of_environment() == {"scopes": ("app",)}
    (record,) = caplog.records
    assert f"ignores {PREFIX}{name.upper()}={text!r}" in record.getMessage()
    assert said in record.getMessage()


def test_one_wrong_pattern_leaves_the_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They count, and each that does not is logged."""
    monkeypatch.setenv(PREFIX + "PROFILE", "app:main,nonsense,app.jobs:*,:x")
    assert plain(options_of_environment()["profile"]) == ["app:main", "app.jobs:*"]
    assert len(caplog.records) == 2


def test_what_config_reads_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """And an empty variable is not set."""
    monkeypatch.setenv(PREFIX + "PROBE", "rss")
    monkeypatch.setenv(PREFIX + "SPANS", "  ")
    assert options_of_environment() == {}


def declared(**options: Any) -> dict[str, object]:
    """Return what OpenTelemetry would hand to the instrumentor of that part of a file."""
    made = DeclaredOptions(**options)
    values = {field.name: getattr(made, field.name) for field in fields(made)}
    return {name: plain(value) for name, value in values.items() if value is not None}


def test_a_file_declares_options() -> None:
    """As values of YAML, where one text may stand for a list of it; null is not given."""
    assert declared(
        spans=False,
        scopes="app",
        names=["GET *", "SELECT a, b"],
        kinds=["server"],
        numbers="heap",
        min_duration_seconds=1,
        profile=["app:main"],
        propagate=True,
        probe="rss",
        sample_ratio=0.5,
        disabled=None,
    ) == {
        "spans": False,
        "scopes": ["app"],
        "names": ["GET *", "SELECT a, b"],
        "kinds": ["server"],
        "numbers": ["heap"],
        "min_duration_seconds": 1,
        "profile": ["app:main"],
        "propagate": True,
        "probe": "rss",
        "sample_ratio": 0.5,
    }


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"spans": "false"}, "spans is True or False, not 'false'"),
        ({"propagate": 1}, "propagate is True or False, not 1"),
        ({"disabled": "yes"}, "disabled is True or False, not 'yes'"),
        ({"scopes": 3}, "scopes are patterns as text, such as 'GET *', and 3 is none"),
        ({"names": [" "]}, "names are patterns as text, such as 'GET *', and ' ' is none"),
        ({"kinds": 1}, "there is no kind 1 of spans"),
        ({"numbers": [None]}, "there are no numbers None"),
        ({"min_duration_seconds": "1"}, "a number of seconds, from 0 on, and '1' is not"),
        ({"min_duration_seconds": True}, "a number of seconds, from 0 on, and True is not"),
        ({"profile": [None]}, "profile is a list of patterns as text, and None is none"),
        ({"probe": "magic"}, "there is no probe 'magic'"),
        ({"sample_ratio": 2}, "from 0 to 1, and 2 is not"),
        ({"scopse": ["app"]}, "did you mean scopes?"),
    ],
)
def test_a_wrong_declaration_is_logged_and_not_used(
    option: dict[str, Any], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, with what it could be; the others count."""
    assert declared(**option, rss_peak="off") == {"rss_peak": "off"}
    (record,) = caplog.records
    assert said in record.getMessage()
    assert next(iter(option)) in record.getMessage()


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_code_is_told_of_its_mistake(option: Any) -> None:
    """By an exception of ours, as everywhere in code."""
    with pytest.raises(StratatraceError):
        option.checked(object())
    assert option_named(option.name) is option
