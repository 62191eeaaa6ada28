"""Products, accounts and visitors as they change: in force at once, in every worker, after a restart too."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from fastapi import FastAPI

from recsys.contracts.events import AccountUpdate, Erasure, EventQuery, Outcome, ProductUpdate, forget_key
from recsys.contracts.offers import OfferRequest
from recsys.events.memory import MemoryStore
from serving.app import create_app
from serving.fakes import FakeEngine, fake_model
from serving.models.by_alias import FixedModel
from serving.models.loading import load_model
from serving.online.change_feed import Feedback, RulesFile, Subject
from serving.online.state import OnlineState
from serving.settings import FrequencyCaps, Settings

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def make(store: MemoryStore, model: Any = None, **settings: Any) -> FastAPI:
    return create_app(
        Settings(refresh_seconds=0.02, **settings),
        bundles=FixedModel(model or fake_model()),
        store=store,
        clock=lambda: NOW,
    )


def post(api: httpx.Client, path: str, status: int = 200, **body: Any) -> dict[str, Any]:
    answered = api.post(path, json=body)
    assert answered.status_code == status, answered.text
    return answered.json()


def offered(api: httpx.Client, **body: Any) -> list[str]:
    return [offer["product_id"] for offer in post(api, "/v1/offers", **({"limit": 5} | body))["offers"]]


def eventually(holds: Callable[[], bool]) -> bool:
    for _ in range(100):
        if holds():
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("change", [{"stock": 0}, {"active": False}, {"do_not_offer": True}])
def test_a_product_that_may_not_be_offered_is_absent_at_once(api: httpx.Client, change: dict[str, Any]) -> None:
    first = offered(api)[0]
    assert post(api, "/v1/products", products=[{"product_id": first, **change}])["unknown_products"] == []
    assert first not in offered(api)
    undo = {"stock": 5} if "stock" in change else {name: not value for name, value in change.items()}
    post(api, "/v1/products", products=[{"product_id": first, **undo}])
    assert offered(api)[0] == first


def test_a_product_that_no_model_knows_is_named_until_one_does(store: MemoryStore, running: Any) -> None:
    values = [{"product_id": "P40", "stock": 1}, {"product_id": "P1", "stock": 1}]
    with running(make(store)) as api:
        for _ in range(2):
            assert post(api, "/v1/products", products=values) == {"received": 2, "unknown_products": ["P40"]}
    with running(make(store, fake_model(FakeEngine(n_products=50)))) as api:
        assert post(api, "/v1/products", products=values)["unknown_products"] == []


def test_a_posted_price_is_the_price_of_the_offer(api: httpx.Client) -> None:
    post(api, "/v1/products", products=[{"product_id": "P0", "price": 3.5}, {"product_id": "no such", "price": 1}])
    answer = post(api, "/v1/offers", limit=2)
    assert [offer["price"] for offer in answer["offers"]] == [3.5, 10.0]


def test_what_one_worker_takes_is_in_force_in_the_others(store: MemoryStore, running: Any) -> None:
    with running(make(store)) as one, running(make(store)) as other:
        post(one, "/v1/products", products=[{"product_id": "P0", "stock": 0}])
        post(one, "/v1/accounts", accounts=[{"account_id": "A1", "do_not_offer": True}])
        assert eventually(lambda: "P0" not in offered(other))
        assert eventually(lambda: offered(other, account_id="A1") == [])


def test_live_values_survive_a_restart(store: MemoryStore, running: Any) -> None:
    with running(make(store)) as api:
        post(api, "/v1/products", products=[{"product_id": "P0", "stock": 0, "price": 7}])
        post(api, "/v1/products", products=[{"product_id": "P0", "stock": 2}])
        post(api, "/v1/products", products=[{"product_id": "P1", "stock": 0}])
        post(api, "/v1/accounts", accounts=[{"account_id": "A1", "do_not_offer": True}])
        before = post(api, "/v1/offers", account_id="A2", limit=8)
    with running(make(store)) as api:
        after = post(api, "/v1/offers", account_id="A2", limit=8)
        assert after | {"decision_id": ""} == before | {"decision_id": ""}
        assert [offer["price"] for offer in post(api, "/v1/offers", limit=2)["offers"]] == [7.0, 10.0]
        assert offered(api, account_id="A1") == []


def test_an_account_that_wants_no_offers_gets_none_and_may_change_its_mind(api: httpx.Client) -> None:
    post(api, "/v1/accounts", accounts=[{"account_id": "A1", "do_not_offer": True}])
    assert offered(api, account_id="A1") == []
    assert offered(api, account_id="A2") != []
    post(api, "/v1/accounts", accounts=[{"account_id": "A1", "do_not_offer": False}])
    assert offered(api, account_id="A1") != []


def present(api: httpx.Client, number: int, **who: Any) -> None:
    answer = post(api, "/v1/offers", limit=1, **who)
    shown = {"outcome_id": f"x{number}", "decision_id": answer["decision_id"], "kind": "shown"}
    post(api, "/v1/outcomes", outcomes=[shown, shown | {"outcome_id": f"y{number}", "kind": "pitched"}])


def test_what_was_presented_often_enough_today_rests_for_that_account(store: MemoryStore, running: Any) -> None:
    caps = FrequencyCaps(product_a_day=2)
    with running(make(store, fatigue=caps)) as api, running(make(store, fatigue=caps)) as other:
        first = offered(api, account_id="A0")[0]
        present(api, 1, account_id="A0")
        assert offered(api, account_id="A0")[0] == first
        present(api, 2, account_id="A0")
        assert first not in offered(api, account_id="A0")
        assert first in offered(api, account_id="nobody")
        assert eventually(lambda: first not in offered(other, account_id="A0"))


def test_an_account_that_saw_enough_offers_today_gets_none(store: MemoryStore, running: Any) -> None:
    with running(make(store, fatigue=FrequencyCaps(offers_a_day=2))) as api:
        present(api, 1, account_id="A0")
        present(api, 2, account_id="A0")
        assert offered(api, account_id="A0") == []
        assert len(offered(api, account_id="A1")) == 5


def test_a_surface_that_shows_what_it_gets_tires_in_every_worker(store: MemoryStore, running: Any) -> None:
    settings = {"fatigue": FrequencyCaps(product_a_day=1), "returned_is_presented": frozenset({"newsletter"})}
    with running(make(store, **settings)) as api, running(make(store, **settings)) as other:
        (first,) = offered(api, account_id="A0", limit=1, surface="newsletter")
        assert first not in offered(api, account_id="A0")
        assert eventually(lambda: first not in offered(other, account_id="A0"))


def test_presentations_of_yesterday_do_not_count(store: MemoryStore) -> None:
    state = OnlineState(store, Settings(fatigue=FrequencyCaps(product_a_day=1)), since=NOW, clock=lambda: NOW)
    state.react([Feedback(Subject("A0", None), "d1", ["P1"], NOW, refuses=False)])
    assert dict(state.of("A0", None, NOW).suppressed) == {"P1": "presented often enough today"}
    assert dict(state.of("A0", None, NOW + timedelta(days=1)).suppressed) == {}


def test_a_visitor_has_a_history_of_its_own_and_takes_it_along_at_login(store: MemoryStore, running: Any) -> None:
    with running(make(store)) as api:
        first, second = offered(api, visitor_id="v1")[:2]
        decision = post(api, "/v1/offers", visitor_id="v1", limit=1)["decision_id"]
        declined = {"outcome_id": "x1", "decision_id": decision, "kind": "declined", "product_id": first}
        post(api, "/v1/outcomes", outcomes=[declined])
        post(api, "/v1/orders", orders=[{"order_id": "o1", "visitor_id": "v1", "lines": [{"product_id": second}]}])
        assert not {first, second} & set(offered(api, visitor_id="v1"))
        assert {first, second} <= set(offered(api, visitor_id="v2"))
        assert {first, second} <= set(offered(api, account_id="A0"))
        assert post(api, "/v1/visitors/v1:link", account_id="A0") == {"visitor_id": "v1", "account_id": "A0"}
        assert not {first, second} & set(offered(api, account_id="A0"))
        assert post(api, "/v1/offers", visitor_id="v1")["tier"] == "account"
        before = offered(api, visitor_id="v1")
    with running(make(store)) as api:
        assert offered(api, visitor_id="v1") == before == offered(api, account_id="A0")


def test_a_visitor_that_is_somebody_stays_that_account(api: httpx.Client, store: MemoryStore) -> None:
    post(api, "/v1/visitors/with%2Fslash:link", account_id="A0")
    assert post(api, "/v1/visitors/with%2Fslash:link", account_id="A0")["visitor_id"] == "with/slash"
    assert "another visitor id" in post(api, "/v1/visitors/with%2Fslash:link", 409, account_id="A1")["detail"]
    assert store.read(EventQuery("visitor_links"))["account_id"].to_pylist() == ["A0"]
    assert post(api, "/v1/visitors/%00:link", 422, account_id="A1")["errors"][0]["pointer"] == "path/visitor_id"


def test_a_new_account_is_answered_from_its_posted_orders(
    store: MemoryStore, running: Any, bundle_folder: Path
) -> None:
    model = load_model(bundle_folder, source="test", now=NOW)
    with running(make(store, model)) as api:
        assert post(api, "/v1/offers", account_id="new")["tier"] == "popular"
        post(api, "/v1/orders", orders=[{"order_id": "o1", "account_id": "new", "lines": [{"product_id": "P06"}]}])
        answer = post(api, "/v1/offers", account_id="new", limit=3)
        assert (answer["tier"], answer["offers"][0]["product_id"]) == ("recent", "P07")
        assert "P06" not in [offer["product_id"] for offer in answer["offers"]]
        assert post(api, "/v1/offers", visitor_id="v1")["tier"] == "popular"
        post(api, "/v1/orders", orders=[{"order_id": "o2", "visitor_id": "v1", "lines": [{"product_id": "P08"}]}])
        assert post(api, "/v1/offers", visitor_id="v1", limit=1)["offers"][0]["product_id"] == "P09"


def test_live_values_reach_a_real_model(store: MemoryStore, running: Any, bundle_folder: Path) -> None:
    model = load_model(bundle_folder, source="test", now=NOW)
    with running(make(store, model)) as api:
        first, second = offered(api, account_id="A1")[:2]
        post(api, "/v1/products", products=[{"product_id": first, "stock": 0}, {"product_id": second, "price": 99}])
        answer = post(api, "/v1/offers", account_id="A1", limit=3)
        assert (answer["offers"][0]["product_id"], answer["offers"][0]["price"]) == (second, 99.0)


def test_an_erased_account_counts_as_unknown_in_every_worker(
    store: MemoryStore, running: Any, bundle_folder: Path
) -> None:
    model = load_model(bundle_folder, source="test", now=NOW)
    with running(make(store, model)) as api:
        post(api, "/v1/orders", orders=[{"order_id": "o1", "account_id": "A1", "lines": [{"product_id": "P06"}]}])
        assert post(api, "/v1/offers", account_id="A1")["tier"] == "account"
        store.append([Erasure(forget_key("A1"), NOW)])
        with store.connection() as connection:
            connection.exec_driver_sql("DELETE FROM order_lines")
        assert eventually(lambda: post(api, "/v1/offers", account_id="A1")["tier"] == "popular")
        assert post(api, "/v1/offers", account_id="A2")["tier"] == "account"
    with running(make(store, model)) as api:
        assert post(api, "/v1/offers", account_id="A1")["tier"] == "popular"


def test_a_batch_that_the_writer_has_overtaken_does_not_turn_a_value_back(store: MemoryStore) -> None:
    state = OnlineState(store, Settings(), since=NOW, clock=lambda: NOW)
    model = fake_model()
    state.adopt(model)
    store.append([ProductUpdate("P0", stock=5.0, recorded_at=NOW)])
    read_before = state.read_news()
    later = ProductUpdate("P0", stock=0.0, recorded_at=NOW + timedelta(seconds=1))
    store.append([later])
    state.products.update([later])
    state.apply(read_before)
    assert model.engine.answer(OfferRequest(limit=1)).product_ids == ["P1"]
    state.apply(state.read_news())
    assert model.engine.answer(OfferRequest(limit=1)).product_ids == ["P1"]


def test_a_worker_whose_clock_runs_ahead_does_not_turn_back_what_this_one_has_written_since(store: MemoryStore) -> None:
    state = OnlineState(store, Settings(), since=NOW, clock=lambda: NOW)
    model = fake_model()
    state.adopt(model)
    ahead = NOW + timedelta(seconds=5)
    store.append(
        [ProductUpdate("P0", stock=0.0, recorded_at=ahead), AccountUpdate("A1", region="N", recorded_at=ahead)]
    )
    read_before = state.read_news()
    product = ProductUpdate("P0", stock=5.0, recorded_at=NOW)
    account = AccountUpdate("A1", region="S", recorded_at=NOW)
    store.append([product, account])
    state.products.update([product])
    state.accounts.update([account])
    for news in (read_before, None):
        state.apply(news or state.read_news())
        assert model.engine.answer(OfferRequest(limit=1)).product_ids == ["P0"]
        assert state.of("A1", None, NOW).region == "S"


def test_what_others_wrote_over_an_own_write_before_it_is_in_force_is_not_lost(store: MemoryStore) -> None:
    """The reading holds both writes and comes between the commit of the own one and its coming into force."""
    state = OnlineState(store, Settings(), since=NOW, clock=lambda: NOW)
    model = fake_model()
    state.adopt(model)
    state.apply(state.read_news())
    own = ProductUpdate("P0", stock=5.0, recorded_at=NOW)
    store.append([own])
    store.append([ProductUpdate("P0", stock=0.0, recorded_at=NOW)])
    news = state.read_news()
    state.products.update([own])
    state.apply(news)
    state.apply(state.read_news())
    assert model.engine.answer(OfferRequest(limit=1)).product_ids == ["P1"]


class ListeningStore(MemoryStore):
    """Remembers which decisions were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def read(self, query: EventQuery) -> pa.Table:
        self.asked += query.decision_ids if query.table == "decisions" else ()
        return super().read(query)


def test_outcomes_are_looked_up_once() -> None:
    store = ListeningStore()
    state = OnlineState(store, Settings(), since=NOW, clock=lambda: NOW)
    store.append([Outcome(outcome_id="x1", decision_id="d1", kind="shown", occurred_at=NOW, recorded_at=NOW)])
    state.apply(state.read_news())
    assert store.asked == ["d1"]
    state.apply(state.read_news())
    assert store.asked == ["d1"]


def test_rules_of_the_same_size_and_time_are_read_again(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    rule = '[[rule]]\nname = "{}"\naction = "block"\nproducts = ["P1"]\nowner = "A. Buyer"\nreason = "sold out"\n'
    path.write_text(rule.format("tins"))
    seen = path.stat()
    file = RulesFile(path)
    path.write_text(rule.format("jars"))
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert (path.stat().st_mtime_ns, path.stat().st_size) == (seen.st_mtime_ns, seen.st_size)
    assert [one.name for one in file.look().rules] == ["jars"]
