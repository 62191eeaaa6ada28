"""Asking a server in process, and reading what it kept."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from tests.golden.comparison import Case

UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
CLOCKED = frozenset({"decided_at", "recorded_at", "assigned_at", "started_at", "stopped_at"})
"""Times that a server or database takes from a clock."""
JSON_COLUMNS = frozenset({"unknown_products", "request", "offers", "context", "plan"})
MASK = "masked"

ASGIApp = Callable[..., Any]


@asynccontextmanager
async def client_of(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application that has started, by the ASGI specification alone."""
    to_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    from_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    state: dict[str, Any] = {}
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state}
    running = asyncio.create_task(app(scope, to_app.get, from_app.put))
    await to_app.put({"type": "lifespan.startup"})
    said = await from_app.get()
    assert said["type"] == "lifespan.startup.complete", said

    async def with_state(scope: Any, receive: Any, send: Any) -> None:
        scope["state"] = dict(state)
        await app(scope, receive, send)

    transport = httpx.ASGITransport(app=with_state)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
        yield client
    await to_app.put({"type": "lifespan.shutdown"})
    await from_app.get()
    await running


class Names:
    """Ids of decisions and the names that stand for them in what is recorded."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def add(self, decision_id: str, name: str) -> None:
        self._names[decision_id] = name

    def masked(self, text: str) -> str:
        return UUID7.sub(lambda found: f"<{self._names.get(found[0], 'id')}>", text)


def content_of(response: httpx.Response) -> Any:
    """The body as JSON, as lines of JSON in the order of the questions, or as text."""
    kind = response.headers.get("content-type", "")
    if "ndjson" in kind:
        return sorted(map(json.loads, response.text.splitlines()), key=lambda line: line["index"])
    return response.json() if "json" in kind else response.text


def decisions_in(content: Any) -> Iterator[dict[str, Any]]:
    """The answers within a body that are decisions, in their order."""
    if isinstance(content, list):
        for line in content:
            yield from decisions_in(line.get("answer"))
    elif isinstance(content, dict) and "offers" in content and "decision_id" in content:
        yield content


def rows_of(database: Path, table: str) -> list[dict[str, Any]]:
    """The rows of a table in the order of their columns; texts that hold JSON are read."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        connection.row_factory = sqlite3.Row
        rows = [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]
    connection.close()
    for row in rows:
        for name in JSON_COLUMNS & row.keys():
            row[name] = None if row[name] is None else json.loads(row[name])
    return sorted(rows, key=lambda row: [str(value) for value in row.values()])


def unclocked(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with a mask where a clock has written."""
    return {name: MASK if name in CLOCKED and value is not None else value for name, value in row.items()}


class FixedClock:
    """A clock that stands still until it is set."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


def masked_case(case: Case, names: Names) -> Case:
    """The case with names in the place of ids."""
    return json.loads(names.masked(json.dumps(case, ensure_ascii=False)))
