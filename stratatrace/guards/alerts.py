"""When to tell of memory in use: as it crosses a threshold, and as it rises towards its end."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal, NamedTuple

from stratatrace.errors import InvalidTypeError, InvalidValueError
from stratatrace.sizes import format_size, parse_size

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stratatrace.guards.rise import Rise

__all__ = [
    "Extent",
    "MemoryAlert",
    "RiseAlarm",
    "ThresholdAlarm",
    "checked_thresholds",
    "format_duration",
]

# A threshold is told of again after use has been this much below it.
_REARMED_RATIO = 0.95
# How long there must have been no rise until the next one is news, in seconds.
_CALM_SECONDS = 300.0
# A rise that goes on is told of again when no more than this share of the time is left.
_TOLD_AGAIN_RATIO = 0.5

_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))
_FEW = 2


class Extent(NamedTuple):
    """What is in use at one moment, and what may be."""

    #: What the monitored processes use, in bytes.
    used_bytes: int
    #: What may be used, in bytes, and what is used of that, in which others' use may be; None where
    #: no limit is known.
    limit_bytes: int | None = None
    limit_used_bytes: int | None = None
    #: What is limited: ``limit``, ``machine``, or ``cgroup`` and its path.
    limited_by: str | None = None
    #: The least that is left under any limit, in bytes.
    left_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryAlert:
    """What a monitor tells of. A number that does not belong to its kind is None."""

    #: ``threshold``: use has crossed one; ``rise``: it rises steadily towards its end.
    kind: Literal["threshold", "rise"]
    #: What happened, for people.
    text: str
    #: When, in seconds since the monitor was started.
    seconds: float
    #: What the monitored processes used then, in bytes.
    used_bytes: int
    #: The threshold as it was given.
    threshold: int | float | str | None = None
    #: The rate of the rise, and for how long it was seen.
    bytes_per_second: float | None = None
    window_seconds: float | None = None
    #: Until nothing is left, at this rate.
    seconds_left: float | None = None

    def to_dict(self) -> dict[str, object]:
        """Return all fields for machines."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def __str__(self) -> str:
        return self.text


class ThresholdAlarm:
    """Tells once when use has crossed a threshold, and again after it has been well below.

    Args:
        given: Bytes of the monitored processes, as an int or text; or a float, as a share of the
            limit.

    Raises:
        InvalidTypeError: It is neither an int nor a float nor text.
        InvalidValueError: It is no size, or no share.
    """

    def __init__(self, given: float | str) -> None:
        self.given = given
        self._ratio: float | None = None
        self._bytes = 0
        if isinstance(given, float):
            if not 0 < given <= 1:
                msg = f"alert_at={given!r} is no share of a limit: more than 0, to 1.0"
                raise InvalidValueError(msg)
            self._ratio = given
        elif isinstance(given, bool) or not isinstance(given, int | str):
            msg = f"alert_at= is shares of the limit (0.8) and sizes ('500MB'), not {given!r}"
            raise InvalidTypeError(msg)
        else:
            self._bytes = parse_size(given)
        self._told = False

    def look(self, extent: Extent, seconds: float) -> MemoryAlert | None:
        """Return what there is to tell."""
        amount, threshold = float(extent.used_bytes), float(self._bytes)
        if self._ratio is not None:
            if extent.limit_bytes is None or extent.limit_used_bytes is None:
                return None
            amount, threshold = float(extent.limit_used_bytes), self._ratio * extent.limit_bytes
        if amount < threshold:
            self._told = self._told and amount >= threshold * _REARMED_RATIO
            return None
        if self._told:
            return None
        self._told = True
        return MemoryAlert(
            kind="threshold",
            text=self._text(extent),
            seconds=seconds,
            used_bytes=extent.used_bytes,
            threshold=self.given,
        )

    def _text(self, extent: Extent) -> str:
        if self._ratio is None:
            return (
                f"{format_size(extent.used_bytes)} are in use, and the threshold is "
                f"{format_size(self._bytes)}"
            )
        used, limit = extent.limit_used_bytes or 0, extent.limit_bytes or 0
        return (
            f"{used / limit if limit else 1:.0%} of the memory of {extent.limited_by} is in use "
            f"({format_size(used)} of {format_size(limit)}), and the threshold is {self._ratio:.0%}"
        )


class RiseAlarm:
    """Tells of a steady rise, again when half of the time has gone, and of the next one."""

    def __init__(self) -> None:
        self._told_seconds: float | None = None
        self._seen_at = 0.0

    def look(self, extent: Extent, rise: Rise | None, seconds: float) -> MemoryAlert | None:
        """Return what there is to tell."""
        if rise is None:
            if seconds - self._seen_at >= _CALM_SECONDS:
                self._told_seconds = None
            return None
        self._seen_at = seconds
        told = self._told_seconds
        if told is not None and rise.seconds_left > told * _TOLD_AGAIN_RATIO:
            return None
        self._told_seconds = rise.seconds_left
        return MemoryAlert(
            kind="rise",
            text=(
                f"at this rate, out of memory in {format_duration(rise.seconds_left)}: "
                f"{format_size(extent.used_bytes)} are in use, "
                f"{format_size(round(rise.bytes_per_second * 60))} more each minute for "
                f"{format_duration(rise.window_seconds)} now, and "
                f"{format_size(extent.left_bytes or 0)} are left"
            ),
            seconds=seconds,
            used_bytes=extent.used_bytes,
            bytes_per_second=rise.bytes_per_second,
            window_seconds=rise.window_seconds,
            seconds_left=rise.seconds_left,
        )


def checked_thresholds(given: Iterable[float | str]) -> tuple[float | str, ...]:
    """Return thresholds of which an alarm can be made.

    Raises:
        InvalidTypeError: They are no list, or one is of the wrong type.
        InvalidValueError: One makes no sense.
    """
    if isinstance(given, str) or not hasattr(given, "__iter__"):
        msg = f"alert_at= is a list of shares and sizes, such as (0.8, '2GB'), not {given!r}"
        raise InvalidTypeError(msg)
    checked = tuple(given)
    for each in checked:
        ThresholdAlarm(each)
    return checked


def format_duration(seconds: float) -> str:
    """Return a time for people, in the largest unit of which there are two: ``40 minutes``."""
    for unit, length in _UNITS:
        count = round(seconds / length)
        if count >= _FEW:
            return f"{count} {unit}s"
    return "1 second" if round(seconds) == 1 else "less than a second"
