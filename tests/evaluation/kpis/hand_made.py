"""Orders, decisions and outcomes from a line of text each, so that a log can be written and read by hand."""

from __future__ import annotations

from datetime import datetime

import pandas as pd

from recsys.contracts import columns as c
from recsys.contracts.decisions import Decision
from recsys.contracts.events import Outcome, OutcomeKind
from recsys.contracts.offers import Offer, OfferKind, OfferRequest


def moment(day: str, hour: int = 9) -> datetime:
    """Return an hour of a day, UTC; orders stand at noon, offers in the morning."""
    return datetime.fromisoformat(f"{day}T{hour:02d}:00:00+00:00")


def order_lines(text: str) -> pd.DataFrame:
    """Return order lines from rows of order, account (- without one), day, channel, `product x units @ price - off`."""
    rows = []
    for line in text.strip().splitlines():
        order, account, day, channel, *goods = line.split()
        for number, item in enumerate(goods, start=1):
            product, rest = item.split("x")
            units, money = rest.split("@")
            price, _, discount = money.partition("-")
            rows.append(
                (order, str(number), None if account == "-" else account, product, moment(day, 12), float(units),
                 float(price), float(discount or 0), channel)
            )  # fmt: skip
    names = [
        c.ORDER_ID, c.LINE_ID, c.ACCOUNT_ID, c.PRODUCT_ID, c.ORDERED_AT, c.QUANTITY, c.UNIT_PRICE, c.DISCOUNT,
        c.CHANNEL,
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=names)


def decision(name: str, account: str, day: str, surface: str, *offers: str, shown: bool = True) -> Decision:
    """Return a decision with offers as `product:x` (cross-sell) or `product:u` (upsell)."""
    packed = []
    for rank, item in enumerate(offers, start=1):
        product, kind = item.split(":")
        kinds: dict[str, OfferKind] = {"x": "cross_sell", "u": "upsell"}
        packed.append(
            Offer.from_logged(
                (rank, product, kinds[kind], 1.0, "EUR", 0.1, "buys_within_horizon", 1.0, 0.1, 0.1, "account")
            )
        )
    return Decision(
        decision_id=name,
        decided_at=moment(day),
        request=OfferRequest(account_id=account),
        model_version="v",
        objective="conversion",
        tier="account",
        horizon_days=30,
        n_considered=9,
        offers=tuple(packed),
        channel="web" if surface == "cart" else "phone",
        surface=surface,
        shown=shown,
        presented=not shown,  # a holdout whose surface presents at once is still not presented
    )


def outcome(number: int, decision: str, product: str | None, kind: OutcomeKind, day: str, actor: str | None) -> Outcome:
    """Return what was reported of a decision's product."""
    return Outcome(
        outcome_id=f"e{number:02d}",
        decision_id=decision,
        kind=kind,
        occurred_at=moment(day),
        recorded_at=moment("2024-09-30"),
        product_id=product,
        reason=None,
        actor_id=actor,
    )
