"""`WeakCache`: one living value for each key, whoever asks, and whatever dies meanwhile."""

from __future__ import annotations

import copy
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from tracing import untraced

from stratatrace import WeakCache
from stratatrace.errors import InvalidTypeError, InvalidValueError


class Value:
    def __init__(self, number: int = 0) -> None:
        self.number = number


@pytest.fixture
def cache() -> WeakCache[Any, Any]:
    return WeakCache()


def test_a_value_is_there_while_it_is_used(cache: WeakCache[Any, Any]) -> None:
    """And made anew when it is gone."""
    value = cache.get("a", Value)
    assert cache.get("a", Value) is cache["a"] is cache.get("a") is value
    assert ("a" in cache, len(cache), list(cache)) == (True, 1, ["a"])
    del value
    assert ("a" in cache, len(cache), cache.get("a")) == (False, 0, None)
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.evictions) == (3, 2, {"collected": 1})
    with pytest.raises(KeyError):
        cache["a"]


def test_values_are_set_and_deleted(cache: WeakCache[Any, Any]) -> None:
    """As in a dictionary; and that is no death."""
    one, other = Value(1), Value(2)
    cache["a"] = one
    cache["a"] = other
    cache["b"] = one
    assert dict(cache.items()) == {"a": other, "b": one}
    assert (set(cache.keys()), set(cache.values())) == ({"a", "b"}, {one, other})
    del cache["a"]
    assert (cache.pop("a", 5), cache.pop("b")) == (5, one)
    with pytest.raises(KeyError):
        del cache["a"]
    cache["a"] = one
    cache.clear()
    assert (len(cache), cache.stats().evictions) == (0, {})


def test_the_death_of_an_old_value_leaves_the_new_one(cache: WeakCache[Any, Any]) -> None:
    """Also where both come to their end in one collection, or the old one later."""
    old, new = Value(1), Value(2)
    old.number = old  # type: ignore[assignment] # a cycle, which a collection ends
    cache["a"] = old
    cache["a"] = new
    del old
    gc.collect()
    assert cache["a"] is new
    del cache["a"]
    cache["a"] = new
    assert cache["a"] is new


def test_what_cannot_be_weakly_referenced(cache: WeakCache[Any, Any]) -> None:
    """Is refused, or kept where that was chosen, until it is deleted."""

    class Slotted:
        __slots__ = ()

    refused: list[Any] = [5, "a", (1,), [1], {}, None, Slotted()]
    for value in refused:
        with pytest.raises(
            InvalidTypeError, match=r"cannot be weakly referenced.*keep_strong=True"
        ):
            cache.get("a", partial(copy.copy, value))
        with pytest.raises(InvalidTypeError, match=type(value).__name__):
            cache["a"] = value
    assert (len(cache), cache.stats().misses) == (0, 7)
    keeping: WeakCache[str, Any] = WeakCache(keep_strong=True)
    assert keeping.get("a", lambda: [1]) is keeping.get("a", lambda: [2])
    assert keeping.get("n", lambda: None) is keeping.get("n", Value) is None
    keeping["v"] = Value()
    assert (len(keeping), dict(keeping.items())) == (2, {"a": [1], "n": None})
    keeping["a"] = new = Value()
    assert keeping["a"] is new
    assert keeping.pop("n") is None
    del new
    assert len(keeping) == 0


def test_a_factory_runs_once_for_all_that_ask(cache: WeakCache[Any, Any]) -> None:
    """And nobody has another object than the others."""
    runs: list[int] = []
    go = threading.Event()

    def factory() -> Value:
        runs.append(1)
        go.wait(10)
        return Value()

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(cache.get, "a", factory) for _ in range(8)]
        threading.Timer(0.1, go.set).start()
        values = {id(future.result(10)) for future in futures}
    assert (len(values), len(runs)) == (1, 1)


def test_values_live_and_die_in_threads() -> None:
    """Two that hold a value of one key at the same time hold the same one."""
    cache: WeakCache[int, Value] = WeakCache()
    made: dict[int, int] = dict.fromkeys(range(5), 0)
    wrong: list[int] = []

    def factory(key: int) -> Value:
        made[key] += 1
        number = made[key]
        if made[key] != number:
            wrong.append(key)  # Two at a time.
        return Value(key)

    def use() -> None:
        for number in range(3_000):
            key = number % 5
            value = cache.get(key, lambda key=key: factory(key))  # type: ignore[misc]
            if value.number != key or cache.get(key) is not value:
                wrong.append(key)
            if number % 100 == 0:
                list(cache.items())
                gc.collect(0)
            del value

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(use) for _ in range(4)]:
            future.result(30)
    assert wrong == []
    assert len(cache) == 0
    stats = cache.stats()
    assert stats.misses == stats.evictions["collected"] == sum(made.values())


