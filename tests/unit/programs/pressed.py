"""Forks while somebody is subscribed to memory pressure; prints, as JSON, who was told what.

The parent has a subscriber and its thread. The child, which has only the first, starts the second
when the subscriber is used.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import warnings

from stratatrace.pressure import MemoryScope, Pressure, memory_pressure, subscribe, watching
from stratatrace.pressure.reading import Look
from stratatrace.pressure.sources import readings

# Python 3.12 warns of every fork beside a thread, and that is what is tried here.
warnings.filterwarnings("ignore", "This process", DeprecationWarning)


class Machine:
    """A machine whose memory is in use as it is told to be."""

    used = 1

    def read(self) -> Look:
        """Return what is in use of ten bytes."""
        return Look((MemoryScope("machine", self.used, 10),))


class Cache:
    """Somebody who can shrink."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def shrink(self, pressure: Pressure) -> None:
        """Take note."""
        self.told.append(pressure.level)


def wait_for(cache: Cache, levels: list[str]) -> list[str]:
    """Return what was told, when it is that, or when it is enough."""
    for _ in range(1000):
        if cache.told == levels:
            break
        time.sleep(0.01)
    return cache.told


def threads() -> list[str]:
    """Return the names of ours."""
    return [t.name for t in threading.enumerate() if t.name.startswith("stratatrace")]


def main() -> None:
    """Fork while the level is normal, and again let it rise in both."""
    watching._PERIOD_SECONDS = 0.01
    machine, cache = Machine(), Cache()
    readings.source = machine
    memory_pressure()
    subscription = subscribe(cache.shrink)
    read_from, write_to = os.pipe()
    pid = os.fork()
    if not pid:
        told: dict[str, object] = {
            "child inherits a look": readings._latest is not None,
            "child inherits a thread": bool(threads()),
        }
        machine.used = 10
        subscription.keep_watching()
        told["child was told"] = wait_for(cache, ["critical"])
        os.write(write_to, json.dumps(told).encode())
        os._exit(0)
    os.close(write_to)
    with os.fdopen(read_from) as pipe:
        told = json.load(pipe)
    os.waitpid(pid, 0)
    machine.used = 9
    wait_for(cache, ["critical"])
    machine.used = 1
    told["parent was told"] = wait_for(cache, ["critical", "normal"])
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
