"""The recorder: decides what to measure of a call, and knows the sinks that take what was measured.

`active` is the one mutable global of the package. It is read at every call, so that `configure()`
works after functions were decorated.
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, cast

from stratatrace.accounts import Account
from stratatrace.call_lines import LinesOfCalls
from stratatrace.config import Config
from stratatrace.guard import Guard, outside
from stratatrace.habits import Habits, Judge
from stratatrace.own_work import OwnWork
from stratatrace.pressure.sources import readings
from stratatrace.probes import heap_probe, native_obstacle, resident_probe
from stratatrace.scoring import SCORERS
from stratatrace.telemetry.logs import LogSink
from stratatrace.telemetry.metrics import metric_sinks
from stratatrace.telemetry.monitors import monitor_metrics
from stratatrace.telemetry.spans import SpanSink
from stratatrace.windows import Accounts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from opentelemetry._logs import LoggerProvider
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from stratatrace.governor import Governor
    from stratatrace.measurement import Callsite
    from stratatrace.probes._counters import Tally
    from stratatrace.tallies import Tallies
    from stratatrace.telemetry.monitors import MonitorMetrics
    from stratatrace.telemetry.spans import SpanScope
    from stratatrace.thinning import Thinnings
    from stratatrace.typing import Pipeline, Sink

__all__ = ["Recorder", "active"]

_logger = logging.getLogger("stratatrace")


class Recorder:
    """Measures calls by one configuration until it is replaced by another.

    Args:
        config: How to measure.
        tracer_provider: Whose spans; None takes the application's.
        meter_provider: Whose metrics; None takes the application's.
        logger_provider: Whose log records; None takes the application's.
        pipeline: What was set up for this recorder, and must be closed after it.
        sinks: Further takers of every Measurement.
    """

    def __init__(
        self,
        config: Config,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        logger_provider: LoggerProvider | None = None,
        pipeline: Pipeline | None = None,
        sinks: tuple[Sink, ...] = (),
    ) -> None:
        self.config = config
        self.pipeline = pipeline
        self.meter_provider = meter_provider
        self.guard = Guard()
        self.spans = SpanSink(tracer_provider)
        self.logs = LogSink(logger_provider)
        # They outlive the recorder: instruments are made once, and their sums go on growing.
        self.metrics = metric_sinks.of(meter_provider)
        guards = (self.guard, readings.guard, outside)
        self.metrics.count_failures = lambda: sum(guard.failures for guard in guards)
        # Metrics first: exemplars want the span that the span sink ends.
        self.sinks: tuple[Sink, ...] = (self.metrics, self.logs, self.spans, *sinks)
        self.habits = Habits()
        scorer = SCORERS[config.scorer]() if isinstance(config.scorer, str) else config.scorer
        #: Gives a Measurement its score.
        self.judge = Judge(scorer, self.habits, self.guard)
        # Where every call is traced, tracing is never off: what was there before a call, and is
        # freed in it, would not be seen to go.
        self._trace_ratio = config.trace_ratio
        heap = heap_probe(config.probe, always=self._trace_ratio >= 1)
        self._heap_probe = heap
        #: Of the calls whose lines are to be told.
        self.lines = LinesOfCalls(heap, config.sample_allocations, self.habits)
        self.accounts = Accounts.of(heap, resident_probe(config.rss_peak))
        self.tallies = self._make_tallies(sinks)
        self.generation = 0
        #: Of whose threads no call is measured meanwhile.
        self.work = OwnWork()
        #: Of the calls that are left out; None where each is measured.
        self.thinnings = self._make_thinnings()

    def start(self) -> None:
        """Begin to listen to the garbage collector, and to trace where that is for good."""
        if self.tallies is not None:
            self.tallies.start()
        if self.thinnings is not None:
            self.thinnings.start()
        self.accounts.collector.start()
        if self._heap_probe is not None:
            self._heap_probe.open()
        self.lines.start()

    def stop(self) -> None:
        """End what `start` began."""
        if self.tallies is not None:
            self.tallies.stop()
        if self.thinnings is not None:
            self.thinnings.stop()
        self.lines.stop()
        self.accounts.collector.stop()
        if self._heap_probe is not None:
            self._heap_probe.close()

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
        if not ratio:
            return False
        habit = self.habits.of(callsite)
        if not heap.charging:
            return habit.due(ratio)
        # Tracing is on for an outer call: the numbers are there for the taking.
        habit.taken(ratio)
        return True

    def _make_tallies(self, sinks: tuple[Sink, ...]) -> Tallies | None:
        """Return the tallies; None where each call is told one by one, or without compiled code."""
        heap, rss = self.accounts.heap, self.accounts.rss
        if (
            native_obstacle() is not None
            or sinks
            or (heap is not None and (not heap.probe.per_thread or self._trace_ratio < 1))
            or isinstance(rss, Account)
        ):
            return None
        from stratatrace.tallies import Tallies  # noqa: PLC0415 -- it is not always there

        return Tallies(self.accounts, self.metrics, self.guard, self.judge)

    def _make_thinnings(self) -> Thinnings | None:
        if self.config.max_overhead is None:
            return None
        # Here and not above: most programs do not ask for it.
        from stratatrace.governor import Governor  # noqa: PLC0415
        from stratatrace.thinning import Thinnings  # noqa: PLC0415

        governor = Governor(self.config.max_overhead)
        return Thinnings(governor, self.metrics, self)

    @property
    def governor(self) -> Governor | None:
        """Who decides whether a call is measured; None where each is."""
        return None if self.thinnings is None else self.thinnings.governor

    def tally_for(self, callsite: Callsite) -> Tally | None:
        """Return where a call is only added up; None where it needs a Measurement of its own."""
        tallies = self.tallies
        return None if tallies is None or not self.spans.silent else tallies.of(callsite)

    @property
    def measuring(self) -> bool:
        """Whether a call is running that is measured."""
        return self.accounts.charging

    def hold(self) -> object:
        """Charge no call for what stratatrace takes and frees from here to `unhold`."""
        heap = self.accounts.heap
        try:
            return heap.hold() if heap is not None else None
        except Exception:
            return None  # The window that is open, and cannot be read, will tell.

    def unhold(self, held: object, *, dropped_bytes: int = 0) -> None:
        """Go on charging from where `hold` left off.

        Args:
            held: What `hold` returned.
            dropped_bytes: The size of what is dropped of our own after this.
        """
        heap = self.accounts.heap
        if heap is None or held is None:
            return
        try:  # Not contextlib.suppress: its object would be dropped after charging goes on.
            heap.unhold(held, dropped_bytes)
        except Exception:
            return

    @contextmanager
    def own_work(self) -> Iterator[None]:
        """Charge no call for what this block takes and frees, and measure no call in it."""
        held = self.hold()
        began = self.work.begin()
        try:
            yield
        finally:
            self.work.end(began)
            del began
            self.unhold(held)

    def after_fork_in_child(self) -> None:
        """Become the child's own recorder: no open windows, counters from zero."""
        self.generation += 1
        self.work.after_fork_in_child()
        self.guard.after_fork_in_child()
        outside.after_fork_in_child()
        self.accounts.after_fork_in_child()
        if self.thinnings is not None:
            self.thinnings.after_fork_in_child()
        self.logs.after_fork_in_child()
        metric_sinks.after_fork_in_child()


