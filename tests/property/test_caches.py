"""Caches against simple models: step by step, and from several threads."""

from __future__ import annotations

import gc
import threading
from collections import OrderedDict
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from stratatrace import BoundedCache, WeakCache
from stratatrace.errors import ValueTooLargeError

keys = st.integers(0, 9)
sizes = st.integers(0, 60)


class BoundedMachine(RuleBasedStateMachine):
    """A `BoundedCache` against an ordered dictionary, whose first one goes first."""

    @initialize(
        entries=st.none() | st.integers(1, 6),
        most=st.integers(20, 200),
        ttl=st.none() | st.integers(1, 8),
        skips=st.booleans(),
    )
    def begin(self, entries: int | None, most: int, ttl: int | None, *, skips: bool) -> None:
        self.now = 0.0
        self.told: list[tuple[int, bytes, str]] = []
        self.entries, self.most, self.ttl = entries, most, ttl
        self.cache: BoundedCache[int, bytes] = BoundedCache(
            max_entries=entries,
            max_bytes=most,
            ttl=ttl,
            size_of=len,
            on_evict=lambda *each: self.told.append(each),
            on_too_large="skip" if skips else "raise",
            shrink_under_pressure=False,
            clock=lambda: self.now,
        )
        self.skips = skips
        self.model: OrderedDict[int, tuple[bytes, float]] = OrderedDict()
        self.expected: list[tuple[int, bytes, str]] = []
        self.hits = self.misses = self.refused = 0

    # The model.

    def expire(self) -> None:
        if self.ttl is None:
            return
        old = [key for key, (_, end) in self.model.items() if end <= self.now]
        # In the order in which they were put in.
        for key in sorted(old, key=lambda key: self.model[key][1]):
            self.expected.append((key, self.model.pop(key)[0], "expired"))

    def put(self, key: int, value: bytes) -> None:
        self.model[key] = (value, self.now + (self.ttl or 0))
        self.model.move_to_end(key)
        while True:
            if self.entries is not None and len(self.model) > self.entries:
                reason = "entries"
            elif sum(len(each) for each, _ in self.model.values()) > self.most:
                reason = "bytes"
            else:
                return
            oldest, (dropped, _) = self.model.popitem(last=False)
            self.expected.append((oldest, dropped, reason))

    def find(self, key: int) -> bytes | None:
        self.expire()
        if key in self.model:
            self.hits += 1
            self.model.move_to_end(key)
            return self.model[key][0]
        self.misses += 1
        return None

    # What is done.

    @rule(key=keys, size=sizes | st.just(250))
    def set(self, key: int, size: int) -> None:
        value = bytes(size)
        if size > self.most:
            self.refused += 1
            if self.skips:
                self.cache[key] = value
                self.expire()
                self.model.pop(key, None)
                return
            try:
                self.cache[key] = value
            except ValueTooLargeError:
                return
            raise AssertionError
        self.cache[key] = value
        self.expire()
        self.put(key, value)

    @rule(key=keys)
    def get(self, key: int) -> None:
        assert self.cache.get(key) == self.find(key)

    @rule(key=keys, size=sizes)
    def set_default(self, key: int, size: int) -> None:
        if size > self.most:
            return
        expected = self.find(key)
        if expected is None:
            expected = bytes(size)
            self.put(key, expected)
        assert self.cache.setdefault(key, bytes(size)) == expected

    @rule(key=keys, size=sizes | st.just(250))
    def create(self, key: int, size: int) -> None:
        expected = self.find(key)
        if expected is None:
            expected = bytes(size)
            if size > self.most:
                self.refused += 1
            else:
                self.put(key, expected)
        assert self.cache.get_or_create(key, lambda: bytes(size)) == expected

    @rule(key=keys)
    def pop(self, key: int) -> None:
        self.expire()
        value, _ = self.model.pop(key, (None, 0))
        assert self.cache.pop(key, None) == value

    @rule()
    def pop_item(self) -> None:
        self.expire()
        if self.model:
            key, (value, _) = self.model.popitem(last=False)
            assert self.cache.popitem() == (key, value)

    @rule(seconds=st.integers(1, 5))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def clear(self) -> None:
        self.expire()
        self.cache.clear()
        self.model.clear()

    @rule(level=st.sampled_from([0.5, 0.1]))
    def shrink(self, level: float) -> None:
        """Memory runs short, and then not any more."""
        self.cache._change(lambda store: store.shrink(level))
        self.cache._change(lambda store: store.shrink(1.0))
        self.expire()
        most = int(len(self.model) * level)
        most_bytes = sum(len(each) for each, _ in self.model.values()) * level
        held, share = len(self.model), (self.most * level, (self.entries or 99) * level)
        while self.model:
            total = sum(len(each) for each, _ in self.model.values())
            over = len(self.model) > most or total > most_bytes or total > share[0]
            if not over and len(self.model) <= max(1, share[1]):
                break
            key, (value, _) = self.model.popitem(last=False)
            self.expected.append((key, value, "pressure"))
        assert len(self.model) <= held

    @invariant()
    def the_same(self) -> None:
        if not hasattr(self, "cache"):
            return
        self.expire()
        assert dict(self.cache) == {key: value for key, (value, _) in self.model.items()}
        assert len(self.cache) == len(self.model)
        assert self.told == self.expected
        stats = self.cache.stats()
        assert stats.size_bytes == sum(len(value) for value, _ in self.model.values())
        # dict() has looked each of them up, which is a use.
        self.hits += len(self.model)
        for key in list(self.cache):
            self.model.move_to_end(key)
        assert (stats.hits, stats.misses, stats.refused) == (self.hits, self.misses, self.refused)


