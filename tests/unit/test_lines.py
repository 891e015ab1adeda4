"""Lines of execution: what happens on one is in its own tabs, and in those that it works for."""

from __future__ import annotations

import gc
import sys
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tracing import untraced

from stratatrace.accounts import Account
from stratatrace.accounts import Tab as PlainTab
from stratatrace.errors import ProbeError
from stratatrace.probes import native_obstacle

from .fakes import FakeProbe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIB = 1 << 20


class Plain:
    """Lines of an account that Python keeps, over a probe that is told of memory."""

    new_tab = PlainTab

    def __init__(self) -> None:
        self.probe = FakeProbe()
        self.account: Any = Account(self.probe)

    def use(self, grow: int, spike: int) -> None:
        """Take or free so many MiB, and reach a peak *spike* above the higher of both ends."""
        self.probe.use(grow * MIB, spike * MIB)

    def release(self, tab: Any) -> None:
        """Charge a tab no more."""
        self.account.unhold(self.account.release(tab))

    def close(self) -> None:
        """Nothing is left."""


if native_obstacle() is None:
    from stratatrace.compiled import NativeAccount
    from stratatrace.probes import NativeProbe, _counters

    def a_tally() -> _counters.Tally:
        """Return what makes calls of spans: it has no keeper to tell of them."""
        keeper: Any = None
        return _counters.Tally(keeper, heap=True, resident=None, budget_bytes=None)

    def end(call: _counters.TalliedCall, numbers: dict[str, Any]) -> tuple[bool, bool, int] | None:
        """End a call as a span's, with two of its numbers; return what is irregular about it."""
        return _counters.end_span(call, numbers, ("peak", "net", *[None] * 11), 2, 0)

    class Native:
        """Lines of the compiled part, over real memory."""

        new_tab = _counters.Tab

        def __init__(self) -> None:
            self.probe = NativeProbe()
            self.probe.open()
            self.account: Any = NativeAccount(self.probe)
            self._blocks: list[bytearray] = []

        def use(self, grow: int, spike: int) -> None:
            """Take or free so many MiB, and reach a peak *spike* above the higher of both ends."""
            if grow > 0:
                self._blocks += [bytearray(MIB) for _ in range(grow)]
            bytearray(spike * MIB)
            if grow < 0:
                del self._blocks[grow:]

        @property
        def held(self) -> int:
            """How many MiB can be freed."""
            return len(self._blocks)

        def release(self, tab: Any) -> None:
            """Charge a tab no more."""
            self.account.unhold(self.account.release(tab))

        def close(self) -> None:
            """Leave nothing open."""
            _counters.after_fork_in_child()
            self.probe.close()


