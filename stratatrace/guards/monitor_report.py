"""What a `MemoryMonitor` has seen."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

from stratatrace.guards.alerts import MemoryAlert, format_duration
from stratatrace.guards.samples import MemorySample
from stratatrace.sizes import format_size

if TYPE_CHECKING:
    from stratatrace.pressure.reading import Level
    from stratatrace.probes.processes import MemoryMethod

__all__ = ["MemoryAlert", "MemoryReport", "MemorySample"]

_METHODS = {"rss": "RSS", "pss": "PSS", "mixed": "PSS, RSS where that cannot be read,"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryReport:
    """The memory of a process, or of a tree of them, over a stretch of time.

    All threads of the processes are in the numbers. A number that is not known is None, never 0.
    """

    #: The monitor's name.
    name: str
    #: When it was started, in seconds since 1970.
    started_at: float
    #: How long it has looked, in seconds.
    duration_seconds: float
    #: How often it has looked, and how often there was nothing to be seen.
    looks: int
    failed_looks: int
    #: At the first and at the last look, in bytes.
    first_bytes: int | None
    last_bytes: int | None
    #: The highest, in bytes.
    peak_bytes: int | None
    #: ``hwm``: exact, from the kernel's high-water mark; ``sampled``: the highest of all looks, and
    #: there may have been more between two of them.
    peak_method: Literal["hwm", "sampled"]
    #: The mean of all looks, in bytes.
    average_bytes: int | None
    #: ``rss``: resident sets; ``pss``: proportional sets, which do not count shared pages twice;
    #: ``mixed``: the second, but the first of the processes that do not let theirs be read.
    method: MemoryMethod | None
    #: The most processes that were seen at once.
    processes: int
    #: What could be used, in bytes, and what was used of that, at the last look: of the monitor's
    #: own limit, or else of the fullest of the control groups and the machine, in which the use of
    #: others is.
    limit_bytes: int | None
    limit_used_bytes: int | None
    #: What that is: ``limit``, ``machine``, or ``cgroup`` and its path.
    limited_by: str | None
    #: The worst level of `memory_pressure` that was seen.
    worst_pressure: Level
    #: The rate of a steady rise that goes on, and the seconds until nothing is left; None without.
    rise_bytes_per_second: float | None
    seconds_left: float | None
    #: How many alerts there were, and the latest of them, the oldest first.
    alert_count: int
    alerts: tuple[MemoryAlert, ...]
    #: The whole run in stretches, the oldest first.
    samples: tuple[MemorySample, ...]

    @property
    def growth_bytes(self) -> int | None:
        """How much more was in use at the last look than at the first, in bytes; signed."""
        if self.last_bytes is None or self.first_bytes is None:
            return None
        return self.last_bytes - self.first_bytes

    def to_dict(self) -> dict[str, object]:
        """Return all numbers for machines; alerts and samples as lists of dictionaries."""
        return {f.name: getattr(self, f.name) for f in fields(self)} | {
            "growth_bytes": self.growth_bytes,
            "alerts": [alert.to_dict() for alert in self.alerts],
            "samples": [sample._asdict() for sample in self.samples],
        }

    def __str__(self) -> str:
        looks = _counted(self.looks, "look")
        lines = [f"memory of {self.name!r} over {self.duration_seconds:.1f} s, {looks}"]
        if self.peak_bytes is None or self.average_bytes is None or self.method is None:
            lines.append("  nothing could be seen")
        else:
            exactly = "" if self.peak_method == "hwm" else " or more"
            lines += [
                f"  peak     {format_size(self.peak_bytes)}{exactly}",
                f"  average  {format_size(self.average_bytes)}",
                f"  growth   {_signed(self.growth_bytes or 0)}",
                f"  as       {_METHODS[self.method]} of {_counted(self.processes, 'process')}",
            ]
        if self.limit_bytes is not None and self.limit_used_bytes is not None:
            lines.append(
                f"  limit    {format_size(self.limit_bytes)} ({self.limited_by}), "
                f"{format_size(self.limit_used_bytes)} in use"
            )
        if self.failed_looks:
            lines.append(f"  failed   {_counted(self.failed_looks, 'look')}")
        lines.append(f"  pressure {self.worst_pressure} at worst")
        lines += [f"  alert    after {format_duration(a.seconds)}: {a.text}" for a in self.alerts]
        return "\n".join(lines)


def _signed(size_bytes: int) -> str:
    return f"{'+' if size_bytes > 0 else ''}{format_size(size_bytes)}"


def _counted(count: int, noun: str) -> str:
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{count} {noun if count == 1 else plural}"
