"""A server that forks its workers before the first request comes, as web servers do.

``python preforking.py WORKERS REQUESTS OUTPUT`` serves that many requests over one shared socket,
each within a trace of the client's own, ends the workers by SIGTERM and prints, as JSON, the trace
of every request and the process that served it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from typing import NoReturn

from opentelemetry import context
from opentelemetry.propagate import extract

from stratatrace import configure, profile_memory, shutdown

MIB = 2**20


@profile_memory(name="handle")
def handle(size: int) -> bytes:
    """Answer a request by taking so many bytes."""
    payload = bytearray(size)
    return json.dumps([os.getpid(), len(payload)]).encode()


def serve(listener: socket.socket) -> NoReturn:
    """Be a worker until SIGTERM, which ends it as an exit does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while True:
        connection, _ = listener.accept()
        with connection:
            request = json.loads(connection.recv(4096))
            token = context.attach(extract(request))
            connection.sendall(handle(request["size"]))
            context.detach(token)


def ask(address: tuple[str, int], number: int) -> tuple[str, int, int]:
    """Send a request with a trace of its own; return that, the worker, and the size."""
    trace_id = f"{number:032x}"
    request = {"traceparent": f"00-{trace_id}-{number:016x}-01", "size": number * MIB}
    with socket.create_connection(address, timeout=30) as client:
        client.sendall(json.dumps(request).encode())
        process, size = json.loads(client.recv(4096))
    return trace_id, process, size


def main(workers: int, requests: int, output: str) -> None:
    """Fork, serve, end."""
    configure(probe="tracemalloc", output=output)
    handle(0)
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    pids = []
    for _ in range(workers):
        pid = os.fork()
        if not pid:
            with listener:
                serve(listener)
        pids.append(pid)
    address = listener.getsockname()
    answers = [ask(address, number) for number in range(1, requests + 1)]
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    exits = [os.waitpid(pid, 0)[1] for pid in pids]
    listener.close()
    shutdown()
    json.dump({"answers": answers, "exits": exits, "master": os.getpid()}, sys.stdout)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
