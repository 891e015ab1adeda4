"""What a lazy value is made from, and the protocol of the places where it is kept."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol

from stratatrace.callsites import Options, describe_function
from stratatrace.errors import InvalidTypeError
from stratatrace.recorder import active
from stratatrace.telemetry.lazies import lazy_metrics
from stratatrace.wrapping import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from stratatrace.measurement import Callsite

__all__ = ["MISSING", "Home", "Key", "LazyOptions", "Recipe", "Sought", "own_work"]

#: Which lazy value, and of which instance, by their ids: both are alive meanwhile.
Key = tuple[int, int]


#: Stands where there is no value: None is one.
MISSING: Final[Any] = type("Missing", (), {"__slots__": (), "__repr__": lambda _: "MISSING"})()


_NOTHING = nullcontext()


def own_work() -> AbstractContextManager[None]:
    """Return `active.own_work()`, or nothing where no call is measured that it could disturb."""
    return active.own_work() if active.measuring else _NOTHING


class LazyOptions(NamedTuple):
    """What a user may say of a lazy value."""

    name: str | None = None
    weak: bool = False
    evict_under_pressure: bool = False


class Home(Protocol):
    """Where a value is kept, for one instance, for many, or for none at all."""

    def read(self, instance: Any) -> Any:
        """Return what is kept for *instance*, or `MISSING`."""
        ...

    def keep(self, instance: Any, value: Any) -> None:
        """Keep *value* for *instance*."""
        ...


class Recipe:
    """A function, and how its value is to be kept."""

    __slots__ = ("__weakref__", "_series", "callsite", "function", "is_coroutine", "options")

    def __init__(self, function: Callable[..., Any], options: LazyOptions) -> None:
        self.function = function
        self.options = options
        self.is_coroutine = kind_of(function) == "coroutine"
        self.callsite: Callsite = describe_function(function, Options(name=options.name))
        self._series = (self.callsite.function, self.callsite.label)

    @property
    def weak(self) -> bool:
        """Whether the value is kept only while somebody uses it."""
        return self.options.weak

    @property
    def title(self) -> str:
        """What errors call it."""
        return self.callsite.function

    def check(self, value: Any) -> None:
        """Refuse what cannot be kept as it was asked for.

        Raises:
            InvalidTypeError: It is to be kept weakly, and cannot be.
        """
        if self.weak and not type(value).__weakrefoffset__:
            msg = (
                f"{self.title} gave {_brief(value)}, and weak=True cannot keep what takes no weak "
                f"references, as {type(value).__qualname__} does not: return an object of a class "
                "of your own, or leave weak out"
            )
            raise InvalidTypeError(msg)

    def count_computation(self) -> None:
        """Tell that a value was computed."""
        self._count("computations", 1)

    def count_evictions(self, count: int) -> None:
        """Tell that so many values were dropped because memory was short."""
        if count:
            self._count("evictions", count)

    def tell_live(self, live: Callable[[], int]) -> None:
        """Have the metrics ask how many values are alive, for as long as its object is."""
        lazy_metrics.add_live(self._series, live)

    def _count(self, what: Literal["computations", "evictions"], count: int) -> None:
        if not active.enabled:
            return
        try:
            with own_work():
                # Not made for this: where nothing was measured, there is nothing to configure.
                provider = active.recorder.meter_provider if active.started else None
                lazy_metrics.count(what, self._series, count, provider)
        except Exception:
            active.recorder.guard.caught(self.callsite, "count a lazy value")


class Sought(NamedTuple):
    """A value that somebody asks for, and that is not there."""

    recipe: Recipe
    #: Which lazy value, and of which instance.
    key: Key
    #: Where it is kept.
    home: Home
    #: Whose it is; None of a function.
    instance: Any
    #: What gives it; an awaitable, of a coroutine function.
    compute: Callable[[Any], Any]

    def read(self) -> Any:
        """Return the value, or `MISSING`."""
        return self.home.read(self.instance)


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 -- a part of a line
