"""Fork while threads compute lazy values, and tell what becomes of them in both processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import warnings
from typing import Any

from stratatrace import lazy
from stratatrace.config import Config
from stratatrace.reuse import lazy_once
from stratatrace.testing import recording, under_pressure

# Python's own, of forking while there are threads: that is what this program is for.
warnings.simplefilter("ignore", DeprecationWarning)
SECONDS = 20
begun, awaited_begun, end = threading.Event(), threading.Event(), threading.Event()
parent = os.getpid()


@lazy
def slow() -> str:
    """Take until the parent has forked."""
    if os.getpid() == parent:
        begun.set()
        assert end.wait(SECONDS)
    return f"computed in the {process()}"


@lazy
async def awaited() -> str:
    """Take until the parent has forked."""
    if os.getpid() == parent:
        awaited_begun.set()
        for _ in range(SECONDS * 100):  # No other thread, which could be at anything.
            if end.is_set():
                break
            await asyncio.sleep(0.01)
    return f"computed in the {process()}"


@lazy
def forks() -> str:
    """Fork within a computation."""
    global pid, write_to  # noqa: PLW0603 -- what a child tells by
    read_from, write_to = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write_to)
        write_to = read_from
    return f"went on in the {process()}"


@lazy
def itself() -> str:
    """Fork, and need its own value."""
    child = os.fork()
    if child:
        return str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    try:
        itself()
    except RecursionError:
        os._exit(3)
    os._exit(4)


@lazy(evict_under_pressure=True)
def table() -> list[str]:
    """Be dropped."""
    return [process()]


@lazy
def before() -> list[str]:
    """Be computed before the fork."""
    return [process()]


def process() -> str:
    """Return which of the two this is."""
    return "parent" if os.getpid() == parent else "child"


def tell() -> dict[str, Any]:
    """Compute in the child, or in the parent after it."""
    told: dict[str, Any] = {"before": before(), "slow": slow(), "under way": len(under_way())}
    told["awaited"] = asyncio.run(asyncio.wait_for(awaited(), SECONDS))
    table()
    with under_pressure("critical"):
        told["evicted"] = not table.is_computed()
    told["table"] = table()
    told["threads"] = sorted(t.name for t in threading.enumerate() if "pressure" in t.name)
    return told


def under_way() -> list[object]:
    """Return what is being computed."""
    return list(lazy_once._under_way.values())


def main() -> None:
    """Fork with a computation of another thread under way, and with one of this thread."""
    signal.alarm(SECONDS * 2)
    with recording(Config(probe="rss", rss_peak="off")):
        before()
        table()
        threads = [
            threading.Thread(target=slow),
            threading.Thread(target=lambda: asyncio.run(awaited())),
        ]
        for thread in threads:
            thread.start()
        assert begun.wait(SECONDS)
        assert awaited_begun.wait(SECONDS)
        forked = forks()
        if not pid:
            signal.alarm(SECONDS)
            with os.fdopen(write_to, "w") as pipe:
                json.dump({"forks": forked, "kept": forks.is_computed(), **tell()}, pipe)
            os._exit(0)
        with os.fdopen(write_to) as pipe:
            child = json.load(pipe)
        os.waitpid(pid, 0)
        end.set()
        for thread in threads:
            thread.join(SECONDS)
        told = {"forks": forked, "kept": forks.is_computed(), **tell(), "itself": itself()}
    json.dump({"child": child, "parent": told}, sys.stdout)


pid = write_to = -1
if __name__ == "__main__":
    main()
