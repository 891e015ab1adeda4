"""Accounts: any order of charges, holds and releases, against what must come of it."""

from __future__ import annotations

import random
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratatrace.accounts import Account, Tab
from stratatrace.errors import ProbeError

from .fakes import FakeProbe

# `Account` counts the int object that `hold` gives out as its own work.
LEVEL_OBJECT_BYTES = 32


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

        def end_hold(level: int) -> None:
            account.unhold(level)
            if account.charging:  # The level is dropped, which nobody made here.
                probe.level -= LEVEL_OBJECT_BYTES
                probe.peak = probe.level

        for action, grow, spike, which in steps:
            if action == "open":
                tab = Tab()
                account.charge(tab)
                open_tabs.append((tab, {"net": 0, "peak": 0}))
            elif action == "close" and open_tabs:
                tab, model = open_tabs.pop(which % len(open_tabs))
                end_hold(account.release(tab))
                assert (tab.net_bytes, tab.peak_bytes) == (model["net"], model["peak"])
            elif action == "use":
                probe.use(grow, spike)
                for _, model in open_tabs:
                    model["peak"] = max(model["peak"], model["net"] + max(0, grow) + spike)
                    model["net"] += grow
            elif action == "hold" and (level := account.hold()) is not None:
                probe.use(abs(grow), spike)
                end_hold(level)
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

    def test_a_collection_within_our_work_is_nobodys(
        self, account: Account, probe: FakeProbe
    ) -> None:
        """Nor is the peak that our work had reached by then, and after it."""
        tab = Tab()
        account.charge(tab)
        ours = account.hold()
        assert ours is not None
        for _ in range(2):
            probe.use(100, spike=9000)
            collection = account.hold()
            assert collection is not None
            probe.use(-40, spike=500)
            assert account.unhold(collection) == -40
        assert account.unhold(ours) == 120
        probe.use(-LEVEL_OBJECT_BYTES)
        probe.use(5)
        account.release(tab)
        assert (tab.net_bytes, tab.peak_bytes) == (5, LEVEL_OBJECT_BYTES)

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
        holder = threading.Thread(target=account._lock.here.__enter__)
        holder.start()
        holder.join()
        account.after_fork_in_child()
        assert not account.charging
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


class FakeLeftovers:
    """What the program has used of our leftovers, as the test says."""

    def __init__(self) -> None:
        self.next_used = 0
        self.left = 0
        self.forgotten = 0

    def used(self) -> int:
        """Tell it once."""
        used, self.next_used = self.next_used, 0
        return used

    def leave(self) -> None:
        """Count the ends of our work."""
        self.left += 1

    def forget(self) -> None:
        """Count the beginnings."""
        self.forgotten += 1


class TestLeftovers:
    """What stratatrace leaves in the interpreter's free lists, and the program uses."""

    @pytest.fixture
    def probe(self) -> FakeProbe:
        """Have a probe to set."""
        return FakeProbe()

    @pytest.fixture
    def leftovers(self) -> FakeLeftovers:
        """Have leftovers to set."""
        return FakeLeftovers()

    @pytest.fixture
    def account(self, probe: FakeProbe, leftovers: FakeLeftovers) -> Account:
        """Have an account that knows of them."""
        account = Account(probe, leftovers)
        account.calibrate()
        return account

    @pytest.mark.parametrize("alone", [True, False], ids=["alone", "beside threads"])
    def test_the_program_is_charged_with_what_it_uses(
        self,
        account: Account,
        probe: FakeProbe,
        leftovers: FakeLeftovers,
        alone: bool,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """And credited with what it gives back; what happens within our work is not asked for."""
        monkeypatch.setattr(Account, "alone", property(lambda _self: alone))
        tab = Tab()
        account.charge(tab)
        for used in (60, -20):
            leftovers.next_used = used
            level = account.hold()
            assert level is not None
            left, leftovers.next_used = leftovers.left, 1000
            collection = account.hold()
            assert collection is not None
            account.unhold(collection)
            leftovers.next_used = 0
            assert leftovers.left == left
            account.unhold(level)
            assert leftovers.left == left + 1
            probe.use(-LEVEL_OBJECT_BYTES)  # The level is dropped.
        leftovers.next_used = 3
        account.release(tab)
        assert tab.net_bytes == 43

    def test_they_are_forgotten_with_the_outermost_call(
        self, account: Account, leftovers: FakeLeftovers
    ) -> None:
        """Between calls nobody looks."""
        outer, inner = Tab(), Tab()
        before = leftovers.forgotten
        account.charge(outer)
        account.charge(inner)
        account.release(inner)
        account.release(outer)
        account.charge(outer)
        account.release(outer)
        assert leftovers.forgotten == before + 2
