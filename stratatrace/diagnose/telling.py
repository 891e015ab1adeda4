"""That something was found, as a log record and a metric. Never raises."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stratatrace.measurement import Callsite
from stratatrace.recorder import active
from stratatrace.telemetry.findings import FindingKind, finding_metrics, write_finding

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Finding", "tell"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a finder has found."""

    #: What it is; ``stratatrace.`` before it is the name of the event.
    kind: FindingKind
    #: What was looked at: the name of a function, or the one that the user gave.
    name: str
    #: The finding as a sentence for people.
    body: str
    #: How many.
    found: int = 1
    #: Its numbers and short texts, by names of `stratatrace.telemetry.semconv`.
    attributes: Mapping[str, str | bool | int | float] = field(default_factory=dict)


def tell(finding: Finding) -> None:
    """Tell of it where telemetry is configured; of nothing found, nothing is told."""
    # Not made for this: where nothing has been measured, there is nothing to configure.
    if not (finding.found and active.enabled and active.started):
        return
    recorder = active.recorder
    with recorder.own_work():
        try:
            finding_metrics(recorder.meter_provider).add(finding.kind, finding.name, finding.found)
            write_finding(
                recorder.logs.logger_provider,
                finding.kind,
                finding.name,
                finding.body,
                finding.attributes,
            )
        except Exception:
            found_at = Callsite(name=finding.name, function=finding.name)
            recorder.guard.caught(found_at, "tell what was found")
