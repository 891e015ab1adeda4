"""How a span of somebody else's is measured, and how its numbers get onto it.

The SDK lets a processor see that a span has started, and write to it. When it lets it see the end
(from 1.40 on, and by no public method) nothing can be written any more (from 1.43 on). So a span
that is measured becomes one of a subclass of its own class, whose ``end`` first puts them on.
"""

from __future__ import annotations

import sys
import threading
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

from stratatrace.following import takes_turns
from stratatrace.measurement import Callsite
from stratatrace.telemetry import semconv
from stratatrace.telemetry.irregular import irregular_spans
from stratatrace.windows import Window

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import Span

    from stratatrace.probes._counters import TalliedCall, Tally
    from stratatrace.recorder import Recorder
    from stratatrace.typing import AttributeValue

__all__ = ["NUMBERS", "Stays"]

#: What can be put on spans.
NUMBERS = ("heap", "rss", "gc")

# Where a span has what measures it.
_STAY = "_stratatrace_stay"

# By their importance: where a span has no room for all, the last are left out.
_FIELDS = {
    "heap": (
        "heap_peak_bytes",
        "heap_net_bytes",
        "attribution",
        "probe",
        "heap_allocated_bytes",
        "heap_allocations",
    ),
    "rss": ("rss_peak_bytes", "rss_net_bytes", "rss_before_bytes", "rss_peak_method"),
    "gc": ("gc_time_ns", "gc_collections", "gc_reclaimed_bytes"),
}
_NAMES = {
    **{attribute.field: attribute.name for attribute in semconv.MEASURED},
    "gc_time_ns": semconv.GC_TIME.name,
}
# What `TalliedCall.close` tells, in its order.
_CLOSED = (
    "duration_ns",
    "heap_net_bytes",
    "heap_peak_bytes",
    "heap_allocated_bytes",
    "heap_allocations",
    "rss_before_bytes",
    "rss_net_bytes",
    "rss_peak_bytes",
    "gc_time_ns",
    "gc_collections",
    "gc_reclaimed_bytes",
)

# What `close` of a stay returns: the hold that begins with it, and the numbers by their fields.
_Closed: TypeAlias = "tuple[object, dict[str, Any]]"


class _CompiledStay:
    """A span's stay on the native heap, without a line of Python between its two ends.

    Args:
        recorder: By whose accounts.
        call: What the compiled part measures it by.
        takes_turns: Whether other tasks may be in its heap.
    """

    __slots__ = ("_call", "_takes_turns", "recorder")

    def __init__(self, recorder: Recorder, call: TalliedCall, *, takes_turns: bool) -> None:
        self.recorder = recorder
        self._call = call
        self._takes_turns = takes_turns

    def resume(self) -> None:
        """Measure from here."""
        self._call.resume()

    def close(self) -> _Closed | None:
        """Measure to here; None in a fork's child, whose parent measures it."""
        closed = self._call.close()
        if closed is None:
            return None
        held, foreign, *values = closed
        numbers: dict[str, Any] = dict(zip(_CLOSED, values, strict=True))
        if foreign:
            irregular_spans.count("ended_elsewhere", self.recorder.meter_provider)
        if numbers["heap_net_bytes"] is not None:
            numbers["probe"] = "native"
            numbers["attribution"] = "process" if foreign or self._takes_turns else "exact"
        if numbers["rss_net_bytes"] is not None:
            numbers["rss_peak_method"] = "hwm"
        return held, numbers


class _WindowStay:
    """A span's stay on accounts that Python reads.

    Args:
        recorder: By whose accounts.
        callsite: By which calls are sampled.
        heap: Whether its heap can be measured.
        takes_turns: Whether other tasks may be in its heap.
    """

    __slots__ = ("_closed", "_generation", "_thread", "_window", "recorder")

    def __init__(
        self, recorder: Recorder, callsite: Callsite, *, heap: bool, takes_turns: bool
    ) -> None:
        self._closed = False
        self.recorder = recorder
        self._generation = recorder.generation
        self._window = Window(recorder.accounts)
        trace_heap = heap and recorder.wants_heap(callsite, None)
        self._thread = threading.get_ident() if trace_heap else None
        self._window.open(trace_heap=trace_heap, porous=takes_turns)

    def resume(self) -> None:
        """Measure from here."""
        self._window.resume()

    def close(self) -> _Closed | None:
        """Measure to here; None in a fork's child, whose parent measures it."""
        recorder, window = self.recorder, self._window
        self._closed = True
        if self._generation != recorder.generation:
            return None
        if self._thread not in {None, threading.get_ident()}:
            window.share()
            irregular_spans.count("ended_elsewhere", recorder.meter_provider)
        held = window.pause()
        if held is None:
            held = recorder.hold()
        try:
            window.close()
        except Exception:
            recorder.guard.caught(_SPANS, "close a window")
        return held, window.numbers()

    def __del__(self) -> None:
        """Let the accounts forget a span that is gone, and that nobody has ended."""
        if not getattr(self, "_closed", True) and (closed := self.close()) is not None:
            self.recorder.unhold(closed[0])


_STAY_BYTES = sys.getsizeof(_CompiledStay.__new__(_CompiledStay))

# For the guard.
_SPANS = Callsite(name="spans", function="stratatrace.processor.MemorySpanProcessor")


