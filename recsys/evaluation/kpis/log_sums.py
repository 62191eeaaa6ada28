"""Sums over the event log: offers and attributed sales by segment and period."""

from __future__ import annotations

from datetime import datetime

import ibis

from recsys.evaluation.kpis.attribution import Attribution
from recsys.evaluation.kpis.definition import LOG_DIMENSIONS, Dimension
from recsys.evaluation.kpis.rows import GROUP, NOT_STATED, PARTS
from recsys.evaluation.kpis.sales import Sales
from recsys.evaluation.kpis.sums import Row, Scope, by_scope


def offer_sums(
    log: Attribution, sales: Sales, dimension: Dimension | None, keys: list[str], since: datetime | None
) -> list[tuple[Scope, Row]]:
    """Return presented, accepted, bought and still open offers by scope; an offer stands where it was presented."""
    offers = log.offers
    if since is not None:
        offers = offers.filter(offers["presented_at"] >= ibis.literal(since.replace(tzinfo=None), type="timestamp(6)"))
    if dimension is not None:
        offers = _grouped(offers, sales, dimension)
    columns = {
        "presented": offers.count(),
        "accepted": offers["accepted"].sum(),
        "bought": offers["bought"].sum(),
        "still_open": offers["is_open"].sum(),
    }
    summed = offers.group_by(keys).agg(**columns) if keys else offers.agg(**columns)
    return by_scope(summed.to_pyarrow().to_pylist())


def attributed_sums(
    log: Attribution, sales: Sales, dimension: Dimension, keys: list[str], since: datetime | None
) -> list[tuple[Scope, Row]]:
    """Return the money of attributed sales by surface or actor of the offer; a sale stands where it was ordered."""
    placed = log.attributed.join(sales.orders.select("order", "period", "ordered_at"), "order")
    if since is not None:
        placed = placed.filter(placed["ordered_at"] >= ibis.literal(since.replace(tzinfo=None), type="timestamp(6)"))
    placed = placed.mutate(**{GROUP: placed[dimension].fill_null(NOT_STATED)})
    columns: dict[str, ibis.Value] = {"revenue_attributed_any": placed["revenue"].sum()}
    for kind in PARTS:
        columns[f"revenue_attributed_{kind}"] = ibis.ifelse(placed["kind"] == kind, placed["revenue"], 0.0).sum()
    return by_scope(placed.group_by(keys).agg(**columns).to_pyarrow().to_pylist())


def _grouped(offers: ibis.Table, sales: Sales, dimension: Dimension) -> ibis.Table:
    if dimension in {"channel", "product", *LOG_DIMENSIONS}:
        column = "product_id" if dimension == "product" else dimension
        return offers.mutate(**{GROUP: offers[column].fill_null(NOT_STATED)})
    key = "product" if dimension == "category" else "account"
    table = sales.products if dimension == "category" else sales.accounts
    joined = offers.left_join(table.select(key, said=dimension), key)
    return joined.select(*offers.columns, **{GROUP: joined["said"].fill_null(NOT_STATED)})
