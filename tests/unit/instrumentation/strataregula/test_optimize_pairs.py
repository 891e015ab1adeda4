"""Pairs that are packed are those of a dictionary, and nothing is lost on the way."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratatrace.deep_sizes import deep_size
from stratatrace.instrumentation.strataregula import optimize_pairs
from stratatrace.instrumentation.strataregula.optimize_pairs import PackedPairs

keys = st.one_of(
    st.text(max_size=3),
    st.sampled_from(["", "\n", "a\nb", "\ud800", "a"]),
    st.integers(0, 3),
    st.none(),
)
pairs = st.lists(st.tuples(keys, st.integers()), max_size=12)


@given(st.lists(pairs, max_size=3), st.integers(1, 5))
@settings(max_examples=150, deadline=None)
def test_it_is_what_dict_makes_of_them(parts: list[list[tuple[Any, int]]], chunk: int) -> None:
    """However they come and whatever the keys: the same keys and values in the same order."""
    everything = [pair for part in parts for pair in part]
    expected = dict(everything)
    with mock.patch.object(optimize_pairs, "_CHUNK", chunk):
        taken = PackedPairs()
        for part in parts:
            taken.take(iter(part))
        settled = taken.settled()
    assert list(settled.items()) == list(expected.items())
    assert repr(settled) == repr(expected)
    assert len(settled) == len(expected)
    assert list(settled) == list(expected)
    assert settled == expected
    plain = len(expected) == len(everything) and all(type(key) is str for key in expected)
    assert (type(settled) is PackedPairs) is plain


def test_look_ups() -> None:
    """It can be asked for single keys, too."""
    taken = PackedPairs()
    taken.take([("a", 1), ("b", 2)])
    assert taken["b"] == 2
    assert "c" not in taken
    with pytest.raises(KeyError):
        _ = taken["c"]


def test_a_key_that_cannot_be_one() -> None:
    """It raises what a dictionary raises."""
    with pytest.raises(TypeError) as packing:
        PackedPairs().take([([], 1)])
    with pytest.raises(TypeError) as plain:
        hash([])
    assert str(packing.value) == str(plain.value)


def test_it_takes_a_fraction() -> None:
    """Keys that resemble each other take by far less than in a dictionary."""
    many = {
        f"edge.amber-{number // 40:06}.tokyo{number % 40}.gateway": 1 for number in range(20_000)
    }
    taken = PackedPairs()
    taken.take(many.items())
    packed = taken.settled()
    assert isinstance(packed, PackedPairs)
    held = packed._keys.stats().memory_bytes + deep_size(packed._values)
    assert held * 5 < deep_size(many)
