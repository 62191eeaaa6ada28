"""Every call of both clients against a real server with a real bundle."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from recsys.client import (
    AccountChange,
    AsyncOfferClient,
    ClientConfig,
    OfferClient,
    Order,
    OrderLine,
    PostedOrders,
    QueueState,
    Reported,
    ReportedOutcome,
    RequestRefusedError,
    ServiceError,
)
from recsys.contracts.events import EventQuery
from recsys.contracts.offers import OfferRequest, ProductChange
from recsys.events.memory import MemoryStore
from recsys.events.reading import read_decisions
from recsys.experiments.lifecycle import start_experiment
from recsys.experiments.plan import Arm, ExperimentPlan
from serving.app import create_app
from serving.models.by_alias import FixedModel
from serving.models.loading import load_model
from serving.settings import Settings

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ARMS = (Arm(name="offers", weight=1), Arm(name="control", weight=1, is_control=True))
PLAN = ExperimentPlan(
    id="cards", arms=ARMS, planned_start=NOW, planned_end=NOW + timedelta(days=28), planned_size=10, unit="visitor"
)


class Sync:
    """The synchronous client, by the names of its calls."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __call__(self, call: str, *arguments: Any, **named: Any) -> Any:
        with OfferClient(self._url) as client:
            result = getattr(client, call)(*arguments, **named)
            return list(result) if inspect.isgenerator(result) else result


class Async(Sync):
    """The same through the asynchronous one."""

    def __call__(self, call: str, *arguments: Any, **named: Any) -> Any:
        async def run() -> Any:
            async with AsyncOfferClient(self._url) as client:
                result = getattr(client, call)(*arguments, **named)
                return [item async for item in result] if inspect.isasyncgen(result) else await result

        return asyncio.run(run())


@pytest.fixture(params=[Sync, Async], ids=["sync", "async"])
def ask(request: pytest.FixtureRequest, running: Any, bundle_folder: Path, store: MemoryStore) -> Iterator[Any]:
    start_experiment(store, PLAN, NOW)
    model = load_model(bundle_folder, source="test", now=NOW)
    app = create_app(Settings(), bundles=FixedModel(model), store=store, clock=lambda: NOW)
    with running(app) as api:
        yield request.param(str(api.base_url))


def test_what_is_asked_and_reported_comes_to_work(ask: Any, store: MemoryStore) -> None:
    answer = ask("offers", OfferRequest(account_id="A1", limit=3), channel="web")
    first, second, third = [offer.product_id for offer in answer.offers]
    assert ask("why_not", answer.decision_id, first).code == "offered"
    assert ask(
        "report", [ReportedOutcome("x1", answer.decision_id, "declined", product_id=first, reason="no")]
    ) == Reported(1)
    assert ask("report", [ReportedOutcome("x2", "nope", "shown", occurred_at=NOW)]) == Reported(1, ("nope",))
    assert ask("report", [ReportedOutcome("x2", "nope", "pitched", occurred_at=NOW)]).conflicts == ("x2",)
    lines = (OrderLine(second, 2.0, unit_price=3.5), OrderLine("P00", status="returned"))
    assert ask("post_orders", [Order("o1", lines, account_id="A1", ordered_at=NOW, currency="EUR")]) == PostedOrders(2)
    assert ask("update_products", [ProductChange(third, stock=0.0), ProductChange("P01", price=7.0)]) == 2
    again = ask("offers", OfferRequest(account_id="A1", limit=3, min_price=8.0, region="DE"))
    assert not {first, second, third} & {offer.product_id for offer in again.offers}
    assert ask("why_not", again.decision_id, third).code == "out_of_stock"
    assert ask("update_accounts", [AccountChange("A1", do_not_offer=True)]) == 1
    assert ask("offers", OfferRequest(account_id="A1")).shortfall == "the account wants no offers"
    assert store.read(EventQuery("order_lines"))["quantity"].to_pylist() == [2.0, -1.0]
    kept = list(read_decisions(store))[-2].request
    assert (kept.min_price, kept.region) == (8.0, "DE")


def test_pages_come_as_typed_values(ask: Any) -> None:
    assert ask("complements", "P06", limit=1).offers[0].product_id == "P07"
    assert ask("upgrades", "P06").offers == ()
    asked = ask("complements", "P06", explain="none", language="de", mix="categories", variants="keep")
    assert (asked.language, asked.mix, asked.variants) == ("de", "categories", "keep")
    assert [offer.reason for offer in asked.offers] == [""] * asked.returned
    for name in ("mix", "variants", "language", "region"):
        given: Any = {name: ""}
        assert f"/{name}: " in ask("offers", OfferRequest(**given)).shortfall
    first = ask("offers", OfferRequest(account_id="A1", limit=1)).offers[0].product_id
    calls = ask("call_list", first, capacity=3, language="de")
    assert ([call.rank for call in calls], calls.shortfall) == ([1, 2, 3], None)
    assert [call.reason for call in ask("call_list", first, capacity=3)] != [call.reason for call in calls]
    ask("update_products", [ProductChange("P09", stock=0.0)])
    assert "nobody is to be called: it was out of stock" in ask("call_list", "P09").shortfall
    cells = {cell.product_id: cell for cell in ask("white_space", "A1")}
    assert cells[first].standing == "offered"
    with pytest.raises(RequestRefusedError, match="does not know the product"):
        ask("call_list", "with/slash and ümlaut")
    assert "does not know the product" in ask("upgrades", "with/slash and ümlaut").shortfall


