"""A pool does what a simple model of it does, whatever is asked of it and in whichever order."""

from __future__ import annotations

import gc
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from stratatrace import MemoryPool
from stratatrace.config import Config
from stratatrace.errors import PoolClosedError, PoolExhaustedError, PoolMisuseError
from stratatrace.testing import recording

if TYPE_CHECKING:
    from collections.abc import Iterator


class Item:
    """Can be made to refuse its reset, and to be invalid."""

    def __init__(self) -> None:
        self.clean = True
        self.refuses = False
        self.valid = True

    def reset(self) -> None:
        if self.refuses:
            msg = "refused"
            raise ValueError(msg)
        self.clean = True


class PoolMachine(RuleBasedStateMachine):
    """The model: a stack of what is idle, a set of what is out, and counters."""

    items = Bundle("items")

    def __init__(self) -> None:
        super().__init__()
        self.measured = recording(Config(probe="rss"))
        self.measured.__enter__()
        self.idle: list[Item] = []
        self.out: list[Item] = []
        self.created = self.reused = self.discarded = self.leaked = self.timeouts = 0
        self.uses: dict[int, int] = {}
        self.disposed: list[Item] = []
        self.failing = False
        self.closed = False
        self.made: list[Any] = []

    def factory(self) -> Item:
        if self.failing:
            msg = "no server"
            raise OSError(msg)
        return Item()

    @initialize(
        max_size=st.integers(1, 4),
        idle_share=st.floats(0, 1),
        validates=st.booleans(),
        debug=st.booleans(),
    )
    def make(self, max_size: int, idle_share: float, validates: bool, debug: bool) -> None:
        self.max_size = max_size
        self.max_idle = round(max_size * idle_share)
        self.validates = validates
        self.debug = debug
        self.pool: MemoryPool[Item] = MemoryPool(
            self.factory,
            max_size=max_size,
            max_idle=self.max_idle,
            validate=(lambda item: item.valid) if validates else None,
            dispose=self.disposed.append,
            timeout=0,
            debug=debug,
        )

    def drop(self, item: Item) -> None:
        self.discarded += 1
        self.uses.pop(id(item), None)

    @rule(target=items)
    def acquire(self) -> Any:
        while self.validates and not self.closed and self.idle and not self.idle[-1].valid:
            self.drop(self.idle.pop())
        if self.closed:
            with pytest.raises(PoolClosedError):
                self.pool.acquire()
            return multiple()
        if not self.idle and len(self.out) == self.max_size:
            self.timeouts += 1
            with pytest.raises(PoolExhaustedError):
                self.pool.acquire()
            return multiple()
        if not self.idle and self.failing:
            with pytest.raises(OSError, match="no server"):
                self.pool.acquire()
            return multiple()
        item = self.pool.acquire()
        bare: Item = item.__wrapped__ if self.debug else item  # type: ignore[attr-defined]
        if self.idle:
            assert bare is self.idle.pop()
            self.reused += 1
        else:
            assert all(bare is not other for other in self.out)
            self.created += 1
        assert bare.clean
        bare.clean = False
        self.out.append(bare)
        return item

    def gone(self, item: Any) -> Item | None:
        """Return what is out by this handle; None where it was given back, or it has leaked."""
        if not self.debug:
            return next((each for each in self.out if each is item), None)
        wrapped = object.__getattribute__(item, "__wrapped__")
        return next((each for each in self.out if each is wrapped), None)

    def put_back(self, item: Item) -> None:
        self.out = [each for each in self.out if each is not item]
        if item.refuses:
            self.drop(item)
            return
        self.idle.append(item)
        if self.closed:
            self.drop(self.idle.pop())
        elif len(self.idle) > self.max_idle:
            self.drop(self.idle.pop(0))

    @rule(item=items)
    def release(self, item: Any) -> None:
        bare = self.gone(item)
        if bare is None:
            with pytest.raises(PoolMisuseError):
                self.pool.release(item)
            return
        self.pool.release(item)
        self.put_back(bare)

    @rule(item=items)
    def discard(self, item: Any) -> None:
        bare = self.gone(item)
        if bare is None:
            with pytest.raises(PoolMisuseError):
                self.pool.discard(item)
            return
        self.pool.discard(item)
        self.out = [each for each in self.out if each is not bare]
        self.drop(bare)

    @rule(item=items)
    def refuse_reset(self, item: Any) -> None:
        bare = self.gone(item)
        if bare is not None:
            bare.refuses = True

    @rule(item=items)
    def spoil(self, item: Any) -> None:
        bare = self.gone(item)
        if bare is not None:
            bare.valid = False

    @rule()
    def leak(self) -> None:
        if self.closed or self.idle or len(self.out) == self.max_size or self.failing:
            return
        self.pool.acquire()
        gc.collect()
        self.created += 1
        self.leaked += 1

    @rule()
    def release_foreign(self) -> None:
        with pytest.raises(PoolMisuseError):
            self.pool.release(Item())

    @rule()
    def toggle_failing(self) -> None:
        self.failing = not self.failing

    @rule()
    def clear(self) -> None:
        self.pool.clear()
        while self.idle:
            self.drop(self.idle.pop())

    @precondition(lambda self: self.created > 3)
    @rule()
    def close(self) -> None:
        self.pool.close()
        self.closed = True
        while self.idle:
            self.drop(self.idle.pop())

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "pool"):
            return
        stats = self.pool.stats()
        assert (stats.idle, stats.used) == (len(self.idle), len(self.out))
        assert stats.size == len(self.idle) + len(self.out)
        assert stats.allocated == self.created
        assert stats.reused == self.reused
        assert stats.discarded == self.discarded == len(self.disposed)
        assert stats.leaked == self.leaked
        assert stats.timeouts == self.timeouts
        assert stats.waiting == 0

    def teardown(self) -> None:
        self.measured.__exit__(None, None, None)


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.fixture
def measured() -> Iterator[None]:
    with recording(Config(probe="rss")):
        yield


