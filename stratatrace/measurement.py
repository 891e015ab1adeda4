"""The values that flow through the package: `Callsite`, `Reading`, `Measurement`, `Sums`.

They hold numbers and names. How numbers are read, folded or exported is decided elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stratatrace.stacks import LineGrowth

__all__ = [
    "Attribution",
    "Callsite",
    "Measurement",
    "Reading",
    "RssPeakMethod",
    "Sums",
    "error_type_of",
]

AttributeValue = str | bool | int | float
Attribution = Literal["exact", "process"]
RssPeakMethod = Literal["hwm", "sampled", "lifetime"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Callsite:
    """What is measured: described once, when a function is decorated, and never again per call.

    Two callsites are equal only when they are the same object, which makes one a cheap dictionary
    key on the path of every call.
    """

    #: Name of the span: the function's qualified name, or the label.
    name: str
    #: Fully qualified name of the function: ``package.module.Class.method``.
    function: str
    #: Path of the source file, or None for what was not written in Python.
    file: str | None = None
    #: Line of the definition (of the block, for a context manager), from 1.
    line: int | None = None
    #: The name that the user gave, where one was given.
    label: str | None = None
    #: Attributes that every span of this callsite carries.
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    #: The heap peak that a call may reach, in bytes.
    budget_bytes: int | None = None
    #: Share of the calls whose heap is traced, 0 to 1; None follows the configuration.
    sample_ratio: float | None = None
    #: How many of the lines that have allocated what a call keeps are told; None tells none.
    top: int | None = None


class Reading(NamedTuple):
    """One look at one source of memory numbers.

    A named tuple and not a dataclass, because four are made in each measured call: making one
    costs a third (`docs/design.md` has the figures).
    """

    #: Bytes in use at this moment.
    level_bytes: int
    #: The highest level since the look before this one, in bytes.
    peak_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """The memory of one call. A field that was not measured is None, never 0."""

    callsite: Callsite
    #: The probe that gave the heap numbers, ``native`` or ``tracemalloc``; None where none did.
    probe: str | None = None
    #: ``exact``: only this call's own execution is in the heap numbers. ``process``: other threads
    #: (or, for a block that was suspended, other tasks) may be in them.
    attribution: Attribution | None = None
    #: Wall time from open to close, in ns; the time that a coroutine was suspended is in it.
    duration_ns: int | None = None
    #: Heap allocated minus freed by this call's own execution, in bytes; negative when it frees
    #: more than it takes.
    heap_net_bytes: int | None = None
    #: The highest that the heap stood above its level at entry, in bytes; children included.
    heap_peak_bytes: int | None = None
    #: All bytes that the call allocated, freed or not, where the probe can count them.
    heap_allocated_bytes: int | None = None
    #: How many blocks that was.
    heap_allocations: int | None = None
    #: Resident memory of the whole process at entry, in bytes.
    rss_before_bytes: int | None = None
    #: Growth of the whole process's resident memory while the call ran, in bytes; signed.
    rss_net_bytes: int | None = None
    #: The highest resident memory of the whole process while the call ran, in bytes: a level, so
    #: that the growth is this minus ``rss_before_bytes``.
    rss_peak_bytes: int | None = None
    #: ``hwm``: the kernel's own high-water mark of the call; ``sampled``: by a thread, which can
    #: miss a spike; ``lifetime``: of the whole life of the process, an upper bound.
    rss_peak_method: RssPeakMethod | None = None
    #: Time that the garbage collector ran inside the call, in ns.
    gc_time_ns: int | None = None
    #: Collections that ran inside the call.
    gc_collections: int | None = None
    #: What they freed, in bytes; it is not credited to ``heap_net_bytes``.
    gc_reclaimed_bytes: int | None = None
    #: 0 (wasteful) to 100, by the configured scorer; None with neither budget nor baseline.
    efficiency_score: float | None = None
    #: Qualified name of the exception that ended the call, or ``failed_result`` where it returned a
    #: value that says it has failed; None when it returned, was cancelled or was closed early.
    error_type: str | None = None
    #: The probability with which this call was chosen to be measured, where it was below 1: it
    #: stands for ``1 / sample_ratio`` calls. None where it stands for itself alone.
    sample_ratio: float | None = None
    #: The lines that have allocated most of what the call keeps, the largest first, of those that
    #: the call itself ran; asked for with ``top=``.
    top_lines: tuple[LineGrowth, ...] | None = None
    #: Likewise of what it held when its heap stood highest, where it broke its budget or its own
    #: record and allocations are sampled.
    peak_lines: tuple[LineGrowth, ...] | None = None

    @property
    def budget_exceeded(self) -> bool | None:
        """Whether the heap peak broke the budget; None without a budget or without a peak."""
        if self.callsite.budget_bytes is None or self.heap_peak_bytes is None:
            return None
        return self.heap_peak_bytes > self.callsite.budget_bytes

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers for machines, the callsite by its fully qualified name."""
        numbers = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "callsite"}
        for name in ("top_lines", "peak_lines"):
            if numbers[name] is not None:
                numbers[name] = [line._asdict() for line in numbers[name]]
        return {"name": self.callsite.name, "function": self.callsite.function, **numbers}


class Sums(NamedTuple):
    """Many calls of one callsite and outcome; None where none of them was so measured.

    Where not all calls are measured, the sums are of those too that the measured ones stand for.
    """

    #: Calls that have ended, each once.
    calls: int
    #: Wall time of them all, in ns.
    time_ns: int
    #: How many broke the budget.
    exceeded: int
    heap_net_bytes: int | None
    heap_allocated_bytes: int | None
    #: The highest of them.
    heap_peak_bytes: int | None
    rss_peak_bytes: int | None
    #: The latest few, one by one.
    latest: list[Measurement]


def error_type_of(error: BaseException | None) -> str | None:
    """Return the qualified name of an error; to be cancelled or closed early is none."""
    if error is None or isinstance(error, GeneratorExit) or _is_cancellation(error):
        return None
    kind = type(error)
    prefix = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"{prefix}{kind.__qualname__}"


def _is_cancellation(error: BaseException) -> bool:
    # By name, so that a program without asyncio does not import it for us. Not by `any`: Python
    # itself crashes where there is no memory for the generator, and this runs when a MemoryError
    # ends a call.
    for kind in type(error).__mro__:
        if kind.__name__ == "CancelledError" and str(kind.__module__).startswith("asyncio"):
            return True
    return False
