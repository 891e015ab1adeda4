"""The scenarios once more, where no span is recorded: the compiled part adds the calls up."""

from __future__ import annotations

import gc

import pytest
from heap_probes import tallied_of
from tracing import untraced

from stratatrace.config import Config
from stratatrace.probes import native_obstacle
from stratatrace.recorder import Recorder, active

from .scenarios import SCENARIOS, Scenario

pytestmark = [
    untraced,
    pytest.mark.skipif(
        native_obstacle() is not None, reason="calls are told one by one without the compiled part"
    ),
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_what_is_added_up_is_true(scenario: Scenario) -> None:
    """The sums count every call, and each of the latest is within its tolerance of the truth."""
    recorder = Recorder(Config(probe="native"))
    recorder.guard.strict = True
    gc.collect()
    with active.replaced(recorder):
        scenario.run()
    told = {
        tallied.callsite.name: sums
        for tallied in tallied_of(recorder)
        if (sums := tallied.take()) is not None
    }
    for truth in scenario.truths:
        if truth.probe not in {None, "native"} or truth.call not in told:
            continue  # A block is told in full.
        sums = told[truth.call]
        assert sums.calls == truth.calls
        latest = sums.latest
        assert len(latest) == min(truth.calls, 16)
        rows = truth.latest(len(latest)).rows(scenario.name, latest)
        assert not [row for row in rows if row.badness > 1]
