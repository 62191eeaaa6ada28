"""An id that comes again: with the same content it counts once, with other content the first one counts, everywhere."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import pytest

from recsys.contracts.events import EventQuery, PostedLine
from recsys.events.store import EventStore, open_store
from serving.app import create_app
from serving.fakes import fake_model
from serving.models.by_alias import FixedModel
from serving.settings import Settings

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ACCOUNTS = ("A0", "A1", "A2")


@pytest.fixture(params=["sqlite", "postgresql"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventStore]:
    sqlite = request.param == "sqlite"
    made = open_store(f"sqlite:///{tmp_path}/e.db" if sqlite else request.getfixturevalue("postgresql_url"))
    yield made
    made.close()


class Ticking:
    """A clock that never shows the same time twice."""

    def __init__(self) -> None:
        self._now = NOW

    def __call__(self) -> datetime:
        self._now += timedelta(milliseconds=1)
        return self._now


def worker(store: EventStore, running: Any) -> Any:
    settings = Settings(refresh_seconds=0.02)
    return running(create_app(settings, bundles=FixedModel(fake_model()), store=store, clock=Ticking()))


def post(api: httpx.Client, path: str, **body: Any) -> dict[str, Any]:
    for _ in range(5):
        answered = api.post(path, json=body)
        if answered.status_code != HTTPStatus.SERVICE_UNAVAILABLE:  # a busy store says so, and is sent it again
            break
    assert answered.status_code == HTTPStatus.OK, answered.text
    return answered.json()


def decide(api: httpx.Client, account_id: str) -> tuple[str, list[str]]:
    answer = post(api, "/v1/offers", account_id=account_id, limit=30)
    return answer["decision_id"], [offer["product_id"] for offer in answer["offers"]]


def declined(decision_id: str, product_id: str, **more: Any) -> dict[str, Any]:
    return {"outcome_id": "x1", "decision_id": decision_id, "product_id": product_id, "kind": "declined", **more}


def line(product_id: str, quantity: float = 1.0, account_id: str = "A0") -> dict[str, Any]:
    lines = [{"product_id": product_id, "quantity": quantity}]
    return {"order_id": "o1", "account_id": account_id, "lines": lines}


def test_an_outcome_sent_again_with_other_content_changes_nothing_and_is_named(api: httpx.Client) -> None:
    decision_id, (first, second, *_) = decide(api, "A0")
    assert post(api, "/v1/outcomes", outcomes=[declined(decision_id, first)])["conflicts"] == []
    assert post(api, "/v1/outcomes", outcomes=[declined(decision_id, first)])["conflicts"] == []
    answer = post(api, "/v1/outcomes", outcomes=[declined(decision_id, second)])
    assert answer["conflicts"] == ["x1"]
    assert second in decide(api, "A0")[1]
    assert first not in decide(api, "A0")[1]


def test_of_two_in_one_batch_the_first_counts(api: httpx.Client) -> None:
    decision_id, (first, second, *_) = decide(api, "A0")
    both = [declined(decision_id, first), declined(decision_id, second)]
    assert post(api, "/v1/outcomes", outcomes=both)["conflicts"] == ["x1"]
    assert second in decide(api, "A0")[1]


@pytest.mark.parametrize(
    "other",
    [line("P9"), line("P5", 2.0), line("P5", account_id="A1"), {**line("P5"), "ordered_at": "2026-02-01T00:00:00Z"}],
    ids=["product", "quantity", "account", "time"],
)
def test_an_order_line_sent_again_with_other_content_changes_nothing_and_is_named(
    api: httpx.Client, other: dict[str, Any]
) -> None:
    for _ in range(2):
        assert post(api, "/v1/orders", orders=[line("P5")])["conflicts"] == []
    expected = {account: decide(api, account)[1] for account in ACCOUNTS}
    assert "P5" not in expected["A0"]
    assert post(api, "/v1/orders", orders=[other])["conflicts"] == [{"order_id": "o1", "line_id": "1"}]
    assert {account: decide(api, account)[1] for account in ACCOUNTS} == expected


def test_the_same_moment_in_another_zone_is_the_same_content(api: httpx.Client) -> None:
    at = {"ordered_at": "2026-02-01T01:00:00+01:00"}
    assert post(api, "/v1/orders", orders=[line("P5") | {"ordered_at": "2026-02-01T00:00:00Z"}])["conflicts"] == []
    assert post(api, "/v1/orders", orders=[line("P5") | at])["conflicts"] == []


def test_a_line_that_was_kept_without_a_currency_is_the_same_content(shared: EventStore, api: httpx.Client) -> None:
    shared.append(
        [
            PostedLine(
                order_id="o1",
                line_id="1",
                product_id="P5",
                quantity=1.0,
                ordered_at=NOW,
                recorded_at=NOW,
                account_id="A0",
            )
        ]
    )  # by a server that left it open
    again = line("P5") | {"ordered_at": NOW.isoformat()}
    assert post(api, "/v1/orders", orders=[again])["conflicts"] == []
    assert post(api, "/v1/orders", orders=[again | {"currency": "EUR"}])["conflicts"] == []


def test_metrics_count_an_outcome_once(shared: EventStore, running: Any) -> None:
    with worker(shared, running) as api:
        decision_id, (first, second, *_) = decide(api, "A0")
        for product_id in (first, first, second):
            post(api, "/v1/outcomes", outcomes=[declined(decision_id, product_id)])
        counted = [row for row in api.get("/metrics").text.splitlines() if row.startswith("offers_outcomes_total{")]
    assert [row.split()[-1] for row in counted] == ["1.0"]


def test_store_and_workers_agree_whatever_is_sent_again(shared: EventStore, running: Any) -> None:
    """Two workers take reports with few ids and many contents, at once; a third starts afterwards."""
    draw = random.Random(11)
    with worker(shared, running) as one, worker(shared, running) as other:
        decisions = {account: decide(one, account) for account in ACCOUNTS}

        def report(turn: int) -> None:
            api, account = (one, other)[turn % 2], draw.choice(ACCOUNTS)
            decision_id, products = decisions[account]
            outcome = declined(decision_id, draw.choice(products)) | {"outcome_id": f"x{draw.randrange(12)}"}
            order = line(draw.choice(products), account_id=account) | {"order_id": f"o{draw.randrange(12)}"}
            post(api, "/v1/outcomes", outcomes=[outcome])
            post(api, "/v1/orders", orders=[order])

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(report, range(60)))
        with worker(shared, running) as later:
            expected = [decide(later, account)[1] for account in ACCOUNTS]
        for api in (one, other):
            end = time.monotonic() + 20
            while [decide(api, account)[1] for account in ACCOUNTS] != expected:
                assert time.monotonic() < end, "a worker remembers what the store does not hold"
                time.sleep(0.02)
    assert shared.size("outcomes") == shared.size("order_lines") == 12
    lines = shared.read(EventQuery("order_lines")).to_pylist()
    assert {row["account_id"] for row in lines} <= set(ACCOUNTS)
