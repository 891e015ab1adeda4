"""`LeakWatch`: tells of a leak of a service that runs for days."""

from __future__ import annotations

import gc
import logging
import math
import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Self

from stratatrace.diagnose.leak_arguments import checked_name
from stratatrace.diagnose.leak_culprits import CulpritSearch
from stratatrace.diagnose.leak_rise import SHORTEST_SECONDS, HeapSource, LeakAlert, LeakRise
from stratatrace.diagnose.telling import Finding, tell
from stratatrace.errors import (
    AlreadyStartedError,
    InvalidTypeError,
    InvalidValueError,
    NotReadyError,
)
from stratatrace.guard import outside
from stratatrace.measurement import Callsite
from stratatrace.probes.allocated import malloc_bytes_source, small_blocks
from stratatrace.probes.live import live_bytes_by
from stratatrace.recorder import active
from stratatrace.sizes import parse_size
from stratatrace.telemetry import semconv

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from stratatrace.diagnose.leak_report import LeakCulprits

__all__ = ["LeakWatch"]

_logger = logging.getLogger("stratatrace")
_LEAST_SECONDS = 0.001
_JOIN_SECONDS = 5.0
_MOST_ALERTS = 100
_LEAST_OBJECTS = 10


class LeakWatch:
    """Looks at the heap of the process until it is stopped, and tells of a steady rise, once.

    It sees what is allocated in all threads: by tracemalloc, where that is tracing, and else by how
    many small blocks the interpreter has in use, and how many bytes the C library (glibc). A rise
    is looked for in the *lowest* levels of its time, as what the collector frees has not leaked,
    over half an hour and over each twice as long time up to six weeks.

    An alert is a warning in the log ("stratatrace"), a finding in telemetry, an entry of `alerts`,
    and a call of *on_leak*, in the watch's thread. The thread is a daemon, and never fails. In a
    forked child, a watch that was running goes on with the child's own heap, from the child's first
    use of it. It may be started again after it was stopped.

    Args:
        name: What it is known by.
        interval_seconds: The time between two looks; None for looks by `sample` alone.
        on_leak: What to call with each `LeakAlert`.
        least_growth: A rise that has grown by less, an int of bytes or text, is none.
        collect: Whether each look makes a full collection first, for which all threads wait: it
            sees a leak sooner where full collections are rare.
        shortest_seconds: The shortest time over which a rise is looked for.

    Raises:
        InvalidTypeError: An argument is of the wrong type.
        InvalidValueError: An argument makes no sense.
    """

    def __init__(
        self,
        *,
        name: str = "default",
        interval_seconds: float | None = 5.0,
        on_leak: Callable[[LeakAlert], object] | None = None,
        least_growth: int | str = "1 MiB",
        collect: bool = False,
        shortest_seconds: float = SHORTEST_SECONDS,
    ) -> None:
        if on_leak is not None and not callable(on_leak):
            msg = f"on_leak= is what can be called with a LeakAlert, not {on_leak!r}"
            raise InvalidTypeError(msg)
        self.name = checked_name(name)
        if interval_seconds is not None:
            interval_seconds = _checked_seconds("interval_seconds", interval_seconds)
        self._interval_seconds = interval_seconds
        self._shortest_seconds = _checked_seconds("shortest_seconds", shortest_seconds)
        self._least_bytes = parse_size(least_growth)
        self._collect = collect
        self._on_leak = on_leak
        self._callsite = Callsite(name=name, function="stratatrace.LeakWatch", label=name)
        self._running = False
        self._began_seconds = 0.0
        self._rise: LeakRise | None = None
        self._search: CulpritSearch | None = None
        self._alerts: deque[LeakAlert] = deque(maxlen=_MOST_ALERTS)
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.RLock()

    @property
    def running(self) -> bool:
        """Whether it was started, and not stopped since."""
        return self._running

    @property
    def alerts(self) -> tuple[LeakAlert, ...]:
        """The latest alerts since the start, 100 at most, the oldest first."""
        with active.own_work():
            self._revive()
        return tuple(self._alerts)

    def start(self) -> Self:
        """Begin to look; return the watch.

        Raises:
            AlreadyStartedError: It is running.
        """
        with active.own_work():
            with self._lock:
                if self._running:
                    msg = f"the leak watch {self.name!r} is running: stop() it, or make another one"
                    raise AlreadyStartedError(msg)
                self._running = True
                self._search = None
                self._alerts.clear()
                _all_running.add(self)
            self._revive()
        return self

    def stop(self) -> None:
        """End looking; a second time does nothing."""
        with self._lock:
            self._running = False
            thread, self._thread = self._thread, None
            self._done.set()
            _all_running.discard(self)
        if thread is not None and thread is not threading.current_thread():
            thread.join(_JOIN_SECONDS)  # Not for ever: it may be in a callback that waits.

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def sample(self, *, seconds: float | None = None) -> LeakAlert | None:
        """Look once, and return an alert where one is due; for who has a loop of their own.

        Args:
            seconds: When that is, in seconds since the start, by a clock of one's own.

        Raises:
            NotReadyError: It is not running.
        """
        with active.own_work():
            self._revive()
            if not self._running:
                msg = f"the leak watch {self.name!r} cannot look: start() it"
                raise NotReadyError(msg)
            return self._look(seconds)

    def culprits(self) -> LeakCulprits:
        """Return which types have grown since the start, and what holds them; with lines if traced.

        It goes through the objects of the process: some seconds at most, in which other threads
        take their turns. Types that the collector does not track are found only where it is traced.

        Raises:
            NotReadyError: It is not running.
        """
        with active.own_work():
            self._revive()
            search = self._search
            if search is None or not self._running:
                msg = f"the leak watch {self.name!r} has nothing to compare with: start() it"
                raise NotReadyError(msg)
            search.read_traces()
            return search.culprits(least=_LEAST_OBJECTS)

    def _revive(self) -> None:
        """Have what a running watch has; a forked child begins with nothing."""
        with self._lock:
            if self._running and self._search is None:
                self._began_seconds = time.monotonic()
                self._rise = self._new_rise(tuple(_levels()))
                self._search = CulpritSearch()
                self._search.mark_traces()
            if self._running and self._thread is None and self._interval_seconds is not None:
                self._start_thread(self._interval_seconds)

    def _start_thread(self, interval_seconds: float) -> None:
        self._done = threading.Event()
        thread = threading.Thread(
            target=self._watch,
            args=(self._done, interval_seconds),
            name="stratatrace-leaks",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError:  # No more threads; it is tried again at the next use.
            outside.caught(self._callsite, "start a thread")
        else:
            self._thread = thread

    def _watch(self, done: threading.Event, interval_seconds: float) -> None:
        while not done.wait(interval_seconds):
            if done is not self._done:
                return  # A callback has forked, and this is the child.
            self._look(None)

    def _look(self, seconds: float | None) -> LeakAlert | None:
        """Look once, and tell what there is to tell. Never raises."""
        alert = None
        try:
            if self._collect:
                gc.collect()
            levels = _levels()
            with self._lock:
                if self._rise is None or self._rise.sources != tuple(levels):
                    # Tracing has begun or ended: the levels before are no longer to compare with.
                    self._rise = self._new_rise(tuple(levels))
                now = time.monotonic() - self._began_seconds if seconds is None else seconds
                alert = self._rise.add(now, levels)
        except Exception:
            outside.caught(self._callsite, "look at the heap")
        if alert is not None:
            self._tell(alert)
        return alert

    def _new_rise(self, sources: tuple[HeapSource, ...]) -> LeakRise:
        return LeakRise(
            self.name,
            sources,
            least_bytes=self._least_bytes,
            shortest_seconds=self._shortest_seconds,
        )

    def _tell(self, alert: LeakAlert) -> None:
        self._alerts.append(alert)
        try:
            _logger.warning("leak watch: %s", alert.text)
            attributes = {semconv.LEAK_RATE.name: alert.bytes_per_second}
            tell(Finding(kind="leak", name=self.name, body=alert.text, attributes=attributes))
        except Exception:
            outside.caught(self._callsite, "log an alert")
        if self._on_leak is not None:
            try:
                self._on_leak(alert)
            except Exception:
                outside.caught(self._callsite, "hand over an alert")

    def _after_fork_in_child(self) -> None:
        self._lock = threading.RLock()
        self._done = threading.Event()
        self._thread = self._rise = self._search = None
        self._alerts.clear()


def _levels() -> dict[HeapSource, int]:
    """Return the level of all that tells of the heap of the process now."""
    traced = live_bytes_by("tracemalloc")
    if traced is not None:
        return {"tracemalloc": traced()}
    levels: dict[HeapSource, int] = {"blocks": small_blocks()}
    malloc = malloc_bytes_source()
    if malloc is not None:
        levels["malloc"] = malloc()
    return levels


def _checked_seconds(option: str, seconds: float) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        msg = f"{option}= is a number of seconds, not an object of {type(seconds).__qualname__}"
        raise InvalidTypeError(msg)
    if not (seconds >= _LEAST_SECONDS and math.isfinite(seconds)):
        msg = f"{option}= is {_LEAST_SECONDS:g} seconds or more, and {seconds!r} is not"
        raise InvalidValueError(msg)
    return float(seconds)


def _after_fork_in_child() -> None:
    for watch in _all_running:
        watch._after_fork_in_child()  # noqa: SLF001 -- its own module


_all_running: set[LeakWatch] = set()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
