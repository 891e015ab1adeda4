"""All that leaks is found, and nothing else is blamed."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from heap_probes import PROBES
from tracing import untraced

from stratatrace import find_leaks

from .leak_corpus import PATTERNS, Pattern

pytestmark = untraced


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.name)
def test_the_verdict_is_the_truth(pattern: Pattern) -> None:
    """By the best probe that there is; `nox -s accuracy` asks all of them, and each once."""
    if _verdict(pattern) != pattern.leaks:
        # A phase is bounded in time, and a busy machine can cut it short: two of three count.
        assert [_verdict(pattern) for _ in range(2)] == [pattern.leaks] * 2


def _verdict(pattern: Pattern) -> bool:
    with ExitStack() as held:
        return find_leaks(pattern.make(held), culprits=False, probe=PROBES[0]).leaks
