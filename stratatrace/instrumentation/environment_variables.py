"""The names of the environment variables; ``opentelemetry-instrument`` has a flag for each.

It reads them off this module, as attributes: ``OTEL_PYTHON_STRATATRACE_PROBE`` is the flag
``--stratatrace_probe``.
"""

from __future__ import annotations

from stratatrace.instrumentation.options import OPTIONS

globals().update({option.variable: option.variable for option in OPTIONS})
