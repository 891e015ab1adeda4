"""The recorder: decides what to measure of a call, and knows the sinks that take what was measured.

`active` is the one mutable global of the package. It is read at every call, so that `configure()`
works after functions were decorated.
"""

from __future__ import annotations

import logging
import math
import os
import threading
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary, ref

from stratatrace.accounts import Account
from stratatrace.config import Config
from stratatrace.errors import StratatraceError
from stratatrace.guard import Guard
from stratatrace.measurement import Callsite
from stratatrace.probes import (
    CollectorProbe,
    HighWaterProbe,
    NativeProbe,
    heap_probe,
    leftovers,
    native_obstacle,
    resident_probe,
)
from stratatrace.scoring import SCORERS, Baseline
from stratatrace.telemetry.metrics import MetricSink
from stratatrace.telemetry.spans import SpanSink
from stratatrace.windows import Accounts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from stratatrace.compiled import HighWaterAccount
    from stratatrace.measurement import Measurement
    from stratatrace.probes import ResidentProbe, TracemallocProbe
    from stratatrace.probes._counters import Tally
    from stratatrace.tallies import Tallied
    from stratatrace.telemetry.spans import SpanScope
    from stratatrace.typing import Account as AnyAccount
    from stratatrace.typing import HeapAccount, Pipeline, Sink

__all__ = ["Recorder", "active"]

_logger = logging.getLogger("stratatrace")
_MOST_CALLSITES = 4096
# Past that, callsites share one.
_OTHERS = Callsite(name="", function="")
_NEVER_CALLED: Any = object()
_ALMOST_ONE = 1 - 1e-9  # Ten times a tenth is a little less than one.


# By what tallies are told apart: function, given name, budget, error.
_Series = tuple[str, str | None, int | None, str | None]


class _Work:
    """A stretch of stratatrace's own work; whoever has it, is at it."""

    __slots__ = ("__weakref__", "ended")

    def __init__(self) -> None:
        self.ended = False


class _Habits:
    """What the recorder remembers of one callsite."""

    __slots__ = ("baseline", "debt")

    def __init__(self) -> None:
        self.baseline = Baseline()
        #: Grows by the sample ratio with each call, and falls by one with each that is traced.
        self.debt = 1.0  # So that the first is traced.


