"""What measuring spans leaves behind, which is nothing."""

from __future__ import annotations

import logging

import pytest
from heap_probes import PROBES
from soaking import soak
from tracing import untraced

from stratatrace.config import Config
from stratatrace.testing import recording

SPANS = 9_000


@untraced
@pytest.mark.parametrize("probe", PROBES)
def test_spans_leave_nothing_behind(probe: str, caplog: pytest.LogCaptureFixture) -> None:
    """However they end, or do not: memory is the same after some as after three times as many."""
    caplog.set_level(logging.CRITICAL, "opentelemetry")  # It warns of each second end.
    with recording(Config(probe=probe, sample_ratio=1.0 if probe == "native" else 0.01)):
        looks = list(soak(SPANS, looks=3, names=100))
    made = looks[-1].spans - looks[0].spans
    assert looks[-1].blocks - looks[0].blocks < made / 20, looks
