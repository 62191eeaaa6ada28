"""An erased account is unknown for certain: in workers that slept, after a restart, and to any model."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from recsys.bundle.resolve import ResolvedModel
from recsys.cli import main
from recsys.contracts.events import AccountUpdate, Erasure, EventQuery, Outcome, PostedLine, VisitorLink, forget_key
from recsys.contracts.offers import AccountState
from recsys.events.maintenance import erase_account
from recsys.events.memory import MemoryStore
from recsys.events.store import SqlStore, open_store
from serving.app import create_app
from serving.models.by_alias import FixedModel, LoadedModel, ModelSources, WatchedModels
from serving.models.loading import load_model
from serving.online.state import OnlineState
from serving.settings import Settings

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ERASED = AccountState(is_forgotten=True)


def line(order_id: str, account_id: str, recorded_at: datetime = NOW) -> PostedLine:
    return PostedLine(
        order_id=order_id,
        line_id="1",
        product_id="P3",
        quantity=1.0,
        ordered_at=recorded_at,
        recorded_at=recorded_at,
        account_id=account_id,
    )


def fresh(store: Any) -> OnlineState:
    state = OnlineState(store, Settings(), since=NOW - timedelta(days=400), clock=lambda: NOW)
    state.apply(state.read_news())
    return state


def refresh(state: OnlineState) -> OnlineState:
    state.apply(state.read_news())
    return state


@pytest.fixture
def sql(tmp_path: Path) -> Iterator[SqlStore]:
    made = open_store(f"sqlite:///{tmp_path}/e.db")
    yield made
    made.close()


@pytest.mark.parametrize("begun", [timedelta(seconds=31), timedelta(hours=3), timedelta(days=300)])
def test_a_command_that_took_long_or_whose_clock_is_late_is_heard_of(store: MemoryStore, begun: timedelta) -> None:
    store.append([line("o1", "A1"), line("o2", "A2")])
    state = fresh(store)
    assert state.of("A1", None, NOW).bought == ("P3",)
    with store.connection() as connection:
        connection.exec_driver_sql("DELETE FROM order_lines WHERE order_id = 'o1'")
    store.append([Erasure(forget_key("A1"), NOW - begun)])
    assert refresh(state).of("A1", None, NOW) == ERASED
    assert state.of("A2", None, NOW).bought == ("P3",)


def test_a_worker_that_slept_hears_of_every_erasure(store: MemoryStore) -> None:
    state = fresh(store)
    for hour in range(5):
        at = NOW + timedelta(hours=hour)
        store.append([Erasure(forget_key(f"A{hour}"), at), line(f"later{hour}", "A9", at)])
    refresh(state)
    assert [state.of(f"A{i}", None, NOW).is_forgotten for i in range(6)] == [True] * 5 + [False]


def test_an_account_that_came_back_can_be_erased_again(sql: SqlStore) -> None:
    sql.append(
        [line("o1", "A1"), VisitorLink("v1", "A1", NOW), AccountUpdate(account_id="A1", recorded_at=NOW, segment="s")]
    )
    state = fresh(sql)
    erase_account(sql, "A1", NOW)
    assert refresh(state).of("A1", None, NOW) == ERASED
    assert state.account_of("v1") is None
    sql.append([line("o2", "A1"), VisitorLink("v1", "A1", NOW)])
    assert refresh(state).of("A1", None, NOW).bought == ("P3",)
    erase_account(sql, "A1", NOW + timedelta(hours=1))
    assert refresh(state).of("A1", None, NOW) == ERASED
    assert fresh(sql).of("A1", None, NOW) == ERASED


def test_what_a_worker_writes_before_it_has_heard_goes_too(sql: SqlStore) -> None:
    state = fresh(sql)

    def settle() -> None:
        sql.append(
            [
                line("late", "A1"),
                Outcome(outcome_id="x9", decision_id="d9", kind="shown", occurred_at=NOW, recorded_at=NOW),
            ]
        )
        refresh(state)

    erase_account(sql, "A1", NOW, settle)
    assert sql.read(EventQuery("order_lines")).num_rows == 0
    assert refresh(state).of("A1", None, NOW) == ERASED


def test_a_search_that_takes_long_does_not_keep_writers_waiting(sql: SqlStore) -> None:
    """While rows are looked up, nothing holds the lock: an append in the middle of it goes through."""
    sql.append([line(f"o{i}", "A1") for i in range(1_200)])
    appended: list[bool] = []

    def searching(*_: Any) -> int:
        if not appended:
            other = open_store(sql.name)
            other.append([line("meanwhile", "A2")])
            other.close()
            appended.append(True)
        return 0

    with sql.engine.connect() as connection:
        connection.connection.dbapi_connection.set_progress_handler(searching, 100)  # type: ignore[union-attr]
    assert erase_account(sql, "A1", NOW)["order_lines"] == 1_200
    assert appended
    assert sql.read(EventQuery("order_lines"))["order_id"].to_pylist() == ["meanwhile"]


def test_no_page_and_no_model_answers_from_what_a_bundle_holds_of_it(
    store: MemoryStore, running: Any, bundle_folder: Path
) -> None:
    """The model that ran, one that is swapped in later, and a server that starts later, all trained before."""
    versions = ["one"]

    def load(found: ResolvedModel, source: str) -> LoadedModel:
        return load_model(bundle_folder, source=source, now=NOW)

    first = load(ResolvedModel(bundle_folder, "one"), "test")
    sources = ModelSources({"champion": "test"}, lambda _: ResolvedModel(bundle_folder, versions[-1]), load)
    models = WatchedModels(sources, first, lambda: NOW, timedelta(0))
    settings = Settings(refresh_seconds=0.02, model_look_seconds=1_000)
    with running(create_app(settings, bundles=models, store=store, clock=lambda: NOW)) as api:
        product, owned = what_it_holds(api, "A1")
        assert owned
        store.append([Erasure(forget_key("A1"), NOW - timedelta(days=2))])
        eventually(lambda: not holds_anything(api, "A1", product))
        versions.append("two")
        assert api.post("/v1/models:reload").json()["models"][0]["alias"] == "champion"
        assert models.current() is not first
        assert not holds_anything(api, "A1", product)
        assert holds_anything(api, "A2", what_it_holds(api, "A2")[0])
    later = FixedModel(load(ResolvedModel(bundle_folder, "one"), "test"))
    with running(create_app(settings, bundles=later, store=store, clock=lambda: NOW)) as api:
        assert not holds_anything(api, "A1", product)


def what_it_holds(api: httpx.Client, account_id: str) -> tuple[str, int]:
    offer = api.get(f"/v1/accounts/{account_id}/offers", params={"limit": 1}).json()["offers"][0]
    assert offer["tier"] == "account"
    return offer["product_id"], owned_cells(api, account_id)


def holds_anything(api: httpx.Client, account_id: str, product_id: str) -> bool:
    """Whether any answer still rests on the account's own data."""
    slate = api.post("/v1/offers", json={"account_id": account_id}).json()
    page = api.get(f"/v1/accounts/{account_id}/offers").json()
    batch = api.post("/v1/offers:batch", json={"requests": [{"account_id": account_id}]}).text
    calls = api.get(f"/v1/products/{product_id}/accounts", params={"capacity": 500}).json()["calls"]
    tiers = {slate["tier"], page["tier"], json.loads(batch)["answer"]["tier"]}
    called = account_id in {call["account_id"] for call in calls}
    return tiers != {"popular"} or called or owned_cells(api, account_id) > 0


def owned_cells(api: httpx.Client, account_id: str) -> int:
    return sum(shelf["n_owned"] for shelf in api.get(f"/v1/accounts/{account_id}/whitespace").json()["shelves"])


def eventually(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_process_that_was_stopped_for_a_while_and_one_that_starts_later_know_it(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/e.db"
    served = serve(url)
    asked: dict[str, Any] = {"json": {"account_id": "A2"}}
    assert httpx.post(f"{served.url}/v1/offers", **asked).json()["tier"] == "account"
    served.process.send_signal(signal.SIGSTOP)
    with pytest.raises(SystemExit):
        main(["forget", "A2", "--store", url])
    served.process.send_signal(signal.SIGCONT)
    eventually(lambda: httpx.post(f"{served.url}/v1/offers", **asked).json()["tier"] == "popular")
    assert httpx.post(f"{serve(url).url}/v1/offers", **asked).json()["tier"] == "popular"