KINDS: list[type[Any]] = [Plain] if native_obstacle() is not None else [Plain, Native]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__.lower())
def memory(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Have an account of each kind, and memory that it counts."""
    memory = request.param()
    yield memory
    memory.close()


def numbers(tab: Any) -> tuple[int, int]:
    """Return net and peak in MiB: what tests take by themselves is less than a half."""
    return round(tab.net_bytes / MIB), round(tab.peak_bytes / MIB)


@dataclass
class ModelTab:
    """A tab of the model, charged with every single step."""

    tab: Any
    net: int = 0
    peak: int = 0

    def use(self, grow: int, spike: int) -> None:
        """See one step."""
        self.peak = max(self.peak, self.net + max(0, grow) + spike)
        self.net += grow


@dataclass
class ModelLine:
    """A line of the model: it knows which tabs it is in at any moment, its own and others'."""

    line: Any = None
    tabs: list[ModelTab] = field(default_factory=list)
    #: Tabs of those that it works for.
    works_for: list[ModelTab] = field(default_factory=list)

    def use(self, grow: int, spike: int) -> None:
        """Charge everybody whom it concerns."""
        for tab in (*self.tabs, *self.works_for):
            tab.use(grow, spike)


class Interpreter:
    """Runs a schedule on an account, and in the model beside it."""

    def __init__(self, memory: Any) -> None:
        self.memory = memory
        self.lines = [ModelLine()]
        self.stack = [self.lines[0]]
        self.open: list[tuple[ModelLine, ModelTab]] = []
        self.held = 0

    def run(self, steps: list[tuple[str, int, int, int]]) -> None:
        """Run the steps; what comes after one line is entered runs on that line."""
        while steps:
            action, grow, spike, which = steps.pop(0)
            here = self.stack[-1]
            if action == "use":
                grow = max(grow, -self.held)
                self.held += grow
                self.memory.use(grow, spike)
                here.use(grow, spike)
            elif action == "open":
                tab = ModelTab(self.memory.new_tab())
                self.memory.account.charge(tab.tab)
                here.tabs.append(tab)
                self.open.append((here, tab))
            elif action == "close" and self.open:
                self.end(which % len(self.open))
            elif action == "line" and len(self.lines) < 6:
                works_for = [*here.works_for, *here.tabs]
                self.lines.append(ModelLine(self.memory.account.line(), works_for=works_for))
            elif action == "enter":
                line = self.lines[which % len(self.lines)]
                if line in self.stack:
                    continue
                self.stack.append(line)
                self.memory.account.run(line.line, self.run, steps)
                self.stack.pop()
            elif action == "leave" and len(self.stack) > 1:
                return

    def end(self, position: int) -> None:
        """Close an open tab, whichever line it is of, and compare it with its model."""
        line, tab = self.open.pop(position)
        self.memory.release(tab.tab)
        line.tabs.remove(tab)
        for other in self.lines:
            other.works_for = [known for known in other.works_for if known is not tab]
        assert numbers(tab.tab) == (tab.net, tab.peak)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["use", "use", "open", "close", "line", "enter", "enter", "leave"]),
            st.integers(min_value=-5, max_value=8),
            st.integers(min_value=0, max_value=6),
            st.integers(min_value=0, max_value=7),
        ),
        max_size=60,
    )
)
def test_any_schedule_agrees_with_a_model(
    kind: type[Any], steps: list[tuple[str, int, int, int]]
) -> None:
    """Lines that nest and take turns, on behalf of others or not; tabs that close anywhere."""
    memory = kind()
    try:
        interpreter = Interpreter(memory)
        interpreter.run(list(steps))
        while interpreter.open:
            interpreter.end(0)
        assert not memory.account.charging
        assert not memory.account.followed
    finally:
        memory.close()


def test_lines_that_take_turns_see_nothing_of_each_other(memory: Any) -> None:
    """Each has what was taken in its own steps, and the thread's own line what is left."""
    account = memory.account
    lines = [account.line() for _ in range(3)]
    tabs = [memory.new_tab() for _ in lines]
    outer = memory.new_tab()
    account.charge(outer)
    for line, tab in zip(lines, tabs, strict=True):
        account.run(line, account.charge, tab)
    for turn in range(1, 4):
        for position, line in enumerate(lines):
            account.run(line, memory.use, position + 1, turn)
    memory.use(1, 0)
    for line, tab in zip(lines, tabs, strict=True):
        account.run(line, memory.release, tab)
    memory.release(outer)
    # At its highest a line stands on all its steps, with the spike of the last.
    assert [numbers(tab) for tab in tabs] == [(3, 6), (6, 9), (9, 12)]
    # They were begun before the outer tab was opened, and do not work for it.
    assert numbers(outer) == (1, 1)


def test_a_line_works_for_what_was_open_where_it_was_begun(memory: Any) -> None:
    """Also after that line was left; but not for what is opened there later."""
    account = memory.account
    first, second = memory.new_tab(), memory.new_tab()
    account.charge(first)
    line = account.line()
    account.run(line, memory.use, 2, 0)
    account.charge(second)
    account.run(line, memory.use, 3, 4)
    memory.release(first)
    account.run(line, memory.use, 7, 0)
    memory.use(1, 0)
    memory.release(second)
    assert numbers(first) == (5, 9)
    assert numbers(second) == (1, 1)


def test_a_line_of_a_line_works_for_both(memory: Any) -> None:
    """And goes on for the outer one when the inner one's call has ended."""
    account = memory.account
    outer, inner = memory.new_tab(), memory.new_tab()
    account.charge(outer)
    middle = account.line()
    account.run(middle, account.charge, inner)
    innermost = account.run(middle, account.line)
    account.run(innermost, memory.use, 2, 1)
    account.run(middle, memory.release, inner)
    account.run(innermost, memory.use, 4, 0)
    memory.release(outer)
    assert numbers(inner) == (2, 3)
    assert numbers(outer) == (6, 6)


