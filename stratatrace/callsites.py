"""Descriptions of callsites: from a function, or from the place of a ``with`` block."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from stratatrace.config import check_ratio
from stratatrace.errors import InvalidTypeError, InvalidValueError
from stratatrace.measurement import Callsite
from stratatrace.sizes import parse_size

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType

    from stratatrace.typing import AttributeValue

__all__ = ["Options", "describe_block", "describe_function"]

_MOST_LINES = 50


class Options:
    """What a user may say of a callsite; checked when it is said.

    Args:
        name: Name of the span, in place of the function's.
        attributes: Attributes of every span, of OpenTelemetry's simple types.
        budget: The heap peak that a call may reach, as bytes or text ("200MB").
        sample_ratio: Share of the calls whose heap is traced, 0 to 1.
        top: How many lines to tell of those that have allocated most of what a call keeps.

    Raises:
        InvalidTypeError: An argument is of the wrong type.
        InvalidValueError: A size or ratio makes no sense.
    """

    __slots__ = ("attributes", "budget_bytes", "name", "sample_ratio", "top")

    def named(self, name: str) -> Options:
        """Return the same options under another name."""
        other = copy.copy(self)
        other.name = name
        return other

    def __init__(
        self,
        *,
        name: str | None = None,
        attributes: Mapping[str, AttributeValue] | None = None,
        budget: int | str | None = None,
        sample_ratio: float | None = None,
        top: int | None = None,
    ) -> None:
        if name is not None and not isinstance(name, str):
            msg = f"a name is text, not {name!r}"
            raise InvalidTypeError(msg)
        if name == "":
            msg = "a name must not be empty"
            raise InvalidValueError(msg)
        check_ratio(sample_ratio)
        _check_top(top)
        self.name = name
        self.attributes = _checked_attributes(attributes)
        self.budget_bytes = None if budget is None else parse_size(budget)
        self.sample_ratio = sample_ratio
        self.top = top


def _check_top(top: int | None) -> None:
    if top is None:
        return
    if isinstance(top, bool) or not isinstance(top, int):
        msg = f"top is a number of lines, not {top!r}"
        raise InvalidTypeError(msg)
    if not 1 <= top <= _MOST_LINES:
        msg = f"top is how many lines a span tells, 1 to {_MOST_LINES}, and {top} is not"
        raise InvalidValueError(msg)


def _checked_attributes(
    attributes: Mapping[str, AttributeValue] | None,
) -> Mapping[str, AttributeValue]:
    if attributes is None:
        return {}
    if not isinstance(attributes, Mapping):
        msg = f"attributes is a mapping of names to values, not {attributes!r}"
        raise InvalidTypeError(msg)
    for name, value in attributes.items():
        if not isinstance(name, str) or not isinstance(value, str | bool | int | float):
            msg = f"an attribute is text and a str, bool, int or float; {name!r}: {value!r} is not"
            raise InvalidTypeError(msg)
    return dict(attributes)


def describe_function(function: Callable[..., Any], options: Options) -> Callsite:
    """Return the callsite of a function, or of any callable."""
    target: Any = function
    while isinstance(target, partial):
        target = target.func
    if not hasattr(target, "__qualname__"):
        target = type(target).__call__
    code: CodeType | None = getattr(inspect.unwrap(target), "__code__", None)
    qualified_name: str = target.__qualname__
    return Callsite(
        name=options.name or qualified_name,
        label=options.name,
        function=f"{_module_name(getattr(target, '__module__', None))}.{qualified_name}",
        file=code.co_filename if code else None,
        line=code.co_firstlineno if code else None,
        attributes=options.attributes,
        budget_bytes=options.budget_bytes,
        sample_ratio=options.sample_ratio,
        top=options.top,
    )


@lru_cache(maxsize=2048)
def describe_block(  # noqa: PLR0917 -- positional, so that remembering them costs less
    module: str,
    code: CodeType,
    line: int,
    name: str | None,
    budget_bytes: int | None,
    sample_ratio: float | None,
    top: int | None = None,
) -> Callsite:
    """Return the callsite of a ``with`` block.

    It is made where the block is entered, so it is remembered: a block in a loop is one callsite.

    Args:
        module: Name of the module that the block is in.
        code: The function, or the module's body, that it is in.
        line: Where it is entered.
        name: What the user calls it; None takes the name of the function.
        budget_bytes: See `Callsite`.
        sample_ratio: See `Callsite`.
        top: See `Callsite`.
    """
    module = _module_name(module)
    enclosing = "" if code.co_name == "<module>" else f".{code.co_qualname}"
    return Callsite(
        name=name or f"{module}{enclosing}",
        label=name,
        function=f"{module}{enclosing}",
        file=code.co_filename,
        line=line,
        budget_bytes=budget_bytes,
        sample_ratio=sample_ratio,
        top=top,
    )


def _module_name(name: str | None) -> str:
    # What multiprocessing calls the main module in a worker: the function is the same one.
    return "__main__" if name == "__mp_main__" else name or "builtins"
