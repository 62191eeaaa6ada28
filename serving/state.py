"""What happened since the model was trained: purchases and refusals, in force for the next request of that account."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from recsys.contracts.events import DecisionOffer, EventQuery, Outcome, PostedLine
from recsys.events import EventStore
from recsys.ranking.state import NOTHING_NEW, AccountState

REFUSING: Final = frozenset({"declined", "dismissed"})
"""Outcomes after which a product rests."""

_OVERLAP: Final = timedelta(seconds=30)
"""`recorded_at` is taken before the commit: what was recorded a little earlier may have become visible later."""

_LINE_COLUMNS: Final = ("order_id", "line_id", "account_id", "product_id", "ordered_at", "quantity", "recorded_at")
_OUTCOME_COLUMNS: Final = ("decision_id", "product_id", "kind", "occurred_at", "recorded_at")


class Refusal(NamedTuple):
    """An offer that an account did not want."""

    account_id: str
    product_id: str
    when: datetime


@dataclass(frozen=True, slots=True)
class News:
    """What was read from the store, ready to be applied.

    Attributes:
        lines: order lines.
        refusals: offers that were not wanted.
        seen_until: the latest `recorded_at` among all of it.
    """

    lines: list[dict[str, Any]]
    refusals: list[Refusal]
    seen_until: datetime


class FreshState:
    """The purchases and refusals that the model does not know yet, by account.

    `read_news` and `refusals_of` may run in any thread; the other methods belong to the event loop. Applying the same
    event twice changes nothing, so that what this worker took itself may come back from the store.
    """

    def __init__(self, store: EventStore, *, since: datetime, cooldown: timedelta) -> None:
        self._store = store
        self._since = since
        self._cooldown = cooldown
        self._seen_until = since
        self._bought: dict[str, dict[tuple[str, str], tuple[datetime, str, float]]] = defaultdict(dict)
        self._refused: dict[str, dict[str, datetime]] = defaultdict(dict)

    def read_news(self) -> News:
        """Return what reached the store since the last news that were applied."""
        start = max(self._seen_until - _OVERLAP, self._since)
        lines = self._store.read(EventQuery("order_lines", recorded_since=start, columns=_LINE_COLUMNS)).to_pylist()
        outcomes = self._store.read(EventQuery("outcomes", recorded_since=start, columns=_OUTCOME_COLUMNS)).to_pylist()
        seen_until = max((row["recorded_at"] for row in (*lines, *outcomes)), default=self._seen_until)
        refusing = [
            (row["decision_id"], row["product_id"], row["occurred_at"]) for row in outcomes if _refuses(row["kind"])
        ]
        return News(lines, self._refusals(refusing), seen_until)

    def refusals_of(self, outcomes: Iterable[Outcome]) -> list[Refusal]:
        """Return what these outcomes refuse."""
        return self._refusals(
            [(event.decision_id, event.product_id, event.occurred_at) for event in outcomes if _refuses(event.kind)]
        )

    def apply(self, news: News) -> None:
        """Put in force what the store holds: of two lines with one id, the store's is the one that counts."""
        for line in news.lines:
            if line["account_id"] is not None and line["ordered_at"] >= self._since:
                key = (line["order_id"], line["line_id"])
                self._bought[line["account_id"]][key] = (line["ordered_at"], line["product_id"], line["quantity"])
        self.refuse(news.refusals)
        self._seen_until = max(self._seen_until, news.seen_until)

    def buy(self, lines: Iterable[PostedLine]) -> None:
        """Put in force order lines that this worker has just written."""
        for line in lines:
            if line.account_id is not None and line.ordered_at >= self._since:
                known = self._bought[line.account_id]
                known.setdefault((line.order_id, line.line_id), (line.ordered_at, line.product_id, line.quantity))

    def refuse(self, refusals: Iterable[Refusal]) -> None:
        """Put refusals in force; the latest one of a product counts."""
        for account_id, product_id, when in refusals:
            known = self._refused[account_id].get(product_id, when)
            self._refused[account_id][product_id] = max(known, when)

    def of(self, account_id: str | None, now: datetime) -> AccountState:
        """Return what is new about an account."""
        if account_id is None or (account_id not in self._bought and account_id not in self._refused):
            return NOTHING_NEW
        refused = self._refused.get(account_id, {})
        return AccountState(
            bought=_standing(self._bought.get(account_id, {}).values()),
            withheld={product: "declined lately" for product, at in refused.items() if now < at + self._cooldown},
        )

    def _refusals(self, refusing: list[tuple[str, str | None, datetime]]) -> list[Refusal]:
        """The account of an outcome is that of its decision; without a product it refuses every offer of it."""
        if not refusing:
            return []
        ids = tuple({decision_id for decision_id, _, _ in refusing})
        query = EventQuery("decisions", decision_ids=ids, columns=("decision_id", "account_id", "offers"))
        decisions = {row["decision_id"]: row for row in self._store.read(query).to_pylist()}
        found = []
        for decision_id, product_id, when in refusing:
            decision = decisions.get(decision_id)
            if decision is not None and decision["account_id"] is not None:
                products = _offered(decision["offers"]) if product_id is None else [product_id]
                found += [Refusal(decision["account_id"], product, when) for product in products]
        return found


def _refuses(kind: str) -> bool:
    return kind in REFUSING


def _offered(packed: str) -> list[str]:
    return [DecisionOffer(*offer).product_id for offer in json.loads(packed)]


def _standing(lines: Iterable[tuple[datetime, str, float]]) -> tuple[str, ...]:
    """The products of which more was bought than came back, the latest purchase first."""
    units: dict[str, float] = defaultdict(float)
    latest: dict[str, datetime] = {}
    for when, product, quantity in lines:
        units[product] += quantity
        if quantity > 0 and (product not in latest or when > latest[product]):
            latest[product] = when
    kept = [product for product in latest if units[product] > 0]
    return tuple(sorted(kept, key=lambda product: (latest[product], product), reverse=True))
