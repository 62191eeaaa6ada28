"""Readouts of a table, of orders and of an event store, and KPIs: as files, as text and over HTTP."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import httpx

from tests.golden.comparison import Case
from tests.golden.exchange import UUID7, FixedClock, client_of
from tests.golden.markets import NORTH
from tests.golden.system import application, must
from tests.golden.tables import AS_OF, write_shop

EXPERIMENT = "spring-offers"
PLAN = f"""
id = "{EXPERIMENT}"
hypothesis = "offers sell more than best sellers"
planned_start = 2025-07-02
planned_end = 2098-01-01
planned_size = 60
attribution_window_days = 7
min_run_days = 14
secondary = ["aov", "buyer_rate"]
guardrails = [{{ metric = "orders_per_account", margin = 0.2, is_relative = true }}]
arms = [
  {{ name = "best sellers", weight = 1, is_control = true, policy = {{ kind = "popular" }} }},
  {{ name = "engine", weight = 1 }},
  {{ name = "nothing", weight = 1, policy = {{ kind = "none" }} }},
]
"""
BEGUN = NORTH.as_of + timedelta(days=1)
READ_AT = BEGUN + timedelta(days=40)


def evaluations(bundle: Path, folder: Path) -> list[Case]:
    """Return every readout and KPI report of a small shop and of a served experiment."""
    shop = write_shop(folder)
    store = _serve_experiment(bundle, folder)
    return [*_readouts(shop, store), *store.answers, *_kpis(shop, store.url)]


def _readouts(shop: Path, store: _Served) -> list[Case]:
    units = ("--data", shop / "units.csv", "--unit", "account_id", "--metric", "revenue=revenue")
    table = (
        *("--metric", "aov=revenue/orders", "--metric", "buyers=buyers", "--metric", "returns=returns"),
        *("--covariate", "revenue=before", "--segment", "region", "--guardrail", "returns=5%:lower"),
        *("--exposed", "exposed", "--decompose", "buyers,orders,revenue"),
    )
    options = ("--practical-margin", "0.02", "--cap", "0.99", "--correction", "bh", "--interim")
    arms = ("--data", shop / "arms.csv", "--unit", "account_id", "--assigned-at", "assigned_at", "--segment", "region")
    orders = ("--orders", shop / "orders.csv", "--window-days", "28", "--as-of", AS_OF.date().isoformat())
    read_at = ("--as-of", READ_AT.isoformat())
    power = ("power", "--orders", shop / "orders.csv", "--window-days", "28", "--effect", "0.1", "--format", "json")
    return [
        *_readout("table", *units, *table, out=shop / "table"),
        *_readout("table with options", *units, *table, *options, out=shop / "options"),
        *_readout("orders", *arms, *orders, out=shop / "orders"),
        *_readout("store", EXPERIMENT, "--store", store.url, *read_at, out=shop / "store"),
        {"case": "power", "content": json.loads(must("experiment", *power))},
    ]


def _readout(name: str, *arguments: str | Path, out: Path) -> list[Case]:
    """Return the files and the text of one readout; each file is a case of its own."""
    text = must("experiment", "readout", *arguments, "--out", out)
    cases: list[Case] = [{"case": f"readout {name}: text", "lines": _lines(text.replace(str(out), "OUT"))}]
    for file in sorted(out.iterdir()):
        content = file.read_text(encoding="utf-8")
        body = {"content": json.loads(content)} if file.suffix == ".json" else {"lines": _lines(content)}
        cases.append({"case": f"readout {name}: {file.name}"} | body)
    return cases


def _kpis(shop: Path, store_url: str) -> list[Case]:
    tables = ("orders", "products", "accounts", "upgrades")
    files = [part for name in tables for part in (f"--{name}", shop / f"{name}.csv")]
    base = ("kpis", *files, "--as-of", AS_OF.date().isoformat(), "--events", store_url)
    target = ("--target", "upsell_ratio=20%,attrition=0.3")
    wide = (*base, "--by", "channel,segment", "--period", "quarter", *target)
    cases: list[Case] = []
    for name, arguments in (
        ("json", (*wide, "--format", "json")),
        ("html", (*wide, "--format", "html")),
        ("table", (*wide, "--format", "table")),
        ("months", (*base, "--since", "2025-03-01", "--families", "category", "--infer-ladder", "--format", "json")),
        ("explained", ("kpis", "--explain", "--format", "json")),
        ("explained as text", ("kpis", "--explain")),
    ):
        text = must(*arguments)
        body = {"content": json.loads(text)} if "json" in arguments else {"lines": _lines(text)}
        cases.append({"case": f"kpis {name}"} | body)
    return cases


class _Served:
    """A store of an experiment, and what the server said of it."""

    def __init__(self, url: str, answers: list[Case]) -> None:
        self.url = url
        self.answers = answers


def _serve_experiment(bundle: Path, folder: Path) -> _Served:
    """Serve an experiment for some weeks of a clock of its own: decisions, outcomes and orders."""
    (folder / "plan.toml").write_text(PLAN, encoding="utf-8")
    database = folder / "offers.db"
    url = f"sqlite:///{database}"
    must("experiment", "start", folder / "plan.toml", "--store", url)
    with sqlite3.connect(database) as connection:  # the command takes the time of the machine
        connection.execute("UPDATE experiments SET started_at = ?", (f"{BEGUN:%Y-%m-%d %H:%M:%S.%f}",))
    connection.close()
    clock = FixedClock(BEGUN)
    with application(url, bundle, clock, {"returned_is_presented": ["newsletter"]}) as app:
        answers = asyncio.run(_weeks(app, clock))
    return _Served(url, answers)


async def _weeks(app: Any, clock: FixedClock) -> list[Case]:
    rng = Random(7)
    async with client_of(app) as client:
        for day in range(21):
            for number in range(12):
                clock.now = BEGUN + timedelta(days=day, minutes=10 * number + 1)
                await _visit(client, clock.now, rng, f"{day}-{number}")
        clock.now = READ_AT
        return [
            await _asked(client, "/v1/experiments"),
            await _asked(client, f"/v1/experiments/{EXPERIMENT}/readout"),
            await _asked(client, "/v1/kpis", period="week", window_days=14),
        ]


async def _visit(client: httpx.AsyncClient, now: datetime, rng: Random, visit: str) -> None:
    """An account asks, is shown something, and perhaps takes it or something else."""
    account = f"A{rng.randrange(1, 131):07}"
    surface = rng.choice(("cart", "newsletter"))
    body = {"account_id": account, "limit": 3, "surface": surface, "channel": rng.choice(("web", "app"))}
    answer = (await client.post("/v1/offers", json=body)).json()
    offered = [offer["product_id"] for offer in answer["offers"]]
    bought = rng.random() < 0.4
    taken = rng.choice(offered) if offered and rng.random() < 0.5 else f"P{rng.randrange(1, 101):06}"
    kinds = ["shown", *(["accepted"] if taken in offered and bought else []), *(["declined"] if not bought else [])]
    outcomes = [
        {
            "outcome_id": f"{visit}-{kind}",
            "decision_id": answer["decision_id"],
            "kind": kind,
            "product_id": taken if kind == "accepted" else offered[0],
            "occurred_at": now.isoformat(),
        }
        for kind in kinds
        if offered
    ]
    if outcomes:
        assert (await client.post("/v1/outcomes", json={"outcomes": outcomes})).status_code == 200
    if bought:
        line = {"product_id": taken, "quantity": rng.choice((1, 2, 6)), "unit_price": rng.choice((1.5, 4.0, 12.25))}
        order = {"order_id": visit, "account_id": account, "ordered_at": now.isoformat(), "currency": "GBP"}
        reply = await client.post("/v1/orders", json={"orders": [order | {"lines": [line]}]})
        assert reply.status_code == 200, reply.text


async def _asked(client: httpx.AsyncClient, path: str, **params: Any) -> Case:
    response = await client.get(path, params=params)
    return {"case": f"GET {path}", "status": response.status_code, "content": response.json()}


def _lines(text: str) -> list[str]:
    return re.sub(UUID7, "<id>", text).split("\n")
