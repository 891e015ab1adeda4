"""Hands work to processes of its own in one of many ways, within one measured call.

``python workers.py WAY START_METHOD OUTPUT`` prints, as JSON, what the workers returned and the
trace and span that they should belong to. The workers configure nothing themselves.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING

from opentelemetry import baggage, context, trace

from stratatrace import configure, profile_memory, propagate, shutdown

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import BaseContext
    from multiprocessing.queues import SimpleQueue

    Told = tuple[int, int, str]

MIB = 2**20
ITEMS = 4


@profile_memory(name="work")
def work(item: int) -> Told:
    """Hold as many mebibytes as the item says, and tell of it."""
    payload = bytearray(item * MIB)
    return os.getpid(), len(payload), str(baggage.get_baggage("tenant"))


def told(item: int, queue: SimpleQueue[Told]) -> None:
    """Do it, and hand the result through a queue."""
    queue.put(work(item))


def by_executor(mp: BaseContext) -> list[Told]:
    """Use concurrent.futures."""
    with ProcessPoolExecutor(2, mp_context=mp) as pool:
        return list(pool.map(propagate(work), range(1, ITEMS + 1), timeout=60))


def by_pool(mp: BaseContext) -> list[Told]:
    """Use a pool, whose ``with`` ends the workers by a signal."""
    with mp.Pool(2) as pool:
        return pool.map_async(propagate(work), range(1, ITEMS + 1), chunksize=1).get(60)


def by_process(mp: BaseContext) -> list[Told]:
    """Start a process for each item."""
    queue: SimpleQueue[Told] = mp.SimpleQueue()
    processes = [
        mp.Process(target=propagate(told), args=(item, queue))  # type: ignore[attr-defined]
        for item in range(1, ITEMS + 1)
    ]
    for process in processes:
        process.start()
    results = [queue.get() for _ in processes]
    for process in processes:
        process.join(60)
    return results


def by_event_loop(mp: BaseContext) -> list[Told]:
    """Await work that a pool does."""

    async def gather() -> list[Told]:
        loop = asyncio.get_running_loop()
        with ProcessPoolExecutor(2, mp_context=mp) as pool:
            return await asyncio.gather(
                *(loop.run_in_executor(pool, propagate(work), i) for i in range(1, ITEMS + 1))
            )

    return asyncio.run(gather())


WAYS: dict[str, Callable[[BaseContext], list[Told]]] = {
    "executor": by_executor,
    "pool": by_pool,
    "process": by_process,
    "event loop": by_event_loop,
}


def main(way: str, start_method: str, output: str) -> None:
    """Run one way."""
    configure(probe="tracemalloc", output=output)
    context.attach(baggage.set_baggage("tenant", "acme"))
    with profile_memory("hands out"):
        here = trace.get_current_span().get_span_context()
        results = WAYS[way](multiprocessing.get_context(start_method))
    shutdown()
    json.dump(
        {
            "trace": trace.format_trace_id(here.trace_id),
            "span": trace.format_span_id(here.span_id),
            "pid": os.getpid(),
            "results": results,
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