orders = st.lists(
    st.lists(st.sampled_from(["use", "discard", "refuse", "spoil", "leak", "hurry"]), max_size=25),
    min_size=2,
    max_size=5,
)


@pytest.mark.usefixtures("measured")
@settings(max_examples=40, deadline=None)
@given(orders, st.integers(1, 3), st.integers(0, 3))
def test_under_threads(  # noqa: C901 -- its threads do all that can be done
    orders: list[list[str]], max_size: int, max_idle: int
) -> None:
    """Nobody has what another has, and in the end the counters add up and all can be had."""
    pool = MemoryPool(
        Item, max_size=max_size, max_idle=min(max_idle, max_size), validate=lambda item: item.valid
    )
    errors: list[BaseException] = []
    served: list[int] = []

    def work(order: list[str]) -> None:
        count = 0
        for what in order:
            try:
                item = pool.acquire(timeout=0 if what == "hurry" else 20)
            except PoolExhaustedError:
                assert what == "hurry"
                continue
            count += 1
            assert item.clean
            item.clean = False
            item.refuses, item.valid = what == "refuse", what != "spoil"
            if what == "discard":
                pool.discard(item)
            elif what != "leak":
                pool.release(item)
            del item
        served.append(count)

    def run(order: list[str]) -> None:
        try:
            work(order)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(order,), daemon=True) for order in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert not errors
    stats = pool.stats()
    asked = [what for order in orders for what in order]
    assert (stats.used, stats.waiting, stats.leaked) == (0, 0, asked.count("leak"))
    assert stats.allocated + stats.reused == sum(served)
    assert stats.allocated == stats.idle + stats.discarded + stats.leaked
    assert stats.discarded_by.get("asked", 0) == asked.count("discard")
    assert stats.discarded_by.get("reset", 0) == asked.count("refuse")
    everything = [pool.acquire(timeout=0) for _ in range(max_size)]
    assert len({id(item) for item in everything}) == max_size
    for item in everything:
        pool.release(item)
