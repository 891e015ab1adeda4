"""What the accuracy tests share."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session", autouse=True)
def hypothesis_has_started() -> None:
    """Have Hypothesis add its callback to the collector now, and not within the first test."""

    @settings(max_examples=1, database=None)
    @given(st.none())
    def example(_: None) -> None: ...

    example()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Iterator[None]:
    """Have no test trace because the one before it failed to stop."""
    try:
        return (yield)
    finally:
        if tracemalloc.is_tracing():
            tracemalloc.stop()
