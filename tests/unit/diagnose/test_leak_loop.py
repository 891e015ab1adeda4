"""`watch_leaks`: the rounds of a loop."""

from __future__ import annotations

import gc
import threading
import tracemalloc

import pytest
from heap_probes import PROBES
from tracing import untraced

from stratatrace import watch_leaks
from stratatrace.errors import AlreadyStartedError, InvalidValueError, LeakTrialError, NotReadyError

pytestmark = untraced


class Row:
    """What is leaked."""


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("rounds", [60, 400])
def test_a_loop_that_leaks(probe: str, rounds: int) -> None:
    """However many rounds there are; by type, and by line where it is traced."""
    kept: list[object] = []
    with watch_leaks("import", probe=probe) as leaks:
        for number in leaks.each(range(rounds)):
            kept += [[Row(), str(number)]]
    report = leaks.report
    assert report
    assert report.name == "import"
    assert {grown.name for grown in report.culprits.types} >= {f"{__name__}.Row"}
    assert bool(report.culprits.lines) == (probe == "tracemalloc")
    assert any("kept[" in chain for chain in report.culprits.chains)
    assert not tracemalloc.is_tracing()


@pytest.mark.parametrize("probe", PROBES)
def test_a_loop_that_does_not(probe: str) -> None:
    """What fills up in it has come to rest by its end."""
    cache: dict[int, bytes] = {}
    with watch_leaks("fine", probe=probe) as leaks:
        for number in range(200):
            cache.setdefault(number % 40, bytes(1000))
            leaks.step()
    assert not leaks.report


def test_few_rounds_tell_nothing() -> None:
    """It says so."""
    with watch_leaks("short") as leaks:
        for _ in leaks.each(range(5)):
            pass
    assert leaks.report.reason == "it has 5 rounds, too few to tell"
    assert leaks.report.to_dict()["phases"] == []


def test_what_the_loop_raises_comes_out() -> None:
    """And there is a report of the rounds until then."""
    error = ValueError("mine")
    kept: list[Row] = []

    def loop() -> None:
        for number in leaks.each(range(1000)):
            kept.append(Row())
            if number == 100:
                raise error

    with pytest.raises(ValueError, match="mine") as caught, watch_leaks("broken") as leaks:
        loop()
    assert caught.value is error
    assert leaks.report
    assert gc.isenabled()


def test_misuse() -> None:
    """Steps outside of the block, a report before its end, other threads, stopped tracing."""
    leaks = watch_leaks("loop", probe="tracemalloc")
    with pytest.raises(NotReadyError, match="enter it by a with block"):
        leaks.step()
    with leaks:
        with pytest.raises(NotReadyError, match="no report of 'loop' yet"):
            _ = leaks.report
        with pytest.raises(AlreadyStartedError), leaks:
            pass
        errors: list[Exception] = []

        def step() -> None:
            try:
                leaks.step()
            except LeakTrialError as error:
                errors.append(error)

        thread = threading.Thread(target=step)
        thread.start()
        thread.join()
        assert len(errors) == 1
    with pytest.raises(LeakTrialError, match="stopped or cleared"), leaks:
        tracemalloc.stop()
    with pytest.raises(InvalidValueError):
        watch_leaks("loop", warmup=-1)
