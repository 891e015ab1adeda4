"""Dictionaries: trained when there is enough to learn from, and again where documents change."""

from __future__ import annotations

import json
import random
import threading
import tracemalloc
from typing import Any

import pytest

from stratatrace import CompressedStore
from stratatrace.guard import Guard
from stratatrace.pressure.sources import readings
from stratatrace.reuse.store_compressors import compressor_of
from stratatrace.reuse.store_training import Training

KINDS = ["zlib", "zstd"]


def order(number: int) -> str:
    """Return a small document that has most in common with others of its kind."""
    chance = random.Random(number)
    return json.dumps(
        {
            "order": f"O-{number:06}",
            "customer": {"id": chance.randrange(10**6), "country": chance.choice(["DE", "FR"])},
            "status": chance.choice(["shipped", "paid", "cancelled"]),
            "total": chance.randrange(10**5) / 100,
            "currency": "EUR",
        }
    )


def reading(number: int) -> str:
    """Return one of another kind."""
    chance = random.Random(number)
    return (
        f"<measurement sensor='{chance.randrange(500)}' unit='celsius'><value>{chance.random():.4f}"
        f"</value><quality>good</quality><station>harbour</station></measurement>"
    )


@pytest.mark.parametrize("compression", KINDS)
def test_small_documents_that_resemble_each_other(compression: Any) -> None:
    """Take half of what they do without; those from before the dictionary can be read, too."""
    documents = [order(number) for number in range(1_000)]
    plain = CompressedStore[int, str](enumerate(documents), compression=compression)
    store = CompressedStore[int, str](enumerate(documents), compression=compression, dictionary=100)
    assert [store[number] for number in range(1_000)] == documents
    assert store.stats().dictionaries == 1
    assert 0 < store.stats().dictionary_bytes <= 2**16
    assert store.stats().stored_bytes < 0.6 * plain.stats().stored_bytes
    assert plain.stats().dictionaries == 0


@pytest.mark.parametrize("compression", KINDS)
def test_documents_that_change(compression: Any) -> None:
    """Are trained on again; entries keep the dictionary that they were written with."""
    store = CompressedStore[Any, str](compression=compression, dictionary=100)
    expected: dict[Any, str] = {}
    for kind in (order, reading, order):
        for number in range(600):
            key = (kind.__name__, len(expected))
            store[key] = expected[key] = kind(number)
    assert 2 <= store.stats().dictionaries <= 4
    assert dict(store) == expected


def test_trainings_are_bounded() -> None:
    """Whatever documents do."""
    store = CompressedStore[int, str](compression="zlib", dictionary=20)
    for turn in range(30):
        chance = random.Random(turn)
        words = [chance.randbytes(8).hex() for _ in range(20)]
        for number in range(100):
            store[number] = " ".join(chance.sample(words, 10))
    assert 1 < store.stats().dictionaries <= 4
    training: Any = store._holding._packing._training
    assert training._left == 0
    assert training._samples is None or not training._samples


def test_nothing_to_learn() -> None:
    """A dictionary that does not help is not taken, and nothing is logged of it."""
    chance = random.Random(3)
    store = CompressedStore[int, bytes](compression="zstd", dictionary=20)
    for number in range(200):
        store[number] = chance.randbytes(300)
    assert store.stats().dictionaries == 0
    assert store.stats().compressed_entries == 0


def test_samples_that_are_too_small() -> None:
    """Zstd ends the process where it is given these: they are no samples."""
    store = CompressedStore[int, bytes](
        codec="bytes", compression="zstd", dictionary=13, threshold=1
    )
    for number in range(500):
        store[number] = b"x"
    assert store[3] == b"x"
    assert store.stats().dictionaries == 0