def test_a_peak_from_before_is_not_raised_by_what_comes_after(memory: Any) -> None:
    """A call stood 9 above its beginning, and only then did work for it keep 4."""
    account = memory.account
    outer, inner = memory.new_tab(), memory.new_tab()
    account.charge(outer)
    line = account.line()
    account.charge(inner)
    memory.use(0, 9)
    account.run(line, memory.use, 4, 0)
    memory.release(inner)
    memory.release(outer)
    assert numbers(inner) == (0, 9)
    assert numbers(outer) == (4, 9)


def test_a_call_that_is_ended_by_who_works_for_it_has_that_step_so_far(memory: Any) -> None:
    """And nothing of what comes after its end."""
    account = memory.account
    tab = memory.new_tab()
    account.charge(tab)

    def step() -> None:
        memory.use(3, 1)
        memory.release(tab)
        memory.use(5, 0)

    account.run(account.line(), step)
    assert numbers(tab) == (3, 4)


def test_what_a_step_raises_is_raised(memory: Any) -> None:
    """The line is left all the same, and the step's memory is in it."""
    account = memory.account
    tab, line, error = memory.new_tab(), account.line(), KeyError("x")
    account.run(line, account.charge, tab)

    def fails() -> None:
        memory.use(2, 0)
        raise error

    with pytest.raises(KeyError) as caught:
        account.run(line, fails)
    assert caught.value is error
    assert not account.followed
    memory.use(5, 0)
    account.run(line, memory.release, tab)
    assert numbers(tab) == (2, 2)


def test_a_coroutine_is_sent_and_thrown_into(memory: Any) -> None:
    """`send` gives what the coroutine yields, and ends as it ends, whatever it returns."""
    account = memory.account

    class Turn:
        def __await__(self) -> Any:
            return (yield "turn")

    async def task(result: object) -> object:
        assert account.followed
        assert await Turn() == "sent"
        return result

    for result in (None, (1, 2), ValueError("returned"), StopIteration(3)):
        line, coroutine = account.line(), task(result)
        assert account.send(line, coroutine, None) == "turn"
        assert not account.followed
        with pytest.raises(StopIteration) as stopped:
            account.send(line, coroutine, "sent")
        assert stopped.value.value is result


def test_who_is_on_a_line_stays_on_it(memory: Any) -> None:
    """To come to a line twice is to come to it once."""
    account = memory.account
    line, tab = account.line(), memory.new_tab()

    def again() -> None:
        account.charge(tab)
        account.run(line, memory.use, 3, 0)
        assert account.followed
        memory.release(tab)

    account.run(line, again)
    assert numbers(tab) == (3, 3)
    assert not account.followed


def test_work_that_is_handed_to_a_thread_is_charged_where_it_was_begun(memory: Any) -> None:
    """When the thread has done it; what that thread does besides is its own."""
    account = memory.account
    tab, line = memory.new_tab(), None
    account.charge(tab)
    line = account.line()

    def work() -> None:
        if memory.account.probe.per_thread:
            memory.use(9, 0)
        account.run(line, memory.use, 2, 3)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    memory.release(tab)
    assert numbers(tab) == (2, 5)


def test_a_plain_account_that_cannot_be_read_says_so() -> None:
    """The tabs of both lines mean nothing then, and the step goes on."""
    memory = Plain()
    account, tab, line = memory.account, PlainTab(), memory.account.line()
    account.charge(tab)
    memory.probe.failing = ProbeError("broken")
    assert account.run(line, lambda: account.followed) is True
    memory.probe.failing = None
    assert not account.followed
    memory.release(tab)
    assert tab.failed


def test_a_call_of_another_thread_has_what_cannot_be_told_from_its_own() -> None:
    """Where only the process can be counted: all that is taken while it is open, and no more."""
    memory = Plain()
    account, tabs = memory.account, [PlainTab(), PlainTab()]
    early, late = tabs

    def in_thread(work: Callable[..., object], *args: object) -> None:
        thread = threading.Thread(target=work, args=args)
        thread.start()
        thread.join()

    def step() -> None:
        memory.use(1, 0)
        in_thread(account.charge, late)
        memory.use(2, 1)
        in_thread(memory.release, late)
        memory.use(4, 0)

    outer = PlainTab()
    account.charge(outer)
    in_thread(account.charge, early)
    account.run(account.line(), step)
    in_thread(memory.release, early)
    memory.use(8, 0)
    memory.release(outer)
    assert numbers(late) == (2, 3)
    assert numbers(early) == (7, 7)
    assert numbers(outer) == (15, 15)


