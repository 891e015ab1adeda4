"""What is read off a call beside its memory: of its arguments, of what it gives, and of its end.

A call that has `Notes` is told one by one, with a Measurement of its own, also where it has no
span. What notes cannot read is missing on the span, and changes nothing else.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from stratatrace.calls import NO_CALL, Call, recorder_if_measuring
from stratatrace.recorder import active
from stratatrace.stepping import (
    Attentive,
    Owned,
    Stepwise,
    async_items,
    named,
    passed_on,
    steps,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stratatrace.measurement import Callsite, Measurement
    from stratatrace.recorder import Recorder
    from stratatrace.typing import AttributeValue

    Arguments = tuple[Any, ...]
    Keywords = dict[str, Any] | None
    #: Returns None where measuring is off.
    Begin = Callable[[Arguments, Keywords], "_NotedCall | None"]
    Start = Callable[[], Call]

__all__ = ["FAILED_RESULT", "Notes", "begin_with", "noted_call"]

#: The error type of a call that has returned a value which says that it failed.
FAILED_RESULT = "failed_result"

_NOTHING: Any = object()


class Notes:
    """What is noted of one call. Subclasses say what; they are made without arguments.

    Methods are called under a guard, while nobody is charged: what they raise is counted, and the
    program does not see it.
    """

    #: Whether each step of a generator is charged to its call. Where it gives very many items that
    #: costs more than they do: without, the call has no memory of its own, and its items are
    #: counted.
    each_step: ClassVar[bool] = True

    def __init__(self) -> None:
        #: What the span carries.
        self.attributes: dict[str, AttributeValue] = {}
        #: How the call has failed without an exception, by a word of few; None where it has not.
        self.failure: str | None = None

    def called(self, arguments: Arguments, keywords: Mapping[str, Any]) -> None:
        """The call begins; attributes that are noted here are on the span from its start."""

    def gave(self, item: Any) -> None:
        """A generator has given an item, where each step is charged."""

    def gave_in_all(self, items: int) -> None:
        """A generator has ended, of which no step is charged."""

    def returned(self, result: Any) -> None:
        """The call, which is no generator, has returned; it ends next."""

    def ending(self) -> None:
        """The call ends, however it does; what is noted here is the last that the span carries."""

    def ended(self, measurement: Measurement) -> None:
        """The call has ended with these numbers."""


class _NotedCall(Call, Attentive):
    """A call that is written about while it runs."""

    __slots__ = ("_called_with", "_notes", "_result")

    def __init__(
        self,
        recorder: Recorder,
        callsite: Callsite,
        notes: Notes,
        arguments: Arguments,
        keywords: Keywords,
    ) -> None:
        super().__init__(recorder, callsite)
        self._notes: Notes | None = notes
        self._called_with: tuple[Arguments, Keywords] | None = (arguments, keywords)
        self._result = _NOTHING

    def _open_span(self, attributes: Mapping[str, AttributeValue] | None) -> None:
        if self._called_with is not None and self._notes is not None:
            arguments, keywords = self._called_with
            self._called_with = None  # What the call drops must not live longer for us.
            self._note("note what it is called with", self._notes.called, arguments, keywords or {})
            attributes = {**(attributes or {}), **self._notes.attributes}
        super()._open_span(attributes)

    def gave(self, item: Any) -> None:
        held = self._recorder.hold()
        if self._notes is not None:
            self._note("note what it gives", self._notes.gave, item)
        self._recorder.unhold(held)

    def gave_in_all(self, items: int) -> None:
        held = self._recorder.hold()
        if self._notes is not None:
            self._note("note what it gave", self._notes.gave_in_all, items)
        self._recorder.unhold(held)

    def returned(self, result: Any) -> None:
        """The call has returned; to be told before it is finished."""
        self._result = result

    def _settle(self, error: BaseException | None, *, keep: bool) -> None:
        notes, result = self._notes, self._result
        self._result = _NOTHING
        if notes is None:
            return
        if error is None and result is not _NOTHING:
            self._note("note what it returned", notes.returned, result)
        self._note("note its end", notes.ending)
        try:
            if self._scope is not None and self._scope.recording:
                self._scope.span.set_attributes(notes.attributes)
        except Exception:
            self._recorder.guard.caught(self._callsite, "describe a span")
        super()._settle(error, keep=True)
        if self.kept is not None:
            self._note("note its numbers", notes.ended, self.kept)
        if not keep:
            self.kept = None
        self._notes = None  # Here, where nobody is charged with its end.

    def _error_type(self, error: BaseException | None) -> str | None:
        return super()._error_type(error) or (self._notes and self._notes.failure) or None

    def _note(self, doing: str, method: Callable[..., object], *told: Any) -> None:
        try:
            method(*told)
        except Exception:
            self._recorder.guard.caught(self._callsite, doing)


class _UnchargedCall(_NotedCall):
    """A call that is charged with nothing: what it takes is its caller's."""

    __slots__ = ("_began_ns",)

    def _open_window(self, *, trace_heap: bool, porous: bool) -> None:
        del trace_heap, porous
        self._began_ns = time.perf_counter_ns()

    def _numbers(self) -> dict[str, Any]:
        return {"duration_ns": time.perf_counter_ns() - self._began_ns}


