"""The recorder: decides what to measure of a call, and hands what was measured to the sinks.

`active` is the one mutable global of the package. It is read at every call, so that `configure()`
works after functions were decorated.
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from stratatrace.errors import (
    InvalidTypeError,
    InvalidValueError,
    ProbeError,
    StratatraceError,
)
from stratatrace.guard import Guard
from stratatrace.measurement import Callsite, Measurement
from stratatrace.probes import HEAP_PROBES, CollectorProbe, heap_probe, resident_probe
from stratatrace.scoring import Baseline, BudgetScorer
from stratatrace.telemetry.metrics import MetricSink
from stratatrace.telemetry.spans import SpanScope, SpanSink
from stratatrace.windows import Account, Accounts, Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from stratatrace.typing import AttributeValue, Pipeline, Scorer, Sink

__all__ = ["Call", "Config", "Recorder", "active", "begin", "prepare"]

_logger = logging.getLogger("stratatrace")

SCORERS: Mapping[str, Callable[[], Scorer]] = {"budget": BudgetScorer}
# How many of the calls `auto` traces: tracing makes allocating code some ten times slower, so one
# call in a hundred costs about a tenth.
_AUTO_SAMPLE_RATIO = 0.01
_MOST_CALLSITES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How calls are measured.

    Raises:
        InvalidValueError: A value is out of its range or not one of the known names.
    """

    #: One of `HEAP_PROBES`.
    probe: str = "auto"
    #: Share of the calls whose heap is traced, 0 to 1; None is every call, or 1 in 100 for `auto`.
    sample_ratio: float | None = None
    #: The name of a scorer, or an object with a ``score`` method.
    scorer: str | Scorer = "budget"
    #: Whether decorated functions run bare.
    disabled: bool = False

    def __post_init__(self) -> None:
        if self.probe not in HEAP_PROBES:
            heap_probe(self.probe)
        check_ratio(self.sample_ratio)
        if isinstance(self.scorer, str):
            if self.scorer not in SCORERS:
                names = ", ".join(map(repr, SCORERS))
                msg = f"there is no scorer {self.scorer!r}: choose one of {names}, or give your own"
                raise InvalidValueError(msg)
        elif not callable(getattr(self.scorer, "score", None)):
            msg = f"a scorer has a score(measurement, budget_bytes) method; {self.scorer!r} has not"
            raise InvalidTypeError(msg)

    @classmethod
    def from_environment(cls, **given: Any) -> Config:
        """Return the configuration of the environment, with what was *given* in its place.

        Args:
            **given: Fields of this class; those that are None count as not given.
        """
        found: dict[str, Any] = {}
        for field, read in _ENVIRONMENT.items():
            name = f"OTEL_PYTHON_STRATATRACE_{field.upper()}"
            text = os.environ.get(name, "").strip()
            if text and given.get(field) is None:
                try:
                    found[field] = read(text)
                    cls(**{field: found[field]})  # So that a mistake is told with its variable.
                except ValueError as error:
                    msg = f"{name}={text!r}: {error}"
                    raise InvalidValueError(msg) from error
        return cls(**found, **{field: value for field, value in given.items() if value is not None})

    @property
    def trace_ratio(self) -> float:
        """The share of the calls whose heap is traced where their callsite does not say."""
        if self.sample_ratio is not None:
            return self.sample_ratio
        return _AUTO_SAMPLE_RATIO if self.probe == "auto" else 1.0


def check_ratio(ratio: float | None) -> None:
    """Raise InvalidValueError or InvalidTypeError where *ratio* is not a share from 0 to 1."""
    if ratio is None:
        return
    if isinstance(ratio, bool) or not isinstance(ratio, int | float):
        msg = f"sample_ratio is a number from 0 to 1, not {ratio!r}"
        raise InvalidTypeError(msg)
    if not 0 <= ratio <= 1:
        msg = f"sample_ratio is a share of the calls, from 0 to 1, and {ratio!r} is not"
        raise InvalidValueError(msg)


