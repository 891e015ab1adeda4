"""How a span of somebody else's is measured, and how its numbers get onto it.

The SDK lets a processor see that a span has started, and write to it. When it lets it see the end
(from 1.40 on, and by no public method) nothing can be written any more (from 1.43 on). So a span
that is measured becomes one of a subclass of its own class, whose ``end`` first puts them on.
"""

from __future__ import annotations

import sys
import threading
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from stratatrace.following import takes_turns
from stratatrace.measurement import Callsite
from stratatrace.probes import native_obstacle
from stratatrace.recorder import active
from stratatrace.telemetry import semconv
from stratatrace.telemetry.irregular import irregular_spans
from stratatrace.windows import Window

if native_obstacle() is None:
    from stratatrace.probes import _counters

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.sdk.trace import Span

    from stratatrace.governor import Governor
    from stratatrace.probes._counters import TalliedCall, Tally
    from stratatrace.recorder import Recorder

__all__ = ["NUMBERS", "Share", "Stays"]

#: What can be put on spans.
NUMBERS = ("heap", "rss", "gc")

# Where a span has what measures it; None once that has ended. The compiled part knows it too.
_STAY = "_stratatrace_stay"
# And what the governor has to do with it; None without one.
_SHARE = "_stratatrace_share"

# By their importance: where a span has no room for all, the last are left out. The compiled part
# knows them in this order.
_FIELDS = {
    "heap_peak_bytes": "heap",
    "heap_net_bytes": "heap",
    "attribution": "heap",
    "probe": "heap",
    "heap_allocated_bytes": "heap",
    "heap_allocations": "heap",
    "rss_peak_bytes": "rss",
    "rss_net_bytes": "rss",
    "rss_before_bytes": "rss",
    "rss_peak_method": "rss",
    "gc_time_ns": "gc",
    "gc_collections": "gc",
    "gc_reclaimed_bytes": "gc",
}
_NAMES = {
    **{attribute.field: attribute.name for attribute in semconv.MEASURED},
    "gc_time_ns": semconv.GC_TIME.name,
}


class _WindowStay:
    """A span's stay on accounts that Python reads.

    Args:
        recorder: By whose accounts.
        callsite: By which calls are sampled.
        heap: Whether its heap can be measured.
        takes_turns: Whether other tasks may be in its heap.
    """

    __slots__ = ("_closed", "_foreign", "_generation", "_thread", "_window", "recorder")

    def __init__(
        self, recorder: Recorder, callsite: Callsite, *, heap: bool, takes_turns: bool
    ) -> None:
        self._closed = self._foreign = False
        self.recorder = recorder
        self._generation = recorder.generation
        self._window = Window(recorder.accounts)
        trace_heap = heap and recorder.wants_heap(callsite, None)
        self._thread = threading.get_ident() if trace_heap else None
        self._window.open(trace_heap=trace_heap, porous=takes_turns)

    def resume(self) -> None:
        """Measure from here."""
        self._window.resume()

    def end(
        self, attributes: dict[str, Any], names: tuple[str | None, ...], room: int, least_ns: int
    ) -> tuple[bool, bool, int] | None:
        """Measure to here, and do what the compiled part's `end_span` does."""
        closed = self._close()
        if closed is None:
            return None
        held, numbers = closed
        try:
            left_out = 0
            if (numbers["duration_ns"] or 0) >= least_ns:
                left_out = _put(attributes, names, room, numbers)
            return (self._foreign, False, left_out) if self._foreign or left_out else None
        finally:
            del closed, numbers  # They go while nobody is charged.
            self.recorder.unhold(held, dropped_bytes=_STAY_BYTES)

    def _close(self) -> tuple[object, dict[str, Any]] | None:
        """Return the hold that begins here, and the numbers; None in a fork's child."""
        recorder, window = self.recorder, self._window
        self._closed = True
        if self._generation != recorder.generation:
            return None
        if self._thread not in {None, threading.get_ident()}:
            window.share()
            self._foreign = True
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
        if not getattr(self, "_closed", True) and (closed := self._close()) is not None:
            self.recorder.unhold(closed[0])


def _put(
    attributes: dict[str, Any], names: tuple[str | None, ...], room: int, numbers: dict[str, Any]
) -> int:
    """Put numbers there, as long as there is room; return how many there was none for."""
    if numbers["gc_time_ns"] is not None:
        numbers["gc_time_ns"] /= 1e9
    wanted = [
        (name, value)
        for field, name in zip(_FIELDS, names, strict=True)
        if name is not None and (value := numbers.get(field)) is not None
    ]
    attributes.update(wanted[: max(0, room)])
    return max(0, len(wanted) - max(0, room))


_STAY_BYTES = sys.getsizeof(_WindowStay.__new__(_WindowStay))

# For the guard.
_SPANS = Callsite(name="spans", function="stratatrace.processor.MemorySpanProcessor")


