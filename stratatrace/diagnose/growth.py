"""`track_growth`: which lines hold what the memory grew by between two marks."""

from __future__ import annotations

import os
import threading
import time
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from stratatrace.diagnose.growth_report import GrowthReport, line_text
from stratatrace.diagnose.growth_sources import choose_source
from stratatrace.diagnose.telling import Finding, tell
from stratatrace.errors import (
    AlreadyStartedError,
    InvalidTypeError,
    InvalidValueError,
    NotReadyError,
    TracesLostError,
)
from stratatrace.guard import outside
from stratatrace.measurement import Callsite
from stratatrace.recorder import active
from stratatrace.sizes import format_size, parse_size
from stratatrace.stacks import is_own, total
from stratatrace.telemetry import semconv

if TYPE_CHECKING:
    from types import TracebackType

    from stratatrace.diagnose.growth_sources import Source
    from stratatrace.stacks import StackGrowth

__all__ = ["GrowthTracker", "track_growth"]

_START, _STOP = "start", "stop"
_MOST_FRAMES = 128
_LINES_TOLD = 5


def track_growth(
    name: str = "default",
    *,
    source: str = "auto",
    sample: int | str = "512 KiB",
    depth: int = 32,
    tell_over: int | str | None = None,
) -> GrowthTracker:
    """Return what tells by which lines memory grows, from its start to its stop.

    It is a context manager, or is started and stopped. All threads of the process are in it. What
    was allocated before the start, and is freed later, is not: growth is what is new and held.

    Args:
        name: What it is known by.
        source: ``tracemalloc``: every block, exactly, and code that allocates runs some ten times
            slower; ``native``: a sample, with error bars, cheap enough to stay on; ``auto``: what
            is at hand, and tracemalloc where it is tracing already.
        sample: How many bytes are allocated, on average, for one that is drawn, in bytes or text;
            for ``native``.
        depth: How many frames of a stack are kept, from 1 to 128. Where somebody else has begun to
            trace, it is as deep as that.
        tell_over: Tell, by a log record and a metric, each time that memory has grown by so much
            since it was told last; it is looked at with each mark. In bytes or text; None for
            never.

    Raises:
        InvalidTypeError: An argument is of the wrong type.
        InvalidValueError: An argument makes no sense, or there is no such source here.
    """
    if not isinstance(name, str):
        msg = f"track_growth() takes a name as text, not {name!r}: did you forget the brackets?"
        raise InvalidTypeError(msg)
    return GrowthTracker(
        name,
        source=source,
        mean_bytes=parse_size(sample),
        depth=_checked_depth(depth),
        tell_over_bytes=None if tell_over is None else parse_size(tell_over),
    )


class _Mark(NamedTuple):
    """A moment."""

    label: str
    #: In seconds since 1970.
    at: float
    #: On the clock that measures stretches, in seconds.
    clock_seconds: float
    #: What the source says; None where it could not.
    marked: Any


