"""A plugin for strataregula's own tests: instruments what they test, and writes how each has ended.

It is told by environment variables: `SUITE_PROBE`, ``off`` or one of stratatrace's, and
`SUITE_OUTCOMES`, the file to write to.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest
    from opentelemetry.sdk.trace import ReadableSpan

PROBE = os.environ["SUITE_PROBE"]

outcomes: dict[str, dict[str, str]] = {}
spans: Counter[str] = Counter()


def pytest_configure() -> None:
    """Instrument, where it is asked for, before any test is imported."""
    if PROBE == "off":
        return
    # Here and not above: where it is off nothing of stratatrace's is there.
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider  # noqa: PLC0415

    from stratatrace import configure  # noqa: PLC0415
    from stratatrace.instrumentation.strataregula import (  # noqa: PLC0415
        StrataregulaInstrumentor,
    )
    from stratatrace.recorder import active  # noqa: PLC0415

    class Counting(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            spans[span.name] += 1

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Counting())
    configure(probe=PROBE, tracer_provider=provider)
    active.recorder.guard.strict = True
    StrataregulaInstrumentor().instrument()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember how a phase of a test has ended, and by which error."""
    crash = getattr(report.longrepr, "reprcrash", None)
    message = getattr(crash, "message", "").partition("\n")[0].partition(":")[0]
    outcomes.setdefault(report.nodeid, {})[report.when or ""] = f"{report.outcome} {message}"


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Remember which files cannot be imported."""
    if report.failed:
        outcomes[report.nodeid] = {"collect": report.outcome}


def pytest_sessionfinish() -> None:
    """Write it all down."""
    told = {"outcomes": outcomes, "spans": spans}
    Path(os.environ["SUITE_OUTCOMES"]).write_text(json.dumps(told), encoding="utf-8")