@pytest.mark.parametrize("product_id", ["...", "a/../b", "../..", "%2e%2e", "./x"])
def test_an_id_reaches_its_own_route_whatever_it_looks_like(ask: Any, product_id: str) -> None:
    assert "does not know the product" in str(ask("upgrades", product_id).shortfall)
    assert {cell.standing for cell in ask("white_space", product_id)} == {
        cell.standing for cell in ask("white_space", "unknown")
    }


def test_the_queue_keeps_what_is_dated_ahead_of_the_server_and_drops_what_it_refuses(
    running: Any, bundle_folder: Path, store: MemoryStore
) -> None:
    """The server's clock stands in the past, so that this machine's is fast by months."""
    model = load_model(bundle_folder, source="test", now=NOW)
    app = create_app(Settings(), bundles=FixedModel(model), store=store, clock=lambda: NOW)
    lines = (OrderLine("P01", 2.0, unit_price=3.5),)
    orders = [
        Order("in-time", lines, ordered_at=NOW),
        Order("ahead", lines),
        Order("wrong-currency", lines, ordered_at=NOW, currency="XXX"),
        Order("empty-date", lines, ordered_at=datetime(1970, 1, 1, tzinfo=UTC)),
    ]
    config = ClientConfig(flush_seconds=0.0)
    with running(app) as api, OfferClient(str(api.base_url), config) as client:
        assert client.queue_orders(orders) == 4
        end = time.monotonic() + 20
        while client.queue != QueueState(waiting=1, sent=1, dropped=0, refused=2) and time.monotonic() < end:
            time.sleep(0.01)
        assert client.queue == QueueState(waiting=1, sent=1, dropped=0, refused=2)
    assert store.read(EventQuery("order_lines"))["order_id"].to_pylist() == ["in-time"]


def test_visitors_and_experiments(ask: Any) -> None:
    assert ask("link_visitor", "v/1", "A1") == "A1"
    answer = ask("offers", OfferRequest(limit=1), visitor_id="v/1", experiment_id="cards")
    assert (answer.tier, answer.experiment, answer.arm in {"offers", "control"}) == ("account", "cards", True)
    with pytest.raises(RequestRefusedError, match="cards is decided as of 2026-"):
        ask("decide", "cards", by="Ann", override="FLAT", reason="the supplier stops")
    (running,) = ask("experiments")
    assert (running.state, running.decided, running.planned_end) == ("running", None, PLAN.planned_end)
    assert (running.experiment_id, running.state, running.unit) == ("cards", "running", "visitor")
    assert sum(running.n_units.values()) == 1


def test_a_batch_yields_every_answer(ask: Any) -> None:
    items = ask("offers_batch", [OfferRequest(account_id=f"A{i}", limit=i + 1) for i in range(5)], surface="mail")
    assert {item.index: item.answer.returned for item in items} == {i: i + 1 for i in range(5)}
    (failed,) = ask("offers_batch", [OfferRequest(objective="margin")])
    assert (failed.answer, "cost" in failed.problem) == (None, True)
    with pytest.raises(RequestRefusedError, match="422"):
        ask("offers_batch", [])


def test_a_batch_that_breaks_off_or_is_nonsense_is_told() -> None:
    def nonsense(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text="<html>")

    def dead(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    for handler, sentence in ((nonsense, "a line of the batch"), (dead, "broke off: refused")):
        with (
            OfferClient("http://test", transport=httpx.MockTransport(handler)) as client,
            pytest.raises(ServiceError, match=sentence),
        ):
            list(client.offers_batch([OfferRequest()]))


def test_the_key_goes_with_every_request_and_is_not_shown() -> None:
    seen: list[str | None] = []

    def look(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("authorization"))
        return httpx.Response(200, json={"received": 0})

    config = ClientConfig(api_key="secret-key")
    with OfferClient("http://test", config, transport=httpx.MockTransport(look)) as client:
        client.update_products([])
    with OfferClient("http://test", transport=httpx.MockTransport(look)) as client:
        client.update_products([])
    assert seen == ["Bearer secret-key", None]
    assert "secret-key" not in repr(config)
