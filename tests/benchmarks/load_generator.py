"""Asks one server as fast as it answers, or at a fixed rate, over connections that stay open; prints JSON.

Usage: load_generator.py HOST PORT CONNECTIONS SECONDS RATE FIRST REQUESTS_FILE
RATE 0: each connection asks again as soon as it is answered. The file holds a JSON list of [method, path, body]; FIRST
says which one is asked first.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import uvloop


def encoded(method: str, path: str, body: Any) -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    kind = b"" if body is None else b"content-type: application/json\r\ncontent-length: %d\r\n" % len(content)
    return b"%s %s HTTP/1.1\r\nhost: localhost\r\n%s\r\n%s" % (method.encode(), path.encode(), kind, content)


class Run:
    def __init__(self, requests: list[bytes], seconds: float) -> None:
        self.requests = itertools.cycle(requests)
        self.seconds_of: list[float] = []
        self.failed = 0
        self.end = time.perf_counter() + seconds


class Connection(asyncio.Protocol):
    def __init__(self, run: Run) -> None:
        self.run = run
        self.buffer = b""
        self.waiting: deque[float] = deque()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def ask(self, since: float | None = None) -> None:
        self.waiting.append(time.perf_counter() if since is None else since)
        self.transport.write(next(self.run.requests))

    def answered(self) -> None:
        """Called after each answer."""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (head := self.buffer.find(b"\r\n\r\n")) >= 0:
            lines = self.buffer[:head].lower().split(b"\r\n")
            length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:"))
            if len(self.buffer) < head + 4 + length:
                return
            self.run.failed += b" 200 " not in lines[0]
            self.buffer = self.buffer[head + 4 + length :]
            self.run.seconds_of.append(time.perf_counter() - self.waiting.popleft())
            self.answered()


class Closed(Connection):
    def answered(self) -> None:
        if time.perf_counter() < self.run.end:
            self.ask()


async def main() -> None:
    host, port, n_connections, seconds, rate = sys.argv[1], *map(float, sys.argv[2:6])
    requests = [encoded(*item) for item in json.loads(Path(sys.argv[7]).read_bytes())]
    first = int(sys.argv[6]) % len(requests)
    requests = requests[first:] + requests[:first]
    loop = asyncio.get_running_loop()
    run = Run(requests, seconds)
    kind = Connection if rate else Closed
    made = [(await loop.create_connection(lambda: kind(run), host, int(port)))[1] for _ in range(int(n_connections))]
    run.end = time.perf_counter() + seconds
    begun = time.perf_counter()
    if rate:
        for number in range(int(seconds * rate)):
            due = begun + number / rate  # latency counts from when it was due, not from when the generator got to it
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            made[number % len(made)].ask(due)
    else:
        for connection in made:
            connection.ask()
        await asyncio.sleep(seconds)
    elapsed = time.perf_counter() - begun
    n_answered = len(run.seconds_of)
    await asyncio.sleep(0.5)
    times = sorted(run.seconds_of)
    print(
        json.dumps(
            {
                "requests_per_second": round(n_answered / elapsed, 1),
                "p50_ms": round(times[len(times) // 2] * 1e3, 2),
                "p99_ms": round(times[int(len(times) * 0.99)] * 1e3, 2),
                "failed": run.failed,
            }
        )
    )


uvloop.run(main())
