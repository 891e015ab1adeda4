"""The cross: a measured call ends as the bare one would, and is told of once, and rightly."""

from __future__ import annotations

import gc
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import StatusCode

from .callables import (
    CLASSES,
    DECORATORS,
    KEPT_BYTES,
    PASSING_BYTES,
    PLACES,
    WAYS,
    Work,
    undecorated,
)
from .endings import ENDINGS, Trouble, outcome_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .conftest import Told
    from .endings import Ending, Outcome

TROUBLE = f"{Trouble.__module__}.{Trouble.__qualname__}"

WAYS_AND_ENDINGS = [
    pytest.param(way, ending, id=f"{way}-{name}")
    for way, endings in ENDINGS.items()
    for name, ending in endings.items()
]
MAKERS = [
    pytest.param(lambda body, d=decorate, p=place: p(d, body), id=f"{where}-{how}")
    for where, place in PLACES.items()
    for how, decorate in DECORATORS.items()
] + [pytest.param(make, id=name) for name, make in CLASSES.items()]


def near(expected_bytes: int) -> object:
    """Return what equals a number of bytes to within 1% or 4 KiB."""
    return pytest.approx(expected_bytes, rel=0.01, abs=4096)


@pytest.fixture(autouse=True)
def no_collections() -> Iterator[None]:
    """Keep the collector out of the numbers; a test that wants one asks for it."""
    gc.disable()
    yield
    gc.enable()


def bare_and_measured(
    way: str, ending: Ending, make: Callable[[Any], Callable[[], Any]]
) -> tuple[Outcome, Outcome, Work]:
    """Run the same body without us and with us."""
    outcomes = []
    makers: list[Callable[[Any], Callable[[], Any]]] = [
        lambda body: PLACES["function"](undecorated, body),
        make,
    ]
    for maker in makers:
        work = Work(Trouble("raised") if ending.raises else None)
        outcomes.append(outcome_of(maker(WAYS[way](work)), ending.drive))
    return outcomes[0], outcomes[1], work


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(("way", "ending"), WAYS_AND_ENDINGS)
def test_a_measured_call_ends_like_a_bare_one_and_is_told_of_once(
    told: Told, way: str, ending: Ending, make: Callable[[Any], Callable[[], Any]]
) -> None:
    """Values, error, numbers and span are right for every kind and every ending."""
    bare, ours, work = bare_and_measured(way, ending, make)

    assert ours.values == bare.values
    assert type(ours.error) is type(bare.error)
    if ending.raises:
        assert ours.error is work.error

    (measurement,) = told.measurements
    assert measurement.error_type == (TROUBLE if ending.is_error else None)
    assert measurement.heap_net_bytes == near(KEPT_BYTES)
    assert measurement.heap_peak_bytes == near(KEPT_BYTES + PASSING_BYTES)
    assert measurement.attribution == "exact"

    (span,) = told.exporter.get_finished_spans()
    assert work.spans[0].get_span_context() == span.get_span_context()
    assert not any(ours.in_span), "the span leaked into the caller"
    assert trace.get_current_span() is trace.INVALID_SPAN
    assert span.status.status_code is (StatusCode.ERROR if ending.is_error else StatusCode.UNSET)
    assert span.attributes is not None
    assert span.attributes.get("error.type") == measurement.error_type
    assert span.attributes["stratatrace.heap.net"] == measurement.heap_net_bytes
    assert not span.events


@pytest.mark.parametrize(("way", "ending"), WAYS_AND_ENDINGS)
def test_a_traceback_ends_in_the_same_frames_as_a_bare_one(
    told: Told, way: str, ending: Ending
) -> None:
    """From the user's code inwards, no frame of ours stands in a traceback."""
    bare, ours, _ = bare_and_measured(way, ending, DECORATORS["bare"])
    assert ours.frames == bare.frames


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        pytest.param(lambda d: d(lambda x: x + 1)(1), 2, id="lambda"),
        pytest.param(lambda d: d(len)([1, 2]), 2, id="builtin"),
        pytest.param(lambda d: d([1, 2, 2].count)(2), 2, id="builtin method"),
        pytest.param(lambda d: d(str.upper)("a"), "A", id="method descriptor"),
        pytest.param(lambda d: d(pow)(2, exp=5, mod=7), 4, id="builtin, by keyword"),
    ],
)
def test_callables_without_a_body_are_measured(
    told: Told, call: Callable[[Any], Any], expected: Any
) -> None:
    """Lambdas and callables that were not written in Python give their result and one span."""
    assert call(DECORATORS["bare"]) == expected
    assert len(told.measurements) == len(told.spans) == 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", ["function", "method", "class method", "static method"])
def test_wrong_arguments_raise_where_the_call_is_written(told: Told, way: str, place: str) -> None:
    """A call with an argument that does not exist raises the TypeError that it would without us."""
    errors = []
    for decorate in (undecorated, DECORATORS["bare"]):
        call: Any = PLACES[place](decorate, WAYS[way](Work()))
        with pytest.raises(TypeError) as caught:
            call(nonsense=1)
        errors.append(str(caught.value))
    assert errors[0] == errors[1]
    assert "unexpected keyword argument 'nonsense'" in errors[1]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), MemoryError(), Trouble("x")])
def test_every_exception_of_the_user_passes_as_the_same_object(
    told: Told, error: BaseException
) -> None:
    """What is no Exception passes too, with its cause, its context and its own traceback tail."""
    error.__cause__ = cause = ValueError("cause")
    for way in ("function", "coroutine", "generator"):
        ending = ENDINGS[way]["raises"]
        outcome = outcome_of(DECORATORS["bare"](WAYS[way](Work(error))), ending.drive)
        assert outcome.error is error
        assert outcome.error.__cause__ is cause
        assert outcome.error.__context__ is None
    kinds = {m.error_type for m in told.measurements}
    assert len(told.measurements) == 3
    assert len(kinds) == 1
    assert str(kinds.pop()).endswith(type(error).__qualname__)


def test_nested_calls_of_every_kind_are_parent_and_child(told: Told) -> None:
    """Spans of measured calls inside measured calls hang below them, whatever their kinds."""
    measure = DECORATORS["bare"]

    @measure
    def leaf() -> int:
        return 1

    @measure
    def items() -> Iterator[int]:
        yield leaf()

    @measure
    async def middle() -> int:
        return sum(items())

    @measure
    async def many() -> Any:
        yield await middle()

    @measure
    async def root() -> list[int]:
        return [item async for item in many()]

    ending = ENDINGS["coroutine"]["returns"]
    assert outcome_of(root, ending.drive).values == [[1]]
    chain = [told.spans[f.__qualname__] for f in (root, many, middle, items, leaf)]
    assert chain[0].parent is None
    for parent, child in pairwise(chain):
        assert child.parent is not None
        parent_context = parent.get_span_context()
        assert parent_context is not None
        assert child.parent.span_id == parent_context.span_id