class Recorder:
    """Measures calls by one configuration until it is replaced by another.

    Args:
        config: How to measure.
        tracer_provider: Whose spans; None takes the application's.
        meter_provider: Whose metrics; None takes the application's.
        pipeline: What was set up for this recorder, and must be closed after it.
        sinks: Further takers of every Measurement.
    """

    def __init__(
        self,
        config: Config,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        pipeline: Pipeline | None = None,
        sinks: tuple[Sink, ...] = (),
    ) -> None:
        self.config = config
        self.pipeline = pipeline
        self.guard = Guard()
        self.spans = SpanSink(tracer_provider)
        self.metrics = active.metrics_of(meter_provider)
        self.metrics.count_failures = lambda: self.guard.failures
        # Metrics first: exemplars want the span that the span sink ends.
        self.sinks: tuple[Sink, ...] = (self.metrics, self.spans, *sinks)
        self.scorer = SCORERS[config.scorer]() if isinstance(config.scorer, str) else config.scorer
        # Where every call is traced, tracing is never off: what was there before a call, and is
        # freed in it, would not be seen to go.
        self._trace_ratio = config.trace_ratio
        heap = heap_probe(config.probe, always=self._trace_ratio >= 1)
        self._heap_probe = heap
        resident = resident_probe(config.rss_peak)
        account = None if heap is None else _heap_account(heap)
        self.accounts = Accounts(
            heap=account,
            rss=None if resident is None else _resident_account(resident),
            rss_peak_method=None if resident is None else resident.method,
            collector=CollectorProbe(account),
        )
        self._tallied: dict[_Series, Tallied] = {}
        # Those of the callsites that were called; None where each call needs its Measurement.
        self._tallies: dict[Callsite, Tally | None] | None = {} if self._can_tally else None
        self.generation = 0
        #: Threads that run stratatrace's own code, whose calls are not measured.
        self.at_work: dict[int, ref[_Work]] = {}
        self._habits: dict[tuple[str, str | None], _Habits] = {}

    def start(self) -> None:
        """Begin to listen to the garbage collector, and to trace where that is for good."""
        for tallied in self._tallied.values():
            tallied.retired = False
            self.metrics.attach(tallied.callsite, tallied.error_type, tallied)
        self.accounts.collector.start()
        if self._heap_probe is not None:
            self._heap_probe.open()

    def stop(self) -> None:
        """End what `start` began."""
        for tallied in self._tallied.values():
            tallied.retired = True
        self.accounts.collector.stop()
        if self._heap_probe is not None:
            self._heap_probe.close()

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
        heap = self.accounts.heap
        if heap is None:
            return False
        if scope is not None and not scope.recording and not heap.probe.per_thread:
            return False  # A span that nobody will see must cost no tracing.
        ratio = callsite.sample_ratio
        if ratio is None:
            ratio = self._trace_ratio
        if ratio and heap.charging:
            return True  # Tracing is on for an outer call: the numbers are there for the taking.
        if not ratio:
            return False
        habits = self.habits_of(callsite)
        due = habits.debt > _ALMOST_ONE
        habits.debt += ratio - due
        return due

    @property
    def _can_tally(self) -> bool:
        """Whether calls without a span can be told by nothing but sums, in the compiled part."""
        heap, rss = self.accounts.heap, self.accounts.rss
        return (
            native_obstacle() is None
            and len(self.sinks) == len((self.metrics, self.spans))
            and (heap is None or (heap.probe.per_thread and self._trace_ratio >= 1))
            and (rss is None or not isinstance(rss, Account))
        )

    def tally_for(self, callsite: Callsite) -> Tally | None:
        """Return where a call is only added up; None where it needs a Measurement of its own."""
        tallies = self._tallies
        if tallies is None or not self.spans.silent:
            return None
        tally = tallies.get(callsite, _NEVER_CALLED)
        return self._first_tally(callsite, tallies) if tally is _NEVER_CALLED else tally

    def _first_tally(
        self, callsite: Callsite, tallies: dict[Callsite, Tally | None]
    ) -> Tally | None:
        held_bytes = self.hold()
        try:
            if len(tallies) >= _MOST_CALLSITES:
                tallies.clear()  # Of callsites that come and go; their sums are kept elsewhere.
            sampled = callsite.sample_ratio is not None and callsite.sample_ratio < 1
            tally = tallies[callsite] = None if sampled else self._tally_of(callsite, None)
            return tally
        finally:
            self.unhold(held_bytes)

    def _tally_of(self, callsite: Callsite, error_type: str | None) -> Tally:
        from stratatrace.tallies import Tallied  # noqa: PLC0415 -- it is not always there

        key = (callsite.function, callsite.label, callsite.budget_bytes, error_type)
        tallied = self._tallied.get(key)
        if tallied is None and len(self._tallied) >= _MOST_CALLSITES:
            callsite, key = _OTHERS, (_OTHERS.function, None, None, error_type)
            tallied = self._tallied.get(key)
        if tallied is None:
            tallied = Tallied(
                callsite,
                error_type,
                heap=self.accounts.heap is not None,
                rss=cast("HighWaterAccount | None", self.accounts.rss),
                tally_of=self._tally_of,
                judge=self.judge,
                guard=self.guard,
            )
            self.metrics.attach(callsite, error_type, tallied)
            self._tallied[key] = tallied  # The last: whatever fails before, is done anew.
        return tallied.tally

    def judge(self, measurement: Measurement) -> None:
        """Give *measurement* its score, where it can have one."""
        try:
            self.score(measurement)
        except Exception:
            self.guard.caught(measurement.callsite, "score a call")

    def score(self, measurement: Measurement) -> None:
        """Give *measurement* its score, and learn from it.

        Raises:
            ValueError: The scorer gave no number.
        """
        budget_bytes = measurement.callsite.budget_bytes
        if measurement.heap_peak_bytes is not None:
            baseline = self.habits_of(measurement.callsite).baseline
            budget_bytes = budget_bytes or baseline.median_bytes
            baseline.learn(measurement.heap_peak_bytes)
        score = self.scorer.score(measurement, budget_bytes)
        if score is None:
            return
        if not math.isfinite(score):
            msg = f"{self.scorer!r} gave {score!r} as a score"
            raise ValueError(msg)
        # It is frozen for those whom it is handed to, which comes next. A second one with the score
        # in it would take as long as all other bookkeeping of a call.
        object.__setattr__(measurement, "efficiency_score", float(score))

    @property
    def measuring(self) -> bool:
        """Whether a call is running that is measured."""
        return self.accounts.charging

    def hold(self) -> int | None:
        """Charge no call for what stratatrace takes and frees from here to `unhold`."""
        heap = self.accounts.heap
        try:
            return heap.hold() if heap is not None else None
        except Exception:
            return None  # The window that is open, and cannot be read, will tell.

    def unhold(self, held_bytes: int | None, *, dropped_bytes: int = 0) -> None:
        """Go on charging from where `hold` left off.

        Args:
            held_bytes: What `hold` returned.
            dropped_bytes: The size of what is dropped of our own after this.
        """
        heap = self.accounts.heap
        if heap is None or held_bytes is None:
            return
        try:  # Not contextlib.suppress: its object would be dropped after charging goes on.
            heap.unhold(held_bytes, dropped_bytes)
        except Exception:
            return

    @contextmanager
    def own_work(self) -> Iterator[None]:
        """Charge no call for what this block takes and frees, and measure no call in it."""
        held_bytes = self.hold()
        began = self.begin_work()
        try:
            yield
        finally:
            self.end_work(began)
            del began
            self.unhold(held_bytes)

    def begin_work(self) -> _Work | None:
        """Measure no call of this thread until `end_work`.

        A sink may be a measured function itself, a pattern may name what stratatrace calls, and the
        collector may run a measured finalizer at any moment: each would go round in circles.

        Returns:
            What to give to `end_work`: None where this is not the outermost of its kind. It ends,
            too, when that is dropped, by an exception that was thrown into the thread meanwhile.
        """
        if self.is_at_work:
            return None
        began = _Work()
        self.at_work[threading.get_ident()] = ref(began)
        return began

    def end_work(self, began: _Work | None) -> None:
        """Measure this thread's calls again."""
        if began is not None:
            began.ended = True  # First, as it takes no memory.
            self.at_work.pop(threading.get_ident(), None)

    @property
    def is_at_work(self) -> bool:
        """Whether this thread runs stratatrace's own code."""
        if not self.at_work:  # At nearly every call.
            return False
        reference = self.at_work.get(threading.get_ident())
        work = None if reference is None else reference()
        return work is not None and not work.ended

    def after_fork_in_child(self) -> None:
        """Become the child's own recorder: no open windows, counters from zero."""
        self.generation += 1
        self.at_work.clear()
        self.guard.after_fork_in_child()
        self.accounts.after_fork_in_child()
        self.metrics.after_fork_in_child()


