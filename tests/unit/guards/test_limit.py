"""`memory_limit` around a block: what it allows, what it raises, and what it puts back."""

from __future__ import annotations

import contextlib
import gc
import mmap
import pickle
import resource
import threading
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from stratatrace import MemoryLimitExceeded, StratatraceError, memory_limit
from stratatrace.errors import InvalidTypeError, InvalidValueError

from .growing import MB, MOST_MB, grow, linger

if TYPE_CHECKING:
    from collections.abc import Callable


def data_limits() -> tuple[int, int]:
    return resource.getrlimit(resource.RLIMIT_DATA)


def test_what_stays_below_is_left_alone(hold: Callable[[int], None]) -> None:
    """The block runs as it would; the limit tells what was used."""
    with memory_limit("200MB") as limit:
        hold(50)
        within = limit.used_bytes
    assert 45 * MB < within < 80 * MB
    assert limit.used_bytes == pytest.approx(within, abs=5 * MB)
    assert not limit.exceeded


def test_growth_in_small_steps_is_ended() -> None:
    """The error says where, how much was allowed and how much was used, and is a MemoryError."""
    with pytest.raises(MemoryLimitExceeded) as caught, memory_limit("60MB") as limit:
        grow()
    error = caught.value
    assert isinstance(error, MemoryError)
    assert isinstance(error, StratatraceError)
    assert error.budget_bytes == limit.budget_bytes == 60 * MB
    assert error.used_bytes is not None
    assert 60 * MB < error.used_bytes < 130 * MB
    assert error.callsite is not None
    assert error.callsite.function.endswith("test_growth_in_small_steps_is_ended")
    assert error.callsite.file == __file__
    assert limit.exceeded
    assert "57.2 MiB" in str(error)


def test_the_error_is_whole_within_the_block() -> None:
    """Who catches it inside sees what was exceeded, too."""
    told: list[Any] = []
    with memory_limit("60MB", name="import"):
        try:
            grow()
        except MemoryLimitExceeded as error:
            told += error.budget_bytes, error.callsite and error.callsite.label, str(error)
    assert told[:2] == [60 * MB, "import"]
    assert "has grown by" in told[2]


@pytest.mark.parametrize("size", [60 * MB, "60MB", "60 MB"])
def test_a_size_is_an_int_or_text(size: int | str) -> None:
    """Both mean the same."""
    with memory_limit(size) as limit:
        assert limit.budget_bytes == 60 * MB


@pytest.mark.parametrize("size", [10**30, 2**63 - 1, "10000000 TB"])
def test_a_budget_that_no_machine_has(size: int | str) -> None:
    """It is larger than what the kernel has numbers for, and nothing is lowered."""
    before = data_limits()
    with memory_limit(size):
        assert data_limits() == before


def test_a_sandbox_without_setrlimit(
    monkeypatch: pytest.MonkeyPatch, hold: Callable[[int], None]
) -> None:
    """The watchdog is left, and nothing fails that need not."""

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(resource, "setrlimit", refuse)
    with memory_limit("60MB"):
        hold(10)
    with pytest.raises(MemoryLimitExceeded), memory_limit("20MB"):
        hold(40)
        linger()


def test_one_large_allocation_is_refused() -> None:
    """By the kernel, before it is there; what refused it is the cause."""
    with pytest.raises(MemoryLimitExceeded, match="refused") as caught, memory_limit("60MB"):
        bytearray(1000 * MB)
    assert type(caught.value.__cause__) is MemoryError


def test_numpys_own_error_is_converted() -> None:
    """It is a MemoryError of a subclass of its own."""
    with pytest.raises(MemoryLimitExceeded) as caught, memory_limit("60MB"):
        np.ones(1000 * MB, dtype=np.uint8)
    assert isinstance(caught.value.__cause__, MemoryError)
    assert type(caught.value.__cause__) is not MemoryError


