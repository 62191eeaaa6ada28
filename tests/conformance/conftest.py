"""Every event store: in memory, SQLite, a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from recsys.events.memory import MemoryStore
from recsys.events.store import EventStore, open_store


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventStore]:
    if request.param == "memory":
        made: EventStore = MemoryStore()
    elif request.param == "sqlite":
        made = open_store(f"sqlite:///{tmp_path}/deep/events.db")
    else:
        made = open_store(request.getfixturevalue("postgresql_url"))
    yield made
    made.close()
