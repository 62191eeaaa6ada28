"""The answers of a market's servers to drawn questions, each beside the rows that it left in the store."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx

from tests.golden.comparison import Case
from tests.golden.exchange import (
    FixedClock,
    Names,
    client_of,
    content_of,
    decisions_in,
    masked_case,
    rows_of,
    unclocked,
)
from tests.golden.markets import Market
from tests.golden.questions import DECISION, HOURS_BETWEEN, PLANS, Asked, Draw, Session
from tests.golden.system import application, must

KEPT_TABLES = (
    "outcomes",
    "order_lines",
    "product_overrides",
    "account_overrides",
    "visitor_links",
    "assignments",
    "experiments",
)


def answers(market: Market, session: Session, bundle: Path, folder: Path) -> list[Case]:
    """Return what one server answers and keeps."""
    database = folder / "offers.db"
    url = f"sqlite:///{database}"
    settings = dict(session.settings)
    if session.rules:
        (folder / "rules.toml").write_text(session.rules, encoding="utf-8")
        settings["rules_file"] = folder / "rules.toml"
    if session.experiments:
        for name, plan in PLANS.items():
            (folder / f"{name}.toml").write_text(plan, encoding="utf-8")
            must("experiment", "start", folder / f"{name}.toml", "--store", url)
    clock = FixedClock(market.now)
    with application(url, bundle, clock, settings) as app:
        asked = asyncio.run(_ask_all(app, market, session, clock))
    return asked.cases_with_rows(database)


class _Asking:
    """Asks one question after the other and keeps what came."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._first: dict[str, dict[str, Any]] = {}
        self._asked: list[tuple[Case, list[str]]] = []
        self._names = Names()

    async def ask(self, name: str, asked: Asked) -> None:
        sent = {key: value for key, value in asked.items() if key != "of"}
        if "of" in asked:
            sent = self._about(sent, self._first.get(asked["of"]))
        url, headers = sent.pop("path"), {"X-Request-ID": name.replace(" ", "-")}
        response = await self._client.request(url=url, headers=headers, **sent)
        content = content_of(response)
        ids = []
        for number, decision in enumerate(decisions_in(content)):
            self._names.add(decision["decision_id"], name if number == 0 else f"{name}.{number}")
            self._first.setdefault(name, decision)
            ids.append(decision["decision_id"])
        answer = {"status": response.status_code, "type": response.headers["content-type"], "body": content}
        self._asked.append(({"case": name, "request": asked, "answer": answer}, ids))

    def _about(self, sent: Asked, decision: dict[str, Any] | None) -> Asked:
        """The question with a decision's id, and the first product that it offered."""
        decision_id = "none" if decision is None else decision["decision_id"]
        offered = [] if decision is None else decision["offers"]
        product_id = offered[0]["product_id"] if offered else "P000001"
        text = json.dumps(sent).replace(DECISION, decision_id).replace("{product}", product_id)
        return json.loads(text)

    def cases_with_rows(self, database: Path) -> list[Case]:
        stored = {row["decision_id"]: unclocked(row) for row in rows_of(database, "decisions")}
        cases = [case | {"stored": [stored.pop(one, None) for one in ids]} for case, ids in self._asked]
        cases.append({"case": "decisions without an answer", "rows": list(stored.values())})
        cases += [
            {"case": f"table {table}", "rows": [unclocked(row) for row in rows_of(database, table)]}
            for table in KEPT_TABLES
        ]
        return [masked_case(case, self._names) for case in cases]


async def _ask_all(app: Any, market: Market, session: Session, clock: FixedClock) -> _Asking:
    draw = Draw(market, session)
    async with client_of(app) as client:
        asking = _Asking(client)
        for name, asked in draw.questions("before", session.n_questions):
            await asking.ask(name, asked)
        clock.now += timedelta(hours=HOURS_BETWEEN)
        for name, asked in draw.changes():
            await asking.ask(name, asked)
        for name, asked in draw.questions("after", session.n_questions):
            await asking.ask(name, asked)
    return asking
