"""Measuring programs that do not know of it: OpenTelemetry instrumentors.

One is for all programs; a package beside it is for each library that is measured closely.

OpenTelemetry's own package for instrumentors is an extra (``stratatrace[auto]``), and is imported
when the instrumentor is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stratatrace.instrumentation.instrumentor import StratatraceInstrumentor

__all__ = ["StratatraceInstrumentor"]

if not TYPE_CHECKING:  # To a type checker no other names are there.

    def __getattr__(name: str) -> object:
        if name not in __all__:
            msg = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(msg)
        from stratatrace.instrumentation.instrumentor import StratatraceInstrumentor  # noqa: PLC0415

        return StratatraceInstrumentor
