"""The protocols at which the package is extended, and the aliases that they share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from stratatrace.measurement import AttributeValue, Measurement, Reading, Sums

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opentelemetry._logs import LoggerProvider
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from stratatrace.measurement import Callsite

__all__ = [
    "Account",
    "AttributeValue",
    "HeapAccount",
    "Overheads",
    "Pipeline",
    "Probe",
    "Scope",
    "Scorer",
    "Sink",
    "SumsSource",
    "Tab",
]


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


class Tab(Protocol):
    """What one window has run up on one account; it means something while it is not open."""

    failed: bool

    @property
    def base_bytes(self) -> int:
        """The account's level at which this stands at zero."""
        ...

    @property
    def net_bytes(self) -> int:
        """What was run up."""
        ...

    @property
    def peak_bytes(self) -> int:
        """The highest that it ever stood."""
        ...

    @property
    def open(self) -> bool:
        """Whether it is being charged."""
        ...

    @property
    def charged(self) -> bool:
        """Whether it ever was."""
        ...


class Account(Protocol):
    """The ledger of one probe: see `accounts` and `compiled`."""

    @property
    def probe(self) -> Probe:
        """What counts."""
        ...

    @property
    def tab(self) -> Callable[[], Any]:
        """Makes a tab of this account's kind."""
        ...

    @property
    def charging(self) -> bool:
        """Whether any tab is open."""
        ...

    def charge(self, tab: Any, /) -> None:
        """Charge *tab* from now on."""

    def release(self, tab: Any, /) -> object:
        """Charge *tab* no more."""

    def before_fork(self) -> None:
        """Have no other thread be in the midst of it while the process forks."""

    def after_fork_in_parent(self) -> None:
        """Let others go on."""

    def after_fork_in_child(self) -> None:
        """Make the account, and its probe, the child's own."""


class HeapAccount(Account, Protocol):
    """An account from which our own work can be kept away.

    A hold is told by an object, or by the level in bytes at which it began.
    """

    @property
    def counts_gross(self) -> bool:
        """Whether its tabs have ``allocated_bytes`` and ``allocations``."""
        ...

    @property
    def alone(self) -> bool:
        """Whether no other Python thread can be in the numbers."""
        ...

    def charge(self, tab: Any, held: Any = None, /) -> None:
        """Charge *tab* from now on; what `hold` returned ends its holding."""

    def release(self, tab: Any, /) -> Any:
        """Charge *tab* no more; return a hold that begins here, for `unhold`."""
        ...

    def calibrate(self) -> None:
        """Learn what an empty stretch reads."""

    def hold(self) -> Any:
        """Charge nobody until `unhold`; return the hold, or None where nobody is charged."""
        ...

    def unhold(self, held: Any, dropped_bytes: int = 0, /) -> int:
        """Go on charging; return the bytes that were taken since the hold began."""
        ...

    def collected(self, time_ns: int, reclaimed_bytes: int, /) -> None:
        """Learn of a collection that ran in this thread."""

    @property
    def followed(self) -> bool:
        """Whether a line runs that is not the thread's, or the process's, own."""
        ...

    def line(self) -> Any:
        """Return a new line of execution, on behalf of the one that runs."""
        ...

    def run(self, line: Any, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call *function* as a part of *line*."""
        ...

    def send(self, line: Any, coroutine: Any, value: Any, /) -> Any:
        """Run the next step of *coroutine* as a part of *line*."""
        ...


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


class SumsSource(Protocol):
    """Calls of one callsite and outcome that are added up elsewhere."""

    @property
    def ended(self) -> bool:
        """Whether there will be no more."""
        ...

    def take(self) -> Sums | None:
        """Return the sums since this was last called; None where there was no call."""
        ...


class Overheads(Protocol):
    """What measuring takes, and which calls are left out to keep within bounds."""

    def take_overhead(self) -> float:
        """Return what measuring has taken of the time since this was last called."""
        ...

    def ratios(self) -> Iterable[tuple[Callsite, float]]:
        """Return callsites, and the share of their calls that is measured."""
        ...


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
    def logger_provider(self) -> LoggerProvider | None:
        """Whose log records, where there are any."""
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
