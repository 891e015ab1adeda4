"""Word of a change of level to those who must shrink, by a thread that runs while there are any."""

from __future__ import annotations

import os
import threading
from types import MethodType
from typing import TYPE_CHECKING, Self
from weakref import WeakMethod

from stratatrace.errors import InvalidTypeError
from stratatrace.measurement import Callsite
from stratatrace.pressure.reading import LEVELS, Level, Pressure, PressureThresholds
from stratatrace.pressure.sources import checked_thresholds, readings

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["Subscription", "subscribe", "watcher"]

_PERIOD_SECONDS = 0.5
# A level that goes up and down at a threshold must not have everybody shrink each time.
_LOOKS_BEFORE_FALL = 3


def subscribe(
    callback: Callable[[Pressure], object], *, thresholds: PressureThresholds | None = None
) -> Subscription:
    """Have *callback* called with the `Pressure` whenever its level changes.

    It is called in a thread of its own, "stratatrace-pressure", which looks twice a second while
    anybody is subscribed: a rise is told at once, a fall when it has lasted for three looks. What
    it raises is logged once, counted, and goes no further. A level that is not normal at the
    beginning is told, too.

    A bound method does not keep its object alive: when that is gone, so is the subscription. Any
    other callable is kept until `Subscription.close`.

    Args:
        callback: What to call.
        thresholds: From where on it is a warning, and critical; see `memory_pressure`.

    Raises:
        InvalidTypeError: *callback* cannot be called, or *thresholds* are none.
    """
    if not callable(callback):
        msg = f"subscribe() takes what can be called with a Pressure, not {callback!r}"
        raise InvalidTypeError(msg)
    subscription = Subscription(callback, checked_thresholds(thresholds))
    watcher.add(subscription)
    return subscription


class Subscription:
    """What `subscribe` returns; it ends with `close`, or as a context manager."""

    __slots__ = (
        "__weakref__",
        "_callback",
        "_callsite",
        "_closed",
        "_failures",
        "_falls",
        "_level",
        "thresholds",
    )

    def __init__(
        self, callback: Callable[[Pressure], object], thresholds: PressureThresholds
    ) -> None:
        self._callback: Callable[[], Callable[[Pressure], object] | None]
        if isinstance(callback, MethodType):
            self._callback = WeakMethod(callback)
        else:
            self._callback = lambda: callback
        self._callsite = Callsite(name="subscribe", function=_name(callback))
        self._closed = False
        self._failures = 0
        self._falls = 0
        self._level: Level = "normal"
        self.thresholds = thresholds

    @property
    def level(self) -> Level:
        """The level that the callback was told last; ``normal`` at the beginning."""
        return self._level

    @property
    def failures(self) -> int:
        """How often the callback has raised."""
        return self._failures

    @property
    def closed(self) -> bool:
        """Whether nothing is told any more: it was closed, or the method's object is gone."""
        return self._closed or self._callback() is None

    def close(self) -> None:
        """Tell nothing any more; a second time does nothing.

        A call that is under way in the other thread at this moment is not waited for.
        """
        self._closed = True
        watcher.remove(self)

    def keep_watching(self) -> None:
        """Have the watching go on in a forked child, which has none of its parent's threads.

        It costs nothing where it goes on already: call it from where memory grows.
        """
        if watcher.idle and not self._closed:
            watcher.start()

    def tell(self, pressure: Pressure, *, at_once: bool = False) -> None:
        """Call back where the level has changed.

        Args:
            pressure: What it is now.
            at_once: Whether a fall need not last.
        """
        falls = LEVELS.index(pressure.level) < LEVELS.index(self._level)
        self._falls = self._falls + 1 if falls else 0
        if pressure.level == self._level:
            return
        if falls and self._falls < _LOOKS_BEFORE_FALL and not at_once:
            return
        self._falls = 0
        self._level = pressure.level
        callback = self._callback()
        if callback is None or self._closed:
            return
        try:
            callback(pressure)
        except Exception:
            self._failures += 1
            readings.guard.caught(self._callsite, "tell of memory pressure")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _Watcher:
    """The subscriptions, and the thread that looks for them."""

    def __init__(self) -> None:
        self._subscriptions: list[Subscription] = []
        self._renew()

    def _renew(self) -> None:
        # Reentrant: the collector may run a finalizer that closes a subscription at any moment.
        self._lock = threading.RLock()
        # One round at a time, and never the lock above while a callback runs.
        self._telling = threading.RLock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def idle(self) -> bool:
        """Whether no thread is looking."""
        return self._thread is None

    def add(self, subscription: Subscription) -> None:
        """Look for one more."""
        with self._lock:
            self._subscriptions.append(subscription)
            self.start()

    def remove(self, subscription: Subscription) -> None:
        """Look for one less; with the last, the thread ends."""
        with self._lock:
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)
            if not self._subscriptions:
                self._wake.set()

    def start(self) -> None:
        """Have a thread, where there is none and somebody is subscribed."""
        with self._lock:
            if self._thread is not None or not self._subscriptions:
                return
            self._wake.clear()
            thread = threading.Thread(
                target=self._run, args=(self._wake,), name="stratatrace-pressure", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:  # No more threads: the process is at its end, or at a limit.
                readings.guard.caught(_WATCHING, "start a thread")
            else:
                self._thread = thread

    def tell_all(self, *, at_once: bool = False) -> None:
        """Look, and tell those for whom the level has changed.

        Args:
            at_once: Whether a fall need not last.
        """
        with self._lock:
            self._subscriptions = [each for each in self._subscriptions if not each.closed]
            subscriptions = tuple(self._subscriptions)
        with self._telling:
            max_age_seconds = 0.0
            for subscription in subscriptions:
                # This thread is in no measured call: to hold the account of those that are, in
                # other threads, would leave out what they take meanwhile.
                pressure = readings.read(subscription.thresholds, max_age_seconds, hold=False)
                max_age_seconds = _PERIOD_SECONDS  # One look is enough for all.
                subscription.tell(pressure, at_once=at_once)

    def after_fork_in_child(self) -> None:
        """Have locks that nobody holds; the thread is started again when somebody asks."""
        self._renew()

    def _run(self, wake: threading.Event) -> None:
        while True:
            woken = wake.wait(_PERIOD_SECONDS)
            if wake is not self._wake:
                return  # A callback has forked, and this is the child.
            try:
                if not woken:
                    self.tell_all()
            except Exception:
                readings.guard.caught(_WATCHING, "look for memory pressure")
            with self._lock:
                if not self._subscriptions:
                    self._thread = None
                    return
                wake.clear()


def _name(callback: object) -> str:
    named = callback if hasattr(callback, "__qualname__") else type(callback)
    return f"{getattr(named, '__module__', None) or 'builtins'}.{named.__qualname__}"


_WATCHING = Callsite(name="subscribe", function="stratatrace.pressure.subscribe")
watcher = _Watcher()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=watcher.after_fork_in_child)