def test_large_documents_are_left_out() -> None:
    """They neither are samples nor use the dictionary, and samples are bounded in bytes."""
    store = CompressedStore[int, str](compression="zstd", dictionary=100)
    training: Any = store._holding._packing._training
    large = order(1) * 1_000
    for number in range(150):
        store[number] = f"{number}{large}"
    assert training._samples == []
    for number in range(99):
        store[number] = order(number)
    assert len(training._samples) == 99
    store[99] = order(99)
    assert training._samples is None
    assert store.stats().dictionaries == 1
    store[100] = large
    assert store[100] == large
    assert training.dictionary_for(large.encode()) == 0


def test_samples_are_bounded_in_bytes() -> None:
    """So that a million of them, as asked for, do not fill the memory."""
    training = Training(compressor_of("zlib", None), 10**6)
    data = order(1).encode() * 300
    for number in range(200):
        training.look_at(b"%d" % number + data, 1_000)
    assert training._sample_bytes + len(training.lengths) * 2**22 < 2**22 + 2**16
    assert len(training.lengths) <= 4
    assert training._left < 4


@pytest.mark.parametrize("compression", KINDS)
def test_samples_are_let_go(compression: Any) -> None:
    """When the dictionary is there."""
    documents = [f"{order(number)}{'x' * 5_000}" for number in range(300)]
    store = CompressedStore[int, str](compression=compression, dictionary=300, threshold="100MB")
    look_at: Any = store._holding._packing._training.look_at  # type: ignore[union-attr]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for document in documents[:299]:
        look_at(document.encode(), 100)
    with_samples = tracemalloc.get_traced_memory()[0] - before
    look_at(documents[299].encode(), 100)
    after = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert with_samples > 299 * 5_000
    assert after < 500_000


def test_training_that_fails(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Does not reach the caller: it is logged once, and counted."""
    store = CompressedStore[int, str](compression="zlib", dictionary=10)
    compressor: Any = store._holding._packing._compressor

    def train(_: list[bytes]) -> bytes:
        msg = "no dictionary today"
        raise OSError(msg)

    compressor.train = train
    monkeypatch.setattr(readings, "guard", Guard())
    for number in range(50):
        store[number] = order(number)
    assert [store[number] for number in range(50)] == [order(number) for number in range(50)]
    assert store.stats().dictionaries == 0
    assert readings.guard.failures == 1
    assert "could not train a dictionary" in caplog.text


def test_one_thread_trains_and_others_go_on() -> None:
    """Nobody waits for it."""
    store = CompressedStore[Any, str](compression="zlib", dictionary=50)
    compressor: Any = store._holding._packing._compressor
    train, begun, go_on = compressor.train, threading.Event(), threading.Event()
    trainings: list[int] = []

    def slowly(samples: list[bytes]) -> Any:
        trainings.append(len(samples))
        begun.set()
        assert go_on.wait(30)
        return train(samples)

    compressor.train = slowly

    def fill() -> None:
        for number in range(50):
            store["thread", number] = order(number)

    thread = threading.Thread(target=fill)
    thread.start()
    assert begun.wait(30)
    for number in range(300):
        # They come to be others than before, but nobody begins to train on them meanwhile.
        store[number] = "x" * 200 if number < 100 else order(number)
    assert store.stats().dictionaries == 0
    assert trainings == [40]
    go_on.set()
    thread.join(30)
    assert trainings == [40]
    assert store.stats().dictionaries == 1
    assert store[299] == order(299)


def test_a_finalizer_may_set_entries() -> None:
    """While the same thread is at the samples."""
    training = Training(compressor_of("zlib", None), 20)

    def finalize() -> None:
        with training._lock:
            training.look_at(order(1).encode(), 100)

    thread = threading.Thread(target=finalize, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    assert training._samples == [order(1).encode()]


def test_a_training_of_the_parent_begins_anew() -> None:
    """In a forked child, where the thread that was at it is gone."""
    training = Training(compressor_of("zlib", None), 20)
    training._at_it = True
    training._lock.acquire()
    training.after_fork_in_child()
    for number in range(20):
        training.look_at(order(number).encode(), 100)
    assert len(training.lengths) == 1
