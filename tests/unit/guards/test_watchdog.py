"""However a block is left, its limit is: the watchdog finds what nobody has closed."""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import functools
import gc
import logging
import os
import resource
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from tracing import untraced

from stratatrace import MemoryLimitExceeded, memory_limit
from stratatrace.accounts import Account
from stratatrace.guards import firing, loops, opened
from stratatrace.guards import watchdog as watchdog_module
from stratatrace.guards.usage import Usage, UsageReader
from stratatrace.guards.watchdog import THREAD_NAME, room_bytes, watchdog
from stratatrace.probes import LifetimeProbe

from .growing import MB, grow, linger, take

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def wait_until(true: Callable[[], bool], seconds: float = 20) -> bool:
    until = time.monotonic() + seconds
    while not true() and time.monotonic() < until:
        time.sleep(0.005)
    return true()


def have_watchdog_running() -> None:
    """Start its thread: CPython 3.11 takes it for the one that starts it until it runs."""
    with memory_limit("60MB"):
        assert wait_until(lambda: THREAD_NAME in {t.name for t in threading.enumerate()})


def soft_limit() -> int:
    return resource.getrlimit(resource.RLIMIT_DATA)[0]


class Stray(Exception):  # noqa: N818 -- it stands for whatever is fired at a thread
    """An asynchronous exception of somebody else's."""


@untraced
def test_an_exception_that_comes_as_exit_is_called() -> None:
    """Before its first line has run: the block is gone, and nobody has closed it."""
    have_watchdog_running()
    before = soft_limit()
    orphans = 0
    set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
    me = ctypes.c_ulong(threading.get_ident())

    class Trigger:
        # Compiled, and no call: what it sets arrives with the next call, which is that of exit.
        __getitem__ = staticmethod(functools.partial(set_exception, me, ctypes.py_object(Stray)))

    def leave_under_fire() -> None:
        trigger: Any = Trigger()
        with memory_limit("60MB"):
            trigger[0]

    for _ in range(20):
        with pytest.raises(Stray):
            leave_under_fire()
        orphans += bool(watchdog._open)
        assert wait_until(lambda: not watchdog._open)
        assert soft_limit() == before
    assert orphans


@untraced
@pytest.mark.parametrize("delay", range(12))
def test_an_exception_at_any_moment(delay: int) -> None:
    """Of entering and leaving: what is left is nothing."""
    if sys.version_info < (3, 12):
        have_watchdog_running()
    before = soft_limit()
    set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
    done = threading.Event()
    hits = 0

    def work() -> None:
        nonlocal hits
        while not done.is_set():
            try:
                for _ in range(1000):
                    with memory_limit("60MB"), memory_limit("90MB"):
                        pass
            except Stray:
                hits += 1

    thread = threading.Thread(target=work)
    thread.start()
    for number in range(60):
        time.sleep(0.0005 + (delay * 60 + number) % 17 * 0.0001)
        if thread.is_alive():
            set_exception(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Stray))
    time.sleep(0.01)
    set_exception(ctypes.c_ulong(thread.ident or 0), ctypes.py_object())
    done.set()
    with contextlib.suppress(Stray):
        thread.join()
    assert hits
    assert wait_until(lambda: not watchdog._open)
    assert soft_limit() == before


def test_a_thread_that_ends_without_leaving() -> None:
    """Nothing else tells of what was entered without a with statement."""
    before = soft_limit()
    thread = threading.Thread(target=lambda: memory_limit("60MB").__enter__())
    thread.start()
    thread.join()
    assert wait_until(lambda: not watchdog._open)
    assert soft_limit() == before


@pytest.mark.usefixtures("unwatched")
def test_the_id_of_a_thread_that_has_ended_is_used_again() -> None:
    """What its limit would have thrown into it is not thrown into the new one."""
    have_watchdog_running()  # Else it has that id.
    entered: list[opened.OpenLimit] = []
    thread = threading.Thread(target=lambda: entered.append(memory_limit("60MB").__enter__()))
    thread.start()
    thread.join()
    (limit,) = entered
    outcomes: list[str] = []
    interrupted = threading.Event()

    def work() -> None:
        if threading.get_ident() == limit.thread:
            watchdog_module._interrupt(limit, 100 * MB)
            interrupted.set()
        sum(range(1000))
        outcomes.append("done")

    for number in range(100):
        if interrupted.is_set():
            break
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert len(outcomes) == number + 1
    assert interrupted.is_set()
    watchdog.close(limit)


