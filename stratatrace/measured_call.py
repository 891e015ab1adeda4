"""Measured calls: what is done for one of them, from its first to its last step.

How a call begins, and which of these it is, is told in `calls`.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, ClassVar

from stratatrace.measurement import Callsite, Measurement, error_type_of
from stratatrace.windows import TimedWindow, Window

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stratatrace.call_lines import CallLines
    from stratatrace.governor import Turns
    from stratatrace.recorder import Recorder
    from stratatrace.telemetry.spans import SpanScope
    from stratatrace.typing import AttributeValue

__all__ = ["NO_CALL", "Call", "GovernedCall"]


class Call:
    """One measured call, from its first to its last step. Never raises.

    What a call allocates of stratatrace's own is charged to nobody: it is taken, and freed again,
    while the heap account is held. The Call itself is dropped by its owner soon after, which the
    account is told of.
    """

    __slots__ = (
        "_callsite",
        "_generation",
        "_lines",
        "_recorder",
        "_running",
        "_scope",
        "_window",
        "kept",
    )

    #: What an instance takes; its owner drops it when it is finished.
    own_bytes: ClassVar[int]

    def __init__(self, recorder: Recorder, callsite: Callsite) -> None:
        self._recorder = recorder
        self._callsite = callsite
        self._generation = recorder.generation
        self._running = False
        self._scope: SpanScope | None = None
        self._window: Window | None = None
        self._lines: CallLines | None = None
        #: The numbers of the call, once it is finished, where `finish` was told to keep them.
        self.kept: Measurement | None = None

    def open(
        self,
        attributes: Mapping[str, AttributeValue] | None,
        *,
        trace_heap: bool,
        porous: bool,
    ) -> None:
        """Start the span and the window, suspended; for the arguments see `prepare`."""
        recorder = self._recorder
        began = recorder.work.begin()
        try:
            self._open_span(attributes)
            self._open_lines()
            self._open_window(trace_heap=trace_heap, porous=porous)
        finally:
            recorder.work.end(began)

    def _open_span(self, attributes: Mapping[str, AttributeValue] | None) -> None:
        try:
            self._scope = self._recorder.spans.open(self._callsite, attributes)
        except Exception:
            self._recorder.guard.caught(self._callsite, "start a span")

    def _open_lines(self) -> None:
        try:
            recording = self._scope is not None and self._scope.recording
            self._lines = self._recorder.lines.of(self._callsite, recording=recording)
        except Exception:
            self._recorder.guard.caught(self._callsite, "tell the lines of a call")

    def _new_window(self) -> Window:
        return Window(self._recorder.accounts)

    def _open_window(self, *, trace_heap: bool, porous: bool) -> None:
        recorder = self._recorder
        try:
            self._window = self._new_window()
            trace_heap = trace_heap or recorder.wants_heap(self._callsite, self._scope)
            self._window.open(trace_heap=trace_heap, porous=porous)
        except Exception:
            recorder.guard.caught(self._callsite, "open a window")

    def resume(self) -> None:
        """A step begins: the span is current, and the call is charged from here."""
        if sys.is_finalizing():  # See `recorder_if_measuring`.
            return
        if self._generation != self._recorder.generation:
            self._window = None  # Suspended before a fork: only its parent goes on measuring.
        self.begin_step(self._recorder.hold())

    def begin_step(self, held: object) -> None:
        """Begin a step where the heap account is held already; see `Recorder.hold`."""
        self._running = True
        try:
            if self._scope is not None:
                self._scope.enter()
        except Exception:
            self._recorder.guard.caught(self._callsite, "make a span current")
        if self._lines is not None:
            self._step_lines(self._lines, begins=True)
        if self._window is not None:
            self._window.resume(held)
        else:
            self._recorder.unhold(held)

    def suspend(self) -> None:
        """The step has ended."""
        if not sys.is_finalizing():  # See `recorder_if_measuring`.
            self._recorder.unhold(self._pause())

    def _pause(self) -> object:
        """End the step; return the hold of the heap account that begins here."""
        self._running = False
        held = None
        if self._window is not None and self._generation == self._recorder.generation:
            held = self._window.pause()
        if self._lines is not None:
            self._step_lines(self._lines, begins=False)
        try:
            if self._scope is not None:
                self._scope.leave()
        except Exception:
            self._recorder.guard.caught(self._callsite, "leave a span")
        return held

    def _step_lines(self, lines: CallLines, *, begins: bool) -> None:
        try:
            (lines.resume if begins else lines.pause)()
        except Exception:
            self._lines = None
            self._recorder.guard.caught(self._callsite, "tell the lines of a call")

    def annotate(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Put on the span what is known only while the call runs, before it is finished."""
        held = self._recorder.hold()
        try:
            if self._scope is not None and self._scope.recording:
                self._scope.span.set_attributes(attributes)
        except Exception:
            self._recorder.guard.caught(self._callsite, "describe a span")
        self._recorder.unhold(held)

    def finish(self, error: BaseException | None = None, *, keep: bool = False) -> None:
        """The call has ended: hand its numbers to the sinks.

        Args:
            error: The exception that ended it, where one did.
            keep: Whether to leave the numbers in `kept`.
        """
        if sys.is_finalizing():  # See `recorder_if_measuring`.
            return
        held = self._pause() if self._running else None
        if held is None:
            held = self._recorder.hold()
        try:
            if self._generation == self._recorder.generation:  # Else a fork's parent will tell.
                self._tell(error, keep=keep)
            self._window = self._scope = self._lines = None
        finally:
            self._recorder.unhold(held, dropped_bytes=self.own_bytes)

    def _tell(self, error: BaseException | None, *, keep: bool) -> None:
        began = self._recorder.work.begin()
        try:
            self._settle(error, keep=keep)
        finally:
            self._recorder.work.end(began)

    def _settle(self, error: BaseException | None, *, keep: bool) -> None:
        recorder, callsite = self._recorder, self._callsite
        try:
            if self._lines is not None:
                self._lines.end()
        except Exception:
            recorder.guard.caught(callsite, "tell the lines of a call")
        try:
            if self._window is not None:
                self._window.close()
        except Exception:
            recorder.guard.caught(callsite, "close a window")
        try:
            numbers, error_type = self._numbers(), self._error_type(error)
            measurement = Measurement(callsite=callsite, error_type=error_type, **numbers)
        except Exception:
            recorder.guard.caught(callsite, "add up a call")
            measurement = Measurement(callsite=callsite)
        recorder.judge(measurement)
        for sink in recorder.sinks:
            try:
                sink.emit(measurement, self._scope)
            except Exception:
                recorder.guard.caught(callsite, f"hand a measurement to {type(sink).__name__}")
        if keep:
            self.kept = measurement

    def _numbers(self) -> dict[str, Any]:
        """Return the numbers of the call, by the fields of its Measurement."""
        numbers = self._window.numbers() if self._window is not None else {}
        if self._lines is not None:
            numbers.update(self._recorder.lines.told(self._lines, self._callsite, numbers))
        return numbers

    def _error_type(self, error: BaseException | None) -> str | None:
        """Return what is told of how the call has ended; None where it has not failed."""
        return error_type_of(error)


