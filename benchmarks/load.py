"""A closed loop of SETs over many connections, where redis-benchmark can not express the load.

    python -m benchmarks.load PORT CLIENTS PIPELINE COUNT [--wait]

Each connection sends a pipeline of SETs and, with --wait, `WAIT 1 0` after it; when all replies are there it sends the
next. Prints one JSON object: writes per second, and the latency of a pipeline in milliseconds. About 10 microseconds of
one core per pipeline: the servers of a comparison have the same load generator beside them.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time

import uvloop

HOST = "127.0.0.1"
KEYS = 100_000
VALUE = b"x" * 64
WAIT = b"*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$1\r\n0\r\n"


class Load:
    """`count` writes in all; `done` is set when the last reply is there."""

    def __init__(self, pipeline: int, count: int, wait: bool) -> None:
        self.pipeline = pipeline
        self.left = count
        self.wait = wait
        self.lines = pipeline + wait
        self.times_s: list[float] = []
        self.busy = 0
        self.done = asyncio.Event()
        self.failure = ""


class Connection(asyncio.Protocol):
    def __init__(self, load: Load) -> None:
        self.load = load
        self.missing = 0
        self.began = 0.0
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def send(self) -> None:
        load = self.load
        load.left -= load.pipeline
        self.missing = load.lines
        parts = [
            b"*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$64\r\n%b\r\n" % (random.randrange(KEYS), VALUE)
            for _ in range(load.pipeline)
        ]
        if load.wait:
            parts.append(WAIT)
        self.began = time.perf_counter()
        self.transport.write(b"".join(parts))

    def data_received(self, data: bytes) -> None:
        load = self.load
        if b"-" in data or b":0" in data:  # an error, or a WAIT that no replica answered
            load.failure = data.decode("utf-8", "replace")
            load.done.set()
        self.missing -= data.count(b"\n")
        if self.missing:
            return
        load.times_s.append(time.perf_counter() - self.began)
        if load.left > 0:
            self.send()
        else:
            load.busy -= 1
            if not load.busy:
                load.done.set()

    def connection_lost(self, error: Exception | None) -> None:
        if self.missing:
            self.load.failure = "the connection was closed"
            self.load.done.set()


async def run(port: int, clients: int, pipeline: int, count: int, wait: bool) -> dict[str, float]:
    """The load, from the first byte sent to the last received. Raises SystemExit when a command is refused."""
    loop = asyncio.get_running_loop()
    load = Load(pipeline, count, wait)
    connections = [(await loop.create_connection(lambda: Connection(load), HOST, port))[1] for _ in range(clients)]
    load.busy = clients
    began = time.perf_counter()
    for connection in connections:
        connection.send()
    await load.done.wait()
    seconds = time.perf_counter() - began
    if load.failure:
        raise SystemExit(f"a SET was not acknowledged: {load.failure[:200]}")
    times = sorted(load.times_s)
    return {
        "per_second": len(times) * pipeline / seconds,
        "p50_ms": times[len(times) // 2] * 1000,
        "p99_ms": times[len(times) * 99 // 100] * 1000,
    }


if __name__ == "__main__":
    port, clients, pipeline, count = map(int, sys.argv[1:5])
    print(json.dumps(uvloop.run(run(port, clients, pipeline, count, "--wait" in sys.argv))))