class Value:
    """What can be weakly referenced, and be in a cycle."""

    itself: Any = None


class WeakMachine(RuleBasedStateMachine):
    """A `WeakCache` against the dictionary of those values that somebody holds."""

    def __init__(self) -> None:
        super().__init__()
        gc.disable()
        self.cache: WeakCache[int, Any] = WeakCache(keep_strong=True)
        self.held: dict[int, Any] = {}

    def teardown(self) -> None:
        gc.enable()

    @rule(key=keys, hold=st.booleans(), cyclic=st.booleans())
    def get(self, key: int, *, hold: bool, cyclic: bool) -> None:
        made: list[Any] = []

        def factory() -> Value:
            made.append(value := Value())
            return value

        value = self.cache.get(key, factory)
        assert (value is self.held[key]) if key in self.held else (value is made[0])
        assert len(made) == (key not in self.held)
        if hold:
            self.held[key] = value
        elif cyclic and key not in self.held:
            value.itself = value
            del value, made
            gc.collect()

    @rule(key=keys)
    def fail(self, key: int) -> None:
        def factory() -> Value:
            raise ZeroDivisionError

        try:
            assert self.cache.get(key, factory) is self.held[key]
        except ZeroDivisionError:
            assert key not in self.held

    @rule(key=keys, strong=st.booleans())
    def set(self, key: int, *, strong: bool) -> None:
        value: Any = [key] if strong else Value()
        self.cache[key] = self.held[key] = value

    @rule(key=keys)
    def let_go(self, key: int) -> None:
        if not isinstance(self.held.get(key), list):
            self.held.pop(key, None)

    @rule(key=keys)
    def delete(self, key: int) -> None:
        assert self.cache.pop(key, None) is self.held.pop(key, None)

    @rule()
    def clear(self) -> None:
        self.cache.clear()
        self.held.clear()

    @invariant()
    def the_same(self) -> None:
        assert len(self.cache) == len(self.held)
        assert dict(self.cache.items()) == self.held
        for key in range(10):
            assert (key in self.cache) == (key in self.held)
            assert self.cache.get(key) is self.held.get(key)
        assert self.cache.stats().entries == len(self.held)


TestBounded = BoundedMachine.TestCase
TestBounded.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestWeak = WeakMachine.TestCase
TestWeak.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)

#: What one thread does: an operation, a key, and a size.
programs = st.lists(
    st.lists(
        st.tuples(st.sampled_from(["set", "get", "pop", "make", "all", "clear"]), keys, sizes),
        max_size=40,
    ),
    min_size=2,
    max_size=4,
)


def in_threads(work: Any, programs: list[Any]) -> None:
    """Run each program in a thread of its own, all beginning at once."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(len(programs))

    def run(program: Any) -> None:
        barrier.wait(10)
        try:
            for step in program:
                work(*step)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(each,), daemon=True) for each in programs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert errors == []


@settings(max_examples=40, deadline=None)
@given(programs)
def test_threads_leave_a_bounded_cache_whole(programs: list[Any]) -> None:
    """What was put in is held, was evicted, or was taken out: once, and the sums are right."""
    evicted: list[int] = []
    put: set[int] = set()
    taken: list[int] = []
    serial = iter(range(1, 10**9))
    cache: BoundedCache[int, tuple[int, int]] = BoundedCache(
        max_entries=4,
        max_bytes=120,
        size_of=lambda value: value[1],
        on_evict=lambda _, value, __: evicted.append(value[0]),
        shrink_under_pressure=False,
    )
    lookups = []

    def work(operation: str, key: int, size: int) -> None:
        number = next(serial)
        if operation == "set":
            put.add(number)
            cache[number] = (number, size)
        elif operation == "make":
            lookups.append(1)
            assert cache.get_or_create(-key - 1, lambda: (0, size))[0] == 0
        elif operation == "get":
            lookups.append(1)
            cache.get(key)
        elif operation == "pop":
            value = cache.pop(next(iter(cache), 0), None)
            if value is not None:
                taken.append(value[0])
        elif operation == "all":
            assert sum(size for _, size in cache.values()) <= 120
        assert cache.stats().entries <= 4

    in_threads(work, programs)
    held = [value[0] for value in cache.values()]
    numbers = [number for number in (*held, *evicted, *taken) if number]
    assert len(numbers) == len(set(numbers))
    assert set(numbers) == put
    stats = cache.stats()
    assert stats.size_bytes == sum(size for _, size in cache.values())
    assert sum(stats.evictions.values()) == len(evicted)
    assert stats.hits + stats.misses == len(lookups)


@settings(max_examples=40, deadline=None)
@given(programs)
def test_threads_have_one_living_value_of_a_key(programs: list[Any]) -> None:
    """Who holds a value of a key holds the one that the others get."""
    cache: WeakCache[int, Value] = WeakCache()
    making: set[int] = set()

    def work(operation: str, key: int, _size: int) -> None:
        def factory() -> Value:
            assert key not in making
            making.add(key)
            value = Value()
            making.discard(key)
            return value

        value = cache.get(key, factory)
        if operation == "all":
            assert any(each is value for each in cache.values())
        assert cache.get(key, factory) is value

    in_threads(work, programs)
    assert len(cache) == 0
    stats = cache.stats()
    assert stats.misses == stats.evictions.get("collected", 0)
