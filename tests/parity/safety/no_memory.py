"""Measured calls, with each allocation failing in turn."""

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import _testcapi  # type: ignore[import-not-found]  # CPython's own
import gc
import logging
import sys
from typing import TYPE_CHECKING, Any

from setting import (  # type: ignore[import-not-found]
    assert_all_is_well,
    install,
    measured,
    tallied_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_ALLOCATIONS = 250
ERROR = ValueError("the program's own")
logging.disable()
gc.disable()


@measured
def returns() -> str:
    return "result"


@measured
def raises() -> None:
    raise ERROR


def outcome(function: Callable[[], Any], failing: int) -> Any:
    """Return the result or the error of a call, one allocation of which fails."""
    _testcapi.set_nomemory(failing, failing + 1)
    try:
        return function()
    except BaseException as error:
        return error
    finally:
        _testcapi.remove_mem_hooks()


recorder = install(sys.argv[1])

for nth in range(MOST_ALLOCATIONS):
    if nth % 20 == 0:
        recorder = install(sys.argv[1])  # The first call of each function is another one.
    assert outcome(returns, nth) == "result", nth
    assert_all_is_well(recorder)
    # To raise takes memory by itself: the program has no other error than this one, though.
    error = outcome(raises, nth)
    assert error is ERROR or isinstance(error, MemoryError | SystemError), error
    assert_all_is_well(recorder)
    block = measured("block")
    outcome(block.__enter__, nth)
    block.__exit__(None, None, None)
    assert_all_is_well(recorder)
    for tallied in tallied_of(recorder):
        told = tallied.tally.take
        taken = outcome(told, nth % 20)
        # What could not be told is told the next time.
        assert isinstance(taken, MemoryError) <= (told() is not None)
sys.stdout.write("done\n")