for _kind in (_NotedCall, _UnchargedCall):
    _kind.own_bytes = sys.getsizeof(_kind.__new__(_kind))


def begin_with(callsite: Callsite, notes: type[Notes]) -> Begin:
    """Return what begins calls of *callsite* that are charged from there on.

    Args:
        callsite: What is called.
        notes: What is noted of each call.
    """

    def begin(arguments: Arguments, keywords: Keywords) -> _NotedCall | None:
        recorder = recorder_if_measuring()
        if recorder is None:
            return None
        held = recorder.hold()
        call = None
        try:
            call = _NotedCall(recorder, callsite, notes(), arguments, keywords)
            call.open(None, trace_heap=False, porous=False)
            call.begin_step(held)
        except BaseException:  # The program is interrupted: what it takes from here is its own.
            if call is not None:
                call.suspend()
            recorder.unhold(held)
            raise
        return call

    return begin


def noted_call(
    kind: str, target: Callable[..., Any], callsite: Callsite, notes: type[Notes]
) -> Callable[..., Any]:
    """Return the ``__call__`` of a wrapper around *target* whose calls are measured and noted.

    Args:
        kind: What `kind_of` says of *target*.
        target: What is called.
        callsite: How its calls are described.
        notes: What is noted of each call.
    """
    if kind == "function":
        return _function(target, begin_with(callsite, notes))
    counted = kind == "generator" and not notes.each_step
    each = _UnchargedCall if counted else _NotedCall
    run = passed_on if counted else _RUNS[kind]

    def prepared(arguments: Arguments, keywords: Keywords) -> Call:
        recorder = recorder_if_measuring()
        if recorder is None:
            return NO_CALL
        held = recorder.hold()
        try:
            call = each(recorder, callsite, notes(), arguments, keywords)
            call.open(None, trace_heap=False, porous=False)
        finally:
            recorder.unhold(held)
        return call

    def __call__(_self: object, /, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        inner = target(*args, **kwargs)
        if not active.enabled:
            return inner
        return named(run(inner, partial(prepared, args, kwargs)), inner)

    return __call__


def _function(target: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    def __call__(_self: object, /, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        call = begin(args, kwargs) if active.enabled else None
        if call is None:
            return target(*args, **kwargs)
        try:
            result = target(*args, **kwargs)
        except BaseException as error:
            call.finish(error)
            raise
        call.returned(result)
        call.finish()
        return result

    return __call__


def _coroutine(inner: Any, start: Start) -> Any:
    async def run(owned: Owned) -> Any:
        call = start()
        try:
            result = await Stepwise(owned.awaitable, call)
        except BaseException as error:
            call.finish(error)
            raise
        if isinstance(call, _NotedCall):
            call.returned(result)
        call.finish()
        return result

    return run(Owned(inner))


def _generator(inner: Any, start: Start) -> Any:
    return steps(inner, None, start)


_RUNS: dict[str, Callable[[Any, Start], Any]] = {
    "coroutine": _coroutine,
    "generator": _generator,
    "async generator": async_items,
}
