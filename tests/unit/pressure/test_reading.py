"""Levels: the worse of use and waiting, with a sentence for each that is not normal."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratatrace.errors import InvalidTypeError, InvalidValueError
from stratatrace.pressure import LEVELS, MemoryScope, Pressure, PressureThresholds
from stratatrace.pressure.reading import Look, judge
from stratatrace.probes.psi import Stall

GIB = 2**30
DEFAULTS = PressureThresholds()


def _scope(ratio: float, limit: int = 1000, name: str = "machine") -> MemoryScope:
    return MemoryScope(name, round(ratio * limit), limit)


@pytest.mark.parametrize(
    ("ratio", "level"),
    [(0, "normal"), (0.799, "normal"), (0.8, "warning"), (0.899, "warning"), (0.9, "critical")],
)
def test_use(ratio: float, level: str) -> None:
    """The thresholds belong to the higher level."""
    assert judge(Look((_scope(ratio),)), DEFAULTS).level == level


@pytest.mark.parametrize(
    ("percent", "level"),
    [(0.0, "normal"), (9.99, "normal"), (10.0, "warning"), (39.9, "warning"), (40.0, "critical")],
)
def test_waiting(percent: float, level: str) -> None:
    """Counts by itself, where no limit is near."""
    look = Look((_scope(0.1),), Stall(percent, 90.0, 90.0), "cgroup")
    assert judge(look, DEFAULTS).level == level


def test_the_worse_of_both_with_all_reasons() -> None:
    """Each scope that is not normal, and the waiting, have a sentence."""
    look = Look(
        (
            MemoryScope("cgroup /a", 850 * 2**20, 1000 * 2**20),
            MemoryScope("machine", 15 * GIB, 16 * GIB),
            MemoryScope("cgroup /", 1, 10),
        ),
        Stall(12.5, 3.0, None),
        "system",
    )
    pressure = judge(look, DEFAULTS)
    assert pressure.level == "critical"
    assert pressure.reasons == (
        "85% of the memory of cgroup /a is in use: 850.0 MiB of 1000.0 MiB",
        "94% of the memory of machine is in use: 15.0 GiB of 16.0 GiB",
        "tasks of the system waited for memory in 12.5% of the last 10 s",
    )
    assert (pressure.used_bytes, pressure.limit_bytes) == (15 * GIB, 16 * GIB)
    assert pressure.ratio == 15 / 16
    assert pressure.limited_by == "machine"


def test_headroom_is_the_least_of_any_scope() -> None:
    """The fullest by ratio is not always the one with the least left."""
    look = Look((MemoryScope("cgroup /", 50, 100), MemoryScope("machine", 900, 1000)))
    pressure = judge(look, DEFAULTS)
    assert (pressure.limited_by, pressure.headroom_bytes) == ("machine", 50)


@pytest.mark.parametrize(("used", "level"), [(0, "normal"), (1, "critical")])
def test_a_limit_of_zero(used: int, level: str) -> None:
    """A group may be told to give all back; whatever it has is too much."""
    assert judge(Look((MemoryScope("cgroup /", used, 0),)), DEFAULTS).level == level


def test_above_a_limit() -> None:
    """What is left is never negative."""
    pressure = judge(Look((MemoryScope("cgroup /", 12, 10),)), DEFAULTS)
    assert (pressure.ratio, pressure.headroom_bytes) == (1.2, 0)


def test_nothing_is_known() -> None:
    """Numbers are None, and the text says so."""
    pressure = judge(Look(), DEFAULTS)
    assert (pressure.level, pressure.reasons) == ("normal", ())
    numbers = {k: v for k, v in pressure.to_dict().items() if k not in {"level", "reasons"}}
    assert set(numbers.values()) == {None}
    assert str(pressure) == "memory pressure: normal; no source of it can be read here"


def test_for_people_and_for_machines() -> None:
    """The text has the numbers, the dictionary every field."""
    look = Look((MemoryScope("cgroup /a", 3 * GIB, 4 * GIB),), Stall(1.5, 0.5, 0.25), "cgroup")
    pressure = judge(look, DEFAULTS)
    assert str(pressure) == (
        "memory pressure: normal; 3.0 GiB of 4.0 GiB (75%) in use in cgroup /a; "
        "1.5% of the last 10 s waiting for memory"
    )
    assert json.loads(json.dumps(pressure.to_dict())) == {
        "level": "normal",
        "reasons": [],
        "used_bytes": 3 * GIB,
        "limit_bytes": 4 * GIB,
        "ratio": 0.75,
        "limited_by": "cgroup /a",
        "headroom_bytes": GIB,
        "stall_some_avg10_percent": 1.5,
        "stall_some_avg60_percent": 0.5,
        "stall_full_avg10_percent": 0.25,
        "stall_of": "cgroup",
    }


def test_thresholds_can_be_chosen() -> None:
    """And may be the same, so that there is no warning."""
    thresholds = PressureThresholds(warning_ratio=0.5, critical_ratio=0.5)
    assert judge(Look((_scope(0.5),)), thresholds).level == "critical"
    assert judge(Look((_scope(0.49),)), thresholds).level == "normal"


@pytest.mark.parametrize("name", [f.name for f in DEFAULTS.__dataclass_fields__.values()])
@pytest.mark.parametrize("value", ["0.8", None, True, 0, -0.1, 101, math.nan, math.inf])
def test_a_threshold_that_makes_no_sense(name: str, value: Any) -> None:
    """Raises, and names what was given."""
    error = InvalidTypeError if isinstance(value, str | bool | None) else InvalidValueError
    with pytest.raises(error, match=name) as caught:
        PressureThresholds(**{name: value})
    assert repr(value) in str(caught.value)


def test_a_warning_after_what_is_critical() -> None:
    """Cannot be."""
    with pytest.raises(
        InvalidValueError, match=r"warning_ratio=0\.95 is above critical_ratio=0\.9"
    ):
        PressureThresholds(warning_ratio=0.95)


@given(
    ratios=st.lists(st.floats(0, 2), max_size=4),
    waited=st.none() | st.floats(0, 100),
    more=st.floats(0, 1),
)
def test_more_is_never_less_pressing(
    ratios: list[float], waited: float | None, more: float
) -> None:
    """A level rises with each number, and there are reasons just where it is not normal."""
    stall = None if waited is None else Stall(waited, 0.0, None)
    pressure = judge(Look(tuple(map(_scope, ratios)), stall), DEFAULTS)
    harder = judge(Look((*map(_scope, ratios), _scope(more)), stall), DEFAULTS)
    assert LEVELS.index(harder.level) >= LEVELS.index(pressure.level)
    around = judge(Look((_scope(more), *map(_scope, ratios)), stall), DEFAULTS)
    assert around.level == harder.level
    assert bool(pressure.reasons) == (pressure.level != "normal")
    assert isinstance(pressure, Pressure)
