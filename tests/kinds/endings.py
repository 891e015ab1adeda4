"""The table of endings: how a call of each kind can be driven to its end.

A driver takes what the call of a callable returned (or the call itself, for a function) and brings
it to its end step by step, as an event loop or a ``for`` loop would. What it sees is an `Outcome`,
so that a measured call can be held against a bare one.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable  # noqa: TC003 -- a NamedTuple evaluates its fields
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from opentelemetry import trace


class Trouble(Exception):  # noqa: N818 -- it stands for an exception of the user's
    """What the user's code raises."""


@dataclass
class Outcome:
    """What the caller of a callable gets to see."""

    #: What was yielded or awaited, then what was returned.
    values: list[Any] = field(default_factory=list)
    error: BaseException | None = None
    #: Whether a span was current in the caller, between the steps.
    in_span: list[bool] = field(default_factory=list)

    def see(self, value: Any) -> None:
        """Note one more value, and whether a span is current when the caller has it."""
        self.values.append(value)
        self.in_span.append(trace.get_current_span().get_span_context().is_valid)

    @property
    def frames(self) -> list[tuple[str, int | None]]:
        """The functions and lines that the error went through, from the body inwards."""
        if self.error is None:
            return []
        names = [(f.name, f.lineno) for f in traceback.extract_tb(self.error.__traceback__)]
        bodies = [position for position, (name, _) in enumerate(names) if name == "body"]
        return names[bodies[-1] :] if bodies else []


def outcome_of(call: Callable[[], Any], drive: Callable[[Any, Outcome], None]) -> Outcome:
    """Call, drive what was returned to its end, and tell what was seen on the way."""
    outcome = Outcome()
    try:
        drive(call, outcome)
    except BaseException as error:
        outcome.error = error
    return outcome


def _call(call: Callable[[], Any], outcome: Outcome) -> None:
    outcome.see(call())


def _steps(steps: Any, outcome: Outcome) -> Any:
    """Send None into *steps* until they stop; return the value of that."""
    for _ in range(10):
        try:
            item = steps.send(None)
        except StopIteration as stop:
            return stop.value
        outcome.see(item)
    msg = "the callable never ends"
    raise AssertionError(msg)


def _exhaust(call: Callable[[], Any], outcome: Outcome) -> None:
    outcome.see(_steps(call(), outcome))


def _throw(call: Callable[[], Any], outcome: Outcome) -> None:
    steps = call()
    for _ in range(2):
        outcome.see(steps.send(None))
    steps.throw(Trouble("thrown"))


def _cancel(call: Callable[[], Any], outcome: Outcome) -> None:
    steps = call()
    for _ in range(2):
        outcome.see(steps.send(None))
    steps.throw(asyncio.CancelledError())


def _close(call: Callable[[], Any], outcome: Outcome) -> None:
    steps = call()
    for _ in range(2):
        outcome.see(steps.send(None))
    outcome.see(steps.close())


def _abandon(call: Callable[[], Any], outcome: Outcome) -> None:
    steps = call()
    for _ in range(2):
        outcome.see(steps.send(None))
    del steps
    outcome.see(None)


def _async_exhaust(call: Callable[[], Any], outcome: Outcome) -> None:
    items = call()
    for _ in range(10):
        try:
            outcome.see(_steps(items.asend(None), outcome))
        except StopAsyncIteration:
            return


def _after_two(ending: Callable[[Any], Any]) -> Callable[[Callable[[], Any], Outcome], None]:
    """Return a driver that takes two items of an async generator, and then ends it."""

    def drive(call: Callable[[], Any], outcome: Outcome) -> None:
        items = call()
        for _ in range(2):
            outcome.see(_steps(items.asend(None), outcome))
        outcome.see(_steps(ending(items), outcome))

    return drive


def _async_cancel(call: Callable[[], Any], outcome: Outcome) -> None:
    """Cancel while the async generator awaits, after its work."""
    items = call()
    outcome.see(_steps(items.asend(None), outcome))
    awaited = items.asend(None)
    outcome.see(awaited.send(None))
    awaited.throw(asyncio.CancelledError())


def _async_abandon(call: Callable[[], Any], outcome: Outcome) -> None:
    items = call()
    for _ in range(2):
        outcome.see(_steps(items.asend(None), outcome))
    del items
    outcome.see(None)


class Ending(NamedTuple):
    """One way for a call to end."""

    drive: Callable[[Callable[[], Any], Outcome], None]
    #: What the body itself raises.
    raises: bool = False
    #: What the Measurement says: the exceptions of `Trouble`, cancelled and closed being none.
    is_error: bool = False


ENDINGS: dict[str, dict[str, Ending]] = {
    "function": {
        "returns": Ending(_call),
        "raises": Ending(_call, raises=True, is_error=True),
    },
    "coroutine": {
        "returns": Ending(_exhaust),
        "raises": Ending(_exhaust, raises=True, is_error=True),
        "thrown into": Ending(_throw, is_error=True),
        "cancelled": Ending(_cancel),
        "closed": Ending(_close),
        "abandoned": Ending(_abandon),
    },
    "generator": {
        "returns": Ending(_exhaust),
        "raises": Ending(_exhaust, raises=True, is_error=True),
        "thrown into": Ending(_throw, is_error=True),
        "cancelled": Ending(_cancel),
        "closed": Ending(_close),
        "abandoned": Ending(_abandon),
    },
    "async generator": {
        "returns": Ending(_async_exhaust),
        "raises": Ending(_async_exhaust, raises=True, is_error=True),
        "thrown into": Ending(
            _after_two(lambda items: items.athrow(Trouble("thrown"))), is_error=True
        ),
        "cancelled": Ending(_async_cancel),
        "closed": Ending(_after_two(lambda items: items.aclose())),
        "abandoned": Ending(_async_abandon),
    },
}
