"""What is read off the calls of strataregula: sizes, counts and names, and whether they failed.

Here is what all have in common. Only what is known to be harmless is asked for its length or its
attributes: no contents, and nothing that runs code of the user's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from stratatrace.noting import FAILED_RESULT, Notes
from stratatrace.recorder import active
from stratatrace.telemetry.strataregula import strataregula_metrics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stratatrace.telemetry.semconv import Attribute, Metric

__all__ = ["Noted", "Result", "given", "length", "name_of", "says_failure"]

_SIZED = (str, bytes, bytearray, dict, list, tuple, set, frozenset)


def length(value: object) -> int | None:
    """Return the length of what is known to have one."""
    return len(value) if isinstance(value, _SIZED) else None


def name_of(value: object) -> str | None:
    """Return a name, where it is one."""
    return value if isinstance(value, str) else None


def says_failure(result: object) -> bool:
    """Tell whether a result says that it is none: ``{"error": ...}``, or ``success`` is False."""
    if type(result) is dict:
        told = (result.get("success"), result.get("valid"))
        return result.get("error") is not None or False in told
    if isinstance(result, _SIZED):
        return False
    return any(getattr(result, name, None) is False for name in ("success", "valid"))


class Noted(Notes):
    """The base of all: notes by attribute, and counts in metrics."""

    #: As the metrics name it.
    component: ClassVar[str] = ""

    def note(self, attribute: Attribute, value: str | int | None) -> None:
        """Have the span carry *value*, where there is one."""
        if value is not None:
            self.attributes[attribute.name] = value

    def count(self, metric: Metric, count: int) -> None:
        """Add to a counter."""
        strataregula_metrics.of(active.recorder.meter_provider).add(metric, count, self.component)


def given(arguments: tuple[Any, ...], keywords: Mapping[str, Any], position: int, name: str) -> Any:
    """Return an argument, by its place after ``self`` or by its name; None where it is missing."""
    return arguments[position] if len(arguments) > position else keywords.get(name)


class Result(Noted):
    """A result that can say that it has failed."""

    #: Whether False says so too.
    false_fails: ClassVar[bool] = False

    def returned(self, result: Any) -> None:
        """Note whether it has failed."""
        if says_failure(result) or (self.false_fails and result is False):
            self.failure = FAILED_RESULT
