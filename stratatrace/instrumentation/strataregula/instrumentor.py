"""The instrumentor, as `opentelemetry-instrument` and applications know it."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

# Their module is not checked, and has nothing in it to a checker.
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]

from stratatrace.errors import StratatraceError
from stratatrace.guard import outside
from stratatrace.instrumentation.strataregula import optimizers
from stratatrace.instrumentation.strataregula.patches import patches
from stratatrace.patching import PatchTable
from stratatrace.profile import unknown_option

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

__all__ = ["StrataregulaInstrumentor"]

_logger = logging.getLogger("stratatrace")

# What instrumentors are given by convention. Spans and metrics go where all of ours go.
_PROVIDERS = {"tracer_provider", "meter_provider", "logger_provider"}


class StrataregulaInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Measures strataregula: ``StrataregulaInstrumentor().instrument()``.

    Spans and metrics go where all of stratatrace's go: see `stratatrace.configure`. What is not
    imported yet is measured when it is. ``instrument(optimize="all")``, or a sequence of names,
    makes it lighter too: see `optimizers`. Without it the environment variable
    ``OTEL_PYTHON_STRATATRACE_STRATAREGULA_OPTIMIZE`` says which.
    """

    # On the class: there is one object, whose __init__ runs whenever it is asked for.
    _lighter: PatchTable | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return nothing: what there is to measure is looked for, whatever its version says."""
        return ()

    def _instrument(self, *, optimize: str | Iterable[str] | None = None, **others: Any) -> None:
        for name in others.keys() - _PROVIDERS:
            raise unknown_option(self.instrument, name, ("optimize",))
        if any(value is not None for value in others.values()):
            _logger.warning(
                "stratatrace ignores the providers that strataregula's instrumentor was given: "
                "give them to configure()"
            )
        names = _of_environment() if optimize is None else optimizers.parse_names(optimize)
        # Before the spans, which are then around what runs.
        self._lighter = PatchTable()
        optimizers.apply(names, self._lighter)
        patches.apply()

    def _uninstrument(self, **_options: Any) -> None:
        patches.undo()
        if self._lighter is not None:
            self._lighter.undo()
            self._lighter = None


def _of_environment() -> tuple[str, ...]:
    text = os.environ.get(optimizers.VARIABLE, "")
    try:
        return optimizers.parse_names(text)
    except StratatraceError as error:  # It is no reason to end a program.
        outside.count()
        _logger.error("stratatrace ignores %s=%r: %s", optimizers.VARIABLE, text, error)  # noqa: TRY400 -- it says all
        return ()
