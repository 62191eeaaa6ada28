"""Business rules over HTTP, why-not, product pages, call lists, white space and batches, on a real bundle."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from recsys.cli.recommend import recommend_command
from recsys.contracts.offers import OfferRequest
from recsys.errors import ConfigError
from recsys.events.memory import MemoryStore
from recsys.events.reading import read_decisions
from recsys.events.store import open_store
from serving.app import create_app
from serving.fakes import fake_model
from serving.models.by_alias import FixedModel
from serving.models.loading import load_model
from serving.online.state import OnlineState
from serving.schemas.insights import BoardAnswer, CallListAnswer, WhyNotAnswer
from serving.settings import KeptModelsConfig, Settings

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RULE = '[[rule]]\nname = "{name}"\naction = "{action}"\nproducts = {products}\nowner = "o"\nreason = "r"\n{more}\n'


@pytest.fixture
def rules_file(tmp_path: Path) -> Path:
    path = tmp_path / "rules.toml"
    path.write_text("")
    return path


@pytest.fixture
def real(store: MemoryStore, running: Any, bundle_folder: Path, rules_file: Path) -> Iterator[httpx.Client]:
    model = load_model(bundle_folder, source="test", now=NOW)
    settings = Settings(refresh_seconds=0.02, rules_file=rules_file)
    with running(create_app(settings, bundles=FixedModel(model), store=store, clock=lambda: NOW)) as api:
        yield api


def write(path: Path, action: str, *products: str, name: str = "r1", more: str = "") -> None:
    beside = path.with_suffix(".new")
    beside.write_text(RULE.format(name=name, action=action, products=json.dumps(products), more=more))
    beside.replace(path)


def ask(api: httpx.Client, **body: Any) -> dict[str, Any]:
    answered = api.post("/v1/offers", json={"account_id": "A1", "limit": 3} | body)
    assert answered.status_code == 200, answered.text
    return answered.json()


def offered(api: httpx.Client, **body: Any) -> list[str]:
    return [offer["product_id"] for offer in ask(api, **body)["offers"]]


def eventually(holds: Callable[[], bool]) -> bool:
    for _ in range(150):
        if holds():
            return True
        time.sleep(0.02)
    return False


def why(api: httpx.Client, decision_id: str, product_id: str, status: int = 200) -> dict[str, Any]:
    answered = api.post(f"/v1/decisions/{decision_id}/why-not", json={"product_id": product_id})
    assert answered.status_code == status, answered.text
    return answered.json()


def test_a_rule_is_in_force_without_a_restart_and_why_not_names_it(real: httpx.Client, rules_file: Path) -> None:
    before = ask(real)
    first = before["offers"][0]["product_id"]
    write(rules_file, "block", first, name="contract")
    assert eventually(lambda: first not in offered(real))
    after = ask(real)
    found: Any = WhyNotAnswer.model_validate(why(real, after["decision_id"], first), extra="forbid")
    assert (found.code, found.rule, found.rules_changed) == ("blocked", "contract", False)
    assert why(real, before["decision_id"], first)["code"] == "offered"
    assert why(real, before["decision_id"], first)["rules_changed"] is True
    rules_file.write_text("")
    assert eventually(lambda: offered(real)[0] == first)
    assert why(real, after["decision_id"], first)["rule"] == "contract"


def test_what_rules_name_and_no_model_knows_is_told(
    real: httpx.Client, rules_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known = offered(real)[0]
    write(rules_file, "block", known, "P9O", name="contract")
    told = "business rules name what no model knows: product 'P9O' (contract)"
    assert eventually(lambda: told in caplog.messages)
    assert eventually(lambda: known not in offered(real))  # the rest of the rule is in force


def test_a_broken_file_leaves_the_last_good_rules(
    real: httpx.Client, rules_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = offered(real)[0]
    write(rules_file, "block", first)
    assert eventually(lambda: first not in offered(real))
    write(rules_file, "nonsense", first)
    assert eventually(lambda: "business rules refused" in caplog.text)
    assert first not in offered(real)
    assert "file of business rules is broken" in real.get("/readyz").json()["warnings"][0]
    rules_file.unlink()
    assert eventually(lambda: "No such file" in caplog.text)
    assert first not in offered(real)
    write(rules_file, "block", first)
    assert eventually(lambda: real.get("/readyz").json()["warnings"] == [])


def test_a_rule_begins_and_ends_by_the_clock_and_not_by_the_file(
    store: MemoryStore, running: Any, bundle_folder: Path, rules_file: Path
) -> None:
    now = [NOW]
    settings = Settings(refresh_seconds=0.02, rules_file=rules_file)
    model = load_model(bundle_folder, source="test", now=NOW)
    with running(create_app(settings, bundles=FixedModel(model), store=store, clock=lambda: now[0])) as api:
        first = offered(api)[0]
        write(rules_file, "block", first, more="valid_from = 2026-03-02\nvalid_to = 2026-03-03")
        for days, blocked in ((0, False), (1, True), (2, False)):
            now[0] = NOW + timedelta(days=days)
            assert eventually(lambda wanted=blocked: (first not in offered(api)) is wanted)  # type: ignore[misc]


def test_a_file_that_is_broken_from_the_beginning_is_refused(store: MemoryStore, rules_file: Path) -> None:
    write(rules_file, "nonsense", "P01")
    with pytest.raises(ConfigError, match="rule 1, line 1"):
        OnlineState(store, Settings(rules_file=rules_file), since=NOW, clock=lambda: NOW)


def test_a_discount_and_its_text_go_out_and_are_kept(real: httpx.Client, rules_file: Path, store: MemoryStore) -> None:
    plain = ask(real)["offers"][0]
    more = 'factor = 1.0\ndiscount_percent = 20\ntext = "This week"\nchannels = ["web"]'
    write(rules_file, "boost", plain["product_id"], name="twenty off", more=more)
    assert eventually(lambda: ask(real, channel="web")["offers"][0]["rule"] == "twenty off")
    answer = ask(real, channel="web")
    offer = answer["offers"][0]
    assert (offer["price"], offer["discount"], offer["text"]) == (10.0, 2.0, "This week")
    assert offer["expected_value"] == pytest.approx(plain["expected_value"] * 0.8)
    assert ask(real)["offers"][0]["rule"] is None
    kept = {made.decision_id: made for made in read_decisions(store)}[answer["decision_id"]]
    assert (kept.offers[0].rule, kept.offers[0].discount) == ("twenty off", 2.0)


def test_a_rule_by_region_looks_at_the_request_and_at_the_account(real: httpx.Client, rules_file: Path) -> None:
    first = offered(real)[0]
    write(rules_file, "block", first, more='regions = ["DE"]')
    assert eventually(lambda: first not in offered(real, region="DE"))
    assert first in offered(real)
    assert real.post("/v1/accounts", json={"accounts": [{"account_id": "A1", "region": "DE"}]}).status_code == 200
    assert first not in offered(real)
    assert first in offered(real, region="FR")


def test_why_not_is_computed_from_what_the_decision_rested_on(real: httpx.Client) -> None:
    first = offered(real)[0]
    real.post("/v1/products", json={"products": [{"product_id": first, "stock": 0}]})
    sold_out = ask(real)["decision_id"]
    real.post("/v1/products", json={"products": [{"product_id": first, "stock": 9}]})
    assert why(real, sold_out, first)["code"] == "out_of_stock"
    order = {"order_id": "o1", "account_id": "A1", "lines": [{"product_id": first}]}
    real.post("/v1/orders", json={"orders": [order]})
    bought = ask(real)["decision_id"]
    assert why(real, bought, first)["code"] == "owned"
    assert why(real, bought, "no such")["code"] == "unknown_product"
    assert why(real, ask(real, exclude=["P05"])["decision_id"], "P05")["code"] == "excluded"


def test_why_not_of_a_bulk_decision_is_answered_by_the_model_that_made_it(
    running: Any, bundle_folder: Path, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/e.db"
    recommend_command(str(bundle_folder), tmp_path / "bulk.csv", limit=2, log=True, store=url)
    bulk = open_store(url)
    model = load_model(bundle_folder, source="test", now=NOW)
    made = next(decision for decision in read_decisions(bulk) if decision.request.account_id == "A1")
    with running(create_app(Settings(), bundles=FixedModel(model), store=bulk, clock=lambda: NOW)) as api:
        taken = {offer.product_id for offer in made.offers}
        assert {why(api, made.decision_id, product_id)["code"] for product_id in taken} == {"offered"}
        other = next(product_id for product_id in offered(api, limit=9) if product_id not in taken)
        found = why(api, made.decision_id, other)
        assert (found["code"], found["model_version"]) == ("outranked", made.model_version)
    bulk.close()


def test_why_not_of_a_decision_that_nobody_knows_or_of_a_model_that_has_gone(
    real: httpx.Client, store: MemoryStore, running: Any, tmp_path: Path
) -> None:
    assert "no such decision" in why(real, "nope", "P01", 404)["detail"]
    decision = ask(real)["decision_id"]
    settings = Settings(kept_models=KeptModelsConfig(folder=tmp_path))
    other = create_app(settings, bundles=FixedModel(fake_model()), store=store, clock=lambda: NOW)
    with running(other) as api:
        assert "is not kept any more" in why(api, decision, "P01", 410)["detail"]
        own = api.post("/v1/offers", json={"limit": 1}).json()["decision_id"]
        assert "can't explain itself" in why(api, own, "P9", 409)["detail"]


def test_product_pages_are_decisions_too(real: httpx.Client, store: MemoryStore) -> None:
    answer = real.get("/v1/products/P06/complements?limit=2&surface=product").json()
    assert [offer["product_id"] for offer in answer["offers"]] == ["P07"]  # no other was bought with it often enough
    assert answer["shortfall"]
    assert {offer["tier"] for offer in answer["offers"]} == {"cart"}
    assert {offer["kind"] for offer in answer["offers"]} == {"cross_sell"}
    (kept,) = read_decisions(store)
    assert (kept.decision_id, kept.surface, kept.request.viewed_product_id) == (answer["decision_id"], "product", "P06")
    upgrades = real.get("/v1/products/P06/upgrades").json()
    assert (upgrades["offers"], upgrades["returned"]) == ([], 0)
    for page in ("complements", "upgrades", "accounts"):
        assert real.get(f"/v1/products/nope/{page}").status_code == 404


def test_a_call_list_is_capped_and_knows_the_latest_orders(real: httpx.Client) -> None:
    first = offered(real)[0]
    answer: Any = CallListAnswer.model_validate(
        real.get(f"/v1/products/{first}/accounts?capacity=5").json(), extra="forbid"
    )
    assert (answer.capacity, answer.returned, len({call.account_id for call in answer.calls})) == (5, 5, 5)
    assert answer.shortfall is None
    best = answer.calls[0]
    assert (best.kind, best.expected_value) == ("cross_sell", pytest.approx(best.probability * 10.0))
    order = {"order_id": "o1", "account_id": best.account_id, "lines": [{"product_id": first}]}
    real.post("/v1/orders", json={"orders": [order]})
    again = real.get(f"/v1/products/{first}/accounts?capacity=5").json()["calls"]
    assert [call["account_id"] for call in again][:4] == [call.account_id for call in answer.calls][1:]
    real.post("/v1/products", json={"products": [{"product_id": first, "active": False}]})
    gone = real.get(f"/v1/products/{first}/accounts").json()
    assert (gone["calls"], gone["shortfall"]) == ([], "asked for 50, nobody is to be called: it is not sold any more")


def test_reasons_come_in_the_language_that_is_asked_for_or_the_servers(
    store: MemoryStore, running: Any, bundle_folder: Path
) -> None:
    model = load_model(bundle_folder, source="test", now=NOW)
    pages = ("/v1/accounts/A1/offers", "/v1/products/P02/complements", "/v1/products/P02/upgrades")
    with running(create_app(Settings(language="de"), bundles=FixedModel(model), store=store, clock=lambda: NOW)) as api:
        for path in pages:
            german, english, neither = (
                api.get(path, params={"limit": 3} | asked).json()
                for asked in ({}, {"language": "en-GB"}, {"language": "fr"})
            )
            assert (german["language"], english["language"], neither["language"]) == ("de", "en", "de")
            assert [offer["reason"] for offer in german["offers"]] == [offer["reason"] for offer in neither["offers"]]
            if german["offers"]:
                assert german["offers"][0]["reason"] != english["offers"][0]["reason"]
                assert german["offers"][0]["reason_code"] == english["offers"][0]["reason_code"]
        assert ask(api)["language"] == "de"
        assert ask(api, language="en")["language"] == "en"
        calls = [api.get("/v1/products/P02/accounts", params=asked).json() for asked in ({}, {"language": "en"})]
        assert [call["reason"] for call in calls[0]["calls"]] != [call["reason"] for call in calls[1]["calls"]]
        refused = api.post("/v1/offers", json={"language": "German"})
        assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/language")
        assert api.get(pages[0], params={"language": "de_AT"}).status_code == 422


def test_what_is_mixed_and_what_becomes_of_variants_can_be_asked_for(
    store: MemoryStore, running: Any, bundle_folder: Path
) -> None:
    model = load_model(bundle_folder, source="test", now=NOW)
    with running(create_app(Settings(), bundles=FixedModel(model), store=store, clock=lambda: NOW)) as api:
        page = api.get("/v1/accounts/A1/offers", params={"mix": "kinds", "variants": "keep"}).json()
        body = ask(api, mix="none", variants="keep")
        assert (page["mix"], body["mix"], ask(api)["mix"]) == ("kinds", "none", "all")
        assert (page["variants"], body["variants"], ask(api)["variants"]) == ("keep", "keep", "leave_out")
        for page in ("complements", "upgrades"):
            beside = [api.get(f"/v1/products/P02/{page}", params=asked).json() for asked in ({}, {"variants": "keep"})]
            assert [answer["variants"] for answer in beside] == ["leave_out", "keep"]
        assert {offer["moved_by"] for offer in body["offers"]} == {None}
        for offer in body["offers"]:
            assert offer["score"] == pytest.approx(offer["rank_probability"] * offer["boost"])
        refused = api.post("/v1/offers", json={"mix": "some"})
        assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/mix")


def test_why_not_says_that_another_offer_was_drawn(store: MemoryStore, running: Any, bundle_folder: Path) -> None:
    model = load_model(bundle_folder, source="test", now=NOW)
    usual = model.engine.answer(OfferRequest("A1", limit=1)).product_ids[0]
    app = create_app(Settings(exploration=0.5), bundles=FixedModel(model), store=store, clock=lambda: NOW)
    with running(app) as api:
        drawn = (ask(api, limit=1) for _ in range(100))
        decision = next(answer for answer in drawn if answer["offers"][0]["product_id"] != usual)
        path = f"/v1/decisions/{decision['decision_id']}/why-not"
        assert api.post(path, json={"product_id": usual}).json()["code"] == "displaced"


def test_the_white_space_offers_what_the_server_would_offer(
    store: MemoryStore, running: Any, bundle_folder: Path
) -> None:
    model = load_model(bundle_folder, source="test", now=NOW)
    for objective in ("conversion", "revenue"):
        app = create_app(Settings(objective=objective), bundles=FixedModel(model), store=store, clock=lambda: NOW)
        with running(app) as api:
            board = api.get("/v1/accounts/A1/whitespace").json()
            offered_ = {offer["product_id"] for offer in ask(api, limit=100)["offers"]}
            cells = [cell for shelf in board["shelves"] for cell in shelf["cells"]]
            assert {cell["product_id"] for cell in cells if cell["standing"] == "offered"} == offered_


def test_the_white_space_of_an_account(real: httpx.Client, store: MemoryStore) -> None:
    first = offered(real)[0]
    board: Any = BoardAnswer.model_validate(real.get("/v1/accounts/A1/whitespace").json(), extra="forbid")
    cells = {cell.product_id: cell for shelf in board.shelves for cell in shelf.cells}
    assert (cells[first].standing, board.peer_group) == ("offered", "all accounts")
    assert {"owned", "offered"} <= {cell.standing for cell in cells.values()}
    assert len(list(read_decisions(store))) == 1
    nobody = real.get("/v1/accounts/nobody/whitespace?products_per_category=3").json()
    assert sum(shelf["n_owned"] for shelf in nobody["shelves"]) == 0


def test_a_batch_is_answered_line_by_line_and_one_may_fail_alone(real: httpx.Client, store: MemoryStore) -> None:
    requests = [{"account_id": f"A{i}", "limit": 2} for i in range(40)] + [{"objective": "margin"}]
    with real.stream("POST", "/v1/offers:batch", json={"requests": requests}) as answered:
        assert answered.status_code == 200
        assert answered.headers["content-type"].startswith("application/x-ndjson")
        lines = [json.loads(line) for line in answered.iter_lines()]
    assert sorted(line["index"] for line in lines) == list(range(41))
    by_index = {line["index"]: line for line in lines}
    assert (by_index[40]["status"], by_index[40]["answer"]) == (409, None)
    assert "no product of this model has a cost" in by_index[40]["problem"]["detail"]
    kept = {made.decision_id: made.account_id for made in read_decisions(store)}
    for index in range(40):
        assert by_index[index]["status"] == 200
        assert by_index[index]["answer"]["returned"] == 2
        assert kept[by_index[index]["answer"]["decision_id"]] == f"A{index}"


def test_filters_are_applied(real: httpx.Client) -> None:
    assert ask(real, filters={"max_price": 9.99})["offers"] == []
    assert ask(real, filters={"min_price": 9.99})["returned"] == 3
    assert ask(real, filters={"categories": ["none"]})["returned"] == 0