def _truth(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        msg = "expected true or false"
        raise ValueError(msg)
    return text.lower() == "true"


_ENVIRONMENT: Mapping[str, Callable[[str], object]] = {
    "probe": str,
    "sample_ratio": float,
    "scorer": str,
    "disabled": _truth,
}


class _Habits:
    """What the recorder remembers of one callsite."""

    __slots__ = ("baseline", "debt")

    def __init__(self) -> None:
        self.baseline = Baseline()
        #: Grows by the sample ratio with each call; the first is always traced.
        self.debt = 1.0


class Recorder:
    """Measures calls by one configuration until it is replaced by another.

    Args:
        config: How to measure.
        tracer_provider: Whose spans; None takes the application's.
        meter_provider: Whose metrics; None takes the application's.
        telemetry: What was set up for this recorder, and must be closed after it.
        sinks: Further takers of every Measurement.
    """

    def __init__(
        self,
        config: Config,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        telemetry: Pipeline | None = None,
        sinks: tuple[Sink, ...] = (),
    ) -> None:
        self.config = config
        self.telemetry = telemetry
        self.guard = Guard()
        self.spans = SpanSink(tracer_provider)
        self.metrics = MetricSink(meter_provider, count_failures=lambda: self.guard.failures)
        # Metrics first: exemplars want the span that the span sink ends.
        self.sinks: tuple[Sink, ...] = (self.metrics, self.spans, *sinks)
        self.scorer = SCORERS[config.scorer]() if isinstance(config.scorer, str) else config.scorer
        heap = heap_probe(config.probe)
        resident = resident_probe()
        heap_account = Account(heap) if heap is not None else None
        self.accounts = Accounts(
            heap=heap_account,
            rss=Account(resident),
            rss_peak_method=resident.method,
            collector=CollectorProbe(heap_account),
        )
        self.generation = 0
        self._habits: dict[tuple[str, str | None], _Habits] = {}

    def start(self) -> None:
        """Begin to listen to the garbage collector."""
        if self.accounts.collector is not None:
            self.accounts.collector.start()

    def stop(self) -> None:
        """End listening."""
        if self.accounts.collector is not None:
            self.accounts.collector.stop()

    def habits_of(self, callsite: Callsite) -> _Habits:
        """Return what is remembered of *callsite*; past a bound, of no callsite in particular."""
        key = (callsite.function, callsite.label)
        habits = self._habits.get(key)
        if habits is None:
            if len(self._habits) >= _MOST_CALLSITES:
                key = ("", None)
            habits = self._habits.setdefault(key, _Habits())
        return habits

    def wants_heap(self, callsite: Callsite, scope: SpanScope | None) -> bool:
        """Decide whether this call's heap is traced."""
        if self.accounts.heap is None or (scope is not None and not scope.recording):
            return False  # A span that nobody will see must cost no tracing.
        ratio = callsite.sample_ratio
        if ratio is None:
            ratio = self.config.trace_ratio
        if ratio and self.accounts.heap.charging:
            return True  # Tracing is on for an outer call: the numbers are there for the taking.
        habits = self.habits_of(callsite)
        habits.debt += ratio
        if not ratio or habits.debt < 1:
            return False
        habits.debt %= 1
        return True

    def score(self, measurement: Measurement) -> Measurement:
        """Return *measurement* with its score, and learn from it."""
        peak_bytes = measurement.heap_peak_bytes
        if peak_bytes is None:
            return measurement
        baseline = self.habits_of(measurement.callsite).baseline
        budget_bytes = measurement.callsite.budget_bytes or baseline.median_bytes
        baseline.learn(peak_bytes)
        if budget_bytes is None:
            return measurement
        score = self.scorer.score(measurement, budget_bytes)
        return measurement if score is None else replace(measurement, efficiency_score=score)

    def hold(self) -> int | None:
        """Charge no call for what stratatrace takes and frees from here to `unhold`."""
        heap = self.accounts.heap
        try:
            return heap.hold() if heap is not None else None
        except ProbeError:
            return None  # The window that is open, and cannot be read, will tell.

    def unhold(self, held_bytes: int | None) -> None:
        """Go on charging from where `hold` left off."""
        heap = self.accounts.heap
        if heap is None or held_bytes is None:
            return
        try:  # Not contextlib.suppress: its object would be dropped after charging goes on.
            heap.unhold(held_bytes)
        except ProbeError:
            return

    @contextmanager
    def own_work(self) -> Iterator[None]:
        """Charge no call for what this block takes and frees."""
        held_bytes = self.hold()
        try:
            yield
        finally:
            self.unhold(held_bytes)

    def after_fork_in_child(self) -> None:
        """Become the child's own recorder: no open windows, counters from zero."""
        self.generation += 1
        self.guard.after_fork_in_child()
        self.accounts.after_fork_in_child()
        self.metrics.after_fork_in_child()


class Call:
    """One measured call, from its first to its last step. Never raises.

    What a call allocates of stratatrace's own is charged to nobody: it is taken, and freed again,
    while the heap account is held. The Call itself is made and dropped outside of that.
    """

    __slots__ = ("_callsite", "_generation", "_recorder", "_running", "_scope", "_window", "kept")

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
        try:
            self._scope = recorder.spans.open(self._callsite, attributes)
        except Exception:
            recorder.guard.caught(self._callsite, "start a span")
        try:
            self._window = Window(
                recorder.accounts,
                trace_heap=trace_heap or recorder.wants_heap(self._callsite, self._scope),
                porous=porous,
            )
        except Exception:
            recorder.guard.caught(self._callsite, "open a window")

    def resume(self, held_bytes: int | None = None) -> None:
        """A step begins: the span is current, and the call is charged from here.

        Args:
            held_bytes: What `Recorder.hold` returned, where it was called.
        """
        self._running = True
        if held_bytes is None:
            held_bytes = self._recorder.hold()
        try:
            if self._scope is not None:
                self._scope.enter()
            if self._window is not None:
                self._window.resume(held_bytes)
        except Exception:
            self._recorder.guard.caught(self._callsite, "begin to measure")

    def suspend(self) -> None:
        """The step has ended."""
        self._recorder.unhold(self._pause())

    def _pause(self) -> int | None:
        """End the step; return the level from which stratatrace's own work is counted."""
        self._running = False
        held_bytes = None
        try:
            if self._window is not None and self._generation == self._recorder.generation:
                held_bytes = self._window.pause()
        except Exception:
            self._recorder.guard.caught(self._callsite, "end measuring")
        try:
            if self._scope is not None:
                self._scope.leave()
        except Exception:
            self._recorder.guard.caught(self._callsite, "leave a span")
        return held_bytes

    def finish(self, error: BaseException | None = None, *, keep: bool = False) -> None:
        """The call has ended: hand its numbers to the sinks.

        Args:
            error: The exception that ended it, where one did.
            keep: Whether to leave the numbers in `kept`.
        """
        held_bytes = self._pause() if self._running else None
        if held_bytes is None:
            held_bytes = self._recorder.hold()
        if self._generation == self._recorder.generation:  # Else a fork's parent will tell of it.
            self._settle(error, keep=keep)
        self._window = self._scope = None
        self._recorder.unhold(held_bytes)

    def _settle(self, error: BaseException | None, *, keep: bool) -> None:
        recorder, callsite = self._recorder, self._callsite
        measurement = Measurement(callsite=callsite)
        try:
            numbers = self._window.close() if self._window is not None else {}
            measurement = Measurement(callsite=callsite, error_type=_error_type(error), **numbers)
            measurement = recorder.score(measurement)
        except Exception:
            recorder.guard.caught(callsite, "add up a call")
        for sink in recorder.sinks:
            try:
                sink.emit(measurement, self._scope)
            except Exception:
                recorder.guard.caught(callsite, f"hand a measurement to {type(sink).__name__}")
        if keep:
            self.kept = measurement


def _error_type(error: BaseException | None) -> str | None:
    """Return the qualified name of an error; to be cancelled or closed early is none."""
    if error is None or isinstance(error, GeneratorExit) or _is_cancellation(error):
        return None
    kind = type(error)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )


