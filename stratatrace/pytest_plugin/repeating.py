"""A test once more, with its own fixtures made anew, from within its first run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from stratatrace.pytest_plugin.leaks import raise_unittest_failure

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
    # The parent stands for a next test of the same class or module, which asks it for no more than
    # who its parents are.
    torn_down = _goes_well(
        lambda: hook.pytest_runtest_teardown(item=item, nextitem=cast("Any", item.parent)),
        "teardown",
    )
    item._initrequest()  # noqa: SLF001 -- so do all who run a test again
    if not (_goes_well(lambda: hook.pytest_runtest_setup(item=item), "setup") and torn_down):
        return False

    def call() -> None:
        hook.pytest_runtest_call(item=item)
        raise_unittest_failure(item)

    return _goes_well(call, "call")


def _goes_well(phase: Callable[[], object], when: Any) -> bool:
    # What ends the session as a whole goes on: no outcome of a test is of these.
    reraise = (pytest.exit.Exception, KeyboardInterrupt)
    call = pytest.CallInfo.from_call(phase, when, reraise=reraise)
    return call.excinfo is None
