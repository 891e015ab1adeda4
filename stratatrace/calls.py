"""A call under measurement: its span, its window, and the guard around both."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from stratatrace.errors import NotReadyError
from stratatrace.measurement import Callsite, Measurement, error_type_of
from stratatrace.recorder import active
from stratatrace.windows import Window

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stratatrace.probes._counters import TalliedCall, Tally
    from stratatrace.recorder import Recorder
    from stratatrace.telemetry.spans import SpanScope
    from stratatrace.typing import AttributeValue

__all__ = [
    "NO_CALL",
    "AnyCall",
    "Call",
    "annotate",
    "begin",
    "begin_kept",
    "misplaced",
    "prepare",
    "recorder_if_measuring",
]

_logger = logging.getLogger("stratatrace")

AnyCall: TypeAlias = "Call | TalliedCall"


class Call:
    """One measured call, from its first to its last step. Never raises.

    What a call allocates of stratatrace's own is charged to nobody: it is taken, and freed again,
    while the heap account is held. The Call itself is dropped by its owner soon after, which the
    account is told of.
    """

    __slots__ = ("_callsite", "_generation", "_recorder", "_running", "_scope", "_window", "kept")

    #: What an instance takes; its owner drops it when it is finished.
    own_bytes: ClassVar[int]

    def __init__(self, recorder: Recorder, callsite: Callsite) -> None:
        self._recorder = recorder
        self._callsite = callsite
        self._generation = recorder.generation
        self._running = False
        self._scope: SpanScope | None = None
        self._window: Window | None = None
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
            self._open_window(trace_heap=trace_heap, porous=porous)
        finally:
            recorder.work.end(began)

    def _open_span(self, attributes: Mapping[str, AttributeValue] | None) -> None:
        try:
            self._scope = self._recorder.spans.open(self._callsite, attributes)
        except Exception:
            self._recorder.guard.caught(self._callsite, "start a span")

    def _open_window(self, *, trace_heap: bool, porous: bool) -> None:
        recorder = self._recorder
        try:
            self._window = Window(recorder.accounts)
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
        try:
            if self._scope is not None:
                self._scope.leave()
        except Exception:
            self._recorder.guard.caught(self._callsite, "leave a span")
        return held

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
            self._window = self._scope = None
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
        return self._window.numbers() if self._window is not None else {}

    def _error_type(self, error: BaseException | None) -> str | None:
        """Return what is told of how the call has ended; None where it has not failed."""
        return error_type_of(error)


Call.own_bytes = sys.getsizeof(Call.__new__(Call))


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


#: Stands for a call where measuring is off.
NO_CALL = _NoCall()


def prepare(callsite: Callsite, *, keep: bool = False) -> AnyCall:
    """Return a call that is still suspended; one that does nothing where measuring is off.

    Args:
        callsite: What is called.
        keep: Measure it in full, and its heap whatever the sample ratio says: somebody will ask for
            its numbers.
    """
    recorder = recorder_if_measuring()
    if recorder is None:
        return NO_CALL
    tally = None if keep else recorder.tally_for(callsite)
    if tally is not None:
        return tally.prepare()
    held = recorder.hold()
    try:
        call = Call(recorder, callsite)
        call.open(None, trace_heap=keep, porous=False)
    finally:
        recorder.unhold(held)
    return call


def begin(callsite: Callsite) -> Call | Tally:
    """Return where a call is only added up, or a call that is being charged from now on.

    The compiled part begins the call of a tally by itself: an exception that is thrown into the
    thread at this moment finds none that nobody would end.
    """
    recorder = _recorder()
    if recorder is None:
        return NO_CALL
    return recorder.tally_for(callsite) or _begin(recorder, callsite)


def begin_kept(
    callsite: Callsite,
    attributes: Mapping[str, AttributeValue] | None = None,
    *,
    trace_heap: bool = False,
    porous: bool = False,
) -> Call:
    """Return a call that is being charged from now on, and whose numbers somebody will ask for.

    Args:
        callsite: What is called.
        attributes: Attributes of this one call's span.
        trace_heap: Measure the heap of this call whatever the sample ratio says.
        porous: Whether it can be suspended without a word to us: see `Window`.
    """
    recorder = recorder_if_measuring()
    if recorder is None:
        return NO_CALL
    return _begin(recorder, callsite, attributes, trace_heap=trace_heap, porous=porous)


def _begin(
    recorder: Recorder,
    callsite: Callsite,
    attributes: Mapping[str, AttributeValue] | None = None,
    *,
    trace_heap: bool = False,
    porous: bool = False,
) -> Call:
    held = recorder.hold()
    call = None
    try:
        call = Call(recorder, callsite)
        call.open(attributes, trace_heap=trace_heap, porous=porous)
        call.begin_step(held)
    except BaseException:  # The program is interrupted: what it takes from here is its own.
        if call is not None:
            call.suspend()
        recorder.unhold(held)
        raise
    return call


def annotate(call: AnyCall, attributes: Mapping[str, AttributeValue]) -> None:
    """Put on a call's span what is known only while it runs; nothing where it has no span."""
    if isinstance(call, Call):
        call.annotate(attributes)


def misplaced(callsite: Callsite, doing: str) -> None:
    """Count an end that has no beginning.

    Args:
        callsite: Where it happened.
        doing: What cannot be done, to complete the sentence "stratatrace could not ...".
    """
    recorder = _recorder()
    if recorder is not None:
        error = NotReadyError("it was not entered, or was left before")
        recorder.guard.caught(callsite, doing, error)


def recorder_if_measuring() -> Recorder | None:
    """Return who measures; None where nobody does.

    That is so when the interpreter ends too, for which the compiled part looks by itself. Then
    threads have died, maybe with a lock in their hands: who waits for it, waits for ever.
    """
    return None if sys.is_finalizing() else _recorder()


def _recorder() -> Recorder | None:
    if not active.enabled:
        return None
    try:
        recorder = active.recorder
    except (MemoryError, RecursionError):  # There is no room now; there may be at the next call.
        return None
    except Exception:
        active.enabled = False
        _logger.warning("stratatrace could not start and is off", exc_info=True)
        return None
    if recorder.config.disabled or recorder.work.is_under_way:
        return None
    return recorder