class Share:
    """What the governor says of a span, and is told of it. Our work begins when it is made.

    Args:
        recorder: Keeps our own work away from the calls that are charged.
        governor: Decides.
        span: Which; it is known by its scope and its name.
    """

    __slots__ = ("_began_ns", "_governor", "_key", "_recorder", "ratio")

    def __init__(self, recorder: Recorder, governor: Governor, span: Span) -> None:
        self._began_ns = time.perf_counter_ns()
        self._recorder = recorder
        self._governor = governor
        scope = span.instrumentation_scope
        self._key = ("span", "" if scope is None else scope.name, span.name)
        #: The probability with which the span was chosen; None where it is not to be measured.
        self.ratio = governor.takes(self._key)

    def begun(self, span: Span) -> None:
        """Our work for the span's start has ended."""
        if getattr(span, _STAY, None) is not None:  # Else another processor has it.
            setattr(span, _SHARE, self)
        self._spent()

    def end(self, target: MutableMapping[str, Any], room: int) -> int:
        """Say on the span how it was chosen, where there is room; our work for its end begins.

        Returns:
            How much room there is left.
        """
        self._began_ns = time.perf_counter_ns()
        if self.ratio is None or self.ratio >= 1 or room <= 0:
            return room
        target[_NAMES["sample_ratio"]] = self.ratio
        return room - 1

    def ended(self) -> None:
        """Our work for the span has ended."""
        self._spent()

    def _spent(self) -> None:
        held = self._recorder.hold()
        self._governor.spent(self._key, time.perf_counter_ns() - self._began_ns)
        self._recorder.unhold(held)


class Stays:
    """Measures spans for one processor.

    Args:
        numbers: Which of `NUMBERS` to put on.
        min_duration_ns: Spans that take less carry none.
    """

    def __init__(self, *, numbers: frozenset[str], min_duration_ns: int) -> None:
        self._least_ns = min_duration_ns
        self._counted = bool(numbers & {"heap", "gc"})
        self._resident = "rss" in numbers
        self._names = tuple(
            _NAMES[field] if kind in numbers else None for field, kind in _FIELDS.items()
        )
        self._classes: dict[type[Span], type[Span]] = {}
        # What measures by one recorder: with and without the heap; None where Python does.
        self._recorder: Recorder | None = None
        self._meter_provider: MeterProvider | None = None
        self._sampled = False
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
        if self._recorder is not recorder:
            self._meter_provider = recorder.meter_provider
            self._sampled = recorder.config.trace_ratio < 1
            self._tallies = self._tallies_of(recorder)
            self._recorder = recorder
        measured = self._classes.get(type(span)) or self._class_of(type(span))
        heap = heap and self._counted
        account = recorder.accounts.heap
        turns = account is not None and takes_turns(account)
        if self._tallies is None:
            self._begin_window(span, measured, recorder, heap=heap, takes_turns=turns)
            return
        if heap and self._sampled:
            heap = recorder.wants_heap(_callsite(span), None)
        _counters.begin_span(self._tallies[heap], span, measured, turns)

    def _begin_window(
        self,
        span: Span,
        measured: type[Span],
        recorder: Recorder,
        *,
        heap: bool,
        takes_turns: bool,
    ) -> None:
        held = recorder.hold()
        try:
            stay = _WindowStay(recorder, _callsite(span), heap=heap, takes_turns=takes_turns)
        finally:
            recorder.unhold(held)
        # Not held: what the span grows by is freed with it, and was taken by whom it is freed by.
        setattr(span, _STAY, stay)
        span.__class__ = measured
        stay.resume()

    def _settle(self, span: Span, stay: TalliedCall | _WindowStay) -> None:
        """Put the numbers on a span that is about to end. Never raises."""
        try:
            # What has room, and how much, is nowhere public; the SDK would drop the program's own.
            held: Any = span._attributes  # noqa: SLF001
            own = getattr(held, "_dict", None)
            # What is ours needs none of its checks, which take longer than all the rest.
            target = own if isinstance(own, dict) else {}
            room = sys.maxsize if held.maxlen is None else held.maxlen - len(target)
            share: Share | None = getattr(span, _SHARE)
            if share is not None:
                room = share.end(target, room)
            if isinstance(stay, _WindowStay):
                irregular = stay.end(target, self._names, room, self._least_ns)
            else:
                irregular = _counters.end_span(stay, target, self._names, room, self._least_ns)
            if target is not own:
                span.set_attributes(target)
            if irregular is not None:
                self._count(irregular, held)
            if share is not None:
                share.ended()
        except Exception:
            active.recorder.guard.caught(_SPANS, "describe a span")

    def _count(self, irregular: tuple[bool, bool, int], attributes: Any) -> None:
        foreign, late, left_out = irregular
        if foreign:
            irregular_spans.count("ended_elsewhere", self._meter_provider)
        if late:
            irregular_spans.count("ended_late", self._meter_provider)
        if left_out > 0:
            irregular_spans.count("full", self._meter_provider)
            attributes.dropped += left_out

    def _tallies_of(self, recorder: Recorder) -> dict[bool, Tally] | None:
        accounts = recorder.accounts
        if not accounts.compiled:
            return None
        resident: Any = accounts.rss if self._resident else None
        keeper: Any = None  # Nobody asks for it: these calls are closed, and not added up.
        return {
            heap: _counters.Tally(keeper, heap=heap, resident=resident, budget_bytes=None)
            for heap in (True, False)
        }

    def _class_of(self, kind: type[Span]) -> type[Span]:
        """Return the subclass whose instances are measured."""
        settle = self._settle

        def end(span: Any, end_time: int | None = None) -> None:
            stay = span._stratatrace_stay  # noqa: SLF001 -- it is ours
            if stay is not None:
                span._stratatrace_stay = None  # noqa: SLF001
                settle(span, stay)
            else:
                irregular_spans.count("ended_twice", self._meter_provider)
            kind.end(span, end_time)

        own = {"end": end, _STAY: None, _SHARE: None, "__module__": kind.__module__}
        measured = type(kind.__name__, (kind,), own)
        self._classes[kind] = measured
        return measured


@lru_cache(maxsize=1024)
def _named(scope: str, name: str) -> Callsite:
    return Callsite(name=name, function=scope, label=name)


def _callsite(span: Span) -> Callsite:
    scope = span.instrumentation_scope
    return _named("" if scope is None else scope.name, span.name)