def _is_cancellation(error: BaseException) -> bool:
    # By name, so that a program without asyncio does not import it for us.
    return any(
        kind.__name__ == "CancelledError" and kind.__module__.startswith("asyncio")
        for kind in type(error).__mro__
    )


class _Active:
    """The recorder in force, and the one global that a program changes."""

    __slots__ = ("_lock", "_recorder", "enabled")

    def __init__(self) -> None:
        #: Whether decorated functions measure at all; all that the disabled path looks at.
        self.enabled = True
        self._recorder: Recorder | None = None
        self._lock = threading.RLock()

    @property
    def started(self) -> bool:
        """Whether there is a recorder yet."""
        return self._recorder is not None

    @property
    def recorder(self) -> Recorder:
        """The recorder in force; made from the environment when it is first asked for."""
        if self._recorder is None:
            with self._lock:
                if self._recorder is None:
                    self.install(Recorder(_config_of_environment()))
        return cast("Recorder", self._recorder)

    def install(self, recorder: Recorder | None) -> None:
        """Replace the recorder; calls that are under way end on the one that they began with."""
        with self._lock:
            previous, self._recorder = self._recorder, recorder
            self.enabled = recorder is None or not recorder.config.disabled
            if previous is not None:
                previous.stop()
            if recorder is not None and self.enabled:
                recorder.start()

    @contextmanager
    def replaced(self, recorder: Recorder) -> Iterator[None]:
        """Have *recorder* in force within the block."""
        previous = self._recorder
        self.install(recorder)
        try:
            yield
        finally:
            self.install(previous)

    def after_fork_in_child(self) -> None:
        """Take over the recorder in a forked child."""
        self._lock = threading.RLock()
        if self._recorder is not None:
            self._recorder.after_fork_in_child()