class _Active:
    """The recorder in force, and the one global that a program changes."""

    __slots__ = ("_forking", "_lock", "_recorder", "configured", "enabled")

    def __init__(self) -> None:
        #: Whether decorated functions measure at all; all that the disabled path looks at.
        self.enabled = True
        #: Whether the program has said how to measure, and not left it to the environment.
        self.configured = False
        self._recorder: Recorder | None = None
        self._lock = threading.RLock()
        #: The accounts that threads hold while they fork.
        self._forking: dict[int, Accounts] = {}

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
                    # In the first measured call, where a mistake in a variable must not raise.
                    self.install(Recorder(Config.at_run_time()))
                    self.configured = False
        return cast("Recorder", self._recorder)

    @property
    def monitor_metrics(self) -> MonitorMetrics:
        """The gauges of memory monitors, of the provider that is told of calls as well."""
        recorder = self._recorder
        return monitor_metrics(recorder.meter_provider if recorder is not None else None)

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
        put_back = self._way_back()
        self.install(recorder)
        try:
            yield
        finally:
            put_back()

    def substitute(self, recorder: Recorder | None = None) -> Callable[[], None]:
        """Have *recorder* in force for as long as nobody else installs one.

        Args:
            recorder: None is the one of the environment, where there is none yet.

        Returns:
            What puts back the one before, where *recorder* is the one in force then.
        """
        put_back = self._way_back()
        if recorder is None:
            recorder = self.recorder
        else:
            self.install(recorder)

        def end() -> None:
            if self._recorder is recorder:
                put_back()

        return end

    def _way_back(self) -> Callable[[], None]:
        """Return what has things as they are now."""
        recorder, enabled, configured = self._recorder, self.enabled, self.configured

        def put_back() -> None:
            if (self._recorder, self.enabled) != (recorder, enabled):
                self.install(recorder, enabled=enabled)
            self.configured = configured

        return put_back

    def before_fork(self) -> None:
        """Fork while no other thread is in the midst of an account.

        In the child the collector may run, and look at an account, before anything of ours does.
        """
        if self._recorder is not None:
            accounts = self._forking[threading.get_ident()] = self._recorder.accounts
            accounts.before_fork()

    def after_fork_in_parent(self) -> None:
        """Let other threads go on."""
        accounts = self._forking.pop(threading.get_ident(), None)
        if accounts is not None:
            accounts.after_fork_in_parent()

    def after_fork_in_child(self) -> None:
        """Take over the recorder in a forked child."""
        self._lock = threading.RLock()
        self._forking.clear()
        if self._recorder is None:
            return
        try:
            self._recorder.after_fork_in_child()
        except Exception:
            self.enabled = False
            _logger.warning("stratatrace is off in this forked process", exc_info=True)


active = _Active()
readings.own_work = active.own_work
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=active.before_fork,
        after_in_parent=active.after_fork_in_parent,
        after_in_child=active.after_fork_in_child,
    )
