"""Windows over fake probes: folding in any order, own work, failures, threads."""

from __future__ import annotations

import random
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratatrace.errors import ProbeError
from stratatrace.measurement import Reading
from stratatrace.probes import CollectorProbe
from stratatrace.windows import Account, Accounts, Tab, Window

if TYPE_CHECKING:
    from collections.abc import Callable

# `Account` counts the int object that `hold` gives out as its own work.
LEVEL_OBJECT_BYTES = 32


class FakeProbe:
    """A probe whose level is set by hand, and that fails when it is told to."""

    name = "fake"

    def __init__(self) -> None:
        self.level = 1000
        self.peak = 1000
        self.starts = 0
        self.failing: Exception | None = None
        self.forks = 0

    def use(self, grow: int, spike: int = 0) -> None:
        """Change the level, and reach a peak that stands *spike* above the higher of both ends."""
        self.peak = max(self.peak, self.level + max(0, grow) + spike)
        self.level += grow

    def start(self) -> None:
        """Count the users."""
        if self.failing is not None:
            raise self.failing
        self.starts += 1

    def stop(self) -> None:
        """Count the users."""
        self.starts -= 1

    def mark(self) -> Reading:
        """Tell level and peak, and begin anew."""
        if self.failing is not None:
            raise self.failing
        reading = Reading(self.level, self.peak)
        self.peak = self.level
        return reading

    def after_fork_in_child(self) -> None:
        """Note it."""
        self.forks += 1


def _accounts(heap: FakeProbe, rss: FakeProbe, collector: CollectorProbe) -> Accounts:
    return Accounts(
        heap=Account(heap), rss=Account(rss), rss_peak_method="hwm", collector=collector
    )


def opened(accounts: Accounts, *, trace_heap: bool = True, porous: bool = False) -> Window:
    """Return a window whose probes are ready."""
    window = Window(accounts)
    window.open(trace_heap=trace_heap, porous=porous)
    return window


def closed(window: Window) -> dict[str, Any]:
    """Close a window and return its numbers; the probes are let go even where that fails."""
    with suppress(ProbeError, OSError):
        window.close()
    return window.numbers()


