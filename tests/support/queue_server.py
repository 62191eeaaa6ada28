"""A server that takes the events of client queues as it is told to, and the events that tests send."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from recsys.client import (
    AsyncOfferClient,
    ClientConfig,
    OfferClient,
    Order,
    OrderLine,
    QueueState,
    ReportedOutcome,
)

THEN = datetime(2026, 3, 1, 12, tzinfo=UTC)
HURRIED = ClientConfig(retries=0, backoff_seconds=0.01, max_backoff_seconds=0.05, flush_seconds=20)
Answering = Callable[[str, list[dict[str, Any]]], tuple[int, dict[str, Any]]]


def outcome(name: object) -> ReportedOutcome:
    return ReportedOutcome(f"o{name}", "d1", "shown", occurred_at=THEN)


def order(name: object) -> Order:
    return Order(f"w{name}", (OrderLine("P1"),), account_id="A1", ordered_at=THEN)


def refusal(status: int, detail: str, *pointers: str) -> tuple[int, dict[str, Any]]:
    """What an offer engine says of events that it does not take, with the fields that it names."""
    errors = [{"pointer": pointer, "detail": "breaks a rule"} for pointer in pointers]
    return status, {"detail": detail, "request_id": "r-1", "errors": errors}


def takes_all(kind: str, events: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
    if kind == "outcomes":
        return 200, {"received": len(events)}
    return 200, {"received_lines": sum(len(event["lines"]) for event in events)}


class Server:
    """Answers posts as it is told to; keeps what it answered with 200, and the size of every post."""

    def __init__(self, answer: Answering) -> None:
        self.answer = answer
        self.taken: list[dict[str, Any]] = []
        self.sizes: list[int] = []
        self.asked = threading.Event()

    @property
    def ids(self) -> Counter[str]:
        return Counter(event.get("outcome_id") or event["order_id"] for event in self.taken)

    @contextmanager
    def running(self, port: int = 0) -> Iterator[str]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                kind = self.path.rpartition("/")[2]
                events = json.loads(self.rfile.read(int(self.headers["content-length"])))[kind]
                status, body = server.answer(kind, events)
                if status == 200:
                    server.taken += events
                server.sizes.append(len(events))
                server.asked.set()
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                if "request_id" in body:  # a proxy's answers have none
                    self.send_header("content-type", "application/problem+json")
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        with ThreadingHTTPServer(("127.0.0.1", port), Handler) as listening:
            thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
            thread.start()
            try:
                yield f"http://127.0.0.1:{listening.server_address[1]}"
            finally:
                listening.shutdown()
                thread.join()


NOBODY = "http://127.0.0.1:1"


def in_threads(url: str, config: ClientConfig, n: int) -> tuple[int, QueueState]:
    with OfferClient(url, config) as client:
        kept = sum(client.queue_outcomes([outcome(i)]) + client.queue_orders([order(i)]) for i in range(n))
        client.close()
        return kept, client.queue


def in_a_loop(url: str, config: ClientConfig, n: int) -> tuple[int, QueueState]:
    async def run() -> tuple[int, QueueState]:
        async with AsyncOfferClient(url, config) as client:
            kept = 0
            for i in range(n):
                kept += await client.queue_outcomes([outcome(i)]) + await client.queue_orders([order(i)])
            await client.close()
            return kept, client.queue

    return asyncio.run(run())
