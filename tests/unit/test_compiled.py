"""The compiled accounts, over real memory: against the model that watches every step."""

from __future__ import annotations

import gc
import mmap
import sys
import threading
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tracing import untraced

from stratatrace import calls
from stratatrace.accounts import Account
from stratatrace.accounts import Tab as PlainTab
from stratatrace.errors import ProbeError
from stratatrace.probes import HighWaterProbe, NativeProbe, native_obstacle
from stratatrace.recorder import active

from .fakes import FakeProbe

if TYPE_CHECKING:
    from collections.abc import Iterator

if native_obstacle() is not None:
    pytest.skip("the compiled part is not here", allow_module_level=True)

from stratatrace.compiled import HighWaterAccount, NativeAccount
from stratatrace.probes import _counters
from stratatrace.probes._counters import Tab

pytestmark = untraced


def end(account: NativeAccount, tab: Tab) -> None:
    """Charge *tab* no more, and go on."""
    held = account.release(tab)
    assert held is not None
    account.unhold(held)


@pytest.fixture
def account() -> Iterator[NativeAccount]:
    """Have an account while the counters count."""
    probe = NativeProbe()
    probe.open()
    yield NativeAccount(probe)
    _counters.after_fork_in_child()  # Should the test have failed with tabs open.
    probe.close()


