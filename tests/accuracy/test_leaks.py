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
    """By the best probe that there is; `nox -s accuracy` asks all of them."""
    with ExitStack() as held:
        report = find_leaks(pattern.make(held), culprits=False, probe=PROBES[0])
    assert report.leaks == pattern.leaks, report
