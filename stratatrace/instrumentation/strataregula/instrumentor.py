"""The instrumentor, as `opentelemetry-instrument` and applications know it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# Their module is not checked, and has nothing in it to a checker.
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]

from stratatrace.instrumentation.strataregula.patches import patches

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["StrataregulaInstrumentor"]


class StrataregulaInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Measures strataregula: ``StrataregulaInstrumentor().instrument()``.

    Spans and metrics go where all of stratatrace's go: see `stratatrace.configure`. What is not
    imported yet is measured when it is.
    """

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return nothing: what there is to measure is looked for, whatever its version says."""
        return ()

    def _instrument(self, **_options: Any) -> None:
        patches.apply()

    def _uninstrument(self, **_options: Any) -> None:
        patches.undo()
