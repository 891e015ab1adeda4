"""The options of the instrumentor: one table, which flags, variables and the file are made of."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, make_dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import SpanKind

from stratatrace.config import Config, read_truth, variable_of
from stratatrace.errors import InvalidTypeError, InvalidValueError, StratatraceError
from stratatrace.guard import outside
from stratatrace.patching import Pattern
from stratatrace.profile import likely_option
from stratatrace.span_stays import NUMBERS

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["OPTIONS", "DeclaredOptions", "Option", "option_named", "options_of_environment"]

_logger = logging.getLogger("stratatrace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """An option that can be given outside of code."""

    name: str
    #: For people; Markdown.
    meaning: str
    #: Makes a value of the text of a variable, or raises ValueError.
    read: Callable[[str], object] = str
    #: Returns a value as it is used, or raises a StratatraceError.
    check: Callable[[Any], object]
    #: Whether it is a list of values, each of which is read and checked for itself.
    many: bool = False
    #: Whose option it is: ``Config``, ``MemorySpanProcessor`` or the instrumentor's own.
    owner: str = "StratatraceInstrumentor"

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return variable_of(self.name)

    def checked(self, value: object) -> object:
        """Return a value as it is used.

        Raises:
            StratatraceError: It makes no sense.
        """
        return tuple(map(self.check, _listed(value))) if self.many else self.check(value)

    def usable(self, value: object, given_as: str) -> object | None:
        """Return the same, or None; what makes no sense is logged, and the rest of a list counts.

        Args:
            value: What was given outside of code, where a mistake must not end the program.
            given_as: How, for the message.
        """
        found = []
        for one in _listed(value) if self.many else (value,):
            try:
                found.append(self.check(one))
            except StratatraceError as error:
                _ignore(given_as, error)
        if self.many:
            return tuple(found) or None
        return next(iter(found), None)


def _listed(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in map(str.strip, text.split(",")) if word)


def _ignore(given_as: str, error: Exception) -> None:
    outside.count()
    _logger.error("stratatrace ignores %s: %s", given_as, error)


def _truth(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        msg = f"{name} is True or False, not {value!r}"
        raise InvalidTypeError(msg)
    return value


def _pattern_of_names(value: object, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        msg = f"{name} are patterns as text, such as 'GET *', and {value!r} is none"
        raise InvalidValueError(msg)
    return value


def _kind(value: object) -> object:
    if not isinstance(value, str) or value.upper() not in SpanKind.__members__:
        names = ", ".join(repr(name.lower()) for name in SpanKind.__members__)
        msg = f"there is no kind {value!r} of spans: choose from {names}"
        raise InvalidValueError(msg)
    return value


def _number(value: object) -> object:
    if value not in NUMBERS:
        msg = f"there are no numbers {value!r}: choose from {', '.join(map(repr, NUMBERS))}"
        raise InvalidValueError(msg)
    return value


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        msg = f"min_duration_seconds is a number of seconds, from 0 on, and {value!r} is not"
        raise InvalidValueError(msg)
    return value


def _pattern(value: object) -> Pattern:
    if not isinstance(value, str | Pattern):
        msg = f"profile is a list of patterns as text, and {value!r} is none"
        raise InvalidTypeError(msg)
    return Pattern(value) if isinstance(value, str) else value


def _switch(name: str, meaning: str, **rest: Any) -> Option:
    check = partial(_truth, name=name)
    return Option(name=name, meaning=meaning, read=read_truth, check=check, **rest)


def _of_processor(name: str, meaning: str, check: Callable[[Any], object]) -> Option:
    return Option(
        name=name,
        meaning=meaning,
        read=_words,
        check=check,
        many=True,
        owner="MemorySpanProcessor",
    )


def _of_config(name: str, meaning: str, read: Callable[[str], object] = str) -> Option:
    def check(value: Any) -> object:
        given: dict[str, Any] = {name: value}
        Config(**given)
        return value

    return Option(name=name, meaning=meaning, read=read, check=check, owner="Config")


OPTIONS = (
    _switch(
        "spans",
        "measure every span that the program or a library makes (default `true`); `false` leaves "
        "it at functions that are decorated or named",
    ),
    _of_processor(
        "scopes",
        "only spans of instrumentation scopes whose names match one of these patterns",
        check=partial(_pattern_of_names, name="scopes"),
    ),
    _of_processor(
        "names",
        "only spans whose names match one of these patterns",
        check=partial(_pattern_of_names, name="names"),
    ),
    _of_processor("kinds", "only spans of these kinds, such as `server`", check=_kind),
    _of_processor("numbers", "only these of `heap`, `rss` and `gc`", check=_number),
    Option(
        name="min_duration_seconds",
        meaning="no numbers on spans that take less",
        read=float,
        check=_seconds,
        owner="MemorySpanProcessor",
    ),
    Option(
        name="profile",
        meaning="also measure the functions that these patterns name, as `--profile` of "
        "[`stratatrace run`](run.md) does",
        read=_words,
        check=_pattern,
        many=True,
    ),
    _switch(
        "propagate",
        "tasks of thread and process pools carry their trace (default `false`): see "
        "[Processes and threads](workers.md)",
    ),
    _of_config("probe", "how the heap is measured"),
    _of_config("sample_ratio", "share of the calls whose heap is measured", read=float),
    _of_config("rss_peak", "how the peak RSS is found"),
    _of_config("scorer", "how calls are scored"),
    _of_config("max_overhead", "how much of the time measuring may take, such as 0.02", read=float),
    _of_config(
        "sample_allocations",
        "how many bytes there are to one whose traceback is kept, such as `512 KiB`",
    ),
    _switch("disabled", "`true` measures nothing", owner="Config"),
)
_BY_NAME = {option.name: option for option in OPTIONS}


def option_named(name: str) -> Option | None:
    """Return the option of that name, where there is one."""
    return _BY_NAME.get(name)


def options_of_environment() -> dict[str, object]:
    """Return what the variables say, those of `Config` apart, which it reads by itself."""
    found = {}
    for option in OPTIONS:
        text = os.environ.get(option.variable, "").strip()
        if not text or option.owner == "Config":
            continue
        given_as = f"{option.variable}={text!r}"
        try:
            value = option.usable(option.read(text), given_as)
        except ValueError as error:
            _ignore(given_as, error)
            continue
        if value is not None:
            found[option.name] = value
    return found


def _declare(self: object, **declared: object) -> None:
    for option in OPTIONS:
        value = declared.pop(option.name, None)
        given_as = f"{option.name}: {value!r} of the configuration file"
        usable = None if value is None else option.usable(value, given_as)
        setattr(self, option.name, usable)
    for name in declared:
        _logger.error(
            "stratatrace ignores %s of the configuration file, which is no option: %s",
            name,
            likely_option(name, _BY_NAME),
        )


#: What a declarative configuration (``OTEL_CONFIG_FILE``) may say below
#: ``instrumentation/development: python: stratatrace:``. OpenTelemetry reads its fields and makes
#: one of what the file has, where a mistake must not end the program.
DeclaredOptions = make_dataclass(
    "DeclaredOptions",
    [(option.name, Any) for option in OPTIONS],
    namespace={"__init__": _declare},
    init=False,
)