def test_a_block_in_a_generator_that_is_forgotten() -> None:
    """Python leaves it when the generator is collected."""
    before = soft_limit()

    def items() -> Iterator[int]:
        with memory_limit("60MB"):
            yield 1

    held = items()
    next(held)
    assert soft_limit() != before
    del held
    gc.collect()
    assert soft_limit() == before


def test_what_was_fired_is_taken_back_when_the_block_ends() -> None:
    """A thread that sits in a call does not get it later."""
    release = threading.Event()
    ends: list[BaseException | None] = []

    def work() -> None:
        try:
            kept: list[Any] = []
            limit = memory_limit("20MB").__enter__()
            take(kept, 40)
            watchdog._look()  # In our own code: it fires at nobody.
            firing.fire(threading.get_ident(), limit.describe(40 * MB))
        except MemoryLimitExceeded as error:
            ends.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    release.set()
    assert len(ends) == 1
    assert wait_until(lambda: not watchdog._open)


def test_another_limits_fire_is_not_taken_back() -> None:
    """Nor is anybody else's."""
    me = threading.get_ident()
    caught = []
    try:
        firing._announced[me] = {"key": -1}
        firing.withdraw(me, -2)
        assert firing.is_pending(me)
        caught.append(True)
    finally:
        firing.withdraw(me, -1)
    assert caught
    assert not firing.is_pending(me)


def test_nobody_is_there_to_fire_at() -> None:
    """A thread that is gone gets nothing, and nothing is announced."""
    assert not firing.fire(1, {"key": 1})
    assert not firing.is_pending(1)


def test_the_thread_ends_when_it_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself, and is started again by the next limit."""
    monkeypatch.setattr("stratatrace.guards.watchdog._LINGER_SECONDS", 0.02)

    def names() -> set[str]:
        return {thread.name for thread in threading.enumerate()}

    for _ in range(2):
        with memory_limit("60MB"):
            assert wait_until(lambda: THREAD_NAME in names())
        assert wait_until(lambda: THREAD_NAME not in names())
        assert watchdog._thread() is None
    assert all(t.daemon for t in threading.enumerate() if t.name == THREAD_NAME)


def test_a_thread_that_dies_as_it_starts_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the next limit."""
    with monkeypatch.context() as patched:
        patched.setattr(_thread, "start_new_thread", lambda *_: None)
        with memory_limit("60MB"):
            pass
    with memory_limit("60MB"):
        assert wait_until(lambda: THREAD_NAME in {t.name for t in threading.enumerate()})


