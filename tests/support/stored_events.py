"""One event of each kind, as the tests of event stores keep them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from recsys.contracts.decisions import Decision
from recsys.contracts.events import (
    Outcome,
    OutcomeKind,
    PostedLine,
    ProductUpdate,
)
from recsys.contracts.offers import Offer, OfferRequest

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


def offer(rank: int = 1, product_id: str = "P1") -> Offer:
    values = (9.95, "GBP", 0.25, "buys_within_horizon", 2.0, 4.975, 0.5, "cart", 1.0, "P9")
    return Offer.from_logged((rank, product_id, "cross_sell", *values))


def decision(decision_id: str = "d1", **changes: Any) -> Decision:
    base = Decision(
        decision_id=decision_id,
        decided_at=NOON,
        request=OfferRequest(account_id="A1", limit=2),
        model_version="7",
        objective="conversion",
        tier="cart",
        horizon_days=30,
        n_considered=42,
        offers=(offer(1, "P1"), offer(2, "P2")),
    )
    return base._replace(**changes)


def outcome(outcome_id: str, kind: OutcomeKind, product_id: str | None, minutes: float) -> Outcome:
    when = NOON + timedelta(minutes=minutes)
    return Outcome(
        outcome_id=outcome_id,
        decision_id="d1",
        kind=kind,
        occurred_at=when,
        recorded_at=when,
        product_id=product_id,
        reason="price",
        actor_id="rep-1",
    )


def line(order_id: str = "o1", line_id: str = "1", quantity: float = 3.0) -> PostedLine:
    return PostedLine(
        order_id=order_id,
        line_id=line_id,
        product_id="P1",
        quantity=quantity,
        ordered_at=NOON,
        recorded_at=NOON,
        account_id="A1",
        unit_price=2.5,
        currency="GBP",
    )


def product(product_id: str = "P1", minutes: float = 0, **values: Any) -> ProductUpdate:
    return ProductUpdate(product_id, **values, recorded_at=NOON + timedelta(minutes=minutes))
