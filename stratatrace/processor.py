"""`MemorySpanProcessor`: memory on the spans that other instrumentations make.

What a span is measured by is in `span_stays`; this is what decides which spans are, and the class
that the SDK knows.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import ConcurrentMultiSpanProcessor, SpanProcessor
from opentelemetry.trace import SpanKind

from stratatrace.errors import InvalidTypeError, InvalidValueError
from stratatrace.following import followed_tasks, followed_threads
from stratatrace.measurement import Callsite
from stratatrace.recorder import active
from stratatrace.span_stays import NUMBERS, Share, Stays
from stratatrace.telemetry import semconv
from stratatrace.telemetry.irregular import irregular_spans

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import Span

    from stratatrace.governor import Governor
    from stratatrace.recorder import Recorder

__all__ = ["MemorySpanProcessor"]

# For the guard.
_SPANS = Callsite(name="spans", function="stratatrace.processor.MemorySpanProcessor")
_MOST_NAMES = 4096


class MemorySpanProcessor(SpanProcessor):
    """Puts heap, resident memory and the collector's work on every recording span.

    ``provider.add_span_processor(MemorySpanProcessor())`` measures the spans of all
    instrumentations from their start to their end, by the probe that `configure` has chosen, and
    they carry their numbers when they are exported. Spans of `profile_memory` have theirs already.

    The heap of a span is that of its own line of execution: of the thread, or of the asyncio task,
    that it was started in, and of the tasks and the threads' work that were begun in it. Where that
    cannot be told apart, ``stratatrace.attribution`` says ``process``: see ``docs/spans.md``.
    Resident memory is the process's, always.

    Args:
        scopes: Patterns of the names of instrumentation scopes, such as
            ``opentelemetry.instrumentation.*``; spans of others are left alone. ``*`` stands for
            any text, ``?`` for any character, ``[...]`` for one of some.
        names: Patterns of span names, as they are when the span starts.
        kinds: Kinds of spans, as `SpanKind` or by name (``"server"``).
        min_duration_seconds: Spans that take less carry no numbers.
        numbers: Which to put on: any of ``heap``, ``rss`` and ``gc``. Resident memory takes most of
            the time.
        follow_tasks: Have each task of asyncio (and uvloop) on a line of its own from now on.
        follow_threads: Have work that is given to a ``ThreadPoolExecutor``, or to a thread of
            anyio's, charged to the span that it is done for.

    Raises:
        InvalidTypeError: An option is of the wrong type.
        InvalidValueError: A pattern is empty, or there is no such kind or number.
    """

    def __init__(
        self,
        *,
        scopes: str | Iterable[str] | None = None,
        names: str | Iterable[str] | None = None,
        kinds: SpanKind | str | Iterable[SpanKind | str] | None = None,
        min_duration_seconds: float = 0.0,
        numbers: str | Iterable[str] = NUMBERS,
        follow_tasks: bool = True,
        follow_threads: bool = True,
    ) -> None:
        self._scopes = _patterns("scopes", scopes)
        self._names = _patterns("names", names)
        self._kinds = None if kinds is None else frozenset(map(_kind, _listed(kinds)))
        self._stays = Stays(
            numbers=_checked_numbers(numbers), min_duration_ns=_nanoseconds(min_duration_seconds)
        )
        self._has_patterns = scopes is not None or names is not None
        # What the patterns say of a scope's name and a span's.
        self._wanted: dict[tuple[str, str], bool] = {}
        self._closing = threading.Lock()
        self._open = True
        asked = ((followed_tasks, follow_tasks), (followed_threads, follow_threads))
        self._followed = [patches for patches, wanted in asked if wanted]
        for patches in self._followed:
            patches.start()
        _ = active.recorder  # So that counting begins before the first span does.

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002
        """Begin to measure a span."""
        if not self._open or not active.enabled:
            return
        recorder = active.recorder
        if recorder.work.is_under_way:
            return
        try:
            if not self._wants(span):
                return
            thinnings = recorder.thinnings
            if thinnings is None:
                self._begin(span, recorder)
            else:
                self._begin_where_admitted(span, recorder, thinnings.governor)
        except Exception:
            recorder.guard.caught(_SPANS, "measure a span")

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002
        """Do nothing: no span is kept here."""
        return True

    def shutdown(self) -> None:
        """Measure no span that starts from now on, and follow no more."""
        with self._closing:
            if not self._open:
                return
            self._open = False
        for patches in self._followed:
            patches.stop()

    def _begin(self, span: Span, recorder: Recorder) -> None:
        # Their hooks run in threads of theirs, and not in the one that the span is of.
        aside = isinstance(span._span_processor, ConcurrentMultiSpanProcessor)  # noqa: SLF001
        if aside:
            irregular_spans.count("aside", recorder.meter_provider)
        self._stays.begin(span, recorder, heap=not aside)

    def _begin_where_admitted(self, span: Span, recorder: Recorder, governor: Governor) -> None:
        share = Share(recorder, governor, span)
        if share.ratio is not None:
            self._begin(span, recorder)
            share.begun(span)

    def _wants(self, span: Span) -> bool:
        if self._kinds is not None and span.kind not in self._kinds:
            return False
        scope = span.instrumentation_scope
        scope_name = "" if scope is None else scope.name
        if not self._has_patterns:
            return scope_name != semconv.SCOPE
        key = (scope_name, span.name)
        wanted = self._wanted.get(key)
        if wanted is None:
            wanted = (
                key[0] != semconv.SCOPE
                and _matches(key[0], self._scopes)
                and _matches(key[1], self._names)
            )
            if len(self._wanted) < _MOST_NAMES:
                self._wanted[key] = wanted
            else:  # Names that have something of their own in each span.
                irregular_spans.count("names", active.recorder.meter_provider)
        return wanted


def _listed(value: Any) -> list[Any]:
    return [value] if isinstance(value, str) or not isinstance(value, Iterable) else list(value)


def _patterns(option: str, value: str | Iterable[str] | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    patterns = _listed(value)
    for pattern in patterns:
        if not isinstance(pattern, str):
            msg = f"{option}= takes patterns as text, such as 'GET *', not {pattern!r}"
            raise InvalidTypeError(msg)
        if not pattern.strip():
            msg = f"a pattern of {option}= is empty: write '*' for any name, or leave it out"
            raise InvalidValueError(msg)
    return tuple(patterns)


def _matches(name: str, patterns: tuple[str, ...] | None) -> bool:
    return patterns is None or any(fnmatchcase(name, pattern) for pattern in patterns)


def _kind(kind: SpanKind | str) -> SpanKind:
    if isinstance(kind, SpanKind):
        return kind
    if not isinstance(kind, str):
        msg = f"kinds= takes kinds of spans, such as SpanKind.SERVER or 'server', not {kind!r}"
        raise InvalidTypeError(msg)
    if kind.upper() not in SpanKind.__members__:
        names = ", ".join(repr(name.lower()) for name in SpanKind.__members__)
        msg = f"there is no kind {kind!r} of spans: choose from {names}"
        raise InvalidValueError(msg)
    return SpanKind[kind.upper()]


def _checked_numbers(numbers: str | Iterable[str]) -> frozenset[str]:
    chosen = frozenset(_listed(numbers))
    unknown = chosen.difference(NUMBERS)
    if unknown or not chosen:
        wrong = f"not {sorted(map(str, unknown))}" if unknown else "and needs one"
        msg = f"numbers= takes any of {', '.join(map(repr, NUMBERS))}, {wrong}"
        raise InvalidValueError(msg)
    return chosen


def _nanoseconds(seconds: float) -> int:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        msg = f"min_duration_seconds is a number of seconds, not {seconds!r}"
        raise InvalidTypeError(msg)
    if not 0 <= seconds < math.inf:
        msg = f"min_duration_seconds is a time, from 0 on, and {seconds!r} is not"
        raise InvalidValueError(msg)
    return round(seconds * 1e9)
