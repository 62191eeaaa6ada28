"""Two servers whose clocks are four minutes apart, on one store: what one takes is in force in the other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from recsys.contracts.events import EventQuery, PostedLine
from recsys.events.maintenance import erase_account
from recsys.events.store import EventStore, SqlStore, open_store
from serving.app import create_app
from serving.fakes import fake_model
from serving.models.by_alias import FixedModel
from serving.online.state import OnlineState
from serving.settings import Settings

AHEAD = timedelta(seconds=120)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    postgresql = request.param == "postgresql"
    found: str = request.getfixturevalue("postgresql_url") if postgresql else f"sqlite:///{tmp_path}/e.db"
    return found


def server(store: EventStore, clock: Callable[[], datetime]) -> Any:
    settings = Settings(refresh_seconds=0.05, returned_is_presented=frozenset({"newsletter"}))
    return create_app(settings, bundles=FixedModel(fake_model()), store=store, clock=clock)


def in_time(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def ask(api: httpx.Client, account_id: str) -> dict[str, Any]:
    found: dict[str, Any] = api.post("/v1/offers", json={"account_id": account_id}).raise_for_status().json()
    return found


def products(api: httpx.Client, account_id: str) -> list[str]:
    return [offer["product_id"] for offer in ask(api, account_id)["offers"]]


def send(api: httpx.Client, path: str, body: dict[str, Any]) -> None:
    api.post(path, json=body).raise_for_status()


def hears(one: httpx.Client, other: httpx.Client, store: SqlStore, name: str) -> None:
    """What `one` takes, or a command, is in force in `other`."""
    asked = ask(one, "A1")
    first, second, third = [offer["product_id"] for offer in asked["offers"]][:3]
    bought = {"order_id": f"o-{name}", "account_id": "A1", "lines": [{"product_id": first}]}
    send(one, "/v1/orders", {"orders": [bought]})
    outcome = {"outcome_id": f"x-{name}", "decision_id": asked["decision_id"], "kind": "declined", "product_id": second}
    send(one, "/v1/outcomes", {"outcomes": [outcome]})
    in_time(lambda: not {first, second} & set(products(other, "A1")), "orders and refusals")
    send(one, "/v1/products", {"products": [{"product_id": third, "stock": 0}]})
    in_time(lambda: third not in products(other, "A1"), "stock")
    send(one, "/v1/products", {"products": [{"product_id": third, "stock": 9}]})
    in_time(lambda: third in products(other, "A1"), "stock again")
    send(one, "/v1/accounts", {"accounts": [{"account_id": f"N-{name}", "do_not_offer": True}]})
    send(one, f"/v1/visitors/v-{name}:link", {"account_id": f"N-{name}"})
    in_time(lambda: products(other, f"N-{name}") == [], "accounts")
    visitor = {"visitor_id": f"v-{name}"}
    in_time(lambda: other.post("/v1/offers", json=visitor).json()["returned"] == 0, "links")
    bought = {"order_id": f"p-{name}", "account_id": f"E-{name}", "lines": [{"product_id": "P5"}]}
    send(one, "/v1/orders", {"orders": [bought]})
    in_time(lambda: "P5" not in products(other, f"E-{name}"), "orders of another account")
    erase_account(store, f"E-{name}", datetime(2020, 1, 1, tzinfo=UTC))
    in_time(lambda: "P5" in products(other, f"E-{name}"), "erasures")


def test_what_one_takes_is_in_force_in_the_other(running: Any, url: str) -> None:
    store, beside = open_store(url), open_store(url)
    fast, slow = (lambda: datetime.now(UTC) + AHEAD), (lambda: datetime.now(UTC) - AHEAD)
    with running(server(store, fast)) as ahead, running(server(beside, slow)) as behind:
        hears(ahead, behind, store, "ahead")
        hears(behind, ahead, store, "behind")
        hears(ahead, behind, store, "again")
    store.close()
    beside.close()


def test_what_a_surface_declares_as_presented_is_read_by_its_number(running: Any, url: str) -> None:
    store = open_store(url)
    settings = Settings(returned_is_presented=frozenset({"newsletter"}))
    with running(server(store, lambda: datetime.now(UTC))) as api:
        state = OnlineState(store, settings, since=datetime(2020, 1, 1, tzinfo=UTC), clock=lambda: datetime.now(UTC))
        state.apply(state.read_news())
        api.post("/v1/offers", json={"account_id": "A1", "surface": "newsletter"}).raise_for_status()
        ask(api, "A2")
        (reaction,) = state.read_news().reactions
        assert reaction.subject.account_id == "A1"
    store.close()


def test_a_change_that_becomes_visible_after_later_ones_is_read(postgresql_url: str) -> None:
    """A transaction begins, others come and go and are read, and only then it ends."""
    store = open_store(postgresql_url)
    state = OnlineState(store, Settings(), since=datetime(2020, 1, 1, tzinfo=UTC), clock=lambda: datetime.now(UTC))
    state.apply(state.read_news())
    now = datetime.now(UTC)
    with store.engine.begin() as slow:
        slow.execute(
            sa.text(
                "INSERT INTO order_lines (order_id, line_id, account_id, product_id, ordered_at, quantity, discount, "
                "status, recorded_at) VALUES ('slow', '1', 'A1', 'P1', now(), 1, 0, 'completed', now())"
            )
        )
        for number in range(3):
            store.append(
                [
                    PostedLine(
                        order_id=f"o{number}",
                        line_id="1",
                        product_id="P2",
                        quantity=1.0,
                        ordered_at=now,
                        recorded_at=now,
                        account_id="A1",
                    )
                ]
            )
            state.apply(state.read_news())
        assert state.of("A1", None, now).bought == ("P2",)
    state.apply(state.read_news())
    assert set(state.of("A1", None, now).bought) == {"P1", "P2"}
    assert state.read_news().lines == []
    store.close()


def test_changes_of_many_writers_are_all_read(url: str) -> None:
    """Readers between writers: each row is seen, whatever the order in which it becomes visible."""
    stores = [open_store(url) for _ in range(4)]
    now = datetime.now(UTC)

    def write(store: SqlStore, name: int) -> None:
        for number in range(40):
            store.append(
                [
                    PostedLine(
                        order_id=f"{name}-{number}",
                        line_id="1",
                        product_id="P1",
                        quantity=1.0,
                        ordered_at=now,
                        recorded_at=now,
                        account_id="A1",
                    )
                ]
            )

    writers = [threading.Thread(target=write, args=(store, name)) for name, store in enumerate(stores[:3])]
    position, seen = stores[3].position(), set()
    for writer in writers:
        writer.start()
    done = False
    while not done:
        done = not any(writer.is_alive() for writer in writers)
        following = stores[3].position()
        rows = stores[3].read(EventQuery("order_lines", changed_since=position))
        seen |= set(rows["order_id"].to_pylist())
        position = following
    assert len(seen) == 120
    for store in stores:
        store.close()


def test_an_older_copy_of_the_store_is_read_from_the_start(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/e.db")
    now = datetime.now(UTC)
    store.append(
        [
            PostedLine(
                order_id=f"o{number}",
                line_id="1",
                product_id="P1",
                quantity=1.0,
                ordered_at=now,
                recorded_at=now,
                account_id="A1",
            )
            for number in range(9)
        ]
    )
    state = OnlineState(store, Settings(), since=now - timedelta(days=9), clock=lambda: now)
    state.apply(state.read_news())
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE offer_store_feed SET position = 1")
    assert len(state.read_news().lines) == 9
    store.close()