def test_a_thread_that_starts_another_is_left_alone() -> None:
    """All along, until the other one runs; and no longer."""
    seen: list[bool] = []

    class Started(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            seen.append(firing.is_starting_thread(sys._getframe()))
            return super().wait(timeout)

    thread = threading.Thread(target=lambda: None)
    thread._started = Started()  # type: ignore[attr-defined]
    thread.start()
    thread.join()
    assert seen == [True]
    assert not firing.is_starting_thread(sys._getframe())


def test_a_look_that_fails_is_logged_and_not_the_last(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The program is not affected."""
    looks = 0

    def fail() -> None:
        nonlocal looks
        looks += 1
        raise RuntimeError if looks == 1 else MemoryError

    monkeypatch.setattr(watchdog, "_look", fail)
    with memory_limit("60MB"):
        assert wait_until(lambda: looks > 2)
    assert [r.levelno for r in caplog.records] == [logging.WARNING]


def test_no_thread_can_be_started(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The kernel still refuses, and the end is still judged."""

    def start(*_run: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr("_thread.start_new_thread", start)
        with pytest.raises(MemoryLimitExceeded), memory_limit("60MB"):
            bytearray(1000 * MB)
    assert "cannot watch" in caplog.text


@pytest.mark.parametrize(("budget", "room"), [(1, 128), (80, 128), (100, 148), (1000, 1048)])
def test_the_room_beyond_a_budget(budget: int, room: int) -> None:
    """48 MB, and enough for what a library reserves on import."""
    assert room_bytes(budget * MB) == room * MB


def test_a_limit_closes_where_there_is_no_memory_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reserve is given back first."""
    close = watchdog._close
    calls = 0

    def fail_once(limit: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise MemoryError
        close(limit)

    with memory_limit("60MB"):
        assert watchdog._reserve is not None
        monkeypatch.setattr(watchdog, "_close", fail_once)
    assert calls == 2
    assert watchdog._reserve is None


@pytest.mark.parametrize("patient", [True, False])
def test_our_own_code_is_left_alone_for_a_while(
    patient: bool, monkeypatch: pytest.MonkeyPatch, hold: Callable[[int], None]
) -> None:
    """What measures should not be torn in the middle; but nobody hides behind it for long."""
    monkeypatch.setattr(opened, "_PATIENCE_SECONDS", 60 if patient else 0)
    fire = firing.fire
    hit: list[bool] = []

    def fire_and_see(thread: int, told: dict[str, Any]) -> bool:
        hit.append(firing.is_measuring(sys._current_frames()[thread]))
        return fire(thread, told)

    monkeypatch.setattr(firing, "fire", fire_and_see)
    reader = LifetimeProbe()
    for _ in range(3):
        until = time.monotonic() + (0.7 if patient else 15)
        with contextlib.suppress(MemoryLimitExceeded), memory_limit("20MB"):
            with contextlib.suppress(MemoryLimitExceeded):
                hold(40)
                linger(5)
            while time.monotonic() < until:
                for _ in range(500):
                    reader.mark()  # Reads a file, and lets others run meanwhile.
    assert any(hit) is not patient


def test_our_own_code_is_known() -> None:
    """What measures, and neither limits nor the user's."""
    assert not firing.is_measuring(sys._getframe())
    seen: list[bool] = []

    class Probe:
        def __getattr__(self, _name: str) -> Any:
            seen.append(firing.is_measuring(sys._getframe(1)))
            raise AttributeError

    probe: Any = Probe()
    with pytest.raises(AttributeError):
        Account(probe).calibrate()
    with pytest.raises(AttributeError):
        loops.call_soon(probe, list)
    assert seen == [True, False]


def test_without_proc_it_is_watched_by_other_means(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on systems that have no RLIMIT_DATA to speak of."""
    monkeypatch.setattr(watchdog, "_reader", UsageReader("/nowhere/statm"))
    before = soft_limit()
    with pytest.raises(MemoryLimitExceeded), memory_limit("60MB"):
        assert soft_limit() == before
        grow()


def test_several_threads_enter_and_leave_at_once() -> None:
    """And in the end all is as it was."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    limit = memory_limit("500MB")

    def work() -> None:
        for _ in range(100):
            with limit, memory_limit("300MB"):
                pass

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not watchdog._open
    assert not limit._entered
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_usage_is_what_the_kernel_says(tmp_path: Any) -> None:
    """In pages; a descriptor that somebody has closed is opened again."""
    file = tmp_path / "statm"
    file.write_text("100 50 10 5 0 60 0\n")
    page = resource.getpagesize()
    reader = UsageReader(str(file))
    assert reader.read() == Usage(50 * page, 60 * page, 100 * page)
    os.close(reader._statm_fd)
    assert reader.read() == Usage(50 * page, 60 * page, 100 * page)
    assert reader.read_other() == 50 * page
    reader.close()
    reader.close()
    file.unlink()
    assert reader.read_other() is None
    reader.close()


@pytest.mark.parametrize("text", ["", "nonsense", "1 2"])
def test_usage_that_cannot_be_read(text: str, tmp_path: Any) -> None:
    """Is taken from psutil, and from the life's highest where that fails, too."""
    file = tmp_path / "statm"
    file.write_text(text)
    reader = UsageReader(str(file))
    usage = reader.read()
    assert usage.resident_bytes > MB
    assert usage.data_bytes is None

    class Broken:
        def memory_info(self) -> Any:
            raise OSError

    broken: Any = Broken()
    reader._process = broken
    assert reader.read().resident_bytes >= usage.resident_bytes // 2
    reader.after_fork_in_child()
    assert reader._process is None


def test_a_long_wait_is_interrupted_when_it_ends() -> None:
    """A call into C is not: the exception waits for it."""
    with pytest.raises(MemoryLimitExceeded), memory_limit("20MB"):
        kept: list[Any] = []
        take(kept, 40)
        time.sleep(0.05)
        linger(1)
