"""What the metrics of all parts share: a set of instruments for each provider, and their bounds."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.metrics import MeterProvider

__all__ = ["MOST_SERIES", "OVERFLOW", "ByProvider"]

#: What the SDK itself allows for one metric before it gathers the rest, and what that then carries.
MOST_SERIES = 2000
OVERFLOW = ("otel.metric.overflow", True)


class _Instruments(Protocol):
    """The instruments of one provider."""

    def after_fork_in_child(self) -> None:
        """Count from zero: the parent tells its own."""


Instruments = TypeVar("Instruments", bound="_Instruments")


class ByProvider(Generic[Instruments]):
    """The instruments of each provider, made when they are first asked for.

    Args:
        make: Makes those of a provider, None being the application's, set before or later.
        at_fork: Whether they count from zero in a forked child by themselves; else somebody calls
            `after_fork_in_child` when it is time.
    """

    def __init__(
        self, make: Callable[[MeterProvider | None], Instruments], *, at_fork: bool = True
    ) -> None:
        self._make = make
        self._made: WeakKeyDictionary[object, Instruments] = WeakKeyDictionary()
        # Reentrant: a collection may run a finalizer that asks as well.
        self._lock = threading.RLock()
        if at_fork and hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.after_fork_in_child)

    def of(self, meter_provider: MeterProvider | None) -> Instruments:
        """Return the instruments of a provider."""
        key: object = self._make if meter_provider is None else meter_provider
        with self._lock:
            if key not in self._made:
                self._made[key] = self._make(meter_provider)
            return self._made[key]

    def after_fork_in_child(self) -> None:
        """Have all of them count from zero."""
        self._lock = threading.RLock()
        for instruments in list(self._made.values()):
            instruments.after_fork_in_child()