class Stays:
    """Measures spans for one processor.

    Args:
        numbers: Which of `NUMBERS` to put on.
        min_duration_ns: Spans that take less carry none.
    """

    def __init__(self, *, numbers: frozenset[str], min_duration_ns: int) -> None:
        self._min_duration_ns = min_duration_ns
        self._counted = bool(numbers & {"heap", "gc"})
        self._resident = "rss" in numbers
        self._fields = [
            (field, _NAMES[field]) for kind in NUMBERS if kind in numbers for field in _FIELDS[kind]
        ]
        self._classes: dict[type[Span], type[Span]] = {}
        # What measures by one recorder: with and without the heap; None where Python does.
        self._recorder: Recorder | None = None
        self._tallies: dict[bool, Tally] | None = None

    def begin(self, span: Span, recorder: Recorder, *, heap: bool) -> None:
        """Measure a span that has just started, in the thread that has started it.

        Args:
            span: Where another processor measures it already, nothing is done.
            recorder: By whose accounts.
            heap: Whether its heap can be measured.
        """
        if getattr(span, _STAY, None) is not None:
            return
        held = recorder.hold()
        try:
            stay = self._stay(span, recorder, heap=heap and self._counted)
            measured = self._classes.get(type(span)) or self._class_of(type(span))
        finally:
            recorder.unhold(held)
        # Not held: what the span grows by is freed with it, and was taken by whom it is freed by.
        setattr(span, _STAY, stay)
        span.__class__ = measured
        stay.resume()

    def settle(self, span: Span) -> None:
        """Put the numbers on a span that is about to end. Never raises."""
        stay: _CompiledStay | _WindowStay | None = getattr(span, _STAY, None)
        if stay is None:
            return
        setattr(span, _STAY, None)
        recorder = stay.recorder
        held: object = None
        closed: _Closed | None = None
        numbers: dict[str, Any] | None = None
        try:
            closed = stay.close()
            if closed is not None:
                held, numbers = closed
                self._write(span, numbers, recorder)
        except Exception:
            recorder.guard.caught(_SPANS, "describe a span")
        closed = numbers = None  # They go while nobody is charged.
        recorder.unhold(held, dropped_bytes=_STAY_BYTES)

    def _stay(self, span: Span, recorder: Recorder, *, heap: bool) -> _CompiledStay | _WindowStay:
        if self._recorder is not recorder:
            self._tallies = self._tallies_of(recorder)
            self._recorder = recorder
        account = recorder.accounts.heap
        turns = account is not None and takes_turns(account)
        if self._tallies is None:
            return _WindowStay(recorder, _callsite(span), heap=heap, takes_turns=turns)
        if heap and recorder.config.trace_ratio < 1:
            heap = recorder.wants_heap(_callsite(span), None)
        return _CompiledStay(recorder, self._tallies[heap].prepare(), takes_turns=turns)

    def _tallies_of(self, recorder: Recorder) -> dict[bool, Tally] | None:
        accounts = recorder.accounts
        if not accounts.compiled:
            return None
        from stratatrace.probes import _counters  # noqa: PLC0415 -- it is not always there

        resident: Any = accounts.rss if self._resident else None
        keeper: Any = None  # Nobody asks for it: these calls are closed, and not added up.
        return {
            heap: _counters.Tally(keeper, heap=heap, resident=resident, budget_bytes=None)
            for heap in (True, False)
        }

    def _class_of(self, kind: type[Span]) -> type[Span]:
        """Return the subclass whose instances are measured."""
        settle = self.settle

        def end(span: Span, end_time: int | None = None) -> None:
            if span.end_time is None:
                settle(span)
            else:
                recorder = self._recorder
                provider = recorder.meter_provider if recorder is not None else None
                irregular_spans.count("ended_twice", provider)
            kind.end(span, end_time)

        measured = type(kind.__name__, (kind,), {"end": end, "__module__": kind.__module__})
        self._classes[kind] = measured
        return measured

    def _write(self, span: Span, numbers: dict[str, Any], recorder: Recorder) -> None:
        if (numbers["duration_ns"] or 0) < self._min_duration_ns:
            return
        if numbers["gc_time_ns"] is not None:
            numbers["gc_time_ns"] /= 1e9
        attributes: dict[str, AttributeValue] = {
            name: value for field, name in self._fields if (value := numbers.get(field)) is not None
        }
        # What has room, and how much, is nowhere public.
        held: Any = span._attributes  # noqa: SLF001
        room = len(attributes) if held.maxlen is None else max(0, held.maxlen - len(held))
        if room < len(attributes):  # The SDK would drop the oldest of the user's.
            irregular_spans.count("full", recorder.meter_provider)
            held.dropped += len(attributes) - room
            attributes = dict(islice(attributes.items(), room))
        own = getattr(held, "_dict", None)
        if isinstance(own, dict):  # They need no checks, which take longer than all the rest.
            own.update(attributes)
        else:
            span.set_attributes(attributes)


@lru_cache(maxsize=1024)
def _named(scope: str, name: str) -> Callsite:
    return Callsite(name=name, function=scope, label=name)


def _callsite(span: Span) -> Callsite:
    scope = span.instrumentation_scope
    return _named("" if scope is None else scope.name, span.name)
