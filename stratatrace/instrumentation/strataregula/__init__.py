"""Strataregula, a compiler of configurations: where the time and the memory of a compile go.

`members` says what is measured, `notes` what is read off each call, `look_ups` how the look-ups of
a cache are counted, `patches` puts it all in place and takes it out again. `optimizers` are the
switches that make it lighter, each of which is in an ``optimize_*`` module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stratatrace.instrumentation.strataregula.instrumentor import StrataregulaInstrumentor

__all__ = ["StrataregulaInstrumentor"]

if not TYPE_CHECKING:  # To a type checker no other names are there.

    def __getattr__(name: str) -> object:
        # What stands beside it needs no opentelemetry-instrumentation.
        if name == "StrataregulaInstrumentor":
            from stratatrace.instrumentation.strataregula.instrumentor import (  # noqa: PLC0415
                StrataregulaInstrumentor,
            )

            return StrataregulaInstrumentor
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
