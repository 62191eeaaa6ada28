"""Every sale judged once: whose, which order of the account, new or repeated, upsell or cross-sell, key account.

A sale is one product in one order. From here on orders, accounts and products are whole numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import ibis
import pandas as pd
import pyarrow as pa

from recsys.contracts import columns as c
from recsys.data.times import naive_utc
from recsys.evaluation.kpis.config import KpiConfig, period_number
from recsys.evaluation.kpis.tables import TempTables
from recsys.ladder.tiers import higher_rungs


def with_key_accounts(
    scratch: TempTables, orders: ibis.Table, accounts: ibis.Table, config: KpiConfig
) -> tuple[ibis.Table, str]:
    """Return the orders with `is_key`, and how it was told.

    The rule looks at revenue before the quarter of the order only: judged by the revenue of the period itself, key
    accounts would buy more by definition. In the first quarter of a history nobody is a key account by rule.
    """
    if accounts[c.IS_KEY_ACCOUNT].notnull().any().to_pyarrow().as_py():
        flagged = orders.left_join(accounts.select("account", c.IS_KEY_ACCOUNT), "account")
        told = flagged.mutate(is_key=flagged[c.IS_KEY_ACCOUNT].fill_null(False))
        return scratch.keep(
            told.select(*orders.columns, "is_key"), "told"
        ), f"column {c.IS_KEY_ACCOUNT} of the accounts"
    quartered = orders.mutate(quarter=period_number(orders[c.ORDERED_AT], "quarter"))
    chosen = scratch.keep(_chosen(scratch, quartered, config.key_share), "key_accounts")
    joined = quartered.left_join(chosen, ["account", "quarter"])
    ruled = joined.mutate(is_key=joined["chosen"].fill_null(False)).select(*orders.columns, "is_key")
    return scratch.keep(ruled, "ruled"), f"{config.key_accounts} of the accounts by revenue before the quarter"


def _chosen(scratch: TempTables, orders: ibis.Table, share: float) -> ibis.Table:
    """`account quarter chosen` of the accounts of highest revenue before each quarter, ties by account."""
    known = orders.filter(orders["account"].notnull())
    spent = known.group_by("account", "quarter").agg(revenue=known["order_revenue"].sum())
    spent = scratch.keep(spent, "spent")
    quarters = spent.select("quarter").distinct()
    later = quarters.select(then="quarter")
    before = spent.join(later, spent["quarter"] < later["then"])
    prior = before.group_by("account", "then").agg(revenue=before["revenue"].sum())
    by_money = ibis.window(group_by="then", order_by=[prior["revenue"].desc(), prior["account"]])
    everybody = ibis.window(group_by="then")
    ranked = prior.mutate(place=ibis.row_number().over(by_money) + 1, people=prior.count().over(everybody))
    most = ranked.filter(ranked["place"] <= (ranked["people"] * share).ceil())
    return most.select("account", quarter="then", chosen=ibis.literal(True))


_PAIR = ["account", "product"]
_RUNGS = pa.schema([(c.FROM_PRODUCT_ID, pa.string()), (c.TO_PRODUCT_ID, pa.string())])


@dataclass(frozen=True)
class Sales:
    """The judged sales.

    Attributes:
        orders: one row an order: `order account period ordered_at place existing is_key channel`; `account` is null
            where it is not known; `place` is 1 for the account's first order, `existing` says it is a later one.
        accounts: one row an account that ordered: `account account_id segment region owner`.
        products: one row a product that was sold: `product product_id category family`.
        sales: one row a sale: `order account product period ordered_at place units revenue`, and, where the account is
            known, `is_new` (never bought before), `new_in_period` and `new_in_range` (not before in the period, not
            since the figures' start).
        organic: the sales that are organic upsells or cross-sells: `order account product kind units revenue`.
        key_rule: how key accounts are told.
        has_families: whether organic cross-sell can be judged.
        has_ladder: whether organic upsell can be judged.
    """

    orders: ibis.Table
    accounts: ibis.Table
    products: ibis.Table
    sales: ibis.Table
    organic: ibis.Table
    key_rule: str
    has_families: bool
    has_ladder: bool


def classify_sales(
    scratch: TempTables,
    lines: ibis.Table,
    *,
    products: pd.DataFrame | None,
    accounts: pd.DataFrame | None,
    edges: pd.DataFrame,
    since: datetime | None,
    config: KpiConfig,
) -> Sales:
    """Return the sales of settled lines, each judged by what its account bought in earlier orders."""
    plain = _orders(scratch, lines, config)
    people = scratch.keep(_accounts(scratch, plain, accounts), "accounts")
    orders, key_rule = with_key_accounts(scratch, plain, people, config)
    goods = scratch.keep(_products(scratch, lines, products, config), "products")
    sales = _sales(scratch, lines, orders, goods, since)
    rungs = _rungs(scratch, goods, edges)
    has_families, has_ladder = goods["family"].notnull().any().to_pyarrow().as_py(), bool(len(edges))
    organic = scratch.keep(_organic(scratch, sales, goods, rungs), "organic")
    return Sales(orders, people, goods, sales, organic, key_rule, bool(has_families), has_ladder)


def _orders(scratch: TempTables, lines: ibis.Table, config: KpiConfig) -> ibis.Table:
    grouped = lines.group_by(c.ORDER_ID).agg(
        account_id=lines[c.ACCOUNT_ID].min(),
        ordered_at=lines[c.ORDERED_AT].min(),
        channel=lines[c.CHANNEL].min(),
        order_revenue=lines["revenue"].sum(),
    )
    orders = scratch.keep(grouped, "grouped")
    in_time = [orders[c.ORDERED_AT], orders[c.ORDER_ID]]
    place = ibis.row_number().over(ibis.window(group_by=c.ACCOUNT_ID, order_by=in_time)) + 1
    known = orders[c.ACCOUNT_ID].notnull()
    numbered = orders.mutate(
        order=ibis.row_number().over(ibis.window(order_by=in_time)),
        account=ibis.ifelse(known, ibis.dense_rank().over(ibis.window(order_by=c.ACCOUNT_ID)), ibis.null("int64")),
        place=ibis.ifelse(known, place, ibis.null("int64")),
        period=period_number(orders[c.ORDERED_AT], config.period),
    )
    return scratch.keep(numbered.mutate(existing=(numbered["place"] > 1).fill_null(False)), "orders")


def _accounts(scratch: TempTables, orders: ibis.Table, accounts: pd.DataFrame | None) -> ibis.Table:
    known = orders.filter(orders["account"].notnull())
    people = known.group_by("account").agg(account_id=known[c.ACCOUNT_ID].min())
    wanted = [c.SEGMENT, c.REGION, c.OWNER, c.IS_KEY_ACCOUNT]
    return _described(scratch, people, accounts, c.ACCOUNT_ID, wanted)


def _products(scratch: TempTables, lines: ibis.Table, products: pd.DataFrame | None, config: KpiConfig) -> ibis.Table:
    sold = lines.select(c.PRODUCT_ID).distinct()
    goods = sold.mutate(product=ibis.row_number().over(ibis.window(order_by=c.PRODUCT_ID)))
    described = _described(scratch, goods, products, c.PRODUCT_ID, [c.CATEGORY, c.FAMILY, c.NAME])
    return described.mutate(family=described[config.families_by])


def _described(
    scratch: TempTables, table: ibis.Table, frame: pd.DataFrame | None, key: str, wanted: list[str]
) -> ibis.Table:
    """The table with the columns of a frame by its key; null where the frame does not say."""
    kinds = {c.IS_KEY_ACCOUNT: pa.bool_()}
    if frame is None or not len(frame):
        return table.mutate(**{name: ibis.null("boolean" if name in kinds else "string") for name in wanted})
    columns = {key: pa.array(frame[key].astype(str), pa.string())}
    for name in wanted:
        values = frame[name] if name in frame else pd.Series([None] * len(frame), dtype=object)
        kind = kinds.get(name, pa.string())
        text = values.astype(object).where(values.notna(), None)
        columns[name] = pa.array([item if item is None or name in kinds else str(item) for item in text], kind)
    said = scratch.load(pa.table(columns), key)
    joined = table.left_join(said, key)
    return joined.select(*table.columns, *wanted)


def _sales(
    scratch: TempTables, lines: ibis.Table, orders: ibis.Table, goods: ibis.Table, since: datetime | None
) -> ibis.Table:
    """One row a product and order, with what came before it in the account.

    Order and product (account and product) are packed into one whole number: grouping and windows over ten million
    rows take half the time on one key.
    """
    n_products = int(goods.count().to_pyarrow().as_py())
    coded = lines.select(c.ORDER_ID, c.PRODUCT_ID, "units", "revenue")
    coded = coded.join(orders.select(c.ORDER_ID, "order"), c.ORDER_ID)
    coded = coded.join(goods.select(c.PRODUCT_ID, "product"), c.PRODUCT_ID)
    packed = coded.select("units", "revenue", sale=coded["order"] * n_products + coded["product"])
    once = packed.group_by("sale").agg(units=packed["units"].sum(), revenue=packed["revenue"].sum())
    once = scratch.keep(once, "once")
    parted = once.select("units", "revenue", order=once["sale"] // n_products, product=once["sale"] % n_products)
    placed = parted.join(orders.select("order", "account", "period", c.ORDERED_AT, "place"), "order")
    known = placed.filter(placed["account"].notnull())
    before = ibis.window(group_by=known["account"] * n_products + known["product"], order_by="place")
    judged = known.mutate(
        period_before=known["period"].lag(1).over(before), time_before=known[c.ORDERED_AT].lag(1).over(before)
    )
    is_new = judged["period_before"].isnull()
    in_range = is_new if since is None else is_new | (judged["time_before"] < naive_utc(since))
    judged = judged.mutate(
        is_new=is_new, new_in_period=is_new | (judged["period_before"] < judged["period"]), new_in_range=in_range
    ).drop("period_before", "time_before")
    nobodys = placed.filter(placed["account"].isnull()).mutate(
        is_new=ibis.literal(False),
        new_in_period=ibis.literal(False),
        new_in_range=ibis.literal(False),
    )
    return scratch.keep(judged.union(nobodys.select(judged.columns)), "sales")


def _rungs(scratch: TempTables, goods: ibis.Table, edges: pd.DataFrame) -> ibis.Table:
    """Pairs of products sold, `lower upper`."""
    above = higher_rungs(edges)
    named = scratch.load(
        pa.table({name: pa.array(above[name].tolist(), pa.string()) for name in _RUNGS.names}), "rungs"
    )
    lower = goods.select(**{c.FROM_PRODUCT_ID: goods[c.PRODUCT_ID], "lower": goods["product"]})
    upper = goods.select(**{c.TO_PRODUCT_ID: goods[c.PRODUCT_ID], "upper": goods["product"]})
    return named.join(lower, c.FROM_PRODUCT_ID).join(upper, c.TO_PRODUCT_ID).select("lower", "upper")


def _organic(scratch: TempTables, sales: ibis.Table, goods: ibis.Table, rungs: ibis.Table) -> ibis.Table:
    """The first purchases that are an upsell, else a cross-sell."""
    first = sales.filter(sales["is_new"]).select("account", "product", "order", "place", "units", "revenue")
    firsts = scratch.keep(first, "firsts")
    upsells = scratch.keep(_upsells(firsts, rungs), "upsells")
    placed = firsts.join(goods.select("product", "family"), "product")
    placed = placed.filter(placed["family"].notnull())
    opened = placed.group_by("account", "family").agg(opened=placed["place"].min())
    joined = placed.join(opened, ["account", "family"])
    opening = joined.filter((joined["place"] == joined["opened"]) & (joined["place"] > 1))
    cross = opening.anti_join(upsells, _PAIR)
    columns = ["order", "account", "product", "units", "revenue"]
    return ibis.union(
        firsts.semi_join(upsells, _PAIR).select(*columns, kind=ibis.literal("upsell")),
        cross.select(*columns, kind=ibis.literal("cross_sell")),
    )


def _upsells(firsts: ibis.Table, rungs: ibis.Table) -> ibis.Table:
    """First purchases by accounts that stood on a lower rung before, and on no higher one: `account product`."""
    held = firsts.select("account", held="product", held_place="place")
    later = firsts.filter(firsts["place"] > 1)
    below = later.join(rungs, later["product"] == rungs["upper"]).join(
        held, [("account", "account"), ("lower", "held")]
    )
    climbed = below.filter(below["held_place"] < below["place"]).select(*_PAIR, "place").distinct()
    above = climbed.join(rungs, climbed["product"] == rungs["lower"]).join(
        held, [("account", "account"), ("upper", "held")]
    )
    beyond = above.filter(above["held_place"] < above["place"]).select(*_PAIR).distinct()
    return climbed.anti_join(beyond, _PAIR).select(*_PAIR)
