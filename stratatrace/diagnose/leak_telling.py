"""That something leaks, told in telemetry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stratatrace.diagnose.telling import Finding, tell
from stratatrace.telemetry import semconv

if TYPE_CHECKING:
    from stratatrace.diagnose.leak_report import LeakCulprits, LeakReport

__all__ = ["named_culprits", "tell_of"]


def tell_of(report: LeakReport) -> None:
    """Tell of what leaks; of what does not, nothing is told. Never raises."""
    if report.leaks:
        tell(
            Finding(
                kind="leak",
                name=report.name,
                body=report.summary,
                attributes={
                    semconv.LEAK_SLOPE.name: report.slope_bytes,
                    semconv.LEAK_P_VALUE.name: report.p_value,
                    semconv.LEAK_ITERATIONS.name: report.iterations,
                    **named_culprits(report.culprits),
                },
            )
        )


def named_culprits(culprits: LeakCulprits) -> dict[str, str]:
    """Return the first type and the first line, as attributes."""
    named: dict[str, str] = {}
    if culprits.types:
        named[semconv.LEAK_TYPE.name] = culprits.types[0].name
    if culprits.lines:
        first = culprits.lines[0]
        named[semconv.LEAK_LOCATION.name] = f"{first.file}:{first.line}"
    return named