class TestNativeAccount:
    """The ledger of a thread's heap."""

    @settings(max_examples=200, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["open", "close", "take", "drop", "hold"]),
                st.integers(min_value=1, max_value=30),
                st.integers(min_value=0, max_value=7),
            ),
            max_size=40,
        )
    )
    def test_any_schedule_agrees_with_the_plain_account(
        self, steps: list[tuple[str, int, int]]
    ) -> None:
        """Net and peak are those of an account of a probe that is told of the same memory."""
        probe = NativeProbe()
        probe.open()
        account, fake = NativeAccount(probe), FakeProbe()
        plain = Account(fake)
        blocks = [bytearray() for _ in range(8)]
        tabs = [(Tab(), PlainTab()) for _ in steps]
        unused, opened = list(tabs), []
        for action, megabytes, which in steps:
            size = megabytes << 20
            if action == "open":
                opened.append(unused.pop())
                account.charge(opened[-1][0])
                plain.charge(opened[-1][1])
            elif action == "close" and opened:
                native_tab, plain_tab = opened.pop(which % len(opened))
                end(account, native_tab)
                plain.release(plain_tab)
            elif action in {"take", "drop"}:
                fake.use(-len(blocks[which]))
                blocks[which].clear()
                if action == "take":
                    fake.use(size)
                    blocks[which] = bytearray(size)
            elif action == "hold":
                level = account.hold()
                ours = bytearray(size)
                account.unhold(account.hold())
                del ours
                account.unhold(level)
        assert account.charging == bool(opened)
        for native_tab, plain_tab in opened:
            end(account, native_tab)
            plain.release(plain_tab)
        probe.close()
        # In MiB: the test itself takes some bytes between the steps.
        numbers = [(native.net_bytes, native.peak_bytes) for native, _ in tabs]
        expected = [(plain.net_bytes, plain.peak_bytes) for _, plain in tabs]
        assert [(round(net / 2**20), round(peak / 2**20)) for net, peak in numbers] == [
            (net >> 20, peak >> 20) for net, peak in expected
        ]

    def test_peak_of_nested_tabs(self, account: NativeAccount) -> None:
        """A peak in the inner is in the outer; one before or after it is not in the inner."""
        outer, inner = Tab(), Tab()
        account.charge(outer)
        spike = bytearray(9999)
        del spike
        account.charge(inner)
        spike = bytearray(29_999)
        end(account, inner)
        del spike
        kept = bytearray(19_999)
        end(account, outer)
        del kept
        empty = bytearray().__sizeof__()
        assert inner.peak_bytes == inner.net_bytes == 30_000 + empty
        assert outer.net_bytes == 20_000 + empty
        assert outer.peak_bytes == 30_000 + empty

    def test_gross_sums_leave_out_our_own_work(self, account: NativeAccount) -> None:
        """Bytes and blocks of all steps; those of an inner tab too."""
        outer, inner = Tab(), Tab()
        account.charge(outer)
        kept = [bytearray(100)]
        level = account.hold()
        kept.extend(bytearray(1000) for _ in range(100))
        account.unhold(level)
        account.charge(inner)
        kept[0] = bytearray(50)
        end(account, inner)
        end(account, outer)
        empty = bytearray().__sizeof__()
        assert (inner.allocated_bytes, inner.allocations) == (51 + empty, 2)
        # The first block, the list's one item, and what the inner took; a list's head is not new.
        assert outer.allocations - 2 - 2 in {1, 2}
        assert 0 < outer.allocated_bytes - 101 - 51 - 2 * empty < 100

    def test_what_is_held_is_nobodys(self, account: NativeAccount) -> None:
        """Neither level nor peak; `unhold` tells what it was, and holds may be nested."""
        tab = Tab()
        account.charge(tab)
        level = account.hold()
        ours = bytearray(50_000)
        inner = account.hold()
        more = bytearray(10_000)
        taken = account.unhold(inner), account.unhold(level)
        end(account, tab)
        assert (tab.net_bytes, tab.peak_bytes) == (0, 0)
        assert taken[0] == pytest.approx(10_000, abs=500)
        assert taken[1] == pytest.approx(60_000, abs=500)
        del ours, more

    def test_what_we_drop_later_is_told_beforehand(self, account: NativeAccount) -> None:
        """Else the program would be credited with it."""
        tab, size = Tab(), 1000 + bytearray().__sizeof__()
        account.charge(tab)
        level = account.hold()
        ours = bytearray(999)
        account.unhold(level, size)
        del ours
        end(account, tab)
        assert (tab.net_bytes, tab.peak_bytes) == (0, 0)

    def test_a_call_within_our_own_work_is_charged(self, account: NativeAccount) -> None:
        """A finalizer that a collection runs, for one; afterwards our work goes on."""
        outer, inner = Tab(), Tab()
        account.charge(outer)
        collection = account.hold()
        ours = [bytearray(100)]
        account.charge(inner)
        theirs = bytearray(49)
        end(account, inner)
        ours.append(bytearray(700))
        account.unhold(collection)
        end(account, outer)
        assert inner.net_bytes == 50 + bytearray().__sizeof__()
        assert outer.net_bytes == inner.net_bytes
        del theirs

    def test_a_tab_of_another_thread_has_no_numbers(self, account: NativeAccount) -> None:
        """It is failed; the thread that opened it goes on with the others, as if it were closed."""
        outer, inner = Tab(), Tab()
        account.charge(outer)
        account.charge(inner)
        errors: list[str] = []

        def release() -> None:
            with pytest.raises(RuntimeError) as raised:
                account.release(inner)
            errors.append(str(raised.value))

        thread = threading.Thread(target=release)
        thread.start()
        thread.join()
        assert "began in one thread and ended in another" in errors[0]
        assert inner.failed
        assert not inner.open
        level = account.hold()
        account.unhold(level)
        spike = bytearray(99_999)
        del spike
        end(account, outer)
        assert outer.peak_bytes >= 100_000
        assert not account.charging

    def test_each_thread_has_its_own(self, account: NativeAccount) -> None:
        """Its tabs see nothing of what another thread takes at the same time."""
        mine = Tab()
        account.charge(mine)
        seen: list[tuple[bool, int]] = []

        def work() -> None:
            charging = account.charging
            theirs = Tab()
            account.charge(theirs)
            kept = bytearray(1 << 20)
            end(account, theirs)
            seen.append((charging, theirs.net_bytes))
            del kept

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        end(account, mine)
        assert seen == [(False, (1 << 20) + 1 + bytearray().__sizeof__())]
        assert mine.peak_bytes < 1 << 16

    @pytest.mark.parametrize("again", [False, True], ids=["to its end", "and put on again"])
    def test_hooks_that_were_taken_out_are_told_of(
        self, account: NativeAccount, again: bool
    ) -> None:
        """A tracing from before, that ends while we count, puts back what it found."""
        tab, later = Tab(), Tab()
        _counters.stop()
        tracemalloc.start()
        _counters.start()
        account.charge(tab)
        tracemalloc.stop()
        if again:
            account.charge(later)  # Which puts the hooks on again.
            end(account, later)
        with pytest.raises(RuntimeError, match="put the allocators back"):
            account.release(tab)
        assert tab.failed
        assert not later.failed
        account.charge(later)
        end(account, later)
        assert not account.charging

    def test_counting_does_not_end_while_somebody_is_charged(self, account: NativeAccount) -> None:
        """The stop is done when the last tab is closed, whose numbers are whole."""
        first, last = Tab(), Tab()
        account.charge(first)
        account.charge(last)
        _counters.stop()
        kept = bytearray(1000)
        end(account, last)
        assert _counters.is_counting()
        end(account, first)
        assert not _counters.is_counting()
        assert first.net_bytes >= 1000
        account.charge(first)  # Too late: nothing is counted any more.
        with pytest.raises(RuntimeError):
            account.release(first)
        del kept

    def test_counting_ends_though_a_tab_was_abandoned(self, account: NativeAccount) -> None:
        """Whoever was to close it was interrupted, and nobody has it any more."""
        account.charge(Tab())
        _counters.stop()
        assert not _counters.is_counting()
        _counters.start()
        account.charge(Tab())
        last = Tab()
        account.charge(last)
        _counters.stop()
        end(account, last)
        assert not _counters.is_counting()

    def test_misuse_is_an_error(self, account: NativeAccount) -> None:
        """And changes nothing: a tab that is open is not opened twice, nor closed."""
        with pytest.raises(TypeError, match="Tab"):
            account.charge(PlainTab())  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="Tab"):
            account.release()  # type: ignore[call-arg]
        tab = Tab()
        account.charge(tab)
        account.charge(tab)
        end(account, tab)
        assert account.release(tab) is None
        with pytest.raises(TypeError, match="hold"):
            account.unhold(0)  # type: ignore[arg-type]
        assert not account.charging

    @pytest.fixture
    def no_collections(self) -> Iterator[None]:
        """Have free lists that are empty, and that nobody empties."""
        gc.collect()
        gc.disable()
        yield
        gc.enable()

    @pytest.mark.usefixtures("no_collections")
    def test_what_our_work_left_in_free_lists_is_the_programs_that_takes_it(
        self, account: NativeAccount
    ) -> None:
        """Until it gives it back."""
        if _counters.free_list_bytes() is None:
            pytest.skip("the free lists of this Python are not known")
        tab, bytes_of_all = Tab(), 50 * sys.getsizeof({})
        kept: list[object] = [None] * 50
        account.charge(tab)
        level = account.hold()
        ours = [{} for _ in range(60)]  # type: ignore[var-annotated]
        del ours
        account.unhold(level)
        for place in range(50):
            kept[place] = {}
        end(account, tab)
        assert tab.net_bytes == pytest.approx(bytes_of_all, abs=300)
        assert tab.allocations == pytest.approx(50, abs=5)
        account.charge(tab)
        for place in range(50):
            kept[place] = None
        end(account, tab)
        assert tab.net_bytes == pytest.approx(0, abs=300)
        account.charge(tab)
        end(account, tab)
        assert tab.net_bytes == pytest.approx(0, abs=300)

    @pytest.mark.usefixtures("no_collections")
    def test_what_was_lent_is_in_the_peak(self, account: NativeAccount) -> None:
        """Though it was given back before the end, and nothing was allocated since."""
        if _counters.free_list_bytes() is None:
            pytest.skip("the free lists of this Python are not known")
        tab = Tab()
        kept: list[object] = [None] * 50
        account.charge(tab)
        level = account.hold()
        ours = [{} for _ in range(60)]  # type: ignore[var-annotated]
        del ours
        account.unhold(level)
        for place in range(50):
            kept[place] = {}
        account.unhold(account.hold())
        kept.clear()
        end(account, tab)
        assert tab.peak_bytes == pytest.approx(50 * sys.getsizeof({}), abs=300)

    def test_a_budget_is_exceeded_by_more_than_it(self) -> None:
        """To the byte."""

        def exceeded(budget_bytes: int | None) -> tuple[int, int]:
            keeper: Any = None
            tally = _counters.Tally(keeper, heap=True, resident=None, budget_bytes=budget_bytes)
            for _ in range(5):
                call = tally.begin()
                bytearray(100_000)
                call.finish()
            taken = tally.take()
            assert taken is not None
            return taken[2], taken[5]

        _counters.start()
        _, peak_bytes = exceeded(None)
        assert exceeded(peak_bytes) == (0, peak_bytes)
        assert exceeded(peak_bytes - 1) == (5, peak_bytes)
        _counters.stop()

    def test_a_hold_ends_once(self, account: NativeAccount) -> None:
        """Another one goes on, which began where the first did."""
        tab = Tab()
        account.charge(tab)
        first = account.hold()
        account.unhold(first)
        second = account.hold()
        account.unhold(first)
        ours = bytearray(10_000)
        account.unhold(second)
        end(account, tab)
        assert tab.net_bytes == 0
        del ours

    def test_a_hold_ends_with_the_call_that_it_began_in(self, account: NativeAccount) -> None:
        """Whoever still has it, as the traceback of an exception may."""
        kept: list[_counters.Hold] = []

        def begin(_callsite: object) -> None:
            kept.append(account.hold())

        callable_type: Any = _counters.callable_type(type("Base", (), {}))
        instance = callable_type()
        _counters.set_gate(active, begin)
        try:
            _counters.connect(instance, len, None)
            assert instance("text") == 4
        finally:
            _counters.set_gate(active, calls.begin)
        before, _ = _counters.mark()
        block = bytearray(100_000)
        account.unhold(kept.pop())
        after, _ = _counters.mark()
        assert after - before >= len(block)


