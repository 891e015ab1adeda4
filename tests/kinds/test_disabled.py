"""Switched off, a decorated callable runs bare."""

from __future__ import annotations

import asyncio
import inspect
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from stratatrace import measure, profile_memory
from stratatrace.config import Config
from stratatrace.recorder import active
from stratatrace.testing import recording

from .callables import DECORATORS, PLACES, WAYS, Work, undecorated
from .endings import ENDINGS, outcome_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stratatrace.testing import ListSink


@pytest.fixture
def off() -> Iterator[ListSink]:
    """Have measuring switched off, with a sink that nothing should reach."""
    with recording(Config(disabled=True)) as sink:
        yield sink


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_measured(off: ListSink, way: str, place: str) -> None:
    """Every kind ends as it would without us, without a measurement and without tracing."""
    ending = ENDINGS[way]["returns"]
    tracing: list[bool] = []

    class Watching(Work):
        def __call__(self) -> str:
            tracing.append(tracemalloc.is_tracing())
            return super().__call__()

    bare, ours = (
        outcome_of(PLACES[place](decorate, WAYS[way](Watching())), ending.drive)
        for decorate in (undecorated, DECORATORS["bare"])
    )
    assert (ours.values, ours.error) == (bare.values, bare.error)
    assert tracing == [False, False]
    assert not off.measurements


@pytest.mark.parametrize("way", ["coroutine", "generator", "async generator"])
def test_the_users_own_object_is_returned(off: ListSink, way: str) -> None:
    """The coroutine or generator is the one that the function made, with nothing around it."""
    body = WAYS[way](Work())
    result: Any = profile_memory(body)()
    code = next(getattr(result, n) for n in ("cr_code", "gi_code", "ag_code") if hasattr(result, n))
    assert code is body.__code__
    if inspect.iscoroutine(result):
        result.close()


def test_blocks_and_measure_still_work(off: ListSink) -> None:
    """A program that reads its numbers gets an empty Measurement, not an error."""
    with profile_memory("block") as block:
        pass
    assert block.measurement.heap_net_bytes is None
    assert block.measurement.duration_ns is None
    result, measurement = measure(len, [1])
    assert (result, measurement.heap_net_bytes) == (1, None)

    async def main() -> int:
        return 5

    assert asyncio.run(measure(main))[0] == 5
    assert not off.measurements


@pytest.mark.parametrize("way", ["function", "coroutine", "generator", "async generator"])
def test_the_switch_is_read_at_every_call(way: str) -> None:
    """A function that was decorated before is measured, or not, as it is configured now."""
    decorated = profile_memory(WAYS[way](Work()))
    drive: Callable[..., None] = ENDINGS[way]["returns"].drive
    for disabled in (True, False, True):
        with recording(Config(probe="rss", disabled=disabled)) as sink:
            assert outcome_of(decorated, drive).error is None
            assert len(sink.measurements) == (0 if disabled else 1)
            assert active.enabled is not disabled


@pytest.mark.parametrize("way", ["coroutine", "generator", "async generator"])
def test_switching_off_between_call_and_first_step_runs_bare(way: str) -> None:
    """What was made while measuring was on, and begins while it is off, is not measured."""
    with recording() as before:
        made: Any = profile_memory(WAYS[way](Work()))()
    with recording(Config(disabled=True)) as after:
        assert outcome_of(lambda: made, ENDINGS[way]["returns"].drive).error is None
    assert not before.measurements
    assert not after.measurements
