"""The compressors: what goes in comes out, with and without dictionaries, in many threads."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratatrace import CompressedStore
from stratatrace.errors import MissingExtraError
from stratatrace.reuse import store_compressors as module
from stratatrace.reuse.store_compressors import compressor_of

if TYPE_CHECKING:
    from stratatrace.reuse.store_compressors import Compressor

KINDS = ["zlib", "zstd"]
SAMPLES = [f'{{"name": "number {n}", "kind": "sample", "n": {n * n}}}'.encode() for n in range(400)]
# As those of before, and larger than what small documents have tables for.
SIZES = [0, 1, 100, 4_096, 4_097, 70_000, 300_000]


def trained(kind: str) -> tuple[Compressor, int]:
    compressor = compressor_of(kind, None)
    return compressor, compressor.add(compressor.train(SAMPLES))


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.binary(max_size=5_000))
def test_any_bytes(kind: str, data: bytes) -> None:
    """With a dictionary and without."""
    compressor, dictionary = trained(kind)
    for which in (0, dictionary):
        payload = compressor.compress(data, which)
        assert compressor.decompress(payload, which, len(data)) == data


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_any_size(kind: str, size: int) -> None:
    """Text becomes much shorter."""
    data = (b"some words and others, " * (size // 20 + 1))[:size]
    compressor, dictionary = trained(kind)
    for which in (0, dictionary):
        payload = compressor.compress(data, which)
        assert compressor.decompress(payload, which, size) == data
        assert size <= 100 or len(payload) < size / 2


@pytest.mark.parametrize("kind", KINDS)
def test_dictionaries_help_small_documents(kind: str) -> None:
    """Each has a number; what was written with one is read with that one."""
    compressor, first = trained(kind)
    second = compressor.add(compressor.train([b"another thing, " * 3 + s[::-1] for s in SAMPLES]))
    assert (first, second) == (1, 2)
    document = b'{"name": "number 5000", "kind": "sample", "n": 25000000}'
    without, with_first, with_second = (len(compressor.compress(document, n)) for n in (0, 1, 2))
    assert with_first < with_second
    assert with_first < 0.8 * without
    payload = compressor.compress(document, first)
    assert compressor.decompress(payload, first, len(document)) == document


@pytest.mark.parametrize("kind", KINDS)
def test_levels(kind: str) -> None:
    """A higher one compresses more, and says nothing of how to decompress."""
    data = b"".join(SAMPLES)
    low, high = compressor_of(kind, 1), compressor_of(kind, 9)
    fast, small = low.compress(data, 0), high.compress(data, 0)
    assert len(small) < len(fast)
    assert low.decompress(small, 0, len(data)) == high.decompress(fast, 0, len(data)) == data


@pytest.mark.parametrize("kind", KINDS)
def test_states_are_used_by_one_thread_at_a_time(kind: str) -> None:
    """They are not made for threads, and both libraries let go of the interpreter meanwhile."""
    compressor, dictionary = trained(kind)
    documents = [bytes([n]) * 50_000 + SAMPLES[n] * 200 for n in range(8)]
    wrong: list[int] = []

    def use(number: int) -> None:
        for turn in range(60):
            which = dictionary if turn % 2 else 0
            payload = compressor.compress(documents[number], which)
            if compressor.decompress(payload, which, len(documents[number])) != documents[number]:
                wrong.append(number)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong


def test_idle_states_are_few() -> None:
    """However many threads there were at once."""
    idle = module._Idle(object)
    taken = [idle.take() for _ in range(50)]
    assert len(set(map(id, taken))) == 50
    for state in taken:
        idle.give(state)
    assert len(idle._idle) == module._MOST_IDLE


def test_zstd_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Says what to install, at once."""
    monkeypatch.setitem(sys.modules, "zstandard", None)
    options: Any
    for options in ({}, {"level": 5}):
        with pytest.raises(MissingExtraError, match=r"pip install 'stratatrace\[zstd\]'"):
            CompressedStore(compression="zstd", **options)
    assert CompressedStore({"a": "b" * 500}, compression="zlib")["a"] == "b" * 500