def _touch(size: int) -> None:
    """Take fresh memory of the system's, and give it back; an allocator would keep some."""
    with mmap.mmap(-1, size) as memory:
        for offset in range(0, size, mmap.PAGESIZE):
            memory[offset] = 1


class TestHighWaterAccount:
    """The ledger of the resident memory."""

    @pytest.fixture
    def account(self) -> HighWaterAccount:
        """Have an account, where the kernel's mark can be reset."""
        try:
            return HighWaterAccount(HighWaterProbe())
        except (OSError, ProbeError) as error:
            pytest.skip(f"the high-water mark cannot be reset here: {error}")

    def test_nested_windows_each_have_their_peak(self, account: HighWaterAccount) -> None:
        """To within what the kernel batches."""
        outer, inner = Tab(), Tab()
        account.charge(outer)
        _touch(60 << 20)
        account.charge(inner)
        _touch(20 << 20)
        account.release(inner)
        account.release(outer)
        assert inner.peak_bytes == pytest.approx(20 << 20, abs=1 << 20)
        assert outer.peak_bytes == pytest.approx(60 << 20, abs=1 << 20)
        assert account.lifetime_peak_bytes >= inner.base_bytes + (59 << 20)
        assert not account.charging

    def test_a_mark_that_cannot_be_reset_is_an_error(self, account: HighWaterAccount) -> None:
        """The tab has failed; nothing stays open, and the next window is right."""
        first, second = Tab(), Tab()
        descriptor, account.descriptor = account.descriptor, -1
        with pytest.raises(OSError, match="descriptor"):
            account.charge(first)
        account.descriptor = descriptor
        account.charge(second)
        account.descriptor = -1
        with pytest.raises(OSError, match="descriptor"):
            account.release(second)
        account.descriptor = descriptor
        assert (first.failed, first.open, second.failed, second.open) == (True, False, True, False)
        assert not account.charging


def test_a_forked_child_forgets_tabs_and_calls() -> None:
    """Those of the parent are no longer charged; what begins in the child is."""
    probe = NativeProbe()
    probe.open()
    account = NativeAccount(probe)
    tab = Tab()
    account.charge(tab)
    _counters.after_fork_in_child()
    assert not account.charging
    assert not tab.open
    account.charge(tab)
    end(account, tab)
    probe.close()


def test_a_forked_child_tells_of_no_call_of_its_parent() -> None:
    """It neither charges it nor adds it up, and waits for it with nothing."""
    _counters.start()
    keeper: Any = None
    tally = _counters.Tally(keeper, heap=True, resident=None, budget_bytes=None)
    running, suspended = tally.begin(), tally.prepare()
    _counters.after_fork_in_child()
    suspended.resume()
    assert not _counters.HeapAccount().charging
    running.finish()
    suspended.finish()
    assert tally.take() is None
    tally.begin().finish()
    taken = tally.take()
    assert taken is not None
    assert taken[0] == 1
    tally.prepare().finish()
    _counters.stop()
    assert not _counters.is_counting()
