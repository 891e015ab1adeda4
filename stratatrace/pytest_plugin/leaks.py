"""``no_leaks``: a test's call, again and again, with as little of pytest's own as can be."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["fail_where_it_leaks"]

_CAPTURES = ("capsys", "capsysbinary", "capfd", "capfdbinary")


def fail_where_it_leaks(
    item: pytest.Function, runtest: Callable[[], None], options: dict[str, Any]
) -> None:
    """Call a test's own part again and again; fail it where its memory grows from call to call.

    Args:
        item: The test, set up.
        runtest: Its own part.
        options: Of `find_leaks`.
    """
    # By name, and here: a room of its own that only this marker needs.
    find_leaks = import_module("stratatrace.diagnose.leaks").find_leaks

    def once() -> None:
        _forget_what_was_captured(item)
        with warnings.catch_warnings(record=True):  # Else each is kept, to be told at the end.
            runtest()
        raise_unittest_failure(item)

    # Never by the node id, which has the arguments of a parametrised test in it.
    name = f"{item.module.__name__}.{item.originalname}"
    with _silent_subtests(item):
        report = find_leaks(once, name=name, **options)
    if report:
        item.add_report_section("call", "leaks", str(report))
        pytest.fail(f"the test leaks: {_first_line(report)}", pytrace=False)


@contextmanager
def _silent_subtests(item: pytest.Function) -> Iterator[None]:
    """Have subtests of a `unittest.TestCase` not told each time, but for their failures."""
    if not hasattr(item, "addSubTest"):
        yield
        return

    def add_subtest(_case: object, _test: object, error: Any) -> None:
        if error is not None:
            raise error[1].with_traceback(error[2])

    vars(item)["addSubTest"] = add_subtest
    try:
        yield
    finally:
        del vars(item)["addSubTest"]


def raise_unittest_failure(item: pytest.Item) -> None:
    """Raise what a test of a `unittest.TestCase` has failed with: its `runtest` does not."""
    failures: list[pytest.ExceptionInfo[BaseException]] = getattr(item, "_excinfo", None) or []
    if failures:
        raise failures[0].value.with_traceback(failures[0].tb)


def _forget_what_was_captured(item: pytest.Function) -> None:
    """Drop what pytest has kept of earlier calls, and would keep more of with each."""
    for handler in logging.getLogger().handlers:
        if type(handler).__name__ == "LogCaptureHandler":
            handler.reset()  # type: ignore[attr-defined] # pytest's own
    for name in _CAPTURES:
        capture: Any = item.funcargs.get(name)
        if capture is not None:
            capture.readouterr()


def _first_line(report: object) -> str:
    lines = str(report).splitlines()
    return lines[0] if lines else "find_leaks has nothing to say of it"
