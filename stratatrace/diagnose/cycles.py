"""`find_cycles`: what only the collector could free, which objects and by which references."""

from __future__ import annotations

import gc
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from stratatrace.diagnose.cycle_capture import Capture, Captured
from stratatrace.diagnose.cycle_paths import found_in
from stratatrace.diagnose.cycle_report import CycleReport, fill, nothing
from stratatrace.diagnose.telling import Finding, tell
from stratatrace.errors import InvalidTypeError, InvalidValueError, ProbeError
from stratatrace.guard import outside
from stratatrace.measurement import Callsite
from stratatrace.probes import TracemallocProbe
from stratatrace.recorder import active
from stratatrace.telemetry import semconv

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType, TracebackType

__all__ = ["find_cycles"]

_MOST_OBJECTS = 500_000


class find_cycles:  # noqa: N801 -- it is used like a function
    """Find out what a block leaves behind that only the collector can free, and why.

    ::

        with find_cycles() as found:
            handle(request)
        print(found)

    What is garbage already is collected first, so that the block is not blamed for it. Within the
    block, collections happen as ever, and what they would free is kept until its end. Then the
    collector looks once more, and the `CycleReport` has the cycles by types and attributes, with
    advice where their pattern is known. What the variables around the block still refer to is no
    garbage.

    Finalizers and callbacks of weak references run as they always do. The collector is one for the
    whole process: what other threads and tasks leave behind meanwhile is in the report, and its
    ``attribution`` says whether any have run. What was made before the block is told apart by
    `gc.freeze`, unless the program uses that itself. One block can look at a time.

    Args:
        target: Nothing: a mistake is told by it.
        name: What the block is called in the report and in telemetry; the function it is in.
        traced: Whether to trace allocations within the block, which makes it several times
            slower, so that the report has the lines. Where tracemalloc traces already, it has them
            anyway.
        keep: Whether the objects are kept in the report, until its `release` or its end, for
            `CycleGroup.members` and `break_cycles`. By default they are freed when the block ends.
        max_objects: How many objects are kept for the look. More are freed as usual, and counted.

    Raises:
        InvalidTypeError: An argument is of the wrong type.
        InvalidValueError: ``max_objects`` is not positive.
    """

    def __init__(
        self,
        target: None = None,
        /,
        *,
        name: str | None = None,
        traced: bool = False,
        keep: bool = False,
        max_objects: int = _MOST_OBJECTS,
    ) -> None:
        if target is not None:
            msg = (
                f"find_cycles() takes no {type(target).__name__}: call what it is to look at in "
                "a block, `with find_cycles() as found: ...`"
            )
            raise InvalidTypeError(msg)
        self._name = _checked_name(name)
        self._traced = _checked_flag("traced", traced)
        self._keep = _checked_flag("keep", keep)
        self._max_objects = _checked_count(max_objects)
        self._open: list[tuple[CycleReport, Capture, TracemallocProbe | None]] = []

    @classmethod
    def now(
        cls, *, name: str | None = None, keep: bool = False, max_objects: int = _MOST_OBJECTS
    ) -> CycleReport:
        """Return what is garbage at present, whoever has made it and whenever.

        Args:
            name: What this is called in the report and in telemetry; the function it is in.
            keep: Whether the objects are kept in the report.
            max_objects: How many objects are kept for the look.

        Raises:
            InvalidTypeError: An argument is of the wrong type.
            InvalidValueError: ``max_objects`` is not positive.
            AlreadyStartedError: A block is looking.
        """
        finder = cls(name=name, keep=keep, max_objects=max_objects)
        report = CycleReport(name or _name_of(sys._getframe(1)))  # noqa: SLF001 -- the documented way
        with active.own_work():
            captured = Capture(max_objects, report.name).now()
            with _filled(report):
                finder._finish(report, captured)
        return report

    def __enter__(self) -> CycleReport:
        """Begin to look; return the report, which is filled when the block ends.

        Raises:
            AlreadyStartedError: Another block is looking.
        """
        report = CycleReport(self._name or _name_of(sys._getframe(1)))  # noqa: SLF001 -- as above
        with active.own_work():
            capture = Capture(self._max_objects, report.name)
            capture.begin()
            probe = TracemallocProbe() if self._traced else None
            if probe is not None:
                probe.start()
            self._open.append((report, capture, probe))
        return report

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        report, capture, probe = self._open.pop()
        with active.own_work():
            try:
                with _filled(report):
                    if not capture.abandoned:
                        self._finish(report, capture.end())
            finally:
                if probe is not None:
                    with suppress(ProbeError):  # Somebody has stopped it: there are no lines.
                        probe.stop()

    def _finish(self, report: CycleReport, captured: Captured) -> None:
        """Fill the report, have what was captured freed, and tell of it."""
        objects = captured.objects
        try:
            with _collector_off():
                fill(report, found_in(captured, keep=self._keep))
        finally:
            if objects and not report.kept:
                objects.clear()
                gc.collect()
        tell(_finding(report))


@contextmanager
def _filled(report: CycleReport) -> Iterator[None]:
    """Have the report filled at the end, whatever happens; failures of ours are not raised."""
    try:
        yield
    except Exception:
        guard = active.recorder.guard if active.started else outside
        guard.caught(Callsite(name=report.name, function=report.name), "look for cycles")
    finally:
        if not report.filled:
            fill(report, nothing(complete=False, attribution="process"))


@contextmanager
def _collector_off() -> Iterator[None]:
    """Have no collections meanwhile: many lists are made, and none of them is garbage."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _finding(report: CycleReport) -> Finding:
    """Return what telemetry is told: a group of cycles is one thing that was found."""
    body = str(report).partition("\n")[0]
    attributes: dict[str, str | bool | int | float] = {
        semconv.CYCLES_COUNT.name: report.cycles,
        semconv.CYCLES_OBJECTS.name: report.objects,
        semconv.CYCLES_BYTES.name: report.size_bytes,
    }
    for group in report.groups[:1]:
        body = f"{body}; mostly by {group.path}"
        attributes[semconv.CYCLES_PATH.name] = group.path
    return Finding(
        kind="cycles", name=report.name, body=body, found=len(report), attributes=attributes
    )


def _name_of(frame: FrameType) -> str:
    """Return the name of the function that runs in a frame, with its module."""
    module = frame.f_globals.get("__name__", "?")
    qualname = frame.f_code.co_qualname
    return str(module) if qualname == "<module>" else f"{module}.{qualname}"


def _checked_name(name: str | None) -> str | None:
    if name is not None and not isinstance(name, str):
        msg = f"name= is text, not {name!r}"
        raise InvalidTypeError(msg)
    return name


def _checked_flag(option: str, value: bool) -> bool:  # noqa: FBT001 -- what is checked
    if not isinstance(value, bool):
        msg = f"{option}= is True or False, not {value!r}"
        raise InvalidTypeError(msg)
    return value


def _checked_count(count: int) -> int:
    if isinstance(count, bool) or not isinstance(count, int):
        msg = f"max_objects= is an int, not {count!r}"
        raise InvalidTypeError(msg)
    if count <= 0:
        msg = f"max_objects= must be greater than zero, and {count!r} is not"
        raise InvalidValueError(msg)
    return count
