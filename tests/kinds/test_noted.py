"""The cross, of calls that are noted: they end like bare ones, and notes see what they should."""

from __future__ import annotations

import gc
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.trace import StatusCode
from tracing import untraced

from stratatrace.callsites import Options, describe_function
from stratatrace.noting import Notes
from stratatrace.wrapping import measured, measured_member

from .callables import KEPT_BYTES, PASSING_BYTES, PLACES
from .test_outcomes import TROUBLE, WAYS_AND_ENDINGS, bare_and_measured, near

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from stratatrace.measurement import Measurement

    from .conftest import Told
    from .endings import Ending


class Everything(Notes):
    """Notes all that it is told of, the latest call last."""

    seen: list[tuple[str, Any]]

    def called(self, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        type(self).seen = [("called", (arguments, keywords))]
        self.attributes["test.arguments"] = len(arguments)

    def gave(self, item: Any) -> None:
        self.seen.append(("gave", item))

    def gave_in_all(self, items: int) -> None:
        self.seen.append(("gave in all", items))

    def returned(self, result: Any) -> None:
        self.seen.append(("returned", result))

    def ending(self) -> None:
        self.seen.append(("ending", None))
        self.attributes["test.seen"] = len(self.seen)

    def ended(self, measurement: Measurement) -> None:
        self.seen.append(("ended", measurement))


class Counting(Everything):
    """Notes no step of a generator."""

    each_step = False


class Failing(Notes):
    """Finds that every call has failed."""

    def called(self, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        del arguments, keywords
        self.failure = "it_failed"


@pytest.fixture(autouse=True)
def no_collections() -> Iterator[None]:
    """Keep the collector out of the numbers."""
    gc.disable()
    yield
    gc.enable()


def noting(notes: type[Notes], place: str) -> Callable[[Any], Callable[[], Any]]:
    """Return what measures a body at a place, with notes."""

    def decorate(target: Any) -> Any:
        return measured_member(target, lambda f: describe_function(f, Options()), notes)

    return lambda body: PLACES[place](decorate, body)


@pytest.mark.parametrize("place", ["function", "method", "class method, outside"])
@pytest.mark.parametrize(("way", "ending"), WAYS_AND_ENDINGS)
def test_a_noted_call_ends_like_a_bare_one(
    told: Told, way: str, ending: Ending, place: str
) -> None:
    """Values, error, frames, numbers and span are right for every kind and every ending."""
    bare, ours, work = bare_and_measured(way, ending, noting(Everything, place))
    assert ours.values == bare.values
    assert type(ours.error) is type(bare.error)
    if ending.raises:
        assert ours.error is work.error
    (measurement,) = told.measurements
    assert measurement.error_type == (TROUBLE if ending.is_error else None)
    assert measurement.heap_net_bytes == near(KEPT_BYTES)
    assert measurement.heap_peak_bytes == near(KEPT_BYTES + PASSING_BYTES)
    (span,) = told.exporter.get_finished_spans()
    assert work.spans[0].get_span_context() == span.get_span_context()
    assert not any(ours.in_span)
    assert span.status.status_code is (StatusCode.ERROR if ending.is_error else StatusCode.UNSET)

    assert span.attributes is not None
    seen = Everything.seen
    assert seen[0][0] == "called"
    assert span.attributes["test.arguments"] == len(seen[0][1][0]) == int(place != "function")
    assert seen[-1] == ("ended", measurement)
    assert seen[-2] == ("ending", None)
    assert span.attributes["test.seen"] == len(seen) - 1
    if way in {"function", "coroutine"}:
        last = bare.values[-1:]
        assert seen[1:-2] == [("returned", value) for value in last if value == "worked"]
    else:
        assert {name for name, _ in seen[1:-2]} == {"gave"}


@pytest.mark.parametrize(
    ("way", "ending"), [p for p in WAYS_AND_ENDINGS if p.values[0] == "generator"]
)
def test_a_generator_whose_steps_are_not_charged_ends_like_a_bare_one(
    told: Told, way: str, ending: Ending
) -> None:
    """It has a span that is not current, no memory of its own, and the number of its items."""
    bare, ours, work = bare_and_measured(way, ending, noting(Counting, "method"))
    assert ours.values == bare.values
    assert type(ours.error) is type(bare.error)
    if ending.raises:
        assert ours.error is work.error
    (measurement,) = told.measurements
    assert measurement.error_type == (TROUBLE if ending.is_error else None)
    assert measurement.heap_net_bytes is None
    assert measurement.gc_time_ns is None
    assert measurement.rss_peak_bytes is None
    assert measurement.duration_ns
    (span,) = told.exporter.get_finished_spans()
    assert not work.spans[0].get_span_context().is_valid
    assert span.status.status_code is (StatusCode.ERROR if ending.is_error else StatusCode.UNSET)
    counts = [told for name, told in Counting.seen if name == "gave in all"]
    # The last that its driver sees of one that did not fail is no item of it.
    assert counts == [len(bare.values) - (bare.error is None)]


def test_a_generator_that_swallows_its_close_goes_on(told: Told) -> None:
    """As without us: the first close fails, and what comes next comes."""

    def stubborn() -> Iterator[int]:
        for number in range(3):
            with suppress(GeneratorExit):
                yield number

    for notes in (None, Everything, Counting):
        stream = measured(stubborn, describe_function(stubborn, Options()), notes)()
        assert next(stream) == 0
        with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
            stream.close()
        assert list(stream) == [2]
    assert [m.error_type for m in told.measurements] == [None, None, None]


@pytest.mark.parametrize("notes", [Everything, Counting])
def test_what_is_given_does_not_live_longer(told: Told, notes: type[Notes]) -> None:
    """An item goes when its consumer drops it, and not with the next step."""

    class Item:
        gone = 0

        def __del__(self) -> None:
            Item.gone += 1

    def items() -> Iterator[Item]:
        yield Item()
        assert Item.gone == 1
        yield Item()

    Everything.seen = []
    for _item in measured(items, describe_function(items, Options()), notes)():
        notes.seen = []  # type: ignore[attr-defined] # it keeps what it is given
        del _item
    assert Item.gone == 2
    assert told.measurements[0].error_type is None


def test_a_call_can_fail_without_an_exception(told: Told) -> None:
    """What notes say of its failure is the status, and the error type, unless it has raised."""
    noted = measured(lambda x: 1 // x, describe_function(len, Options()), Failing)
    assert noted(1) == 1
    with pytest.raises(ZeroDivisionError):
        noted(0)
    assert [m.error_type for m in told.measurements] == ["it_failed", "ZeroDivisionError"]
    first, second = told.exporter.get_finished_spans()
    assert first.status.description == "it_failed"
    assert second.status.description == "ZeroDivisionError"


@untraced
def test_an_empty_call_reads_nothing(told: Told) -> None:
    """What its notes take is charged to nobody, neither to it nor to its caller."""
    noted = measured(lambda *_: None, describe_function(len, Options()), Notes)

    def caller() -> None:
        for _ in range(100):
            noted(1)

    outer = measured(caller, describe_function(caller, Options()))
    noted(1)
    outer()
    *inner, around = told.measurements
    assert {m.heap_net_bytes for m in inner[1:]} == {0}
    assert around.heap_net_bytes == 0