def test_growth_within_one_call_is_refused() -> None:
    """A call into C that holds the GIL lets no watchdog look."""
    with pytest.raises(MemoryLimitExceeded), memory_limit("60MB"):
        list(range(30_000_000))


@pytest.mark.usefixtures("unwatched")
def test_what_is_over_at_the_end_is_told(hold: Callable[[int], None]) -> None:
    """A last step that is small enough to be allowed, and too large for the budget."""
    with pytest.raises(MemoryLimitExceeded, match="has grown"), memory_limit("20MB"):
        hold(40)


def test_other_errors_go_on_as_they_are() -> None:
    """The very object, and nothing of ours in its place."""
    mine = KeyError("mine")
    with pytest.raises(KeyError) as caught, memory_limit("200MB"):
        raise mine
    assert caught.value is mine
    assert mine.__cause__ is None


@pytest.mark.usefixtures("unwatched")
def test_an_error_is_not_hidden_by_the_end(hold: Callable[[int], None]) -> None:
    """Where a block fails and is over its budget, its failure is what is raised."""
    with pytest.raises(KeyError), memory_limit("20MB"):
        hold(40)
        raise KeyError


def test_a_memory_error_of_the_users_own_is_left_alone() -> None:
    """What a `raise` statement raises comes from no allocation."""
    mine = MemoryError("mine")
    with pytest.raises(MemoryError) as caught, memory_limit("60MB"):
        raise mine
    assert caught.value is mine


def test_a_result_is_returned() -> None:
    """Leaving by return is leaving."""

    def load() -> int:
        with memory_limit("200MB"):
            return 7

    assert load() == 7


def test_the_limits_of_the_process_are_put_back() -> None:
    """The soft one is lower inside; the hard one never moves."""
    before = data_limits()
    with memory_limit("60MB"):
        inside = data_limits()
    assert data_limits() == before
    assert inside[1] == before[1]
    assert inside[0] != resource.RLIM_INFINITY
    for error in (ValueError, KeyboardInterrupt, SystemExit):
        with pytest.raises(error), memory_limit("60MB"):
            raise error
        assert data_limits() == before


