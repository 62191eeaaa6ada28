"""Rows to sum: one an order (or, by product and category, one an order and segment), with all that a cell needs."""

from __future__ import annotations

from typing import Final

import ibis

from recsys.evaluation.kpis.attribution import Attribution
from recsys.evaluation.kpis.definition import Basis, Dimension, Kind
from recsys.evaluation.kpis.sales import Sales

GROUP: Final = "segment_group"
NOT_STATED: Final = "(not stated)"
PARTS: Final[tuple[Kind, ...]] = ("upsell", "cross_sell")


def order_rows(sales: Sales, attribution: Attribution | None) -> ibis.Table:
    """Return one row an order with its sums.

    Columns: `order account period ordered_at place existing is_key channel`, money, units and counts of sales, and
    for each basis and kind the additional sales and their money.
    """
    summed = _summed(sales.sales, ["order"])
    rows = sales.orders.drop("account_id", "order_id", "order_revenue").join(summed, "order")
    return _with_additional(rows, sales, attribution, [])


def product_rows(sales: Sales, attribution: Attribution | None, dimension: Dimension) -> ibis.Table:
    """Return the same with one row an order and product (or category), the segment in `segment_group`."""
    column = "product_id" if dimension == "product" else dimension
    goods = sales.products.select("product", **{GROUP: sales.products[column].fill_null(NOT_STATED)})
    placed = sales.sales.join(goods, "product")
    summed = _summed(placed, ["order", GROUP])
    rows = summed.join(sales.orders.drop("account_id", "order_id", "order_revenue", "channel"), "order")
    return _with_additional(rows, sales, attribution, [GROUP], goods)


def grouped_rows(rows: ibis.Table, sales: Sales, dimension: Dimension) -> ibis.Table:
    """Return order rows with the segment of a dimension of orders or accounts in `segment_group`."""
    if dimension == "channel":
        return rows.mutate(**{GROUP: rows["channel"].fill_null(NOT_STATED)})
    if dimension == "key_account":
        return rows.mutate(**{GROUP: ibis.ifelse(rows["is_key"], "key account", "other")})
    people = sales.accounts.select("account", said=dimension)
    joined = rows.left_join(people, "account")
    return joined.select(*rows.columns, **{GROUP: joined["said"].fill_null(NOT_STATED)})


def additional_sales(sales: Sales, attribution: Attribution | None) -> ibis.Table:
    """Return the organic and attributed upsells and cross-sells: `basis kind order account product units revenue`."""
    columns = ["order", "account", "product", "kind", "units", "revenue"]
    organic = sales.organic.select(*columns, basis=ibis.literal("organic"))
    if attribution is None:
        return organic
    return organic.union(attribution.attributed.select(*columns, basis=ibis.literal("attributed")))


def count_column(basis: Basis, kind: Kind) -> str:
    """Return the column of a row that counts additional sales."""
    return f"n_{basis}_{kind}"


def money_column(basis: Basis, kind: Kind) -> str:
    """Return the column of a row that sums their money."""
    return f"r_{basis}_{kind}"


def bases_of(attribution: Attribution | None) -> tuple[Basis, ...]:
    """Return which bases additional sales can have."""
    return ("organic",) if attribution is None else ("organic", "attributed")


def _summed(sales: ibis.Table, keys: list[str]) -> ibis.Table:
    repeated = sales["account"].notnull() & ~sales["is_new"]
    return sales.group_by(keys).agg(
        revenue=sales["revenue"].sum(),
        units=sales["units"].sum(),
        n_sales=sales.count(),
        n_new=sales["is_new"].sum(),
        n_new_in_period=sales["new_in_period"].sum(),
        n_new_in_range=sales["new_in_range"].sum(),
        revenue_volume=ibis.ifelse(repeated, sales["revenue"], 0.0).sum(),
    )


def _with_additional(
    rows: ibis.Table, sales: Sales, attribution: Attribution | None, keys: list[str], goods: ibis.Table | None = None
) -> ibis.Table:
    """The rows with columns `n_basis_kind` and `r_basis_kind`, zero where there is none."""
    extra = additional_sales(sales, attribution)
    if goods is not None:
        extra = extra.join(goods, "product")
    columns: dict[str, ibis.Value] = {}
    for basis in bases_of(attribution):
        for kind in PARTS:
            chosen = (extra["basis"] == basis) & (extra["kind"] == kind)
            columns[count_column(basis, kind)] = ibis.ifelse(chosen, 1, 0).sum()
            columns[money_column(basis, kind)] = ibis.ifelse(chosen, extra["revenue"], 0.0).sum()
    pivoted = extra.group_by(["order", *keys]).agg(**columns)
    joined = rows.left_join(pivoted, ["order", *keys])
    return joined.select(*rows.columns, **{name: joined[name].fill_null(0) for name in columns})
