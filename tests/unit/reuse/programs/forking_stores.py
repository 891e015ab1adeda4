"""Forks while stores are in use, and tells what parent and child find in theirs."""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stratatrace import CompressedStore
from stratatrace.reuse import store_forking

if TYPE_CHECKING:
    from collections.abc import Callable


def value(number: int) -> bytes:
    """Return a value of a kilobyte, of which a fifth can be saved."""
    return b"what they share" * 20 + random.Random(number).randbytes(700)


def in_child(tell: Callable[[], Any], *, exits: bool = False) -> Any:
    """Return what a forked child tells; it ends as `os.fork` children do, or as programs do."""
    readable, writable = os.pipe()
    child = os.fork()
    if not child:
        try:
            told: Any = tell()
        except BaseException as error:
            told = f"{type(error).__name__}: {error}"
        os.write(writable, json.dumps(told).encode())
        os.close(writable)
        if exits:
            sys.exit()
        os._exit(0)
    os.close(writable)
    with os.fdopen(readable, "rb") as pipe:
        data = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    return json.loads(data)


def names_in(directory: str) -> list[str]:
    """Return the names of the files there."""
    return [path.name for path in Path(directory).iterdir()]


def outcome(use: Callable[[], Any]) -> str:
    """Return how a use of a store ends."""
    try:
        use()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def spilled(directory: str) -> dict[str, Any]:
    """A store with entries on disk, and a child that uses and closes it."""
    store = CompressedStore[Any, bytes](codec="bytes", max_bytes=20_000, spill=directory)
    # More than sqlite keeps of its file in memory, where a parent would not see what a child did.
    expected = {number: value(number) for number in range(3_000)}
    store.update(expected)
    on_disk = [key for key, slot in store._holding.slots.items() if type(slot) is int]
    in_memory = [key for key in expected if key not in on_disk]

    def child() -> dict[str, Any]:
        told = {
            "length": len(store),
            "in memory": all(store[key] == value(key) for key in in_memory),
            "on disk": outcome(lambda: store[on_disk[0]]),
            "items": outcome(lambda: dict(store)).partition(":")[0],
            "parent": os.getppid(),
        }
        for key in on_disk[:20]:
            store[key] = value(key + 1)
        told["on disk, later"] = outcome(lambda: store[on_disk[20]]).partition(":")[0]
        for key in on_disk[20:]:
            del store[key]
        for number in range(5_000, 5_100):
            store[number] = value(number)
        own = {key: value(key + 1) for key in on_disk[:20]}
        own |= {key: value(key) for key in (*in_memory, *range(5_000, 5_100))}
        told["own"] = dict(store) == own
        told["bounded"] = store.stats().memory_bytes <= 20_000
        told["entries"] = len(store)
        told["grandchild"] = in_child(lambda: len(store))
        store.clear()
        store["again"] = value(1) * 50
        told["again"] = store["again"] == value(1) * 50
        told["files"] = names_in(directory)
        store.close()
        return told

    told = {"child": in_child(child), "exits": in_child(lambda: len(store), exits=True)}
    told["intact"] = dict(store) == expected
    store.update({number: value(number) for number in range(3_000, 3_100)})
    told["goes on"] = dict(store) == {number: value(number) for number in range(3_100)}
    store.close()
    return told


def named(directory: str) -> dict[str, Any]:
    """A store with a file of the caller's: the child has one of its own."""
    path = Path(directory) / "named"
    store = CompressedStore[Any, bytes](codec="bytes", max_bytes=1, spill=path)
    store["parent"] = value(1)

    def child() -> list[str]:
        store["child"] = value(2)
        assert store["child"] == value(2)
        store.close()
        return names_in(directory)

    told = {"files": in_child(child), "intact": store["parent"] == value(1)}
    store.close()
    told["after"] = names_in(directory)
    path.unlink()
    return told


def beside_threads(directory: str) -> dict[str, Any]:
    """Threads that write and spill while others fork: each child finds a store that is whole."""
    store = CompressedStore[Any, bytes](codec="bytes", max_bytes=50_000, spill=directory)
    stop = threading.Event()

    def write(name: str) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            store[name, number % 200] = value(number)
            store.pop((name, number * 7 % 200), None)

    def child() -> bool:
        holding = store._holding
        slots = holding.slots
        sums = holding._totals.raw_bytes, holding._totals.spilled_entries
        on_disk = sum(type(slot) is int for slot in slots.values())
        whole = sums == (1_000 * len(slots), on_disk)
        store["child"] = value(3)
        return whole and store["child"] == value(3)

    threads = [threading.Thread(target=write, args=(name,)) for name in ("one", "other")]
    for thread in threads:
        thread.start()
    whole: list[bool] = []

    def fork() -> None:
        whole.extend(in_child(child) for _ in range(15))

    forkers = [threading.Thread(target=fork) for _ in range(2)]
    for thread in forkers:
        thread.start()
    for thread in forkers:
        thread.join()
    stop.set()
    for thread in threads:
        thread.join()
    readable = all(len(each) == 1_000 for each in store.values())
    store.close()
    return {"whole": whole, "readable": readable}


def held(directory: str) -> dict[str, Any]:
    """A thread that keeps the lock for longer than a fork waits for it."""
    store_forking._PATIENCE_SECONDS = 0.1
    store = CompressedStore[Any, bytes]({"a": b"1"}, codec="bytes")
    holds, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with store._holding.lock:
            holds.set()
            go_on.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    holds.wait(60)
    began = time.monotonic()
    told = in_child(
        lambda: [outcome(lambda: store["a"]), outcome(lambda: store.__setitem__("a", b"2"))]
    )
    waited = time.monotonic() - began
    go_on.set()
    thread.join()
    return {"child": told, "hung": waited > 30, "parent": store["a"].decode()}


def main() -> None:
    """Print what each finds."""
    directory = sys.argv[1]
    told = {each.__name__: each(directory) for each in (spilled, named, beside_threads, held)}
    left_open = CompressedStore[Any, bytes](codec="bytes", max_bytes=1, spill=directory)
    left_open["a"] = value(1)
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main()
