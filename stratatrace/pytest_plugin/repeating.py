"""A test once more, with its own fixtures made anew, from within its first run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["run_again"]


def run_again(item: pytest.Function) -> bool:
    """Tear a test down that is set up, set it up and call it; return whether all of that went well.

    Only what is the test's own is torn down: fixtures of wider scope stay. Whatever happens, it is
    left set up, or as a set-up that has failed leaves it, for the teardown that will come.

    Args:
        item: The test, between its call and its teardown.
    """
    hook = item.ihook
    # The parent stands for a next test of the same class or module, which is asked for no more than
    # who its parents are.
    torn_down = _goes_well(
        item, "teardown", lambda: hook.pytest_runtest_teardown(item=item, nextitem=item.parent)
    )
    item._initrequest()  # noqa: SLF001 -- so do all who run a test again
    set_up = _goes_well(item, "setup", lambda: hook.pytest_runtest_setup(item=item))
    return (
        torn_down
        and set_up
        and _goes_well(item, "call", lambda: hook.pytest_runtest_call(item=item))
    )


def _goes_well(
    item: pytest.Function, when: Literal["setup", "call", "teardown"], phase: Callable[[], Any]
) -> bool:
    # What ends the session as a whole goes on: no outcome of a test is of these.
    reraise = (pytest.exit.Exception, KeyboardInterrupt)
    call = pytest.CallInfo.from_call(phase, when, reraise=reraise)
    # Nobody is shown the report; others note by it what they undo in the next phase.
    report: pytest.TestReport = item.ihook.pytest_runtest_makereport(item=item, call=call)
    return report.passed
