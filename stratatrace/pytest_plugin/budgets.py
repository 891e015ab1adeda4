"""Budgets of tests and blocks: what was given, and what is said of one that is broken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stratatrace.errors import InvalidTypeError, InvalidValueError
from stratatrace.sizes import format_size, parse_size

if TYPE_CHECKING:
    from stratatrace.pytest_plugin.meter import Measured

__all__ = ["Budget", "budget_of"]

_NAMES = ("heap_peak", "rss_peak")
_TITLES = {"heap_peak": "heap peak", "rss_peak": "RSS peak growth"}
_EXAMPLE = 'write memory_budget("50MB"), or memory_budget("50MB", rss_peak="200MB")'


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a test, or a block of one, may take, in bytes; None where it does not matter."""

    heap_peak: int | None = None
    rss_peak: int | None = None

    def broken_by(self, measured: Measured) -> str | None:
        """Return what is too much, or could not be measured, as a sentence; None where all is well.

        A budget that nobody can hold a test to is no budget: that is not passed over.
        """
        problems = []
        for name in _NAMES:
            budget_bytes, title = getattr(self, name), _TITLES[name]
            if budget_bytes is None:
                continue
            used_bytes = self._used(measured, name)
            if used_bytes is None:
                reason = measured.obstacle or "nothing here can tell it"
                problems.append(f"{title} could not be measured: {reason}")
            elif used_bytes > budget_bytes:
                problems.append(
                    f"{title} {format_size(used_bytes)} is over the budget of "
                    f"{format_size(budget_bytes)} by {format_size(used_bytes - budget_bytes)}"
                )
        return "; ".join(problems) or None

    def told(self, measured: Measured) -> str:
        """Return the section of a report: budgets beside what was measured."""
        lines = [
            f"{_TITLES[name]:<16} {_size(self._used(measured, name)):>10}"
            f"   budget {_size(getattr(self, name))}"
            for name in _NAMES
            if getattr(self, name) is not None
        ]
        return "\n".join([*lines, measured.told()])

    @staticmethod
    def _used(measured: Measured, name: str) -> int | None:
        return measured.heap_peak_bytes if name == "heap_peak" else measured.rss_peak_growth_bytes


def budget_of(*budgets: object, **named: object) -> Budget:
    """Return a budget as a marker gives it.

    Args:
        *budgets: Of the heap peak, bytes or text such as ``"50MB"``; or text with a name, such as
            ``"rss_peak=200MB"``.
        **named: By name, None for none.

    Raises:
        InvalidTypeError: There is no such name, or it is no size.
        InvalidValueError: A size makes no sense, there is none at all, or two of one name.
    """
    given = [_split(budget) for budget in budgets]
    given += [(name, size) for name, size in named.items() if size is not None]
    sizes: dict[str, int] = {}
    for name, size in given:
        if name not in _NAMES:
            msg = f"memory_budget() has no budget {name!r}: it takes {', '.join(_NAMES)}"
            raise InvalidTypeError(msg)
        if name in sizes:
            msg = f"memory_budget() was given two budgets for {name}: {_EXAMPLE}"
            raise InvalidValueError(msg)
        sizes[name] = parse_size(size)  # type: ignore[arg-type] # it says what is wrong with it
    if not sizes:
        msg = f"memory_budget() was given no budget: {_EXAMPLE}"
        raise InvalidValueError(msg)
    return Budget(**sizes)


def _split(budget: object) -> tuple[str, object]:
    if isinstance(budget, str) and "=" in budget:
        name, _, size = budget.partition("=")
        return name.strip(), size
    return "heap_peak", budget


def _size(size_bytes: int | None) -> str:
    return "-" if size_bytes is None else format_size(size_bytes)
