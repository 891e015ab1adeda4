"""The cache remembers all that a dictionary would, in less memory."""

from __future__ import annotations

import copy
import importlib
import pickle
import sys
import tempfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strataregula_compilers import library, switched_on

from stratatrace.instrumentation.strataregula import optimize_cache
from stratatrace.instrumentation.strataregula.optimize_cache import Expansions

shared = st.sampled_from(["tokyo", "a.b", "", "*", "東京", "x" * 30])
patterns = st.lists(st.sampled_from(["edge", "*", "a*b", ":", "é"]), min_size=1, max_size=3).map(
    ".".join
)
values = st.one_of(st.floats(), st.sampled_from([1, True, None, "1"]), st.lists(st.integers()))


@st.composite
def entries(draw: st.DrawFn) -> tuple[str, Any]:
    """A key, and what might be the expansion of its pattern."""
    pattern, value = draw(patterns), draw(values)
    kind = draw(st.sampled_from(["one", "wildcard", "each its own", "anything", "nothing"]))
    expansion: Any = {pattern: value}
    if kind == "wildcard":
        expansion = {pattern.replace("*", item): value for item in draw(st.lists(shared))}
    elif kind == "each its own":
        expansion = {pattern.replace("*", item): draw(values) for item in draw(st.lists(shared))}
    elif kind == "anything":
        expansion = draw(st.dictionaries(st.one_of(shared, st.integers()), values))
    elif kind == "nothing":
        expansion = draw(st.sampled_from([None, {}, [], "text"]))
    return f"{pattern}:{draw(st.integers(-9, 9))}", expansion


steps = st.lists(
    st.one_of(entries(), st.tuples(st.just("drop"), st.integers(0, 4)), st.just(("clear", None))),
    max_size=30,
)


@given(steps)
@settings(max_examples=150, deadline=None)
def test_it_is_a_dictionary(taken: list[tuple[str, Any]]) -> None:
    """Of every step, the same entries are left, in the same order, and equal in value and type."""
    cache, model = Expansions(), dict[str, Any]()
    for key, given_value in taken:
        if key == "drop":
            cache.drop_oldest(given_value)
            for each in list(model)[:given_value]:
                del model[each]
        elif key == "clear":
            cache.clear()
            model.clear()
        else:
            cache[key] = given_value
            model[key] = given_value
            assert repr(cache.get(key)) == repr(given_value)
        assert len(cache) == len(model)
        assert repr(list(cache.items())) == repr(list(model.items()))
    assert cache.get("unheard of") is None
    with pytest.raises(KeyError):
        _ = cache["unheard of"]


def size_of(value: Any, seen: set[int] | None = None) -> int:
    """Return what a value takes, each object once."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return 0
    seen.add(id(value))
    inner: list[Any] = []
    if isinstance(value, dict):
        inner = [*value.keys(), *value.values()]
    elif isinstance(value, (list, tuple)):
        inner = list(value)
    return sys.getsizeof(value) + sum(size_of(each, seen) for each in inner)


def filled(cache: Any) -> Any:
    regions = [f"region-{number}" for number in range(20)]
    for number in range(300):
        value = number / 7
        cache[f"literal.{number}:1"] = {f"literal.{number}": value}
        cache[f"hub.{number}.*:1"] = {f"hub.{number}.{region}": value for region in regions}
        product = (f"{one}.{other}" for one in regions for other in regions)
        cache[f"twice.{number % 9}.*.*:1"] = {f"twice.{number % 9}.{two}": value for two in product}
    return cache


def test_it_takes_a_fraction() -> None:
    """What is held is by far less than the dictionaries are."""
    plain, compact = filled({}), filled(Expansions())
    assert dict(compact) == plain
    store = compact._store
    held = size_of(compact._held) + store.stats().memory_bytes
    assert held * 5 < size_of(plain)
    assert sum(type(each) is optimize_cache._Single for each in compact._held.values()) == 300


def test_what_stood_for_a_wildcard_is_its_own() -> None:
    """As many others that came before, or come later, are not taken for it."""
    compact = Expansions()
    for words in (("tokyo", "nara"), ("kyoto", "osaka"), ("tokyo", "nara"), ("nara", "tokyo")):
        key = f"{words[0]}.*:1"
        compact[key] = {f"{words[0]}.{word}": 1 for word in words}
        assert list(compact[key]) == [f"{words[0]}.{word}" for word in words]


def test_it_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is too much for memory goes to a file, and nothing is lost."""
    monkeypatch.setattr(optimize_cache, "_MAX_BYTES", 10_000)
    compact = filled(Expansions())
    stats = compact._store.stats()
    assert stats.memory_bytes <= 10_000
    assert stats.spilled_entries > 0
    assert dict(compact) == filled({})
    compact.clear()


def test_where_there_is_no_place_for_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps what it has, as it is."""
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/nowhere/at/all")
    compact = filled(Expansions())
    assert compact._store is None
    assert dict(compact) == filled({})


def test_what_cannot_be_read_is_expanded_again() -> None:
    """A look-up in a store that is gone finds nothing, and raises nothing."""
    compact = filled(Expansions())
    compact._store.close()
    assert compact.get("twice.1.*.*:1") is None
    assert compact.get("literal.1:1") == {"literal.1": 1 / 7}


def test_copies_are_dictionaries() -> None:
    """It is copied and pickled as what it stands for."""
    compact = filled(Expansions())
    for other in (copy.deepcopy(compact), copy.copy(compact), pickle.loads(pickle.dumps(compact))):
        assert not isinstance(other, Expansions)
        assert other == dict(compact)


def test_a_full_cache_drops_what_it_dropped() -> None:
    """A cache of the library has the same entries at any time, with and without."""
    with library("stand-in"):
        cache_type: Any = importlib.import_module("strataregula.core.compiler").PatternCache
        plain = cache_type(max_size=5)
        tiny = [cache_type(max_size=size) for size in (0, 1)]
        with switched_on("cache"):
            compact = cache_type(max_size=5)
            others = [cache_type(max_size=size) for size in (0, 1)]
            assert type(compact._cache) is Expansions
            for number in range(40):
                key, value = f"a.{number % 17}:1", {f"a.{number % 17}": number}
                for cache in (plain, compact, *tiny, *others):
                    if cache.get(key) is None:
                        cache.set(key, value)
                assert list(compact._cache.items()) == list(plain._cache.items())
                assert [dict(c._cache) for c in others] == [c._cache for c in tiny]
        # What was made meanwhile goes on to work, by the methods that were there before.
        for number in range(40):
            compact.set(f"b.{number}:1", {f"b.{number}": number})
            plain.set(f"b.{number}:1", {f"b.{number}": number})
            assert list(compact._cache.items()) == list(plain._cache.items())
        assert type(cache_type()._cache) is dict
