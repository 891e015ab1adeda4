"""The instrumentor joins spans and optimizers, and takes both out again."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest
from strataregula_compilers import CORE, LIBRARIES, library

from stratatrace.errors import InvalidTypeError, InvalidValueError
from stratatrace.instrumentation.strataregula import optimizers
from stratatrace.wrapping import is_measured

pytest.importorskip("opentelemetry.instrumentation")

from stratatrace.instrumentation.strataregula.instrumentor import StrataregulaInstrumentor

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=LIBRARIES)
def core(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return the module of the compiler, as it is without us."""
    monkeypatch.delenv(optimizers.VARIABLE, raising=False)
    with library(request.param):
        module = importlib.import_module(CORE)
        yield module
        StrataregulaInstrumentor().uninstrument()


def members(core: Any) -> list[object]:
    """Return what is replaced in different ways."""
    compiler = vars(core.ConfigCompiler)
    return [core.yaml, compiler["compile_traffic_config"], vars(core.TemplateEngine)["render"]]


@pytest.mark.parametrize("by", ["option", "variable"])
def test_spans_are_around_what_is_made_lighter(
    core: Any, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the very objects are back in the end; it can be done again, with others or none."""
    before = members(core)
    options = {"optimize": ["yaml", "output"]} if by == "option" else {}
    if by == "variable":
        monkeypatch.setenv(optimizers.VARIABLE, "yaml, output")
    StrataregulaInstrumentor().instrument(**options)
    during: list[Any] = members(core)
    assert during[0] is not before[0]
    assert all(map(is_measured, during[1:]))
    assert all(
        now.__wrapped__ is not then for now, then in zip(during[1:], before[1:], strict=True)
    )
    StrataregulaInstrumentor().uninstrument()
    assert all(now is then for now, then in zip(members(core), before, strict=True))

    StrataregulaInstrumentor().instrument(optimize=())
    after: list[Any] = members(core)
    assert after[0] is before[0]
    assert all(now.__wrapped__ is then for now, then in zip(after[1:], before[1:], strict=True))


def test_a_wrong_variable_is_logged_and_spans_are_there(
    core: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A program does not end for it."""
    monkeypatch.setenv(optimizers.VARIABLE, "yaml,speed")
    before = members(core)
    StrataregulaInstrumentor().instrument()
    assert members(core)[0] is before[0]
    assert is_measured(members(core)[1])
    assert "stratatrace ignores OTEL_PYTHON_STRATATRACE_STRATAREGULA_OPTIMIZE" in caplog.text
    assert "there is no optimizer 'speed'" in caplog.text


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"optimize": "speed"}, InvalidValueError, "there is no optimizer 'speed'"),
        ({"optimize": 5}, InvalidTypeError, "optimizers are a text"),
        ({"optimise": "yaml"}, InvalidTypeError, "optimize"),
    ],
)
def test_code_is_told_of_its_mistake(
    core: Any, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    """At once, and nothing is changed then."""
    before = members(core)
    with pytest.raises(error, match=words):
        StrataregulaInstrumentor().instrument(**options)
    assert all(now is then for now, then in zip(members(core), before, strict=True))
    StrataregulaInstrumentor().instrument()
    assert is_measured(members(core)[1])


def test_providers_are_not_taken_without_a_word(
    core: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """By convention instrumentors are given them: ours are those of `configure`."""
    del core
    StrataregulaInstrumentor().instrument(tracer_provider=None)
    assert not caplog.text
    StrataregulaInstrumentor().uninstrument()
    StrataregulaInstrumentor().instrument(tracer_provider=object())
    assert "give them to configure()" in caplog.text
