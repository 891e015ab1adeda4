"""The values that flow through the package: frozen, and honest about what was not measured."""

from __future__ import annotations

import dataclasses
import inspect
import json
import pickle

import pytest

from stratatrace.measurement import Callsite, Measurement, Reading

CALLSITE = Callsite(name="load", function="app.load")


@pytest.mark.parametrize(
    ("value", "field"), [(CALLSITE, "name"), (Measurement(callsite=CALLSITE), "heap_net_bytes")]
)
def test_values_are_frozen_and_slotted(value: object, field: str) -> None:
    """They cannot be changed, and hold no dictionary."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, field, "other")
    assert not hasattr(value, "__dict__")


def test_values_are_keyword_only() -> None:
    """Numbers cannot be mixed up by their order."""
    with pytest.raises(TypeError):
        Measurement(CALLSITE)  # type: ignore[call-arg]  # positional on purpose
    with pytest.raises(TypeError):
        Callsite("load", "app.load")  # type: ignore[call-arg]  # positional on purpose


def test_what_was_not_measured_is_none() -> None:
    """Every field but the callsite is None by default, never 0."""
    measurement = Measurement(callsite=CALLSITE)
    values = {f.name: getattr(measurement, f.name) for f in dataclasses.fields(measurement)}
    del values["callsite"]
    assert set(values.values()) == {None}


def test_callsites_are_equal_only_to_themselves() -> None:
    """Two callsites of one description are two keys."""
    twin = Callsite(name="load", function="app.load")
    assert twin != CALLSITE
    assert len({twin, CALLSITE, CALLSITE}) == 2


@pytest.mark.parametrize(
    ("budget", "peak", "exceeded"),
    [(None, 5, None), (5, None, None), (5, 5, False), (5, 6, True), (5, 0, False)],
)
def test_a_budget_is_exceeded_above_it(
    budget: int | None, peak: int | None, exceeded: bool | None
) -> None:
    """On the budget is within it; without a budget, or a peak, nothing can be said."""
    callsite = Callsite(name="f", function="f", budget_bytes=budget)
    assert Measurement(callsite=callsite, heap_peak_bytes=peak).budget_exceeded is exceeded


def test_numbers_for_machines() -> None:
    """`to_dict` has every field by its name, is JSON, and names the callsite twice."""
    measurement = Measurement(callsite=CALLSITE, heap_net_bytes=-3, error_type="ValueError")
    numbers = json.loads(json.dumps(measurement.to_dict()))
    names = {f.name for f in dataclasses.fields(Measurement)} - {"callsite"}
    assert set(numbers) == names | {"name", "function"}
    assert (numbers["name"], numbers["function"]) == ("load", "app.load")
    assert (numbers["heap_net_bytes"], numbers["error_type"]) == (-3, "ValueError")


def test_a_reading_is_a_pair() -> None:
    """Level first, peak second."""
    assert Reading(1, 2) == (1, 2)
    assert Reading(level_bytes=1, peak_bytes=2).peak_bytes == 2


def test_a_measurement_goes_to_another_process() -> None:
    """What a worker measured can be sent home."""
    measurement = Measurement(callsite=CALLSITE, heap_net_bytes=5)
    assert pickle.loads(pickle.dumps(measurement)).to_dict() == measurement.to_dict()


def test_every_field_says_what_it_means() -> None:
    """Each field stands below a comment that documents it."""
    lines = inspect.getsource(Measurement).splitlines()
    fields = [f.name for f in dataclasses.fields(Measurement)][1:]
    for name in fields:
        position = next(i for i, line in enumerate(lines) if line.startswith(f"    {name}:"))
        assert lines[position - 1].strip().startswith("#:"), name