def test_what_a_factory_raises_is_not_kept(cache: WeakCache[Any, Any]) -> None:
    """The next one makes the value."""

    def fails() -> Value:
        raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            cache.get("a", fails)
    value = cache.get("a", Value)
    assert cache["a"] is value


def test_a_factory_may_use_the_cache(cache: WeakCache[Any, Any]) -> None:
    """For other keys, and for its own, whose value is then the one that all have."""
    inner = Value(1)

    def factory() -> Value:
        cache["other"] = inner
        cache["a"] = inner
        return Value(2)

    assert cache.get("a", factory) is cache["a"] is cache["other"] is inner


@pytest.mark.parametrize("change", ["delete", "clear"])
def test_what_was_made_before_a_change_is_not_kept_after_it(
    cache: WeakCache[Any, Any], change: str
) -> None:
    """It may be of data that is not true any more."""

    def factory() -> Value:
        if change == "delete":
            cache.pop("a", None)
        else:
            cache.clear()
        return Value()

    value = cache.get("a", factory)
    assert isinstance(value, Value)
    assert "a" not in cache


@untraced
def test_a_finalizer_may_use_the_cache(cache: WeakCache[Any, Any]) -> None:
    """In whatever the thread was doing with it when the collector came; nothing hangs."""
    left: list[Value] = []

    class Loud(Value):
        def __del__(self) -> None:
            left.append(cache.get(f"left {len(left)}", Value))
            cache.pop(f"left {len(left) - 3}", None)
            len(cache), list(cache.items()), cache.stats()

    threshold = gc.get_threshold()
    gc.set_threshold(5, 2, 2)
    try:
        for number in range(300):
            value = cache.get(number % 7, Loud)
            value.itself = value
            del value
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert len(left) > 20
    for key in range(7):
        assert cache.get(key) is None
    assert len(cache) == 2  # Of those that were left: the last two.


def test_values_may_die_while_they_are_iterated(cache: WeakCache[Any, Any]) -> None:
    """And others may come."""
    values = [Value(number) for number in range(10)]
    for number, value in enumerate(values):
        cache[number] = value
    seen = 0
    for key in cache:
        seen += 1
        values.clear()
        del value
        value = cache.get(key + 100, Value)
    assert (seen, len(cache), value) == (10, 1, cache.get(109))
    values.extend(cache.get(number, Value) for number in range(5))
    for key, living in cache.items():
        values.clear()
        assert cache.get(key) is living
    del living
    assert len(cache) == 1


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda cache: cache.get([1], Value), "must be hashable"),
        (lambda cache: cache.get([1]), "must be hashable"),
        (lambda cache: cache.pop([1]), "must be hashable"),
        (lambda cache: cache.__setitem__([1], Value()), "must be hashable"),
        (lambda cache: [1] in cache, "must be hashable"),
        (lambda cache: cache.get("a", 5), "factory is a function that takes nothing"),
        (lambda cache: cache.get("a", _coroutine), "a coroutine can be used only once"),
        (lambda _: WeakCache(keep_strong="yes"), "keep_strong is True or False"),  # type: ignore[arg-type]
        (lambda _: WeakCache(name=5), "a name is text"),  # type: ignore[arg-type]
        (copy.copy, "neither copied nor pickled"),
    ],
)
def test_misuse(cache: WeakCache[Any, Any], use: Any, words: str) -> None:
    """Says what was given, and what was expected."""
    with pytest.raises(InvalidTypeError, match=words):
        use(cache)
    assert len(cache) == 0


async def _coroutine() -> None: ...


def test_its_name() -> None:
    """Is where it was made, or the one that is given."""
    assert WeakCache().name.endswith("test_cache_weak.test_its_name")
    assert "0 entries" in repr(WeakCache(name="images"))
    with pytest.raises(InvalidValueError):
        WeakCache(name="")
