"""Windows over fake probes: steps, failures, threads."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from stratatrace.accounts import Account
from stratatrace.errors import ProbeError
from stratatrace.probes import CollectorProbe
from stratatrace.windows import Accounts, Window

from .fakes import FakeProbe

if TYPE_CHECKING:
    from collections.abc import Callable

    from stratatrace.measurement import Reading


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
        assert not accounts.charging
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

    def test_a_step_that_ends_in_another_thread_is_the_process_s(
        self, accounts: Accounts, heap: FakeProbe
    ) -> None:
        """Where the probe counts for the process, that is all that can be said."""
        window = opened(accounts)
        window.resume()
        heap.use(10)
        thread = threading.Thread(target=window.pause)
        thread.start()
        thread.join()
        numbers = closed(window)
        assert numbers["heap_net_bytes"] == 10
        assert numbers["attribution"] == "process"
        assert heap.starts == 0
        assert not accounts.charging

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