class TestAccount:
    """The ledger of one probe."""

    @pytest.fixture
    def probe(self) -> FakeProbe:
        """Have a probe to set."""
        return FakeProbe()

    @pytest.fixture
    def account(self, probe: FakeProbe) -> Account:
        """Have an account on that probe."""
        return Account(probe)

    def test_a_tab_has_its_net_and_its_peak(self, account: Account, probe: FakeProbe) -> None:
        """What was run up between charge and release, and the highest it stood on the way."""
        tab = Tab()
        probe.use(500, spike=9000)
        account.charge(tab)
        probe.use(100, spike=40)
        probe.use(-30)
        account.release(tab)
        probe.use(700, spike=700)
        assert (tab.net_bytes, tab.peak_bytes) == (70, 140)
        assert not account.charging

    def test_a_tab_can_free_more_than_it_takes(self, account: Account, probe: FakeProbe) -> None:
        """Its net is then negative, and its peak 0."""
        tab = Tab()
        account.charge(tab)
        probe.use(-300)
        account.release(tab)
        assert (tab.net_bytes, tab.peak_bytes) == (-300, 0)

    def test_nested_tabs_each_have_the_peak(self, account: Account, probe: FakeProbe) -> None:
        """A peak in the inner is in the outer too; one before or after it is not in the inner."""
        outer, inner = Tab(), Tab()
        account.charge(outer)
        probe.use(10, spike=5)
        account.charge(inner)
        probe.use(20, spike=30)
        account.release(inner)
        probe.use(0, spike=1)
        account.release(outer)
        assert (inner.net_bytes, inner.peak_bytes) == (20, 50)
        assert (outer.net_bytes, outer.peak_bytes) == (30, 60)

    @pytest.mark.parametrize("first", [0, 1])
    def test_overlapping_tabs_close_in_any_order(
        self, account: Account, probe: FakeProbe, first: int
    ) -> None:
        """Whichever is released first, each has what happened while it was open."""
        tabs = [Tab(), Tab()]
        account.charge(tabs[0])
        probe.use(0, spike=7)
        account.charge(tabs[1])
        probe.use(100, spike=50)
        account.release(tabs[first])
        probe.use(0, spike=60)
        probe.use(-100)
        account.release(tabs[1 - first])
        assert (tabs[first].net_bytes, tabs[first].peak_bytes) == (100, 150)
        assert (tabs[1 - first].net_bytes, tabs[1 - first].peak_bytes) == (0, 160)

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["open", "close", "use", "hold"]),
                st.integers(min_value=-500, max_value=500),
                st.integers(min_value=0, max_value=300),
                st.integers(min_value=0, max_value=7),
            ),
            max_size=60,
        )
    )
    def test_any_schedule_agrees_with_a_model(self, steps: list[tuple[str, int, int, int]]) -> None:
        """Tabs that open and close in any order agree with one that watches every single step."""
        probe = FakeProbe()
        account = Account(probe)
        open_tabs: list[tuple[Tab, dict[str, int]]] = []
        for action, grow, spike, which in steps:
            if action == "open":
                tab = Tab()
                account.charge(tab)
                open_tabs.append((tab, {"net": 0, "peak": 0}))
            elif action == "close" and open_tabs:
                tab, model = open_tabs.pop(which % len(open_tabs))
                account.release(tab)
                assert (tab.net_bytes, tab.peak_bytes) == (model["net"], model["peak"])
            elif action == "use":
                probe.use(grow, spike)
                for _, model in open_tabs:
                    model["peak"] = max(model["peak"], model["net"] + max(0, grow) + spike)
                    model["net"] += grow
            elif action == "hold" and (level := account.hold()) is not None:
                probe.use(abs(grow), spike)
                account.unhold(level)
                # What is still held goes with the level object, which nobody made here.
                probe.level -= LEVEL_OBJECT_BYTES
                probe.peak = probe.level
        assert account.charging == bool(open_tabs)

    def test_a_tab_that_is_charged_again_goes_on(self, account: Account, probe: FakeProbe) -> None:
        """Steps add up: the peak is over all of them, and what happens between is nobody's."""
        tab = Tab()
        for _ in range(3):
            account.charge(tab)
            probe.use(100, spike=11)
            account.release(tab)
            probe.use(5000, spike=100_000)
        assert (tab.net_bytes, tab.peak_bytes) == (300, 311)

    def test_what_is_taken_while_held_is_nobodys(self, account: Account, probe: FakeProbe) -> None:
        """Neither level nor peak of stratatrace's own work is in a tab."""
        tab = Tab()
        account.charge(tab)
        probe.use(10)
        level = account.hold()
        assert level is not None
        probe.use(500, spike=900)
        assert account.unhold(level) == 500
        probe.use(1)
        account.release(tab)
        assert tab.net_bytes == 11 + LEVEL_OBJECT_BYTES
        assert tab.peak_bytes == 11 + LEVEL_OBJECT_BYTES

    def test_holding_needs_an_open_tab(self, account: Account) -> None:
        """Where nobody is charged, there is nothing to hold, and the probe is not asked."""
        assert account.hold() is None
        assert account.unhold(1000) == 0

    def test_a_charge_can_end_a_hold(self, account: Account, probe: FakeProbe) -> None:
        """What was taken between hold and charge is neither the outer's nor the inner's."""
        outer, inner = Tab(), Tab()
        account.charge(outer)
        held = account.hold()
        probe.use(400, spike=10)
        account.charge(inner, held)
        probe.use(7)
        level = account.release(inner)
        probe.use(300)
        account.unhold(level)
        account.release(outer)
        assert (inner.net_bytes, inner.peak_bytes) == (7, 7)
        assert outer.net_bytes == 7 + LEVEL_OBJECT_BYTES

    def test_a_peak_of_another_thread_is_not_lost_while_held(
        self, account: Account, probe: FakeProbe, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Beside other threads a peak during our own work may be theirs, and is kept."""
        monkeypatch.setattr(Account, "alone", property(lambda _self: False))
        tab = Tab()
        account.charge(tab)
        level = account.hold()
        assert level is not None
        probe.use(0, spike=5000)
        account.unhold(level)
        account.release(tab)
        assert tab.peak_bytes >= 5000

    def test_a_failure_to_charge_leaves_nothing_open(
        self, account: Account, probe: FakeProbe
    ) -> None:
        """The tab is failed, and not on the account."""
        tab = Tab()
        probe.failing = ProbeError("broken")
        with pytest.raises(ProbeError):
            account.charge(tab)
        assert (tab.failed, tab.open, account.charging) == (True, False, False)

    def test_a_failure_to_release_leaves_nothing_open(
        self, account: Account, probe: FakeProbe
    ) -> None:
        """The tab is failed and gone; the others are told rightly afterwards."""
        outer, inner = Tab(), Tab()
        account.charge(outer)
        account.charge(inner)
        probe.use(10)
        probe.failing = ProbeError("broken")
        with pytest.raises(ProbeError):
            account.release(inner)
        probe.failing = None
        account.release(outer)
        assert (inner.failed, inner.open, account.charging) == (True, False, False)
        assert (outer.failed, outer.net_bytes) == (False, 10)

    @pytest.mark.parametrize("at", ["charge", "release"])
    def test_a_tab_that_failed_once_stays_failed(
        self, account: Account, probe: FakeProbe, at: str
    ) -> None:
        """A step that was not read makes the sum meaningless, whatever later steps say."""
        tab = Tab()
        account.charge(tab)
        probe.use(10)
        account.release(tab)
        if at == "release":
            account.charge(tab)
            probe.use(1000)
        probe.failing = ProbeError("broken")
        with pytest.raises(ProbeError):
            (account.charge if at == "charge" else account.release)(tab)
        probe.failing = None
        account.charge(tab)
        account.release(tab)
        assert tab.failed

    def test_a_forked_child_has_no_tabs(self, account: Account, probe: FakeProbe) -> None:
        """The parent's tabs, and a lock that one of its threads held, are gone."""
        account.charge(Tab())
        holder = threading.Thread(target=account._lock.acquire)
        holder.start()
        holder.join()
        account.after_fork_in_child()
        assert not account.charging
        assert probe.forks == 1
        tab = Tab()
        account.charge(tab)
        probe.use(3)
        account.release(tab)
        assert tab.net_bytes == 3

    def test_threads_may_use_one_account(self, account: Account, probe: FakeProbe) -> None:
        """Thousands of tabs of several threads leave it empty, and never fail."""
        failures: list[BaseException] = []

        def use(seed: int) -> None:
            dice = random.Random(seed)
            mine: list[Tab] = []
            try:
                for _ in range(1500):
                    if mine and dice.random() < 0.5:
                        account.release(mine.pop(dice.randrange(len(mine))))
                    else:
                        mine.append(Tab())
                        account.charge(mine[-1], account.hold())
                for tab in mine:
                    account.release(tab)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=use, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert not account.charging


class TestWindow:
    """One call's stay on all accounts."""

    @pytest.fixture
    def heap(self) -> FakeProbe:
        """Have a heap to set."""
        return FakeProbe()

    @pytest.fixture
    def rss(self) -> FakeProbe:
        """Have a resident set to set."""
        return FakeProbe()

    @pytest.fixture
    def collector(self) -> CollectorProbe:
        """Have a collector whose sums are set by hand, and stand far from zero."""
        collector = CollectorProbe(None)
        collector.time_ns, collector.collections, collector.reclaimed_bytes = 9000, 50, 800
        return collector

    @pytest.fixture
    def accounts(self, heap: FakeProbe, rss: FakeProbe, collector: CollectorProbe) -> Accounts:
        """Have all accounts."""
        return _accounts(heap, rss, collector)

    def test_all_its_numbers(
        self, accounts: Accounts, heap: FakeProbe, rss: FakeProbe, collector: CollectorProbe
    ) -> None:
        """Heap, resident memory and the collector's work, each by its name."""
        window = opened(accounts)
        assert heap.starts == 1
        window.resume()
        heap.use(100, spike=20)
        rss.use(4096, spike=8192)
        collector.time_ns += 7
        collector.collections += 2
        collector.reclaimed_bytes += 64
        window.pause()
        numbers = closed(window)
        assert numbers.pop("duration_ns") >= 0
        assert numbers == {
            "probe": "fake",
            "attribution": "exact",
            "heap_net_bytes": 100,
            "heap_peak_bytes": 120,
            "rss_before_bytes": 1000,
            "rss_net_bytes": 4096,
            "rss_peak_bytes": 1000 + 4096 + 8192,
            "rss_peak_method": "hwm",
            "gc_time_ns": 7,
            "gc_collections": 2,
            "gc_reclaimed_bytes": 64,
        }
        assert heap.starts == 0

    def test_steps_add_up_and_what_is_between_does_not(
        self, accounts: Accounts, heap: FakeProbe, rss: FakeProbe, collector: CollectorProbe
    ) -> None:
        """Of several steps, only the steps are charged; `before` is that of the first."""
        window = opened(accounts)
        for _ in range(3):
            window.resume()
            heap.use(10)
            rss.use(100)
            collector.collections += 1
            window.pause()
            heap.use(5000, spike=5000)
            rss.use(5000, spike=5000)
            collector.collections += 9
        numbers = closed(window)
        assert (numbers["heap_net_bytes"], numbers["heap_peak_bytes"]) == (30, 30)
        assert (numbers["rss_before_bytes"], numbers["rss_net_bytes"]) == (1000, 300)
        assert numbers["rss_peak_bytes"] == 1300
        assert numbers["gc_collections"] == 3

    def test_without_tracing_the_heap_is_not_touched(
        self, accounts: Accounts, heap: FakeProbe
    ) -> None:
        """The probe is neither started nor read, and its fields are absent."""
        heap.failing = AssertionError("the heap was touched")
        window = opened(accounts, trace_heap=False)
        window.resume()
        window.pause()
        numbers = closed(window)
        assert {"heap_net_bytes", "heap_peak_bytes", "probe", "attribution"}.isdisjoint(numbers)
        assert "gc_reclaimed_bytes" not in numbers
        assert numbers["gc_collections"] == 0

    def test_a_window_that_never_ran_claims_nothing(
        self, accounts: Accounts, heap: FakeProbe
    ) -> None:
        """Closing it gives the probe back, and no number that nobody read."""
        numbers = closed(opened(accounts))
        assert heap.starts == 0
        assert numbers.get("heap_net_bytes") is None
        assert numbers.get("rss_net_bytes") is None

    @pytest.mark.parametrize("porous", [False, True])
    def test_attribution(
        self, accounts: Accounts, porous: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Exact only where neither another thread nor another task can be in the numbers."""
        window = opened(accounts, porous=porous)
        window.resume()
        window.pause()
        assert closed(window)["attribution"] == ("process" if porous else "exact")

    @pytest.mark.parametrize("when", ["at entry", "at exit"])
    def test_a_thread_at_either_end_is_told(
        self, accounts: Accounts, when: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A thread that ran at the beginning or at the end may be in the numbers."""
        alone = True
        monkeypatch.setattr(Account, "alone", property(lambda _self: alone))
        window = opened(accounts)
        alone = when != "at entry"
        window.resume()
        alone = when != "at exit"
        window.pause()
        assert closed(window)["attribution"] == "process"

    @pytest.mark.parametrize("error", [ProbeError("broken"), OSError(5, "broken")])
    @pytest.mark.parametrize("source", ["heap", "rss"])
    @pytest.mark.parametrize("at", ["resume", "pause"])
    @pytest.mark.parametrize("steps", [1, 3])
    def test_a_source_that_fails_takes_only_its_own_fields(
        self,
        accounts: Accounts,
        heap: FakeProbe,
        rss: FakeProbe,
        collector: CollectorProbe,
        source: str,
        at: str,
        error: Exception,
        steps: int,
    ) -> None:
        """In the middle of a call, once: its fields are None, the others right, nothing stays open.

        Where the call has several steps, the failure comes at the second and is over by the third.
        """
        broken = heap if source == "heap" else rss
        window = opened(accounts)

        def attempt(step: Callable[[], object], *, failing: bool) -> None:
            broken.failing = error if failing else None
            try:
                step()
            except (ProbeError, OSError) as raised:
                assert raised is error  # noqa: PT017 -- raising is allowed, not required
            broken.failing = None

        for step in range(steps):
            failing = step == steps // 2
            attempt(window.resume, failing=failing and at == "resume")
            heap.use(10)
            rss.use(100)
            collector.collections += 1
            attempt(window.pause, failing=failing and at == "pause")
        numbers = closed(window)

        assert accounts.heap is not None
        assert accounts.rss is not None
        assert not accounts.heap.charging
        assert not accounts.rss.charging
        assert (heap.starts, rss.starts) == (0, 0)
        expected = {
            "heap": {"heap_net_bytes": 10 * steps, "heap_peak_bytes": 10 * steps},
            "rss": {"rss_before_bytes": 1000, "rss_net_bytes": 100 * steps},
        }
        for name, fields in expected.items():
            for field, value in fields.items():
                assert numbers.get(field) == (None if name == source else value), field
        assert numbers.get("gc_collections") == steps

    def test_a_heap_that_cannot_start_is_an_error_at_the_end(
        self, accounts: Accounts, heap: FakeProbe, rss: FakeProbe
    ) -> None:
        """It is told when the window closes, and what was opened is closed."""
        heap.failing = ProbeError("broken")
        window = opened(accounts)
        with pytest.raises(ProbeError):
            window.close()
        assert "heap_net_bytes" not in window.numbers()
        assert not accounts.rss.charging
        assert rss.starts == 0

    def test_a_heap_that_starts_but_cannot_be_read_is_given_back(
        self, accounts: Accounts, heap: FakeProbe, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whether the window is made or not, the probe has no user afterwards."""

        def fails() -> Reading:
            msg = "broken"
            raise ProbeError(msg)

        monkeypatch.setattr(heap, "mark", fails)
        with suppress(ProbeError):
            closed(opened(accounts))
        assert heap.starts == 0

    def test_a_step_that_ends_in_another_thread_has_no_heap(
        self, accounts: Accounts, heap: FakeProbe
    ) -> None:
        """Nobody can say whose heap it is; the rest is right, and the next window too."""
        window = opened(accounts)
        window.resume()
        heap.use(10)
        thread = threading.Thread(target=window.pause)
        thread.start()
        thread.join()
        with pytest.raises(ProbeError, match="in one thread and ended in another"):
            window.close()
        numbers = window.numbers()
        assert "heap_net_bytes" not in numbers
        assert "attribution" not in numbers
        assert numbers["rss_net_bytes"] == 0
        assert heap.starts == 0
        assert accounts.heap is not None
        assert not accounts.heap.charging

    def test_closing_twice_is_an_error(self, accounts: Accounts, heap: FakeProbe) -> None:
        """The probes are given back once, and the numbers stay."""
        window = opened(accounts)
        window.resume()
        heap.use(10)
        window.pause()
        numbers = closed(window)
        with pytest.raises(ProbeError, match="closed twice"):
            window.close()
        assert window.numbers() == numbers
        assert numbers["heap_net_bytes"] == 10
        assert heap.starts == 0

    @pytest.mark.parametrize("field", ["duration_ns", "gc_time_ns"])
    def test_a_clock_that_steps_back_is_an_error(
        self, field: str, accounts: Accounts, heap: FakeProbe, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What was read off it is not known; the memory is."""
        window = opened(accounts)
        window.resume()
        heap.use(10)
        if field == "duration_ns":
            now = time.perf_counter_ns()
            monkeypatch.setattr("time.perf_counter_ns", lambda: now - 10**12)
        else:
            monkeypatch.setattr(accounts.collector, "time_ns", -5)
        window.pause()
        with pytest.raises(ProbeError, match="stepped back"):
            window.close()
        numbers = window.numbers()
        assert {name for name, number in numbers.items() if number is None} == {field}
        assert numbers["heap_net_bytes"] == 10

    def test_windows_overlap_in_any_order(self, accounts: Accounts, heap: FakeProbe) -> None:
        """Two calls that are neither nested nor apart each have their own."""
        first, second = (opened(accounts) for _ in range(2))
        first.resume()
        heap.use(1)
        second.resume()
        heap.use(10)
        first.pause()
        heap.use(100)
        second.pause()
        assert closed(first)["heap_net_bytes"] == 11
        assert closed(second)["heap_net_bytes"] == 110
        assert heap.starts == 0

    def test_forked_children_have_accounts_of_their_own(
        self, accounts: Accounts, heap: FakeProbe, rss: FakeProbe
    ) -> None:
        """Every account is told of the fork."""
        accounts.after_fork_in_child()
        assert (heap.forks, rss.forks) == (1, 1)
