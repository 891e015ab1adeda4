"""A compressed store is a dict, whatever is done to it, spilled and trained or not."""

from __future__ import annotations

import itertools
import tempfile
import threading
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from stratatrace import CompressedStore
from stratatrace.errors import DamagedEntryError, SpillError, StoreChangedError

KEYS = st.sampled_from([None, 0, 1, 2.5, "a", "b", b"a", (1, "x"), frozenset([1])])
WORDS = ["order", "customer", "paid", "shipped", "12.50", "EUR", "Berlin", "Lyon"]
#: Documents that resemble each other, values of any kind, and some that are larger than a budget.
VALUES = st.one_of(
    st.lists(st.sampled_from(WORDS), min_size=8, max_size=40).map("; ".join),
    st.text(st.characters(codec=None, exclude_categories=()), max_size=50),
    st.binary(max_size=300),
    st.integers(0, 255).map(lambda number: bytes(range(256)) * (number // 64) + b"%d" % number),
)
PAIRS = st.dictionaries(KEYS, VALUES, max_size=5)


class StoreMachine(RuleBasedStateMachine):
    """Does the same to a store and to a dict."""

    store: CompressedStore[Any, Any]

    @initialize(
        compression=st.sampled_from(["zlib", "zstd"]),
        dictionary=st.sampled_from([False, 10, 15]),
        max_bytes=st.sampled_from([None, 1, 200, 900, 4_000]),
        threshold=st.sampled_from([None, 1, 100]),
        items=PAIRS,
    )
    def begin(
        self,
        compression: Any,
        dictionary: Any,
        max_bytes: int | None,
        threshold: Any,
        items: dict[Any, Any],
    ) -> None:
        self.max_bytes = max_bytes
        #: Keys of entries that were damaged.
        self.damaged: set[Any] = set()
        self.full = False
        self.model = dict(items)
        self.store = CompressedStore(
            items,
            compression=compression,
            dictionary=dictionary,
            threshold=threshold,
            max_bytes=max_bytes,
            spill=None if max_bytes is None else tempfile.gettempdir(),
        )

    @rule(key=KEYS, value=VALUES)
    def set(self, key: Any, value: Any) -> None:
        self._set(lambda: self.store.__setitem__(key, value), {key: value})

    @rule(key=KEYS, value=VALUES, count=st.integers(2, 15))
    def set_many_alike(self, key: Any, value: Any, count: int) -> None:
        for number in range(count):
            one = f"{number}{value}"
            self._set(lambda one=one: self.store.__setitem__(key, one), {key: one})

    @rule(key=KEYS)
    def get(self, key: Any) -> None:
        if key in self.damaged:
            with pytest.raises(DamagedEntryError):
                self.store.get(key)
        else:
            assert self.store.get(key, "nothing") == self.model.get(key, "nothing")
            assert (key in self.store) == (key in self.model)

    @rule(key=KEYS)
    def delete(self, key: Any) -> None:
        if key in self.model:
            del self.store[key], self.model[key]
            self.damaged.discard(key)
        else:
            with pytest.raises(KeyError):
                del self.store[key]

    @rule(key=KEYS)
    def pop(self, key: Any) -> None:
        if key in self.damaged:
            with pytest.raises(DamagedEntryError):
                self.store.pop(key)
        else:
            assert self.store.pop(key, None) == self.model.pop(key, None)

    @rule()
    def popitem(self) -> None:
        if not self.model:
            with pytest.raises(KeyError):
                self.store.popitem()
        elif next(reversed(self.model)) in self.damaged:
            with pytest.raises(DamagedEntryError):
                self.store.popitem()
        else:
            assert self.store.popitem() == self.model.popitem()

    @rule(key=KEYS, value=VALUES)
    def setdefault(self, key: Any, value: Any) -> None:
        if key in self.damaged:
            with pytest.raises(DamagedEntryError):
                self.store.setdefault(key, value)
        elif key in self.model:
            assert self.store.setdefault(key, value) == self.model[key]
        else:
            self._set(lambda: self.store.setdefault(key, value), {key: value})

    @rule(items=PAIRS)
    def update(self, items: dict[Any, Any]) -> None:
        for key, value in items.items():
            self._set(lambda key=key, value=value: self.store.update({key: value}), {key: value})

    @rule()
    def clear(self) -> None:
        self.store.clear()
        self.model.clear()
        self.damaged.clear()

    @rule(key=KEYS, value=VALUES)
    def change_while_iterating(self, key: Any, value: Any) -> None:
        if len(self.model) < 2 or self.damaged or self.full:
            return
        items = iter(self.store.items())
        next(items)
        new = key not in self.model
        self.store[key] = self.model[key] = value
        if new:
            with pytest.raises(StoreChangedError):
                next(items)
        else:
            rest = list(items)
            assert rest == list(itertools.islice(self.model.items(), 1, None))

    @precondition(lambda self: self.max_bytes is not None)
    @rule()
    def fill_the_disk(self) -> None:
        connection: Any = self.store._holding._spill._connection  # type: ignore[union-attr]
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}").close()
        self.full = True

    @precondition(lambda self: self.full)
    @rule()
    def make_room_on_the_disk(self) -> None:
        connection: Any = self.store._holding._spill._connection  # type: ignore[union-attr]
        connection.execute("PRAGMA max_page_count = 1000000").close()
        self.full = False

    @rule(key=KEYS, place=st.integers(0, 1_000), bit=st.integers(0, 7))
    def damage(self, key: Any, place: int, bit: int) -> None:
        slot = self.store._holding.slots.get(key)
        if type(slot) is not bytes or key in self.damaged:
            return
        changed = bytearray(slot)
        # Not what the sums are made of.
        payload = range(4), range(10, len(changed))
        places = [*payload[0], *payload[1]]
        changed[places[place % len(places)]] ^= 1 << bit
        self.store._holding.slots[key] = bytes(changed)
        self.damaged.add(key)

    def _set(self, use: Any, items: dict[Any, Any]) -> None:
        try:
            use()
        except SpillError:
            assert self.full
        else:
            self.model.update(items)
            self.damaged.difference_update(items)

    @invariant()
    def same_keys(self) -> None:
        if hasattr(self, "model"):
            assert list(self.store) == list(self.model)
            assert len(self.store) == len(self.model)

    @invariant()
    def same_values(self) -> None:
        if hasattr(self, "model") and not self.damaged:
            assert list(self.store.items()) == list(self.model.items())
            assert self.store == self.model

    @invariant()
    def sums_are_right(self) -> None:
        if not hasattr(self, "model"):
            return
        stats = self.store.stats()
        raw = [
            v.encode("utf-8", "surrogatepass") if isinstance(v, str) else v
            for v in self.model.values()
        ]
        assert stats.entries == len(raw)
        assert stats.raw_bytes == sum(map(len, raw)) + len(raw)
        slots = self.store._holding.slots.values()
        in_memory = [slot for slot in slots if type(slot) is bytes]
        assert stats.spilled_entries == len(raw) - len(in_memory)
        assert stats.stored_bytes - stats.spilled_bytes == sum(map(len, in_memory))
        assert self.max_bytes is None or stats.memory_bytes <= self.max_bytes

    def teardown(self) -> None:
        if hasattr(self, "model"):
            self.store.clear()
            stats = self.store.stats()
            assert (stats.raw_bytes, stats.stored_bytes, stats.spilled_entries) == (0, 0, 0)
            self.store.close()


def test_like_a_dict() -> None:
    """With damaged entries, full disks and dictionaries that are trained meanwhile."""
    run_state_machine_as_test(
        StoreMachine,
        settings=settings(
            deadline=None,
            max_examples=150,
            stateful_step_count=40,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


class ThreadsMachine(RuleBasedStateMachine):
    """Threads that each have keys of their own find in one store what they would in a dict."""

    @initialize(
        compression=st.sampled_from(["zlib", "zstd"]),
        dictionary=st.sampled_from([False, 10]),
        max_bytes=st.sampled_from([None, 1, 900, 4_000]),
    )
    def begin(self, compression: Any, dictionary: Any, max_bytes: int | None) -> None:
        self.models: list[dict[Any, Any]] = [{}, {}, {}]
        self.store = CompressedStore[Any, Any](
            compression=compression,
            dictionary=dictionary,
            max_bytes=max_bytes,
            spill=None if max_bytes is None else tempfile.gettempdir(),
        )

    @rule(
        work=st.lists(
            st.lists(st.tuples(st.sampled_from(["set", "pop", "get"]), KEYS, VALUES), max_size=25),
            min_size=3,
            max_size=3,
        )
    )
    def together(self, work: list[list[tuple[str, Any, Any]]]) -> None:
        wrong: list[Any] = []
        start = threading.Barrier(3)

        def use(number: int) -> None:
            model = self.models[number]
            try:
                start.wait(60)
                for what, key, value in work[number]:
                    mine = (number, key)
                    if what == "set":
                        self.store[mine] = model[mine] = value
                    elif what == "pop":
                        assert self.store.pop(mine, None) == model.pop(mine, None)
                    else:
                        assert self.store.get(mine) == model.get(mine)
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=use, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert wrong == []
        assert dict(self.store) == self.models[0] | self.models[1] | self.models[2]
        stats = self.store.stats()
        again = CompressedStore(dict(self.store)).stats()
        assert (stats.entries, stats.raw_bytes) == (again.entries, again.raw_bytes)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()


def test_like_a_dict_under_threads() -> None:
    """Whoever else writes, spills and trains."""
    run_state_machine_as_test(
        ThreadsMachine,
        settings=settings(
            deadline=None,
            max_examples=50,
            stateful_step_count=8,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
