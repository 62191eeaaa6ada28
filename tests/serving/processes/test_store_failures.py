"""A store that hangs, is full or has gone: refused in time, not ready, nothing answered is lost, and it recovers."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from recsys.contracts.events import EventQuery
from recsys.events.store import EventStore, open_store
from recsys.events.writer import WriterConfig
from serving.app import create_app
from serving.fakes import fake_model
from serving.models.by_alias import FixedModel
from serving.settings import Settings

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ASKED = {"account_id": "A1"}


def app_on(store: EventStore, commit_seconds: float = 0.5) -> Any:
    settings = Settings(writer=WriterConfig(commit_seconds=commit_seconds), refresh_seconds=0.05)
    return create_app(settings, bundles=FixedModel(fake_model()), store=store, clock=lambda: datetime.now(UTC))


def eventually(holds: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def is_ready(api: httpx.Client) -> bool:
    return api.get("/readyz").status_code == 200


def offers(api: httpx.Client) -> httpx.Response:
    return api.post("/v1/offers", json=ASKED)


def kept(store: EventStore) -> list[str]:
    ids: list[str] = store.read(EventQuery("decisions", columns=("decision_id",)))["decision_id"].to_pylist()
    return ids


@dataclass(frozen=True)
class Database:
    """A store's URL, and what makes it hang."""

    url: str
    hung: Callable[[], AbstractContextManager[None]]


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql_url")
        return Database(url, lambda: stopped(url))
    return Database(f"sqlite:///{tmp_path}/e.db", lambda: locked(tmp_path / "e.db"))


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Another process holds SQLite's write lock."""
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.execute("ROLLBACK")
    other.close()


@contextmanager
def stopped(url: str) -> Iterator[None]:
    """Every process of the PostgreSQL server is stopped, the one that takes connections first."""
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        folder = connection.exec_driver_sql("SHOW data_directory").scalar_one()
    engine.dispose()
    head = int((Path(folder) / "postmaster.pid").read_text().splitlines()[0])
    os.kill(head, signal.SIGSTOP)
    processes = [head, *map(int, Path(f"/proc/{head}/task/{head}/children").read_text().split())]
    try:
        send(signal.SIGSTOP, processes[1:])
        yield
    finally:
        send(signal.SIGCONT, processes)


def send(number: signal.Signals, processes: list[int]) -> None:
    for process in processes:
        with suppress(ProcessLookupError):  # the one that was asked for the folder is on its way out
            os.kill(process, number)


def hang(running: Any, database: Database, commit_seconds: float, n_callers: int) -> list[float]:
    """Ask from many callers while the database hangs; return how long each refusal took."""
    store = open_store(database.url)
    asks = {
        "offers": offers,
        "page": lambda api: api.get("/v1/accounts/A1/offers"),
        "stock": lambda api: api.post("/v1/products", json={"products": [{"product_id": "P1", "stock": 3}]}),
        "why": lambda api: api.post("/v1/decisions/d/why-not", json={"product_id": "P1"}),
        "experiments": lambda api: api.get("/v1/experiments"),
        "readyz": lambda api: api.get("/readyz"),
    }
    with running(app_on(store, commit_seconds)) as api, ThreadPoolExecutor(n_callers) as callers:

        def ask(number: int) -> tuple[str, int, float, str]:
            name = list(asks)[number % len(asks)] if database.url.startswith("postgresql") else "offers"
            begun = time.monotonic()
            answered = asks[name](api)
            return name, answered.status_code, time.monotonic() - begun, answered.text

        answered = [offers(api).json()["decision_id"] for _ in range(3)]
        with database.hung():
            found = list(callers.map(ask, range(n_callers)))
            again = [offers(api).status_code for _ in range(20)]
            assert api.get("/readyz").status_code == 503
            assert api.get("/livez").status_code == 200
            assert api.post("/v1/offers", json={"limit": 0}).status_code == 422
        assert {status for _, status, _, _ in found} == {503}, found
        assert set(again) == {503}
        eventually(lambda: offers(api).status_code == 200)
        eventually(lambda: is_ready(api))
        answered.append(offers(api).json()["decision_id"])
        ids = kept(store)
        assert set(answered) <= set(ids)
        assert len(ids) == len(set(ids)) <= len(answered) + n_callers + 5
    if database.url.startswith("postgresql"):
        eventually(lambda: store.engine.pool.checkedout() == 0)  # type: ignore[attr-defined]
    store.close()
    return [seconds for _, _, seconds, _ in found]


def test_a_database_that_hangs_keeps_nobody_waiting_and_is_used_again_when_it_goes_on(
    running: Any, database: Database
) -> None:
    assert max(hang(running, database, 0.5, 12)) < 10  # a client of these tests gives up after 20


@pytest.mark.proof
def test_proof_that_by_default_everybody_is_refused_within_two_seconds(running: Any, database: Database) -> None:
    assert max(hang(running, database, WriterConfig().commit_seconds, 64)) < 2


def test_a_store_that_is_deleted_answers_nothing_until_it_is_back(running: Any, tmp_path: Path) -> None:
    file = tmp_path / "e.db"
    store = open_store(f"sqlite:///{file}")
    with running(app_on(store)) as api:
        answered = [offers(api).json()["decision_id"] for _ in range(5)]
        file.replace(tmp_path / "elsewhere.db")
        assert not is_ready(api)
        assert {offers(api).status_code for _ in range(5)} == {503}
        assert api.get("/v1/experiments").status_code == 503
        file.touch()  # an empty file is not the store
        assert {offers(api).status_code for _ in range(5)} == {503}
        assert not is_ready(api)
        assert file.stat().st_size == 0
        (tmp_path / "elsewhere.db").replace(file)
        eventually(lambda: offers(api).status_code == 200)
        eventually(lambda: is_ready(api))
        answered.append(offers(api).json()["decision_id"])
        assert set(answered) <= set(kept(store))
    store.close()


def test_what_was_answered_while_the_file_went_is_in_the_file_that_went(running: Any, tmp_path: Path) -> None:
    """Deleted under load: of what was answered after the file had gone there is nothing."""
    file = tmp_path / "e.db"
    store = open_store(f"sqlite:///{file}")
    with running(app_on(store)) as api, ThreadPoolExecutor(8) as callers:
        (tmp_path / "linked.db").hardlink_to(file)

        answered: set[str] = set()

        def ask_until_refused() -> None:
            while (found := offers(api)).status_code == 200:
                answered.add(found.json()["decision_id"])

        asking = [callers.submit(ask_until_refused) for _ in range(8)]
        eventually(lambda: len(answered) > 100)
        file.unlink()
        for caller in asking:
            caller.result(60)
        assert not is_ready(api)
    store.close()
    found = open_store(f"sqlite:///{tmp_path}/linked.db")
    assert answered <= set(kept(found))
    found.close()


def test_a_store_that_can_only_be_read_is_not_ready(running: Any, tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/e.db")
    with running(app_on(store)) as api:
        assert is_ready(api)
        with store.engine.connect() as connection:
            connection.exec_driver_sql("DROP TABLE offer_store_probe")
            connection.commit()
        assert not is_ready(api)
        assert offers(api).status_code == 200  # and while decisions are kept, the probe is not needed
    store.close()