class GovernedCall(Call):
    """A call of which it is known how long our own work for it takes.

    Args:
        recorder: What measures it.
        callsite: What is called.
        turns: Where to add the time.
        sample_ratio: The probability with which it was chosen.
        began_ns: When our work for it began; None is now.
    """

    __slots__ = ("_began_ns", "_sample_ratio", "_timed", "_turns")

    def __init__(
        self,
        recorder: Recorder,
        callsite: Callsite,
        turns: Turns,
        sample_ratio: float = 1.0,
        began_ns: int | None = None,
    ) -> None:
        super().__init__(recorder, callsite)
        self._turns = turns
        self._sample_ratio = sample_ratio
        self._began_ns = time.perf_counter_ns() if began_ns is None else began_ns
        self._timed: TimedWindow | None = None

    def open(
        self,
        attributes: Mapping[str, AttributeValue] | None,
        *,
        trace_heap: bool,
        porous: bool,
    ) -> None:
        """Start the span and the window, suspended."""
        super().open(attributes, trace_heap=trace_heap, porous=porous)
        if self._timed is not None:
            self._timed.end_own()

    def _new_window(self) -> Window:
        ratio = self._sample_ratio if self._sample_ratio < 1 else None
        self._timed = TimedWindow(self._recorder.accounts, self._turns, ratio, self._began_ns)
        return self._timed

    def begin_step(self, held: object) -> None:
        """Begin a step where the heap account is held already."""
        if self._timed is not None:
            self._timed.begin_own()
        super().begin_step(held)

    def suspend(self) -> None:
        """The step has ended."""
        if sys.is_finalizing():  # See `recorder_if_measuring`.
            return
        held = self._pause()
        if self._timed is not None:
            self._timed.end_own()
        self._recorder.unhold(held)

    def _tell(self, error: BaseException | None, *, keep: bool) -> None:
        if self._timed is None:
            super()._tell(error, keep=keep)
            return
        self._timed.begin_own()
        super()._tell(error, keep=keep)
        self._timed.end_own()
        self._timed = None


for _kind in (Call, GovernedCall):
    _kind.own_bytes = sys.getsizeof(_kind.__new__(_kind))


class _NoCall(Call):
    """What is not measured."""

    __slots__ = ()

    def __init__(self) -> None:
        self.kept = None

    def resume(self) -> None:
        pass

    def suspend(self) -> None:
        pass

    def annotate(self, attributes: Mapping[str, AttributeValue]) -> None:
        pass

    def finish(self, error: BaseException | None = None, *, keep: bool = False) -> None:
        pass


#: What is not measured.
NO_CALL = _NoCall()
