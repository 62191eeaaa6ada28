"""Sums of sales, offers and attributed sales by segment and period, counted where the rows lie; the rows summed."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import reduce
from typing import Any, Final, NamedTuple

import ibis

from recsys.data.times import naive_utc
from recsys.evaluation.kpis.attribution import Attribution
from recsys.evaluation.kpis.definition import LOG_DIMENSIONS, Basis, Dimension, Kind
from recsys.evaluation.kpis.formulas import SALE_KINDS, Additional, KpiSums, Source
from recsys.evaluation.kpis.sales import Sales

GROUP: Final = "segment_group"
ACCOUNT_CLUSTER: Final = "cluster"
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


Row = dict[str, Any]


class Scope(NamedTuple):
    """Which rows a cell sums.

    Attributes:
        group: the segment; None overall.
        period: number of the period; None over the whole range.
    """

    group: str | None
    period: int | None


def sum_rows(
    rows: ibis.Table, keys: list[str], bases: tuple[Basis, ...], history: ibis.Table, periods: Sequence[int]
) -> dict[Scope, Row]:
    """Return sums, customers and, where the rows are by period, attrition of every scope.

    Args:
        rows: as `order_rows` or `product_rows` make them, within the range of the figures.
        keys: of `segment_group` and `period` those that make the scopes.
        bases: which additional sales the rows have.
        history: the rows of the range and those before it: customers of the period before may lie there.
        periods: numbers of the periods of the range.
    """
    merged: dict[Scope, Row] = {}
    queries = [_sums(rows, keys, bases), _customers(rows, keys, bases)]
    if "period" in keys:
        queries.append(_attrition(history, keys, periods))
    for query in queries:
        for scope, found in by_scope(query.to_pyarrow().to_pylist()):
            merged.setdefault(scope, {}).update(found)
    return merged


def by_scope(found: Iterable[Row]) -> list[tuple[Scope, Row]]:
    """Return rows of a query under their scope; what was not grouped by is None."""
    return [
        (Scope(row.get(GROUP), row.get("period")), {k: v for k, v in row.items() if k not in {GROUP, "period"}})
        for row in found
    ]


def cell_of(row: Mapping[str, Any], bases: tuple[Basis, ...]) -> KpiSums:
    """Return the sums of one scope as a cell."""
    active = row.get("active_last")
    return _cell(lambda name: float(row.get(name) or 0.0), None if active is None else float(active), bases)


def column_cell(table: ibis.Table, bases: tuple[Basis, ...]) -> KpiSums:
    """Return a cell whose fields are the columns of a table with one row an account and period, 0 for those it lacks.

    A formula's sums over such a cell are expressions of each account's sums.
    """

    def column(name: str) -> ibis.Value:
        return table[name].fill_null(0) if name in table.columns else ibis.literal(0.0)

    read: Callable[[str], Any] = column
    return _cell(read, read("active_last"), bases)


def _cell(read: Callable[[str], Any], active: float | None, bases: tuple[Basis, ...]) -> KpiSums:
    plain = {
        name: read(name)
        for name in (
            "orders", "orders_existing", "revenue", "known_revenue", "known_units", "volume_revenue", "sales",
            "key_sales", "customers", "existing", "pairs", "lost", "presented", "accepted", "bought", "still_open",
            "held", "holders",
        )
    }  # fmt: skip
    additional: dict[tuple[Basis, Kind], Additional] = {
        (basis, kind): Additional(
            **{
                name: read(f"{name}_{basis}_{kind}")
                for name in (
                    "orders", "sales", "revenue", "order_revenue", "key_sales", "customers", "all_customers",
                )
            }
        )
        for basis in bases
        for kind in SALE_KINDS
    }  # fmt: skip
    return KpiSums(**plain, active_last=active, additional=additional)


def account_sums(
    history: ibis.Table,
    offers: ibis.Table | None,
    bases: tuple[Basis, ...],
    compared: tuple[int, int],
    since: datetime | None,
) -> dict[Source, ibis.Table]:
    """Return the sums of every account in each of two periods, by the rows they are counted from.

    Each table has `cluster period` and the names of a cell's sums. A cluster is an account; an order without one, and
    the offers of a decision without one, are a cluster of their own.

    Args:
        history: order rows of the range and those before it.
        offers: presented offers; None without a log.
        bases: which additional sales the rows have.
        compared: numbers of the two periods.
        since: rows of orders and offers before it count for customers of the period before and products held only.
    """
    keys = [ACCOUNT_CLUSTER, "period"]
    rows = history.mutate(**{ACCOUNT_CLUSTER: ibis.coalesce(history["account"], -1 - history["order"])})
    recent = _of_periods(rows, compared, since, "ordered_at")
    customers = _customers(recent, keys, bases)
    found: dict[Source, ibis.Table] = {
        "orders": _sums(recent, keys, bases)
        .left_join(customers, keys)
        .drop(f"{ACCOUNT_CLUSTER}_right", "period_right"),
        "attrition": _attrition(rows, keys, compared),
        "held": ibis.union(*(_held(rows, period) for period in compared)),
    }
    if offers is not None:
        own = ibis.coalesce("account " + offers["account_id"], "decision " + offers["decision_id"])
        shown = _of_periods(offers.mutate(**{ACCOUNT_CLUSTER: own}), compared, since, "presented_at")
        found["offers"] = shown.group_by(keys).agg(**_offer_columns(shown))
    return found


def _of_periods(rows: ibis.Table, compared: tuple[int, int], since: datetime | None, time: str) -> ibis.Table:
    kept = rows.filter(rows["period"].isin(compared))
    return kept if since is None else kept.filter(kept[time] >= naive_utc(since))


def _held(rows: ibis.Table, period: int) -> ibis.Table:
    """Products that each account held at the end of a period."""
    until = rows.filter((rows["period"] <= period) & rows["account"].notnull())
    held = until.group_by(ACCOUNT_CLUSTER).agg(held=until["n_new"].sum(), holders=(until["place"] == 1).sum())
    return held.mutate(period=ibis.literal(period, "int64"))


def _sums(rows: ibis.Table, keys: list[str], bases: tuple[Basis, ...]) -> ibis.Table:
    known = rows["account"].notnull()
    pairs = rows["n_new_in_period"] if "period" in keys else rows["n_new_in_range"]
    columns: dict[str, ibis.Value] = {
        "orders": rows.count(),
        "orders_existing": rows["existing"].sum(),
        "revenue": rows["revenue"].sum(),
        "known_revenue": ibis.ifelse(known, rows["revenue"], 0.0).sum(),
        "known_units": ibis.ifelse(known, rows["units"], 0.0).sum(),
        "volume_revenue": rows["revenue_volume"].sum(),
        "sales": rows["n_sales"].sum(),
        "key_sales": ibis.ifelse(rows["is_key"], rows["n_sales"], 0).sum(),
        "pairs": pairs.sum(),
    }
    for basis in bases:
        for kind in SALE_KINDS:
            count, money = (_of_kind(rows, column, basis, kind) for column in (count_column, money_column))
            end = f"{basis}_{kind}"
            columns |= {
                f"orders_{end}": (count > 0).sum(),
                f"sales_{end}": count.sum(),
                f"revenue_{end}": money.sum(),
                f"order_revenue_{end}": ibis.ifelse(count > 0, rows["revenue"], 0.0).sum(),
                f"key_sales_{end}": ibis.ifelse(rows["is_key"], count, 0).sum(),
            }
    return rows.group_by(keys).agg(**columns) if keys else rows.agg(**columns)


def _customers(rows: ibis.Table, keys: list[str], bases: tuple[Basis, ...]) -> ibis.Table:
    known = rows.filter(rows["account"].notnull())
    flags: dict[str, ibis.Value] = {"existing": known["existing"].any()}
    for basis in bases:
        for kind in SALE_KINDS:
            has = _of_kind(known, count_column, basis, kind) > 0
            flags[f"has_{basis}_{kind}"] = has.any()
            flags[f"had_{basis}_{kind}"] = (has & known["existing"]).any()
    people = known.group_by([*keys, "account"]).agg(**flags)
    columns: dict[str, ibis.Value] = {"customers": people.count(), "existing": people["existing"].sum()}
    for basis in bases:
        for kind in SALE_KINDS:
            columns[f"customers_{basis}_{kind}"] = people[f"had_{basis}_{kind}"].sum()
            columns[f"all_customers_{basis}_{kind}"] = people[f"has_{basis}_{kind}"].sum()
    return people.group_by(keys).agg(**columns) if keys else people.agg(**columns)


def _attrition(history: ibis.Table, keys: list[str], periods: Sequence[int]) -> ibis.Table:
    """Customers of the period before, and those of them that did not come back, by scope with a period of the range."""
    known = history.filter(history["account"].notnull())
    active = known.select(*keys, "account").distinct()
    before = active.mutate(period=active["period"] + 1)
    before = before.filter((before["period"] >= periods[0]) & (before["period"] <= periods[-1]))
    now = active.mutate(came=ibis.literal(True))
    joined = before.left_join(now, [*keys, "account"])
    came = joined["came"].fill_null(False)
    return joined.group_by(keys).agg(active_last=joined.count(), lost=(~came).sum())


def _of_kind(rows: ibis.Table, column: Callable[[Basis, Kind], str], basis: Basis, kind: Kind) -> ibis.ir.NumericValue:
    """The count or money of one kind, or of both together."""
    parts = [rows[column(basis, part)] for part in (PARTS if kind == "any" else (kind,))]
    return reduce(operator.add, parts)


def offer_sums(
    log: Attribution, sales: Sales, dimension: Dimension | None, keys: list[str], since: datetime | None
) -> list[tuple[Scope, Row]]:
    """Return presented, accepted, bought and still open offers by scope; an offer stands where it was presented."""
    offers = log.offers
    if since is not None:
        offers = offers.filter(offers["presented_at"] >= naive_utc(since))
    if dimension is not None:
        offers = _grouped(offers, sales, dimension)
    columns = _offer_columns(offers)
    summed = offers.group_by(keys).agg(**columns) if keys else offers.agg(**columns)
    return by_scope(summed.to_pyarrow().to_pylist())


def _offer_columns(offers: ibis.Table) -> dict[str, ibis.Value]:
    return {
        "presented": offers.count(),
        "accepted": offers["accepted"].sum(),
        "bought": offers["bought"].sum(),
        "still_open": offers["is_open"].sum(),
    }


def attributed_sums(
    log: Attribution, sales: Sales, dimension: Dimension, keys: list[str], since: datetime | None
) -> list[tuple[Scope, Row]]:
    """Return the money of attributed sales by surface or actor of the offer; a sale stands where it was ordered."""
    placed = log.attributed.join(sales.orders.select("order", "period", "ordered_at"), "order")
    if since is not None:
        placed = placed.filter(placed["ordered_at"] >= naive_utc(since))
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
