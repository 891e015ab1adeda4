"""Every scenario's numbers are those that are known beforehand."""

from __future__ import annotations

import pytest
from heap_probes import PROBES
from tracing import untraced

from .scenarios import SCENARIOS, Scenario

pytestmark = untraced


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_what_is_measured_is_true(scenario: Scenario, probe: str) -> None:
    """Every number is within its tolerance of the truth, and says whose memory it is."""
    for truth, measurements in scenario.measure(probe):
        assert len(measurements) == truth.calls
        if truth.attribution is not None:
            assert {m.attribution for m in measurements} == {truth.attribution}
        wrong = [row for row in truth.rows(scenario.name, measurements) if row.badness > 1]
        assert not wrong
