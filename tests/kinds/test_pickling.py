"""Measured callables go to other processes as the callables that they wrap would."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stratatrace import profile_memory

from .programs.pooled import CASES

if TYPE_CHECKING:
    from collections.abc import Callable

    from stratatrace.testing import ListSink

PROGRAMS = Path(__file__).parent / "programs"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_pools_of_processes_call_measured_callables(method: str) -> None:
    """A pool sends functions and bound methods to its workers, forked or spawned."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(PROGRAMS / "pools.py"), method],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert json.loads(ran.stdout) == {name: results for name, (_, results) in CASES.items()}


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", CASES)
def test_a_pickled_callable_is_found_by_its_name(sink: ListSink, name: str, protocol: int) -> None:
    """Every protocol gives back a callable that does the same; a function, the very object."""
    call, results = CASES[name]
    again = pickle.loads(pickle.dumps(call, protocol))
    assert [again(value) for value in (1, 2)] == results
    if name in {"function", "named", "class method", "static method"}:
        assert again == call


def test_what_cannot_be_found_by_name_is_refused_like_a_bare_one() -> None:
    """A measured local function fails to pickle with the error that a local function has."""

    def local() -> None: ...

    kinds = []
    for target in (local, profile_memory(local)):
        with pytest.raises((pickle.PicklingError, AttributeError)) as caught:
            pickle.dumps(target)
        kinds.append(type(caught.value))
    assert kinds[0] is kinds[1]


@pytest.mark.parametrize("way_out", [pickle.dumps, copy.deepcopy])
def test_a_measured_partial_pickles_and_copies(
    sink: ListSink, way_out: Callable[[Any], Any]
) -> None:
    """What has no name of its own, and would go to another process bare, goes there measured."""
    sent = way_out(profile_memory(partial(int, base=2)))
    again = pickle.loads(sent) if isinstance(sent, bytes) else sent
    assert again("11") == 3
    assert len(sink.measurements) == 1
