"""A pool in a trace: log lines are searched by threads that share two matchers.

A matcher is dear to make: it compiles all its patterns. The trace shows what was slow and why: the
requests that had one made, with the call that made it, and those that had to wait. What was had at
once is no span, and costs next to nothing.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

from stratatrace import MemoryPool, profile_memory

WORDS = [f"{kind}-{number}" for kind in ("order", "refund", "parcel") for number in range(400)]
BATCHES = 24
LINES_A_BATCH = 200


class Matcher:
    """Finds words, whole and in any case."""

    def __init__(self) -> None:
        re.purge()  # As if each had patterns of its own: else re would keep them.
        self.expression = re.compile(rf"\b({'|'.join(WORDS)})\b", re.IGNORECASE)
        self.found: dict[str, int] = {}

    def reset(self) -> None:
        """Forget what was found for the last batch."""
        self.found.clear()

    def search(self, line: str) -> None:
        """Count the words of a line."""
        for word in self.expression.findall(line):
            self.found[word.lower()] = self.found.get(word.lower(), 0) + 1


matchers = MemoryPool(Matcher, max_size=2, name="matchers")


def lines_of(batch: int) -> list[str]:
    """Return the lines of a batch."""
    return [
        f"{number:05} shipped {WORDS[(batch * 31 + number) % len(WORDS)].upper()}, and invoiced"
        for number in range(LINES_A_BATCH)
    ]


@profile_memory
def search_batch(batch: int) -> int:
    """Return how often words were found in a batch."""
    with matchers.lease() as matcher:
        for line in lines_of(batch):
            matcher.search(line)
        return sum(matcher.found.values())


@profile_memory
def search_all() -> int:
    """Search all batches, one after the other."""
    return sum(search_batch(batch) for batch in range(BATCHES))


def main() -> None:
    """Search in one thread, then in two that share the matchers."""
    print(f"one after the other: {search_all():,} words")
    stats = matchers.stats()
    print(f"{stats.allocated} matcher made, and used {stats.reused} times more")
    with ThreadPoolExecutor(2) as threads:
        print(f"by two threads:      {sum(threads.map(search_batch, range(BATCHES))):,} words")
    assert matchers.stats().allocated <= matchers.stats().max_size
    matchers.close()


if __name__ == "__main__":
    main()
