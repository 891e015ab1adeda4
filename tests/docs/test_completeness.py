"""The pages leave nothing out, and the generated one is up to date."""

from __future__ import annotations

import inspect
import re
import runpy
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import stratatrace
from stratatrace import Measurement, cli, configure, errors, profile_memory
from stratatrace.config import Config
from stratatrace.instrumentation.options import OPTIONS
from stratatrace.probes import HEAP_PROBES, RSS_PEAKS
from stratatrace.reports.summary import SORT_KEYS
from stratatrace.scoring import SCORERS

if TYPE_CHECKING:
    from collections.abc import Callable

DOCS = Path(__file__).parents[2] / "docs"


def text_of(page: str) -> str:
    return (DOCS / f"{page}.md").read_text(encoding="utf-8")


def options_of(function: Callable[..., object]) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]


def test_semconv_is_generated() -> None:
    """semconv.md is what docs/generate_semconv.py writes: run it."""
    render = runpy.run_path(str(DOCS / "generate_semconv.py"))["render"]
    assert text_of("semconv") == render()


def test_every_field_is_explained() -> None:
    """numbers.md has every field of Measurement."""
    page = text_of("numbers")
    names = {field.name for field in fields(Measurement)} - {"callsite", "probe"}
    assert not {name for name in names if f"`{name}`" not in page}


def test_every_option_of_configure_is_explained() -> None:
    """telemetry.md has every option, and its environment variable where there is one."""
    page = text_of("telemetry")
    assert not {name for name in options_of(configure) if f"`{name}`" not in page}
    for field in fields(Config):
        assert f"`OTEL_PYTHON_STRATATRACE_{field.name.upper()}`" in page


def test_every_option_of_the_decorator_is_explained() -> None:
    """decorating.md has every option of profile_memory."""
    page = text_of("decorating")
    assert not {name for name in options_of(profile_memory) if f"`{name}" not in page}


def test_every_probe_and_scorer_is_explained() -> None:
    """numbers.md has every probe and way to find a peak, telemetry.md every scorer."""
    page = text_of("numbers")
    assert not {name for name in (*HEAP_PROBES, *RSS_PEAKS) if f"`{name}`" not in page}
    assert not {name for name in SCORERS if f"`{name}`" not in text_of("telemetry")}


@pytest.mark.parametrize("command", ["run", "report"])
def test_every_option_of_the_command_line_is_explained(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """run.md has every option of both commands, and what they can be."""
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    options = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", capsys.readouterr().out)) - {"-h", "-o"}
    page = text_of("run")
    assert options
    assert not {option for option in options if option != "--help" and f"`{option}" not in page}
    assert not {key for key in SORT_KEYS if f"`{key}`" not in page}


def test_every_option_of_the_instrumentor_is_explained() -> None:
    """zero_code.md has the row of each, with its variable, as the table of options has it."""
    page = text_of("zero_code")
    for option in OPTIONS:
        assert f"| `{option.name}` | `{option.variable}` | {option.meaning} |" in page


def test_every_public_name_is_in_the_reference() -> None:
    """api.md has every name of the package."""
    page = text_of("api")
    assert not {
        name for name in stratatrace.__all__ if not re.search(rf"auto.*:: {name}\b", page)
    } - {"__version__"}


def test_every_error_is_explained() -> None:
    """errors.md has every error that leaves the package."""
    page = text_of("errors")
    assert not {name for name in errors.__all__ if f"`{name}`" not in page} - {"ProbeError"}
