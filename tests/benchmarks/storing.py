"""Fills stores with real-looking documents, and prints what they take and what they cost.

Each kind of store is filled in a process of its own, whose memory is measured and not estimated:
what the fill took of Python's heap, by the native counters, and by how much the process grew. After
that, sets and gets are timed by turns with those of a plain dict.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import subprocess
import sys
import tempfile
import time
from itertools import accumulate
from statistics import median
from typing import TYPE_CHECKING, Any

from stratatrace import CompressedStore, measure
from stratatrace.config import Config
from stratatrace.probes import LifetimeProbe
from stratatrace.testing import recording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableMapping

DOCUMENTS = 100_000
TIMED = 10_000
MB = 1_000_000

KINDS: dict[str, dict[str, Any] | None] = {
    "dict": None,
    "zlib": {"compression": "zlib"},
    "zlib, dictionary": {"compression": "zlib", "dictionary": True},
    "zstd": {"compression": "zstd"},
    "zstd, dictionary": {"compression": "zstd", "dictionary": True},
    "zstd, dictionary, 5 MB, rest on disk": {
        "compression": "zstd",
        "dictionary": True,
        "max_bytes": "5MB",
        "spill": tempfile.gettempdir(),
    },
}


def words(chance: random.Random, count: int) -> list[str]:
    """Make up words that can be pronounced."""
    syllables = [a + b for a in "bcdfghklmnprstvw" for b in ("a", "e", "i", "o", "u", "er", "an")]
    return ["".join(chance.choices(syllables, k=chance.randint(1, 4))) for _ in range(count)]


def documents(count: int) -> Iterator[str]:
    """Generate the same support tickets each time, a few hundred bytes of JSON each.

    Words are as frequent as in a language: the second half as often as the first, and so on.
    """
    chance = random.Random(20_240)
    vocabulary = words(chance, 4_000)
    frequencies = list(accumulate(1 / place for place in range(1, len(vocabulary) + 1)))
    names, cities = words(chance, 800), words(chance, 300)
    for number in range(count):
        first, last = chance.choices(names, k=2)
        length = min(int(chance.lognormvariate(3.3, 0.7)) + 3, 300)
        text = chance.choices(vocabulary, cum_weights=frequencies, k=length)
        month, day, hour = chance.randint(1, 12), chance.randint(1, 28), chance.randint(0, 23)
        ticket = {
            "id": f"T-{number:07}",
            "uuid": f"{chance.getrandbits(64):016x}",
            "created_at": f"2024-{month:02}-{day:02}T{hour:02}:{chance.randint(0, 59):02}:00Z",
            "status": chance.choice(["open", "pending", "solved", "closed"]),
            "priority": chance.choice(["low", "normal", "normal", "high"]),
            "requester": {
                "name": f"{first.title()} {last.title()}",
                "email": f"{first}.{last}@example.com",
                "city": chance.choice(cities).title(),
            },
            "tags": chance.choices(vocabulary[:60], k=chance.randint(0, 4)),
            "body": " ".join(text).capitalize() + ".",
        }
        yield json.dumps(ticket)


def fill(store: MutableMapping[int, str], count: int) -> None:
    """Set all documents, none of which is kept beside."""
    for number, document in enumerate(documents(count)):
        store[number] = document


def seconds(
    work: Callable[[MutableMapping[int, str]], object], store: MutableMapping[int, str]
) -> float:
    """Return how long it took with a store."""
    began = time.perf_counter()
    work(store)
    return time.perf_counter() - began


def timed(store: MutableMapping[int, str], rounds: int) -> dict[str, float]:
    """Return what sets and gets take, in seconds each, and beside those of a dict.

    What is got is taken from all over the store: most of it is on disk, where there is a budget.
    """
    texts = list(documents(TIMED))
    plain = dict.fromkeys(range(len(store)), "")
    numbers = random.Random(1).sample(range(len(store)), min(TIMED, len(store)))

    def put(target: MutableMapping[int, str]) -> None:
        for number, text in enumerate(texts):
            target[number] = text

    def get(target: MutableMapping[int, str]) -> None:
        for number in numbers:
            _ = target[number]

    told = {}
    for name, work in (("set", put), ("get", get)):
        times = [(seconds(work, store), seconds(work, plain)) for _ in range(rounds)]
        told[name] = median(one for one, _ in times) / TIMED
        told[f"{name} ratio"] = median(one / other for one, other in times)
    return told


def measure_one(name: str, count: int, rounds: int) -> dict[str, Any]:
    """Return all that is known of one kind of store."""
    options = KINDS[name]
    fill({}, 2_000)  # What is there for good after the first.
    store: Any = {} if options is None else CompressedStore(**options)
    gc.collect()
    resident = LifetimeProbe()
    before = resident.mark().level_bytes
    with recording(Config(probe="auto", rss_peak="off")):
        _, measurement = measure(fill, store, count)
    gc.collect()
    told: dict[str, Any] = {
        "heap": measurement.heap_net_bytes,
        "resident": resident.mark().level_bytes - before,
    }
    values = sum(map(len, documents(count)))
    told["values"] = values
    if options is not None:
        stats = store.stats()
        told |= {"ratio": stats.ratio, "disk": stats.spilled_bytes, "memory": stats.memory_bytes}
    assert all(store[number] == text for number, text in enumerate(documents(5_000)))
    return told | timed(store, rounds)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=DOCUMENTS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", choices=KINDS, help="print one as JSON, in this process")
    options = parser.parse_args()
    if options.one is not None:
        print(json.dumps(measure_one(options.one, options.documents, options.rounds)))
        return
    arguments = ["--documents", str(options.documents), "--rounds", str(options.rounds)]
    print(f"\n{options.documents} documents in a store, against a dict:\n")
    print("| store | ratio | heap | an entry | process | on disk | set | get | against a dict's |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    for name in KINDS:
        command = [sys.executable, __file__, "--one", name, *arguments]
        ran = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        told = json.loads(ran.stdout)
        ratio = f"{told['ratio']:.2f}" if "ratio" in told else ""
        beyond = ""
        if "memory" in told:
            # Beside the entries: the table and the keys, which a dict has as well.
            beyond = f" ({(told['heap'] - told['memory']) / options.documents:.0f})"
        print(
            f"| {name} | {ratio} | {told['heap'] / MB:.1f} MB "
            f"| {told['heap'] / options.documents:.0f} B{beyond} | +{told['resident'] / MB:.0f} MB "
            f"| {told.get('disk', 0) / MB:.1f} MB "
            f"| {told['set'] * 1e6:.2f} us | {told['get'] * 1e6:.2f} us "
            f"| {told['set ratio']:.0f}, {told['get ratio']:.0f} |",
            flush=True,
        )
    print(f"\nThe documents are {told['values'] / MB:.1f} MB of text.")


if __name__ == "__main__":
    main()
