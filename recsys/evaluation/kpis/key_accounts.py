"""Which accounts are key accounts: as their table says, else by a stated rule on prior revenue."""

from __future__ import annotations

import ibis

from recsys.contracts import columns as c
from recsys.evaluation.kpis.config import KpiConfig
from recsys.evaluation.kpis.periods import period_number
from recsys.evaluation.kpis.scratch import Scratch


def with_key_accounts(
    scratch: Scratch, orders: ibis.Table, accounts: ibis.Table, config: KpiConfig
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


def _chosen(scratch: Scratch, orders: ibis.Table, share: float) -> ibis.Table:
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