def _heap_account(probe: NativeProbe | TracemallocProbe) -> HeapAccount:
    if isinstance(probe, NativeProbe):
        from stratatrace.compiled import NativeAccount  # noqa: PLC0415 -- it is not always there

        return NativeAccount(probe)
    return Account(probe, leftovers())


def _resident_account(probe: ResidentProbe) -> AnyAccount:
    if isinstance(probe, HighWaterProbe) and probe.by_getrusage and native_obstacle() is None:
        from stratatrace.compiled import HighWaterAccount  # noqa: PLC0415 -- it is not always there

        return HighWaterAccount(probe)
    return Account(probe)


class _Active:
    """The recorder in force, and the one global that a program changes."""

    __slots__ = ("_lock", "_metrics", "_recorder", "configured", "enabled")

    def __init__(self) -> None:
        #: Whether decorated functions measure at all; all that the disabled path looks at.
        self.enabled = True
        #: Whether the program has said how to measure, and not left it to the environment.
        self.configured = False
        self._recorder: Recorder | None = None
        self._metrics: WeakKeyDictionary[object, MetricSink] = WeakKeyDictionary()
        self._lock = threading.RLock()

    def metrics_of(self, meter_provider: MeterProvider | None) -> MetricSink:
        """Return the metrics that are told to a provider, None being the application's.

        They outlive the recorder: instruments are made once, and their sums go on growing.
        """
        key = type(self) if meter_provider is None else meter_provider
        with self._lock:
            if key not in self._metrics:
                self._metrics[key] = MetricSink(meter_provider)
            return self._metrics[key]

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
                    self.configured = False
        return cast("Recorder", self._recorder)

    @property
    def measuring(self) -> bool:
        """Whether a call is running that is measured."""
        return self._recorder is not None and self._recorder.measuring

    def own_work(self) -> AbstractContextManager[None]:
        """Return the block of that name of the recorder in force, without making one."""
        return nullcontext() if self._recorder is None else self._recorder.own_work()

    def install(self, recorder: Recorder | None, *, enabled: bool = True) -> None:
        """Replace the recorder; calls that are under way end on the one that they began with.

        Args:
            recorder: None has one made at the next call, from the environment.
            enabled: Whether to measure at all.
        """
        with self._lock:
            previous, self._recorder = self._recorder, recorder
            self.configured = recorder is not None or not enabled
            self.enabled = enabled and (recorder is None or not recorder.config.disabled)
            # In this order, so that what both count does not begin anew.
            if recorder is not None and self.enabled:
                recorder.start()
            if previous is not None:
                previous.stop()

    @contextmanager
    def replaced(self, recorder: Recorder) -> Iterator[None]:
        """Have *recorder* in force within the block."""
        previous, configured = self._recorder, self.configured
        self.install(recorder)
        try:
            yield
        finally:
            self.install(previous)
            self.configured = configured

    def after_fork_in_child(self) -> None:
        """Take over the recorder in a forked child."""
        self._lock = threading.RLock()
        if self._recorder is None:
            return
        try:
            self._recorder.after_fork_in_child()
        except Exception:
            self.enabled = False
            _logger.warning("stratatrace is off in this forked process", exc_info=True)


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