def _config_of_environment() -> Config:
    # This runs inside the first measured call, where a mistake in a variable must not raise.
    try:
        return Config.from_environment()
    except StratatraceError as error:
        _logger.error(  # noqa: TRY400 -- the traceback would be ours and say nothing
            "stratatrace ignores its environment variables: %s", error
        )
        return Config()


active = _Active()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=active.after_fork_in_child)


def prepare(
    callsite: Callsite,
    attributes: Mapping[str, AttributeValue] | None = None,
    *,
    trace_heap: bool = False,
    porous: bool = False,
) -> Call | None:
    """Return a call that is still suspended, or None where nothing is to be measured.

    Args:
        callsite: What is called.
        attributes: Attributes of this one call's span.
        trace_heap: Measure the heap of this call whatever the sample ratio says.
        porous: Whether it can be suspended without a word to us: see `Window`.
    """
    call = _new_call(callsite)
    if call is not None:
        recorder = active.recorder
        held_bytes = recorder.hold()
        call.open(attributes, trace_heap=trace_heap, porous=porous)
        recorder.unhold(held_bytes)
    return call


def begin(
    callsite: Callsite,
    attributes: Mapping[str, AttributeValue] | None = None,
    *,
    trace_heap: bool = False,
    porous: bool = False,
) -> Call | None:
    """Return a call that is being charged from now on; for the arguments see `prepare`."""
    call = _new_call(callsite)
    if call is not None:
        held_bytes = active.recorder.hold()
        call.open(attributes, trace_heap=trace_heap, porous=porous)
        call.resume(held_bytes)
    return call


def _new_call(callsite: Callsite) -> Call | None:
    try:
        recorder = active.recorder
    except Exception:
        active.enabled = False
        _logger.warning("stratatrace could not start and is off", exc_info=True)
        return None
    return None if recorder.config.disabled else Call(recorder, callsite)
