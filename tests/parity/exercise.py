"""Drives every function of the compiled part once: small enough to run under valgrind."""

from __future__ import annotations

import contextlib
import gc
import os
import tempfile
import threading
import tracemalloc
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from programs import PROGRAMS  # type: ignore[import-not-found]  # beside this script

from stratatrace.probes import _counters

if TYPE_CHECKING:
    from collections.abc import Iterator


def exercise() -> None:
    """Run the programs in every state that the hooks can be in."""
    for theirs in (False, True):
        _counters.start()
        _counters.count_numpy()
        if theirs:
            tracemalloc.start()
        threads = [threading.Thread(target=zlib.compress, args=(bytes(100_000),)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for program in PROGRAMS.values():
            program()
            _counters.mark()
        for thread in threads:
            thread.join()
        _counters.counts()
        _counters.held_bytes()
        _counters.free_list_bytes()
        _counters.forget_numpy()
        _counters.stop()
        PROGRAMS["json_loads"]()
        tracemalloc.stop()


class Gate:
    """Tells whether to measure, and where; keeps tallies by the type of the error."""

    enabled = True

    def __init__(self, resident: Any) -> None:
        self.resident = resident
        self.tallies: dict[object, _counters.Tally] = {}

    def tally_of(self, error: object) -> _counters.Tally:
        kind = type(error)
        if kind not in self.tallies:
            self.tallies[kind] = _counters.Tally(
                self, heap=True, resident=self.resident, budget_bytes=100
            )
        return self.tallies[kind]

    def missed(self, doing: str) -> None:
        """Take no notice."""


class Callable:
    """What can be called, once it is connected."""


def charge_and_release(resident: _counters.ResidentAccount) -> None:
    """Open tabs in every order, close them in another thread, abandon them, hold and let go."""
    heap = _counters.HeapAccount()
    tabs = [_counters.Tab() for _ in range(6)]
    for tab in tabs:
        heap.charge(tab, heap.hold())
        resident.charge(tab)
    assert heap.charging
    for tab in tabs[1::2] + tabs[:3:2]:
        held = heap.release(tab)
        assert held is not None
        heap.unhold(held)
        heap.unhold(held)
        resident.release(tab)

    def release() -> None:
        with contextlib.suppress(RuntimeError):
            heap.release(tabs[4])

    thread = threading.Thread(target=release)
    thread.start()
    thread.join()
    resident.release(tabs[4])
    heap.charge(_counters.Tab())
    resident.charge(_counters.Tab())
    heap.hold()
    assert not heap.charging
    assert not resident.charging
    assert resident.lifetime_peak_bytes > 0


def lines(resident: _counters.ResidentAccount) -> None:
    """Enter lines within lines, leave tabs open there, end them from elsewhere, drop them all."""
    heap, gate = _counters.HeapAccount(), Gate(resident)
    tally = gate.tally_of(None)
    outer, line = tally.begin(), heap.line()
    calls = [heap.run(line, tally.begin) for _ in range(3)]
    inner = heap.run(line, heap.line)
    calls.append(heap.run(inner, tally.begin))

    def step() -> None:
        heap.run(line, bytearray, 1000)  # Where it is already.
        heap.run(inner, bytearray, 2000)
        heap.collected(1, 2)
        close(calls[0])

    def close(call: _counters.TalliedCall) -> None:
        _counters.end_span(call, {}, ("number",) * 13, 20, 0)

    heap.run(line, step)
    with contextlib.suppress(ZeroDivisionError):
        heap.run(line, lambda: 1 / 0)

    async def task() -> None:
        bytearray(100)

    with contextlib.suppress(StopIteration):
        heap.send(line, task(), None)
    threads = [
        threading.Thread(target=work)
        for work in (
            lambda: close(calls[1]),
            lambda: heap.run(heap.line(), bytearray, 100),
            lambda: heap.run(inner, calls.append, tally.begin()),
            lambda: calls.append(tally.begin()),
        )
    ]
    for thread in threads:
        thread.start()
        thread.join()
    for call in (outer, *calls, *calls):
        close(call)
    lost = heap.line()
    heap.run(lost, tally.begin)
    assert not heap.charging
    assert not heap.followed


class Span:
    """What is measured from its start to its end."""


class MeasuredSpan(Span):
    """What it becomes."""


def spans(resident: _counters.ResidentAccount) -> None:
    """Begin and end spans, with room for all numbers, for some, and in what is no dictionary."""
    tally = Gate(resident).tally_of(None)
    span: Any = Span()
    targets: list[tuple[int, Any]] = [(20, {}), (3, {}), (20, OrderedDict())]
    for room, target in targets:
        _counters.begin_span(tally, span, MeasuredSpan, room > 3)
        call = span._stratatrace_stay
        wrong: list[Any] = [None, ("number",) * 3]
        for names in wrong:
            with contextlib.suppress(TypeError):
                _counters.end_span(call, target, names, room, 0)
        _counters.end_span(call, target, ("number",) * 12 + (None,), room, 0)
        assert target
    with contextlib.suppress(TypeError):
        _counters.begin_span(tally, Span(), int, tally is None)
    _counters.begin_span(tally, Span(), MeasuredSpan, tally is None)


def numbers() -> Iterator[int]:
    """Yield, and return."""
    yield from range(3)


def measure(resident: _counters.ResidentAccount) -> None:
    """Call what returns, raises and is suspended; drop what was not ended; take the sums."""
    gate = Gate(resident)
    _counters.set_gate(gate, gate.tally_of)
    kind: Any = _counters.callable_type(Callable)

    def recurse(depth: int, **more: object) -> object:
        return measured(depth - 1, more=more) if depth else 1 / depth

    measured = kind()
    _counters.connect(measured, recurse, "callsite")
    for _ in range(20):
        with contextlib.suppress(ZeroDivisionError):
            measured(3)
    with contextlib.suppress(RecursionError):
        measured(10_000)
    gate.enabled = False
    with contextlib.suppress(ZeroDivisionError):
        measured(1)
    tally = gate.tally_of(None)
    call, steps, box = tally.prepare(), numbers(), [None]
    while not _counters.advance(call, steps, box, None):
        box[:] = [None]
    call.finish()
    with contextlib.suppress(ValueError):
        _counters.advance(tally.prepare(), numbers(), [ValueError()], lambda s, b: s.throw(b[0]))
    tally.begin()
    tally.begin().suspend()
    _counters.HeapAccount().charge(_counters.Tab())
    for kept in gate.tallies.values():
        kept.take()
        kept.take()
    _counters.stop()
    del call
    gc.collect()


def account() -> None:
    """Keep accounts, of the heap and of resident memory, where that can be; else of nothing."""
    resident = _counters.ResidentAccount()
    path = Path("/proc/self/clear_refs")
    with path.open("w") if path.exists() else tempfile.TemporaryFile("w") as file:
        resident.descriptor = file.fileno()
        charge_and_release(resident)
        lines(resident)
        spans(resident)
        measure(resident)
        heap, left = _counters.HeapAccount(), _counters.Tab()
        line = heap.line()
        heap.run(line, heap.charge, left)
        child = os.fork()
        if child == 0:
            _counters.after_fork_in_child()
            heap.run(line, bytearray, 10)
            lines(resident)
            measure(resident)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        resident.descriptor = -1
        with contextlib.suppress(OSError):
            resident.charge(_counters.Tab())


def sample() -> None:
    """Sample every block, and some, of all programs; read all of it; end it while much is live."""
    for mean_bytes in (1, 5_000):
        _counters.start()
        for depth in (3, 100):
            _counters.sample(mean_bytes, depth, 7)
            since = _counters.samples_sequence()
            kept = [(program(), zlib.compress(bytes(100_000))) for program in PROGRAMS.values()]
            for _, _, stack, _, _ in _counters.samples_live():
                _counters.samples_stack(stack)
            _counters.samples_events(since)
            _counters.samples_events(_counters.samples_sequence() - 10)
            assert _counters.samples_dropped() == 0
            assert _counters.samples_line() > 0
            del kept[::2]
        child = os.fork()
        if child == 0:
            kept.clear()
            os._exit(len(_counters.samples_live()) > 1_000_000)
        assert os.waitpid(child, 0)[1] == 0
        _counters.sample(0, 1)
        kept.clear()
        _counters.stop()


exercise()
sample()
_counters.start()
account()