class GrowthTracker:
    """Takes marks, and tells what grew between any two of them; see `track_growth`.

    Marks may be taken in any thread. The first is called ``start``, and the last one ``stop``.
    Several trackers may run at once, each with its own marks. A forked child has the marks of its
    parent, and can go on.
    """

    def __init__(
        self,
        name: str,
        *,
        source: str,
        mean_bytes: int,
        depth: int,
        tell_over_bytes: int | None,
    ) -> None:
        self.name = name
        self._options = {"mean_bytes": mean_bytes, "depth": depth}
        self._source_name = source
        self._tell_over_bytes = tell_over_bytes
        # Made here for the errors, and anew by each start.
        self._source: Source[Any] = choose_source(source, mean_bytes=mean_bytes, depth=depth)
        self._callsite = Callsite(name=name, function="stratatrace.track_growth", label=name)
        self._marks: dict[str, _Mark] = {}
        self._told: _Mark | None = None
        self._running = False
        self._lock = threading.RLock()

    @property
    def running(self) -> bool:
        """Whether it was started, and not stopped since."""
        return self._running

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the marks, in their order."""
        return tuple(self._marks)

    def start(self) -> Self:
        """Begin, take the mark ``start``, and return the tracker; earlier marks are forgotten.

        Raises:
            AlreadyStartedError: It is running.
        """
        with active.own_work(), self._lock:
            if self._running:
                msg = f"{self.name!r} is tracking growth: stop() it, or make another tracker"
                raise AlreadyStartedError(msg)
            self._source = choose_source(self._source_name, **self._options)
            self._source.open()
            self._running = True
            _all_running.add(self)
            self._marks.clear()
            self._told = self._take(_START)
        return self

    def mark(self, label: str | None = None) -> str:
        """Remember what is held now, and return the label.

        It takes as long as it takes to look at all blocks that are traced: 0.1 s for 300,000.
        Of a sample, it takes a millisecond.

        Args:
            label: What to call the mark; ``mark 1`` and so on by itself.

        Raises:
            NotReadyError: It is not running.
            InvalidTypeError: The label is no text.
            InvalidValueError: There is a mark of that label.
        """
        with active.own_work():
            with self._lock:
                if not self._running:
                    msg = f"no mark {label!r} can be taken: start() the tracker first"
                    raise NotReadyError(msg)
                mark = self._take(self._checked_label(label))
            self._tell_of(mark)
        return mark.label

    def stop(self) -> None:
        """Take the mark ``stop``, and end; a second time does nothing.

        Raises:
            NotReadyError: It was never started.
        """
        with active.own_work():
            with self._lock:
                if not self._marks:
                    msg = "this tracker cannot be stopped: it was never started"
                    raise NotReadyError(msg)
                if not self._running:
                    return
                self._running = False
                _all_running.discard(self)
                try:
                    mark = self._take(_STOP)
                finally:
                    self._source.close()
            self._tell_of(mark)

    def between(self, first: str, second: str) -> GrowthReport:
        """Return what grew between two marks.

        Args:
            first: Label of a mark.
            second: Label of another one, as a rule of a later one.

        Raises:
            NotReadyError: It was never started.
            InvalidValueError: There is no such mark, or it is the same.
            TracesLostError: Somebody else has ended or cleared the tracing in between.
        """
        with active.own_work():
            return self._compare(self._found(first), self._found(second))

    def report(self) -> GrowthReport:
        """Return what grew between the first mark and the last.

        Raises:
            NotReadyError: There are no two marks yet.
            TracesLostError: Somebody else has ended or cleared the tracing in between.
        """
        labels = self.labels
        if len(labels) < 2:  # noqa: PLR2004 -- of which it is between
            msg = "there are no two marks to compare: start() the tracker, and mark() or stop() it"
            raise NotReadyError(msg)
        return self.between(labels[0], labels[-1])

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _take(self, label: str) -> _Mark:
        """Take a mark; the lock is held. Never raises."""
        marked = None
        at, clock_seconds = time.time(), time.perf_counter()
        try:
            marked = self._source.mark()
        except Exception:
            outside.caught(self._callsite, "take a mark")
        mark = self._marks[label] = _Mark(label, at, clock_seconds, marked)
        return mark

    def _checked_label(self, label: str | None) -> str:
        if label is None:
            numbered = (f"mark {number}" for number in count(len(self._marks)))
            return next(free for free in numbered if free not in self._marks)
        if not isinstance(label, str):
            msg = f"the label of a mark is text, not {label!r}"
            raise InvalidTypeError(msg)
        if label in self._marks or label == _STOP:
            msg = (
                f"the label {label!r} is that of the mark that stop() takes: choose another"
                if label == _STOP
                else f"there is a mark {label!r} already: choose another label"
            )
            raise InvalidValueError(msg)
        return label

    def _found(self, label: str) -> _Mark:
        if not self._marks:
            msg = "there are no marks: start() the tracker, or use it in a with block"
            raise NotReadyError(msg)
        mark = self._marks.get(label) if isinstance(label, str) else None
        if mark is None:
            msg = f"there is no mark {label!r}: choose one of {', '.join(map(repr, self._marks))}"
            raise InvalidValueError(msg)
        return mark

    def _compare(self, first: _Mark, second: _Mark) -> GrowthReport:
        if first is second:
            msg = f"between {first.label!r} and itself nothing can grow: give two labels"
            raise InvalidValueError(msg)
        for mark in (first, second):
            if mark.marked is None:
                msg = f"the mark {mark.label!r} could not be taken: the log says why"
                raise TracesLostError(msg)
        own: list[StackGrowth] = []
        others: list[StackGrowth] = []
        for stack in self._source.growth(first.marked, second.marked):
            (own if is_own(stack.frames) else others).append(stack)
        return GrowthReport(
            name=self.name,
            first=first.label,
            second=second.label,
            ended_at=second.at,
            seconds=second.clock_seconds - first.clock_seconds,
            source=self._source.name,
            depth=self._source.depth,
            sample_bytes=self._source.sample_bytes,
            own_bytes=round(total(own).bytes),
            stacks=tuple(sorted(others, key=lambda stack: -stack.bytes)),
        )

    def _tell_of(self, mark: _Mark) -> None:
        """Tell of growth where it is asked for, and enough since it was told last. Never raises."""
        told = self._told
        if self._tell_over_bytes is None or told is None or told is mark:
            return
        try:
            report = self._compare(told, mark)
            if report.growth_bytes >= self._tell_over_bytes:
                self._told = mark
                tell(_finding(report))
        except TracesLostError:
            self._told = mark  # From here on it can be told again.
        except Exception:
            outside.caught(self._callsite, "tell of growth")

    def _after_fork_in_child(self) -> None:
        self._lock = threading.RLock()


def _finding(report: GrowthReport) -> Finding:
    lines = report.lines(_LINES_TOLD)
    most = f", most at {lines[0].file}:{lines[0].line}" if lines else ""
    return Finding(
        kind="growth",
        name=report.name,
        body=f"{report.name} grew by {format_size(report.growth_bytes)}{most}",
        attributes={
            semconv.GROWTH_BYTES.name: report.growth_bytes,
            semconv.GROWTH_ERROR.name: report.error_bytes,
            semconv.GROWTH_SOURCE.name: report.source,
            semconv.GROWTH_LINES.name: "\n".join(map(line_text, lines)),
        },
    )


def _checked_depth(depth: int) -> int:
    if isinstance(depth, bool) or not isinstance(depth, int):
        msg = f"depth= is a number of frames, not {depth!r}"
        raise InvalidTypeError(msg)
    if not 1 <= depth <= _MOST_FRAMES:
        msg = f"depth= is 1 to {_MOST_FRAMES} frames, and {depth} is not"
        raise InvalidValueError(msg)
    return depth


def _after_fork_in_child() -> None:
    for tracker in _all_running:
        tracker._after_fork_in_child()  # noqa: SLF001 -- its own module


_all_running: set[GrowthTracker] = set()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
