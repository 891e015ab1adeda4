"""Spills until the disk, as it seems, is full: the process may not write files beyond a size."""

from __future__ import annotations

import json
import random
import resource
import sys

from stratatrace import CompressedStore
from stratatrace.errors import SpillError


def value(number: int) -> bytes:
    """Return a value of a kilobyte, of which a fifth can be saved."""
    return b"what they share" * 20 + random.Random(number).randbytes(700)


def main() -> None:
    """Print how it went."""
    directory, dictionary = sys.argv[1], sys.argv[2] == "dictionary"
    store = CompressedStore[int, bytes](
        codec="bytes", max_bytes=50_000, spill=directory, dictionary=dictionary and 20
    )
    expected: dict[int, bytes] = {}
    refused = lost = 0
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
    for number in range(3_000):
        try:
            store[number] = value(number)
        except SpillError:
            refused += 1
            lost += dict(store) != expected if refused % 100 == 1 else 0
        else:
            expected[number] = value(number)
    lost += dict(store) != expected
    held = len(expected)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    for number in range(3_000):
        store[number] = expected[number] = value(number)
    lost += dict(store) != expected
    stats = store.stats()
    told = {"refused": refused, "held": held, "lost": lost, "entries": stats.entries}
    sys.stdout.write(json.dumps(told | {"memory": stats.memory_bytes}))


if __name__ == "__main__":
    main()
