"""The markers of a test, read; nonsense in them fails the collection of its file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stratatrace.errors import InvalidTypeError, InvalidValueError, StratatraceError
from stratatrace.pytest_plugin.budgets import budget_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

    from stratatrace.pytest_plugin.budgets import Budget

__all__ = ["budget_on", "leak_options_on", "refuse_nonsense"]


def budget_on(node: pytest.Item | pytest.Collector) -> Budget | None:
    """Return the budget that a test is marked with; None without.

    Raises:
        StratatraceError: It makes no sense.
    """
    mark = node.get_closest_marker("memory_budget")
    return None if mark is None else budget_of(*mark.args, **mark.kwargs)


def leak_options_on(node: pytest.Item | pytest.Collector) -> dict[str, Any] | None:
    """Return the options of ``no_leaks`` that a test is marked with; None without the marker.

    Raises:
        StratatraceError: They make no sense.
    """
    mark = node.get_closest_marker("no_leaks")
    if mark is None:
        return None
    unknown = sorted(mark.kwargs.keys() - {"iterations"})
    if mark.args or unknown:
        given = repr(unknown[0]) if unknown else repr(mark.args[0])
        msg = f"no_leaks() was given {given}: write no_leaks, or no_leaks(iterations=50)"
        raise InvalidTypeError(msg)
    iterations = mark.kwargs.get("iterations")
    if iterations is None:
        return {}
    if isinstance(iterations, bool) or not isinstance(iterations, int):
        msg = f"iterations of no_leaks() is a number of calls, and {iterations!r} is not"
        raise InvalidTypeError(msg)
    if iterations < 1:
        msg = f"iterations of no_leaks() is 1 or more, and {iterations!r} is not"
        raise InvalidValueError(msg)
    return {"iterations": iterations}


def refuse_nonsense(
    report: pytest.CollectReport,
    marked: Iterable[pytest.Item | pytest.Collector],
    collector: pytest.Collector,
) -> None:
    """Make *report* one of a failure where a marker makes no sense.

    Args:
        report: Of what was collected.
        marked: The tests in it that are marked.
        collector: Of the report.
    """
    problems = []
    for node in marked:
        try:
            budget_on(node)
            leak_options_on(node)
        except StratatraceError as error:
            name = node.nodeid.removeprefix(collector.nodeid).lstrip(":") or node.nodeid
            problems.append(f"{name}: {error}")
    if problems:
        report.outcome = "failed"
        report.longrepr = "\n".join(problems)
