"""The names of the environment variables; ``opentelemetry-instrument`` has a flag for each.

It reads them off this module, as attributes: ``OTEL_PYTHON_STRATATRACE_PROBE`` is the flag
``--stratatrace_probe``.
"""

from __future__ import annotations

from stratatrace.instrumentation.options import OPTIONS

# Of strataregula's instrumentor, which is not imported for its name.
OTEL_PYTHON_STRATATRACE_STRATAREGULA_OPTIMIZE = "OTEL_PYTHON_STRATATRACE_STRATAREGULA_OPTIMIZE"
globals().update({option.variable: option.variable for option in OPTIONS})
