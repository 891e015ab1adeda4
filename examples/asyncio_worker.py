"""A queue of jobs, several workers that take turns, and the memory of each job by itself.

Each job loads pages, waits between them, and keeps them until it is done. While one job waits the
others run, so the process's memory before and after a job says nothing about the job. What is
printed for each job is its own: it is measured step by step, only while its own code runs.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stratatrace import measure, profile_memory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from stratatrace import Measurement

PAGE_BYTES = 1_000_000
WORKERS = 3


@dataclass(frozen=True)
class Job:
    """A document to prepare for printing."""

    name: str
    pages: int


JOBS = (
    Job("invoice", 1),
    Job("catalogue", 24),
    Job("letter", 2),
    Job("manual", 12),
    Job("poster", 6),
    Job("receipt", 1),
)


@profile_memory
async def load_pages(job: Job) -> AsyncIterator[bytearray]:
    """Yield the pages of a document as they arrive."""
    for number in range(job.pages):
        await asyncio.sleep(0.005)  # The network: meanwhile other jobs load theirs.
        page = bytearray(PAGE_BYTES)
        page[0] = number
        yield page


@profile_memory
async def count_ink(page: bytearray) -> int:
    """Return how much ink a page takes; needs a copy of it for a moment."""
    await asyncio.sleep(0)
    return len(page.replace(b"\0", b"."))


async def prepare(job: Job) -> int:
    """Load a whole document, and return how much ink it takes."""
    pages = [page async for page in load_pages(job)]
    return sum([await count_ink(page) for page in pages])


async def work(jobs: asyncio.Queue[Job], done: dict[Job, tuple[int, Measurement]]) -> None:
    """Take jobs until there are none left."""
    while not jobs.empty():
        job = jobs.get_nowait()
        done[job] = await measure(prepare, job)


async def main() -> None:
    """Do all jobs, and show what each of them took."""
    jobs: asyncio.Queue[Job] = asyncio.Queue()
    for job in JOBS:
        jobs.put_nowait(job)
    done: dict[Job, tuple[int, Measurement]] = {}
    async with asyncio.TaskGroup() as workers:
        for _ in range(WORKERS):
            workers.create_task(work(jobs, done))
    for job in JOBS:
        ink, measurement = done[job]
        held_mb = (measurement.heap_peak_bytes or 0) / 1e6
        print(f"{job.name:10} {job.pages:3} pages  ink {ink:>10,}  at most {held_mb:3.0f} MB held")


if __name__ == "__main__":
    asyncio.run(main())