@pytest.mark.skipif(native_obstacle() is not None, reason="the compiled part is not here")
class TestNativeLines:
    """What only lines of real threads can do."""

    @pytest.fixture
    def memory(self) -> Iterator[Native]:
        """Have real memory."""
        memory = Native()
        yield memory
        memory.close()

    def test_a_tab_whose_thread_has_died_has_its_numbers(self, memory: Native) -> None:
        """Up to the thread's end; whoever closes it later, as a call and not as a step."""
        tally = a_tally()
        calls: list[Any] = []

        def work() -> None:
            calls.append(tally.begin())
            memory.use(4, 0)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        memory.use(9, 0)
        numbers: dict[str, Any] = {}
        assert end(calls[0], numbers) == (False, True, 0)
        assert (round(numbers["net"] / MIB), round(numbers["peak"] / MIB)) == (4, 4)
        again: dict[str, Any] = {}
        assert end(calls[0], again) is None
        assert not again

    def test_a_call_that_another_thread_ends_is_foreign(self, memory: Native) -> None:
        """It has what its own thread has taken so far."""
        tally = a_tally()
        calls: list[Any] = []
        begun, ended = threading.Event(), threading.Event()

        def work() -> None:
            calls.append(tally.begin())
            memory.use(4, 2)
            begun.set()
            ended.wait(10)

        thread = threading.Thread(target=work)
        thread.start()
        begun.wait(10)
        numbers: dict[str, Any] = {}
        irregular = end(calls[0], numbers)
        ended.set()
        thread.join()
        assert irregular == (True, False, 0)
        assert (round(numbers["net"] / MIB), round(numbers["peak"] / MIB)) == (4, 6)

    @untraced
    def test_threads_and_lines_leave_nothing_behind(self, memory: Native) -> None:
        """Of a thousand of each, with calls that nobody ends."""
        tally = a_tally()

        def work() -> None:
            tally.begin()
            memory.account.run(memory.account.line(), tally.begin)

        def round_of(threads: int) -> tuple[int, int]:
            for _ in range(threads):
                thread = threading.Thread(target=work)
                thread.start()
                thread.join()
                work()
            gc.collect()
            return len(gc.get_objects()), sys.getallocatedblocks()

        round_of(100)
        objects, blocks = round_of(100)
        more_objects, more_blocks = round_of(900)
        assert more_objects - objects < 50
        assert more_blocks - blocks < 300
        assert not memory.account.charging  # It looks for what nobody will end.
        assert tally.in_flight == 0

    def test_a_long_chain_of_lines_ends_without_recursion(self, memory: Native) -> None:
        """Each works for the one before it, whose call is open."""
        account = memory.account
        line, tabs = account.line(), []
        for _ in range(50_000):
            tabs.append(_counters.Tab())
            account.run(line, account.charge, tabs[-1])
            line = account.run(line, account.line)
        account.run(line, memory.use, 1, 0)
        del line
        assert tabs[-1].open is False
        assert round(tabs[-1].net_bytes / MIB) == 1

    def test_collections_are_those_of_the_line(self, memory: Native) -> None:
        """And of the lines that work for it."""
        tally = a_tally()
        account = memory.account
        line = account.line()
        account.collected(5, 50)
        call = account.run(line, tally.begin)
        account.collected(7, 70)
        account.run(line, account.collected, 11, 110)
        account.run(account.run(line, account.line), account.collected, 13, 130)
        numbers: dict[str, Any] = {}
        names = (*[None] * 10, "time", "collections", "reclaimed")
        account.run(line, _counters.end_span, call, numbers, names, 3, 0)
        assert numbers == {"time": 24 / 1e9, "collections": 2, "reclaimed": 240}

    @pytest.mark.parametrize(
        "misuse",
        [
            lambda account: account.run(),
            lambda account: account.run(account.line()),
            lambda account: account.run(None, print),
            lambda account: account.send(account.line(), iter(())),
            lambda account: account.collected(1),
            lambda account: account.collected("1", 2),
        ],
    )
    def test_misuse_raises(self, memory: Native, misuse: Callable[[Any], object]) -> None:
        """As any function does that is called with the wrong arguments."""
        with pytest.raises(TypeError):
            misuse(memory.account)
