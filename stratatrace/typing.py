"""The protocols at which the package is extended, and the aliases that they share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from stratatrace.measurement import AttributeValue, Measurement, Reading

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["AttributeValue", "Pipeline", "Probe", "Scope", "Scorer", "Sink"]


class Probe(Protocol):
    """One source of memory numbers. May raise: the fields that it feeds are then None."""

    @property
    def name(self) -> str:
        """The name that the configuration and the telemetry know it by."""
        ...

    @property
    def per_thread(self) -> bool:
        """Whether it reads the calling thread's own memory, and not the process's."""
        ...

    def start(self) -> None:
        """Make the numbers available; counted, so that every start needs one stop."""

    def stop(self) -> None:
        """Undo one start."""

    def mark(self) -> Reading:
        """Return the level now and the highest since the last mark, from which it starts anew."""
        ...

    def after_fork_in_child(self) -> None:
        """Drop what a forked child must not share with its parent."""


class Scope(Protocol):
    """What a call's telemetry needs between its first and its last step: a span made current."""

    def enter(self) -> None:
        """A step of the call begins on the current thread and task."""

    def leave(self) -> None:
        """The step has ended."""


class Sink(Protocol):
    """Takes what was measured. May raise: the program under measurement never sees it."""

    def emit(self, measurement: Measurement, scope: Scope | None) -> None:
        """Take one finished call.

        Args:
            measurement: The numbers of the call.
            scope: The call's span, where there is one.
        """


class Scorer(Protocol):
    """Judges how well a call used memory. May raise: the score is then None."""

    def score(self, measurement: Measurement, budget_bytes: int | None) -> float | None:
        """Return 0 (wasteful) to 100, or None where there is nothing to judge by.

        Args:
            measurement: The numbers of the call, not yet scored.
            budget_bytes: The callsite's budget, or else the peak that its calls usually reach;
                None while too few of them were seen.
        """
        ...


class Pipeline(Protocol):
    """Providers that were set up for a recorder, and end with it."""

    @property
    def tracer_provider(self) -> TracerProvider:
        """Whose spans."""
        ...

    @property
    def meter_provider(self) -> MeterProvider:
        """Whose metrics."""
        ...

    @property
    def pinned(self) -> bool:
        """Whether `configure()` must leave it in place."""
        ...

    def elsewhere(self) -> Callable[[], Pipeline | None]:
        """Return what sets up the same in another process; it can be pickled."""
        ...

    def close(self) -> None:
        """Flush and close, within a bound; a second time does nothing."""
