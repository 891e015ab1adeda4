"""What a level of pressure is, and how the numbers of the sources make one; pure."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal, NamedTuple

from stratatrace.errors import InvalidTypeError, InvalidValueError
from stratatrace.sizes import format_size

if TYPE_CHECKING:
    from stratatrace.probes.psi import Stall

__all__ = ["LEVELS", "Level", "Look", "MemoryScope", "Pressure", "PressureThresholds", "judge"]

Level = Literal["normal", "warning", "critical"]

#: The levels of pressure, the lowest first.
LEVELS: tuple[Level, ...] = ("normal", "warning", "critical")

_ALL_PERCENT = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PressureThresholds:
    """From where on pressure is a warning, and from where on it is critical.

    Raises:
        InvalidTypeError: A threshold is not a number.
        InvalidValueError: A threshold is out of its range, or a warning comes after what is
            critical.
    """

    #: Share of a limit that is in use, more than 0, to 1.
    warning_ratio: float = 0.80
    critical_ratio: float = 0.90
    #: Share of the last 10 seconds in which at least one task waited for memory, in percent,
    #: more than 0, to 100.
    warning_stall_percent: float = 10.0
    critical_stall_percent: float = 40.0

    def __post_init__(self) -> None:
        for kind, most in (("ratio", 1.0), ("stall_percent", _ALL_PERCENT)):
            names = (f"warning_{kind}", f"critical_{kind}")
            low, high = (_checked(name, getattr(self, name), most) for name in names)
            if low > high:
                msg = (
                    f"{names[0]}={low!r} is above {names[1]}={high!r}: "
                    "a warning comes first, or at the same point"
                )
                raise InvalidValueError(msg)


class MemoryScope(NamedTuple):
    """Something whose memory has an end: the machine, or a control group."""

    #: ``machine``, or ``cgroup`` and its path.
    name: str
    used_bytes: int
    limit_bytes: int

    @property
    def ratio(self) -> float:
        """The share of the limit that is in use; above 1 where a limit is exceeded."""
        return (
            self.used_bytes / self.limit_bytes if self.limit_bytes else float(self.used_bytes > 0)
        )

    @property
    def headroom_bytes(self) -> int:
        """What is left, in bytes; never negative."""
        return max(0, self.limit_bytes - self.used_bytes)


class Look(NamedTuple):
    """What the sources said at one moment."""

    scopes: tuple[MemoryScope, ...] = ()
    stall: Stall | None = None
    #: Whose tasks waited.
    stall_of: Literal["cgroup", "system"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressure:
    """How near the end of memory is. A number that could not be read is None, never 0.

    It is of the process's control groups and of the machine, so all other processes there are in
    the numbers.
    """

    #: ``normal``, ``warning`` or ``critical``: the worse of use and waiting.
    level: Level
    #: Why it is not normal, a sentence each; empty where it is.
    reasons: tuple[str, ...] = ()
    #: What is in use, in bytes, in the scope that is the fullest by ratio; for a control group
    #: without the page cache that can be dropped at once.
    used_bytes: int | None = None
    #: What may be used there, in bytes.
    limit_bytes: int | None = None
    #: The first divided by the second.
    ratio: float | None = None
    #: Which scope that is: ``machine``, or ``cgroup`` and its path.
    limited_by: str | None = None
    #: The least that is left in any scope, in bytes: what this process can take before some limit.
    headroom_bytes: int | None = None
    #: Share of the last 10, and of the last 60 seconds, in which some task waited for memory.
    stall_some_avg10_percent: float | None = None
    stall_some_avg60_percent: float | None = None
    #: Share of the last 10 seconds in which all tasks waited.
    stall_full_avg10_percent: float | None = None
    #: Whose tasks: the ``cgroup``'s, or, where that does not count, the ``system``'s.
    stall_of: Literal["cgroup", "system"] | None = None

    def to_dict(self) -> dict[str, object]:
        """Return all fields for machines; the reasons as a list."""
        return {f.name: getattr(self, f.name) for f in fields(self)} | {
            "reasons": list(self.reasons)
        }

    def __str__(self) -> str:
        parts = []
        if self.used_bytes is not None and self.limit_bytes is not None and self.ratio is not None:
            parts.append(
                f"{format_size(self.used_bytes)} of {format_size(self.limit_bytes)} "
                f"({self.ratio:.0%}) in use in {self.limited_by}"
            )
        if self.stall_some_avg10_percent is not None:
            parts.append(f"{self.stall_some_avg10_percent:g}% of the last 10 s waiting for memory")
        if not parts:
            parts.append("no source of it can be read here")
        return f"memory pressure: {self.level}; {'; '.join(parts)}"


def judge(look: Look, thresholds: PressureThresholds) -> Pressure:
    """Return what the sources said as a level, with the reasons."""
    reasons: list[str] = []
    worst = 0
    for scope in look.scopes:
        level = _level(scope.ratio, thresholds.warning_ratio, thresholds.critical_ratio)
        if level:
            worst = max(worst, level)
            reasons.append(
                f"{scope.ratio:.0%} of the memory of {scope.name} is in use: "
                f"{format_size(scope.used_bytes)} of {format_size(scope.limit_bytes)}"
            )
    waited = look.stall.some_avg10_percent if look.stall is not None else None
    if waited is not None:
        level = _level(waited, thresholds.warning_stall_percent, thresholds.critical_stall_percent)
        if level:
            worst = max(worst, level)
            reasons.append(
                f"tasks of the {look.stall_of} waited for memory in {waited:g}% of the last 10 s"
            )
    fullest = max(look.scopes, key=lambda scope: scope.ratio, default=None)
    return Pressure(
        level=LEVELS[worst],
        reasons=tuple(reasons),
        used_bytes=fullest.used_bytes if fullest else None,
        limit_bytes=fullest.limit_bytes if fullest else None,
        ratio=fullest.ratio if fullest else None,
        limited_by=fullest.name if fullest else None,
        headroom_bytes=min((scope.headroom_bytes for scope in look.scopes), default=None),
        stall_some_avg10_percent=waited,
        stall_some_avg60_percent=look.stall.some_avg60_percent if look.stall else None,
        stall_full_avg10_percent=look.stall.full_avg10_percent if look.stall else None,
        stall_of=look.stall_of,
    )


def _level(amount: float, warning: float, critical: float) -> int:
    return 2 if amount >= critical else 1 if amount >= warning else 0


def _checked(name: str, value: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        msg = f"{name} is a number, more than 0, to {most:g}, not {value!r}"
        raise InvalidTypeError(msg)
    if not 0 < value <= most:
        msg = f"{name} is more than 0, to {most:g}, and {value!r} is not"
        raise InvalidValueError(msg)
    return value
