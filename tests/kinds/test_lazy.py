"""Every kind of lazy value: it has one span and one Measurement, with what its work took."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.trace import StatusCode

from kinds.callables import KEPT_BYTES, PASSING_BYTES, Work
from stratatrace import lazy, profile_memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from kinds.conftest import Told

NEAR = 5_000


def _function(work: Work) -> Callable[[], Any]:
    def value() -> str:
        return work()

    return value


def _method(work: Work) -> Callable[[Any], Any]:
    def value(_self: object) -> str:
        return work()

    return value


def _wrapped(method: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @functools.wraps(method)
    def wrapper(*arguments: object) -> Any:
        return method(*arguments)

    return wrapper


def _coroutine(work: Work) -> Callable[[], Any]:
    async def value() -> str:
        await asyncio.sleep(0)
        worked = work()
        await asyncio.sleep(0)
        return worked

    return value


def _coroutine_method(work: Work) -> Callable[[Any], Any]:
    async def value(_self: object) -> str:
        return await _coroutine(work)()  # type: ignore[no-any-return]

    return value


def _owner(member: Any, **members: Any) -> Any:
    return type("Owner", (), {"value": member, **members})()


def _run(awaitable: Callable[[], Any]) -> Any:
    async def main() -> Any:
        return await awaitable()

    return asyncio.run(asyncio.wait_for(main(), 20))


SLOTS = {"__slots__": ("__weakref__",)}


def _of(member: Any, **members: Any) -> Callable[[], Any]:
    owner = _owner(member, **members)
    return lambda: owner.value


def _awaited(read: Callable[[], Any]) -> Callable[[], Any]:
    return lambda: _run(read)


#: What makes of some work something that reads its value.
KINDS: dict[str, Callable[[Work], Callable[[], Any]]] = {
    "function": lambda work: lazy(name="value")(_function(work)),
    "partial": lambda work: lazy(name="value")(functools.partial(_method(work), None)),
    "bound method": lambda work: lazy(name="value")(_owner(_method(work)).value),
    "static method": lambda work: _owner(staticmethod(lazy(name="value")(_function(work)))).value,
    "property": lambda work: _of(lazy(name="value")(_method(work))),
    "property, slots": lambda work: _of(lazy(name="value")(_method(work)), **SLOTS),
    "wrapped method": lambda work: _of(lazy(name="value")(_wrapped(_method(work)))),
    "coroutine": lambda work: _awaited(lazy(name="value")(_coroutine(work))),
    "coroutine property": lambda work: _awaited(_of(lazy(name="value")(_coroutine_method(work)))),
    "coroutine property, slots": lambda work: _awaited(
        _of(lazy(name="value")(_coroutine_method(work)), **SLOTS)
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_its_work_is_measured_once(kind: str, told: Told) -> None:
    """The memory that it keeps, its peak, and a span that was current while it worked."""
    work = Work()
    read = KINDS[kind](work)
    assert [read() for _ in range(3)] == ["worked"] * 3
    (measurement,) = told.measurements
    assert measurement.callsite.name == "value"
    assert measurement.heap_net_bytes == pytest.approx(KEPT_BYTES, abs=NEAR)
    assert measurement.heap_peak_bytes == pytest.approx(KEPT_BYTES + PASSING_BYTES, abs=NEAR)
    (span,) = work.spans
    assert span.get_span_context().span_id == told.spans["value"].context.span_id


@pytest.mark.parametrize("kind", KINDS)
def test_its_failures_are_measured_each_time(kind: str, told: Told) -> None:
    """With their error, which is the user's own."""
    work = Work(KeyError("no"))
    read = KINDS[kind](work)
    for count in (1, 2):
        with pytest.raises(KeyError) as caught:
            read()
        assert caught.value is work.error
        assert len(told.measurements) == count
        assert told.measurements[-1].error_type == "KeyError"
    assert told.spans["value"].status.status_code is StatusCode.ERROR
    work.error = None
    assert read() == read() == "worked"
    assert len(told.measurements) == 3


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "coroutine" not in kind])
def test_its_caller_is_charged_for_it(kind: str, told: Told) -> None:
    """Once, and its span is within the caller's."""
    read = KINDS[kind](Work())
    caller = profile_memory("caller")
    for charged in (KEPT_BYTES, 0):
        with caller as block:
            read()
        assert block.measurement.heap_net_bytes == pytest.approx(charged, abs=NEAR)
    value = told.spans["value"]
    assert value.parent is not None
    callers = [s for s in told.exporter.get_finished_spans() if s.name == "caller"]
    assert value.parent.span_id == callers[0].context.span_id
