"""A web application that knows nothing of stratatrace, but for a processor that is added to it.

Takes the event loop, how many requests come at once, and ``from_start`` or ``late``: whether the
processor is there before the first request, or is added by ``/follow``. Serves until its standard
input ends, and tells its port first.

Requests come in rounds. Each kind of endpoint takes memory in steps, holds it until all requests of
its round are there, and then takes the rest, so that none can end before all have begun.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import threading
import time
from collections import defaultdict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from starlette.concurrency import run_in_threadpool
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import StreamingResponse

from stratatrace import MemorySpanProcessor

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator

STEPS = 4
PAUSE_SECONDS = 0.002
ALL_HERE_SECONDS = 8


class Round:
    """Requests that come at once, and wait for each other."""

    def __init__(self) -> None:
        self._missing = at_once
        self._here = threading.Event()
        self._here_in_loop = asyncio.Event()
        self._lock = threading.Lock()

    def arrive(self) -> None:
        """Note one that has come, in whatever thread, and let all go on where it is the last."""
        with self._lock:
            self._missing -= 1
            if not self._missing:
                self._here.set()
                app.state.loop.call_soon_threadsafe(self._here_in_loop.set)

    def wait(self) -> None:
        """Wait for the last one, in a thread."""
        assert self._here.wait(ALL_HERE_SECONDS)

    async def everybody(self) -> None:
        """Wait for the last one, in a task."""
        await asyncio.wait_for(self._here_in_loop.wait(), ALL_HERE_SECONDS)


@asynccontextmanager
async def lifespan(application: FastAPI) -> AsyncGenerator[None]:
    """Keep the loop, for threads to speak to."""
    application.state.loop = asyncio.get_running_loop()
    yield


provider = TracerProvider()
tracer = trace.get_tracer("application")
app = FastAPI(lifespan=lifespan)
kept: list[bytearray] = []
at_once = int(sys.argv[2])
rounds: defaultdict[int, Round] = defaultdict(Round)
under_way = asyncio.Semaphore(0)
followed = asyncio.Event()


def arrive(number: int) -> Round:
    """Note a request, and say which one its span is of; return its round."""
    trace.get_current_span().set_attribute("app.request", number)
    mine = rounds[number // at_once]
    mine.arrive()
    return mine


async def take(size: int) -> list[bytearray]:
    """Take memory in steps."""
    held = []
    for _ in range(STEPS):
        held.append(bytearray(size // STEPS))
        await asyncio.sleep(PAUSE_SECONDS)
    return held


def take_at_once(size: int) -> list[bytearray]:
    """Take memory in steps, in a thread."""
    held = []
    for _ in range(STEPS):
        held.append(bytearray(size // STEPS))
        time.sleep(PAUSE_SECONDS)
    return held


@app.get("/steps")
async def steps(number: int, size: int) -> int:
    """Take half before the others have come, and half after that."""
    mine = arrive(number)
    held = await take(size // 2)
    await mine.everybody()
    held += await take(size // 2)
    return len(held)


@app.get("/threaded")
def threaded(number: int, size: int) -> int:
    """Do the same in the thread that the framework runs it in."""
    mine = arrive(number)
    held = take_at_once(size // 2)
    mine.wait()
    held += take_at_once(size // 2)
    return len(held)


@app.get("/gathering")
async def gathering(number: int, size: int) -> int:
    """Have tasks of its own hold it, all at the same time."""
    mine = arrive(number)
    together = asyncio.Barrier(STEPS)

    async def part() -> int:
        held = await take(size // STEPS)
        await mine.everybody()
        await together.wait()
        return len(held)

    return sum(await asyncio.gather(*(part() for _ in range(STEPS))))


@app.get("/handing")
async def handing(number: int, size: int) -> int:
    """Hand work to an executor, and to a thread of the framework's, and hold what they give."""
    mine = arrive(number)
    held = await asyncio.to_thread(take_at_once, size // 2)
    await mine.everybody()
    held += await run_in_threadpool(take_at_once, size // 2)
    return len(held)


@app.get("/keeping")
async def keeping(number: int, size: int) -> int:
    """Keep what it takes, and nothing else."""
    mine = arrive(number)
    kept.extend(await take(size))
    await mine.everybody()
    return len(kept)


@app.get("/streaming")
async def streaming(number: int, size: int) -> StreamingResponse:
    """Have all of it while the last piece of its answer is sent."""
    mine = arrive(number)

    async def pieces() -> AsyncIterator[bytes]:
        held = []
        for _ in range(2):
            held += await take(size // 2)
            await mine.everybody()
            yield b"piece"

    return StreamingResponse(pieces())


@app.get("/streaming_threaded")
def streaming_threaded(number: int, size: int) -> StreamingResponse:
    """Do the same in threads, of which each step may have another one."""
    mine = arrive(number)

    def pieces() -> Iterator[bytes]:
        held = []
        for _ in range(2):
            held += take_at_once(size // 2)
            mine.wait()
            yield b"piece"

    return StreamingResponse(pieces())


@app.get("/early")
async def early(number: int, size: int) -> int:
    """Begin a span in a task that is older than the processor."""
    mine = arrive(number)
    under_way.release()
    await followed.wait()
    with tracer.start_as_current_span("early", attributes={"app.request": number}):
        held = await take(size // 2)
        await mine.everybody()
        held += await take(size // 2)
    return len(held)


@app.get("/follow")
async def follow(after: int) -> None:
    """Add the processor as soon as so many requests are under way, and let them go on."""
    for _ in range(after):
        await under_way.acquire()
    measure()
    followed.set()


async def pass_on(request: Any, call_next: Any) -> Any:
    """Run the application in a task of its own, as every middleware of this kind does."""
    return await call_next(request)


def measure() -> None:
    """Put memory on all spans that begin from now on."""
    provider.add_span_processor(MemorySpanProcessor())


def main(loop: str, *, late: bool) -> None:
    """Serve until the standard input ends."""
    app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    if not late:
        measure()
    FastAPIInstrumentor.instrument_app(app)
    listener = socket.create_server(("127.0.0.1", 0), backlog=at_once)
    server = uvicorn.Server(uvicorn.Config(app, loop=loop, log_level="warning"))

    def stop_with_input() -> None:
        sys.stdin.read()
        server.should_exit = True

    threading.Thread(target=stop_with_input, daemon=True).start()
    sys.stdout.write(json.dumps({"port": listener.getsockname()[1]}) + "\n")
    sys.stdout.flush()
    server.run(sockets=[listener])
    provider.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], late=sys.argv[3] == "late")
