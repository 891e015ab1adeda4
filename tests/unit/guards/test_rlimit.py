"""The soft limit of the process's data is put back, whatever comes between."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

if sys.platform != "linux":
    pytest.skip("there is no limit of this kind here", allow_module_level=True)

import resource

from stratatrace.guards.rlimit import SoftLimit

if TYPE_CHECKING:
    from collections.abc import Iterator

CEILING = 64 << 30  # Far above what the tests take.


class Interrupt(BaseException):
    """What is thrown into the thread."""


@pytest.fixture
def original() -> Iterator[int]:
    """Return what the limit is, and put it back."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    yield soft
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def soft_limit() -> int:
    return resource.getrlimit(resource.RLIMIT_DATA)[0]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("change", ["lowering", "lowering again", "putting back"])
def test_an_exception_at_the_very_change_loses_nothing(
    original: int, when: str, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Next time it is known what the limit was before, and it is put back."""
    limit, real = SoftLimit(), resource.setrlimit
    if change != "lowering":
        limit.hold(CEILING + 4096)

    def interrupted(*args: Any) -> None:
        if when == "after":
            real(*args)
        raise Interrupt

    with monkeypatch.context() as patched:
        patched.setattr(resource, "setrlimit", interrupted)
        with pytest.raises(Interrupt):
            limit.hold(None if change == "putting back" else CEILING)
    limit.hold(None)
    assert soft_limit() == original
    limit.hold(CEILING)
    assert soft_limit() == CEILING
    limit.hold(None)
    assert (soft_limit(), limit.in_force_bytes) == (original, None)


def test_what_somebody_else_sets_meanwhile_stays(original: int) -> None:
    """It is what the limit is put back to."""
    limit = SoftLimit()
    limit.hold(CEILING)
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (CEILING * 2, hard))
    limit.hold(CEILING)
    limit.hold(None)
    assert soft_limit() == CEILING * 2 != original
