"""Forks while objects of a pool are idle, out, and waited for; prints what both have seen."""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time
from typing import Any

from stratatrace import MemoryPool
from stratatrace.config import Config
from stratatrace.errors import PoolExhaustedError, PoolMisuseError
from stratatrace.recorder import Recorder, active

active.install(Recorder(Config(probe="rss")))
disposed: list[int] = []
finalized: list[int] = []


class Connection:
    """Knows the process that it was made in."""

    def __init__(self) -> None:
        self.made_in = os.getpid()

    def __del__(self) -> None:
        finalized.append(self.made_in)


pool = MemoryPool(
    Connection, max_size=4, dispose=lambda connection: disposed.append(connection.made_in)
)


def attempt(connection: Connection) -> str | None:
    """Give back, and tell what came of it."""
    try:
        pool.release(connection)
    except PoolMisuseError as error:
        return type(error).__name__
    return None


def child(mine: Connection, write_to: int) -> None:
    """Use the pool, and tell the parent."""
    stats = pool.stats()
    names = ("idle", "used", "size", "allocated", "waiting")
    inherited = {name: getattr(stats, name) for name in names}
    taken = []
    try:
        while True:
            taken.append(pool.acquire(timeout=0))
    except PoolExhaustedError:
        pass
    gc.collect()
    told = {
        "pid": os.getpid(),
        "inherited": inherited,
        "capacity": len(taken),
        "made by": sorted({connection.made_in for connection in taken}),
        "given back": [attempt(mine), attempt(mine)],
        "forked": pool.stats().discarded_by.get("forked", 0),
        "disposed": disposed,
        "finalized": finalized,
    }
    os.write(write_to, json.dumps(told).encode())
    os._exit(0)


def main() -> None:
    """Fork with an idle object, with some that are out, and with a thread that waits."""
    quiet = MemoryPool(Connection, max_size=1)
    quiet.release(quiet.acquire())  # To which nothing but the pool refers.
    mine, spare = pool.acquire(), pool.acquire()
    others = [pool.acquire() for _ in range(2)]
    got: list[Any] = []
    waiter = threading.Thread(target=lambda: got.append(pool.acquire(timeout=20)))
    waiter.start()
    while not pool.stats().waiting:
        time.sleep(0.001)
    read_from, write_to = os.pipe()
    pid = os.fork()
    if not pid:
        child(mine, write_to)
    os.close(write_to)
    with os.fdopen(read_from) as pipe:
        from_child = json.load(pipe)
    os.waitpid(pid, 0)
    pool.release(spare)
    waiter.join(20)
    stats = pool.stats()
    parent = {
        "waiter got": got == [spare],
        "allocated": stats.allocated,
        "leaked": stats.leaked,
        "disposed": disposed,
    }
    for connection in (mine, *others, *got):
        pool.release(connection)
    active.install(None)
    json.dump({"child": from_child, "parent": parent}, sys.stdout)


if __name__ == "__main__":
    main()