def test_a_stricter_soft_limit_of_the_users_is_kept() -> None:
    """And what it refuses is not ours."""
    soft, hard = data_limits()
    used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    strict = used + 100 * MB
    resource.setrlimit(resource.RLIMIT_DATA, (strict, hard))
    try:
        with pytest.raises(MemoryError) as caught, memory_limit("300MB"):
            assert data_limits() == (strict, hard)
            bytearray(200 * MB)
        assert type(caught.value) is MemoryError
        assert data_limits() == (strict, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def test_a_limit_that_is_set_inside_stays() -> None:
    """Who changes it within the block has the last word."""
    soft, hard = data_limits()
    try:
        with memory_limit("60MB"):
            mine = data_limits()[0] + 512 * MB
            resource.setrlimit(resource.RLIMIT_DATA, (mine, hard))
        assert data_limits() == (mine, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def test_a_budget_below_present_use_is_no_mistake(hold: Callable[[int], None]) -> None:
    """It counts from the entry."""
    hold(100)
    with memory_limit("30MB"):
        hold(5)


@pytest.mark.parametrize("inner", [30, 90])
def test_the_innermost_that_is_exceeded_is_named(inner: int) -> None:
    """Nested limits hold each for itself."""
    with (
        pytest.raises(MemoryLimitExceeded) as caught,
        memory_limit("60MB", name="outer"),
        memory_limit(inner * MB, name="inner"),
    ):
        grow()
    assert caught.value.callsite is not None
    assert caught.value.callsite.label == ("inner" if inner < 60 else "outer")


@pytest.mark.parametrize("inner", [20, 40])
def test_of_two_that_are_exceeded_at_once_the_inner_is_named(
    inner: int, hold: Callable[[int], None]
) -> None:
    """Whichever is the stricter."""
    with (
        pytest.raises(MemoryLimitExceeded) as caught,
        memory_limit("30MB", name="outer"),
        memory_limit(inner * MB, name="inner"),
    ):
        hold(60)
        linger(5)
    assert caught.value.callsite is not None
    assert caught.value.callsite.label == "inner"


def test_the_stricter_of_two_refuses() -> None:
    """And it is the one that is named."""
    for outer, inner, named in (("300MB", "90MB", "inner"), ("90MB", "300MB", "outer")):
        with (
            pytest.raises(MemoryLimitExceeded) as caught,
            memory_limit(outer, name="outer"),
            memory_limit(inner, name="inner"),
        ):
            bytearray(1000 * MB)
        assert caught.value.callsite is not None
        assert caught.value.callsite.label == named


def test_left_out_of_order() -> None:
    """Each close leaves the stricter of those that are still open."""
    before = data_limits()
    first, second = memory_limit("100MB"), memory_limit("200MB")
    first.__enter__()
    strict = data_limits()[0]
    second.__enter__()
    assert data_limits()[0] == strict
    first.__exit__(None, None, None)
    assert data_limits()[0] > strict
    second.__exit__(None, None, None)
    assert data_limits() == before
    second.__exit__(None, None, None)  # Once more does nothing.
    assert data_limits() == before


def test_one_object_is_entered_again() -> None:
    """Before and after it was left; each entry counts from its own level."""
    limit = memory_limit("60MB")
    before = data_limits()
    with limit as outer, limit as inner:
        assert outer is not inner
    with limit, contextlib.ExitStack() as stack:
        stack.enter_context(limit)
        stack.enter_context(limit)
    assert data_limits() == before


def test_it_can_be_swallowed_and_is_raised_again(hold: Callable[[int], None]) -> None:
    """While the memory is held, without growing further; the last time by the block's end."""
    caught = 0
    until = time.monotonic() + 20
    with pytest.raises(MemoryLimitExceeded), memory_limit("30MB"):
        # Any line may be hit, one outside of the inner block too: then it ends a little sooner.
        while caught < 3 and time.monotonic() < until:
            try:
                if not caught:
                    hold(50)
                linger(5)
            except MemoryLimitExceeded:
                caught += 1
    assert caught >= 2


def test_growing_on_is_answered_at_once() -> None:
    """Who swallows it and takes more does not get far."""
    kept: list[Any] = []
    with contextlib.suppress(MemoryLimitExceeded), memory_limit("30MB"):
        for _ in range(MOST_MB):
            with contextlib.suppress(MemoryLimitExceeded):
                kept += grow(10)
    assert len(kept) < 60
    del kept


def test_memory_is_given_back_as_soon_as_the_user_lets_go() -> None:
    """Looking at threads keeps none of their frames."""
    gc.disable()
    try:
        with memory_limit("300MB") as limit:
            kept = grow(60)
            linger(0.2)
            del kept
            assert limit.used_bytes < 30 * MB
    finally:
        gc.enable()


def test_several_threads_have_limits_of_their_own() -> None:
    """It is the thread whose limit is exceeded that is interrupted."""
    ends: dict[str, BaseException | None] = {}
    ready = threading.Barrier(3)

    def run(name: str, size: str) -> None:
        try:
            with memory_limit(size, name=name):
                ready.wait()
                linger(2)
        except BaseException as error:
            ends[name] = error
        else:
            ends[name] = None

    threads = [
        threading.Thread(target=run, args=("small", "40MB")),
        threading.Thread(target=run, args=("large", "400MB")),
    ]
    for thread in threads:
        thread.start()
    ready.wait()
    held = grow(80)
    assert len(held) == 80
    for thread in threads:
        thread.join()
    del held
    assert isinstance(ends["small"], MemoryLimitExceeded)
    assert ends["large"] is None


def test_a_thread_outside_takes_what_it_needs() -> None:
    """As long as it is not more than the limit and the headroom together."""
    taken: list[int] = []

    def outside() -> None:
        held = b"x" * (90 * MB)
        taken.append(len(held))

    with memory_limit("100MB"):
        thread = threading.Thread(target=outside)
        thread.start()
        thread.join()
    assert taken == [90 * MB]


@pytest.mark.parametrize("size", [0, -1, "0MB"])
def test_a_size_is_greater_than_zero(size: int | str) -> None:
    """A limit of nothing is a mistake."""
    with pytest.raises(InvalidValueError, match="greater than zero"):
        memory_limit(size)


@pytest.mark.parametrize("size", [None, 1.5, True, "much"])
def test_a_size_is_a_size(size: Any) -> None:
    """Text or an int."""
    with pytest.raises((InvalidTypeError, InvalidValueError), match="size"):
        memory_limit(size)


def test_misuse_is_answered() -> None:
    """With what was given, and what to do."""
    wrong: Any = memory_limit
    with pytest.raises(InvalidTypeError, match=r"@memory_limit\('200MB'\)"):
        wrong(grow)
    with pytest.raises(InvalidValueError, match="'shout'"):
        memory_limit("1MB", on_exceed="shout")
    with pytest.raises(InvalidTypeError, match="7"):
        wrong("1MB", on_exceed=7)
    with pytest.raises(InvalidTypeError, match="isolation"):
        memory_limit("1MB", timeout=3)
    with pytest.raises(InvalidTypeError, match="decorate those of"):
        memory_limit("1MB")(Exception)
    with pytest.raises(InvalidTypeError, match="not callable"):
        memory_limit("1MB")(7)


def test_the_hard_limit_cannot_be_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget that it would not let be used is a mistake."""
    monkeypatch.setattr(
        "stratatrace.guards.watchdog.hard_room_bytes", lambda _data, _address: 50 * MB
    )
    with pytest.raises(InvalidValueError, match=r"leaves 47\.7 MiB"), memory_limit("60MB"):
        pytest.fail("it must not be entered")
    with memory_limit("40MB"):
        pass


def test_what_had_allocated_most_is_told() -> None:
    """Where tracemalloc was tracing."""
    tracemalloc.start()
    try:
        with pytest.raises(MemoryLimitExceeded) as caught, memory_limit("20MB"):
            held = [bytearray(b"x") * (10 * MB) for _ in range(6)]
            linger(len(held))
    finally:
        tracemalloc.stop()
    (file, line, size), *_ = caught.value.top
    assert (file, size > 15 * MB) == (__file__, True)
    assert f"{file}:{line}" in str(caught.value)


def test_without_tracing_nobody_knows() -> None:
    """And nothing is claimed."""
    with pytest.raises(MemoryLimitExceeded) as caught, memory_limit("60MB"):
        bytearray(1000 * MB)
    assert caught.value.top == ()


def test_the_error_can_be_pickled() -> None:
    """With all that it says, and to a process of its own."""
    with pytest.raises(MemoryLimitExceeded) as caught, memory_limit("60MB"):
        bytearray(1000 * MB)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.budget_bytes) == (str(caught.value), 60 * MB)
    assert again.callsite.function == caught.value.callsite.function  # type: ignore[union-attr]


def test_an_error_that_a_user_makes_says_something() -> None:
    """It is an exception like others."""
    assert "memory limit" in str(MemoryLimitExceeded())
    assert str(MemoryLimitExceeded("mine", budget_bytes=3)) == "mine"


def test_shared_memory_counts() -> None:
    """The kernel's limit does not know it; the watchdog does."""
    with (
        mmap.mmap(-1, MOST_MB * MB) as shared,
        pytest.raises(MemoryLimitExceeded),
        memory_limit("60MB"),
    ):
        for start in range(0, len(shared), MB):
            shared[start : start + MB] = b"x" * MB
            time.sleep(0.001)
