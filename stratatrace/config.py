"""How calls are measured: the frozen `Config`, its checks, and the environment that it mirrors."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stratatrace.errors import InvalidTypeError, InvalidValueError, StratatraceError
from stratatrace.guard import outside
from stratatrace.probes import (
    RSS_PEAKS,
    NativeProbe,
    default_ratio,
    heap_probe,
    native_obstacle,
)
from stratatrace.probes.allocations import AllocationSampler
from stratatrace.scoring import SCORERS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stratatrace.typing import Scorer

__all__ = ["DEFAULT_OUTPUT", "Config", "check_ratio", "read_truth", "variable_of"]

_logger = logging.getLogger("stratatrace")

#: Where telemetry goes when nobody says where.
DEFAULT_OUTPUT = "stratatrace.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How calls are measured.

    Raises:
        InvalidValueError: A value is out of its range or not one of the known names.
    """

    #: One of `stratatrace.probes.HEAP_PROBES`.
    probe: str = "auto"
    #: Share of the calls whose heap is measured, 0 to 1; None is every call, or 1 in 100 where
    #: `auto` has to trace.
    sample_ratio: float | None = None
    #: One of `RSS_PEAKS`.
    rss_peak: str = "auto"
    #: The name of a scorer, or an object with a ``score`` method.
    scorer: str | Scorer = "budget"
    #: How much of the wall time measuring may take, above 0 and up to 1: calls are left out to keep
    #: to it. None leaves none out.
    max_overhead: float | None = None
    #: How many bytes the program allocates, on average, to one whose traceback is kept, as an int
    #: or text ("512 KiB"); None keeps none until a call's lines are asked for. By the native probe
    #: only.
    sample_allocations: int | str | None = None
    #: Whether decorated functions run bare.
    disabled: bool = False

    def __post_init__(self) -> None:
        probe = heap_probe(self.probe)
        if self.sample_allocations is not None:
            _check_sampling(probe, self.sample_allocations)
        if self.rss_peak not in RSS_PEAKS:
            names = ", ".join(map(repr, RSS_PEAKS))
            msg = f"there is no way {self.rss_peak!r} to find the peak RSS: choose one of {names}"
            raise InvalidValueError(msg)
        check_ratio(self.sample_ratio)
        _check_overhead(self.max_overhead)
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
            name = variable_of(field)
            text = os.environ.get(name, "").strip()
            if text and given.get(field) is None:
                try:
                    found[field] = read(text)
                    cls(**{field: found[field]})  # So that a mistake is told with its variable.
                except ValueError as error:
                    msg = f"{name}={text!r}: {error}"
                    raise InvalidValueError(msg) from error
        return cls(**found, **{field: value for field, value in given.items() if value is not None})

    @classmethod
    def at_run_time(cls, **given: Any) -> Config:
        """Return the same where a mistake in a variable must not raise: it is logged.

        Args:
            **given: As above; mistakes in these are the caller's, and are raised.
        """
        alone = cls(**{field: value for field, value in given.items() if value is not None})
        try:
            return cls.from_environment(**given)
        except StratatraceError as error:
            outside.count()
            _logger.error(  # noqa: TRY400 -- the traceback would be ours and say nothing
                "stratatrace ignores its environment variables: %s", error
            )
            return alone

    @property
    def trace_ratio(self) -> float:
        """The share of the calls whose heap is traced where their callsite does not say."""
        return default_ratio(self.probe) if self.sample_ratio is None else self.sample_ratio


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


def _check_sampling(probe: object, mean_bytes: int | str) -> None:
    if not isinstance(probe, NativeProbe):
        reason = native_obstacle() or "leave probe= out, or give probe='native'"
        msg = f"sample_allocations= is by the native heap probe, which is not in use: {reason}"
        raise InvalidValueError(msg)
    AllocationSampler(mean_bytes)


def _check_overhead(share: float | None) -> None:
    if share is None:
        return
    if isinstance(share, bool) or not isinstance(share, int | float):
        msg = f"max_overhead is a number above 0 and up to 1, not {share!r}"
        raise InvalidTypeError(msg)
    if not 0 < share <= 1:
        msg = (
            f"max_overhead is a share of the time, above 0 and up to 1 (0.02 is 2%), and {share!r} "
            "is not: to measure nothing, say disabled=True"
        )
        raise InvalidValueError(msg)


def variable_of(option: str) -> str:
    """Return the environment variable that stands for an option."""
    return f"OTEL_PYTHON_STRATATRACE_{option.upper()}"


def read_truth(text: str) -> bool:
    """Return what ``true`` or ``false`` says; raise ValueError for any other text."""
    if text.lower() not in {"true", "false"}:
        msg = "expected true or false"
        raise ValueError(msg)
    return text.lower() == "true"


_ENVIRONMENT: Mapping[str, Callable[[str], object]] = {
    "probe": str,
    "sample_ratio": float,
    "rss_peak": str,
    "scorer": str,
    "max_overhead": float,
    "sample_allocations": str,
    "disabled": read_truth,
}
