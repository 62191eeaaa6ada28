"""Point-in-time features of an account and a rung, and of the account whatever rung is asked about."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.arrays import FloatArray
from recsys.contracts import columns as c
from recsys.data.history import SECONDS_A_DAY, History
from recsys.ladder.edges import Ladder
from recsys.ladder.upgrade_events import EdgePairs
from recsys.models.order_process import count_orders
from recsys.models.upgrade.snapshot import (
    ClimbSnapshot,
    climbs_a_purchase,
    ladder_of_edge,
    orders_share,
    orders_standing,
    peer_order_shares,
    peer_quantities,
    peer_rates,
    recent_buyers,
    usual_log_quantity,
)

_NOT_FEATURES: Final = frozenset({c.ACCOUNT_ID, c.NAME, c.LANGUAGE, c.DO_NOT_OFFER, c.OWNER})


def account_columns(accounts: pd.DataFrame, account_ids: NDArray[np.object_], now: int) -> pd.DataFrame:
    """Return the account table's own columns, one row an account of the vocabulary, times as days before `now`."""
    rows = pd.Index(accounts[c.ACCOUNT_ID].astype(object)).get_indexer(pd.Index(account_ids, dtype=object))
    columns: dict[str, object] = {}
    for name in accounts.columns:
        if name in _NOT_FEATURES:
            continue
        values = accounts[name].reset_index(drop=True).reindex(np.where(rows < 0, len(accounts), rows))
        if pd.api.types.is_datetime64_any_dtype(values):
            moment = pd.Timestamp(now, unit="s", tz="UTC")
            values = (moment - pd.to_datetime(values, utc=True)).dt.total_seconds() / SECONDS_A_DAY
        columns[f"account_{name}"] = values.reset_index(drop=True)
    return pd.DataFrame(columns, index=pd.RangeIndex(len(account_ids)))


def account_features(snapshot: ClimbSnapshot, pairs: EdgePairs) -> dict[str, FloatArray]:
    """Return what is known of the account of each pair, arrays `(n_pairs,)` by name."""
    lines, n = snapshot.history.known(), snapshot.history.n_accounts
    activity = snapshot.activity
    recent = lines.seconds >= snapshot.recent
    revenue = np.bincount(lines.account, weights=lines.revenue, minlength=n)
    past = snapshot.past
    columns = {
        "account_tenure_log_days": np.log1p(activity.tenure_days),
        "account_idle_log_days": np.log1p(activity.idle_days),
        "account_rate_log": np.log(activity.rate),
        "account_alive_log": np.log(np.maximum(activity.alive, 0.01)),
        "account_orders_log": np.log1p(activity.orders),
        "account_recent_orders_log": np.log1p(count_orders(lines, recent)),
        "account_order_value_log": np.log1p(np.maximum(revenue, 0.0) / np.maximum(activity.orders, 1.0)),
        "account_products_log": np.log1p(np.bincount(snapshot.index.account, minlength=n)),
        "account_premium_share": _premium_share(snapshot),
        "account_climbs_log": np.log1p(np.bincount(past.account[past.climbed], minlength=n)),
        "account_add_ons_log": np.log1p(np.bincount(past.account[~past.climbed], minlength=n)),
        "account_rungs_log": np.log1p(np.bincount(snapshot.standing.account, minlength=n)),
    }
    return {name: np.asarray(values, dtype=np.float64)[pairs.account] for name, values in columns.items()}


def _premium_share(snapshot: ClimbSnapshot) -> FloatArray:
    """Return the part of each account's spend on products of the ladder that goes to higher rungs, `(n_accounts,)`."""
    index, n = snapshot.index, snapshot.history.n_accounts
    higher, any_rung = (np.zeros(index.n_products, dtype=bool) for _ in range(2))
    higher[snapshot.edges.upper[snapshot.edges.upper >= 0]] = True
    any_rung[snapshot.edges.lower[snapshot.edges.lower >= 0]] = True
    revenue = index.sums(np.arange(len(index), dtype=np.int64), 0, snapshot.now).revenue
    spent = np.bincount(index.account, weights=revenue * (higher | any_rung)[index.product], minlength=n)
    premium = np.bincount(index.account, weights=revenue * higher[index.product], minlength=n)
    return np.asarray(np.divide(premium, spent, out=np.full(n, np.nan), where=spent > 0), dtype=np.float64)


FEATURES: Final = (
    "rung_tenure_years",
    "rung_recency_log_days",
    "rung_lines_log",
    "rung_recent_lines",
    "rung_usual_quantity_log",
    "rung_quantity_trend",
    "rung_overdue",
    "rung_rate_log",
    "rung_share_of_orders_log",
    "rung_exposure_log_days",
    "rung_met_log",
    "rung_chance_log",
    "price_step_log",
    "lower_price_log",
    "pack_distance",
    "quantity_over_peers",
    "quantity_over_ladder",
    "peer_climb_rate_log",
    "peer_share_of_orders_log",
    "peer_climbs_a_purchase_log",
    "upper_recent_buyers_log",
    "lower_recent_buyers_log",
    "account_tenure_log_days",
    "account_idle_log_days",
    "account_rate_log",
    "account_alive_log",
    "account_orders_log",
    "account_recent_orders_log",
    "account_order_value_log",
    "account_products_log",
    "account_premium_share",
    "account_climbs_log",
    "account_add_ons_log",
    "account_rungs_log",
)


def climb_features(
    snapshot: ClimbSnapshot, pairs: EdgePairs, ladder: Ladder, accounts: pd.DataFrame, horizon_days: int
) -> pd.DataFrame:
    """Return one row a pair with what the model learns from.

    Args:
        snapshot: what is known.
        pairs: some of the snapshot's standing pairs.
        ladder: the ladder of the snapshot.
        accounts: one row an account; every column but ids becomes a feature by its dtype.
        horizon_days: days over which peers' climb rate is stated.
    """
    peer_shares = peer_order_shares(snapshot, len(ladder))
    columns = {
        **_rung_features(snapshot, pairs, peer_shares, horizon_days),
        **_edge_features(snapshot, pairs, ladder, peer_shares, horizon_days),
        **account_features(snapshot, pairs),
    }
    frame = pd.DataFrame(columns, columns=list(FEATURES))
    table = account_columns(accounts, snapshot.history.account_ids, snapshot.now)
    return pd.concat([frame, table.iloc[pairs.account].reset_index(drop=True)], axis=1)


def _rung_features(
    snapshot: ClimbSnapshot, pairs: EdgePairs, peer_shares: FloatArray, horizon_days: int
) -> dict[str, FloatArray]:
    index, now = snapshot.index, snapshot.now
    recent = snapshot.recent
    total = index.sums(pairs.lower, 0, now)
    late = index.sums(pairs.lower, recent, now)
    early = index.sums(pairs.lower, 0, recent)
    tenure = (now - index.first[pairs.lower]) / SECONDS_A_DAY
    recency = (now - index.last[pairs.lower]) / SECONDS_A_DAY
    usual = usual_log_quantity(snapshot, pairs)
    before = np.where(early.lines > 0, early.log_quantity / np.maximum(early.lines, 1.0), usual)
    now_usual = np.where(late.lines > 0, late.log_quantity / np.maximum(late.lines, 1.0), usual)
    gap = (tenure - recency + 30.0) / total.lines
    orders = orders_standing(snapshot, pairs)
    share, activity = orders_share(snapshot, pairs, peer_shares), snapshot.activity
    chance = activity.chance(share, horizon_days, pairs.account)
    met = activity.met(share, recency, horizon_days, pairs.account)
    return {
        # Half-way between the last line and the end of the horizon; who has not moved in a year is settled.
        "rung_tenure_years": np.minimum((tenure - (recency - horizon_days) / 2) / 365.0, 1.0),
        "rung_recency_log_days": np.log1p(recency),
        "rung_lines_log": np.log(total.lines),
        "rung_recent_lines": late.lines,
        "rung_usual_quantity_log": usual,
        "rung_quantity_trend": now_usual - before,
        "rung_overdue": np.log(recency + 1.0) - np.log(gap),
        "rung_rate_log": np.log(total.lines) - np.log(tenure + 60.0),
        "rung_share_of_orders_log": np.log(total.lines + 0.5) - np.log(orders + 1.0),
        "rung_exposure_log_days": np.log(recency + horizon_days),  # since the last line a wish may have come
        "rung_met_log": np.log(np.maximum(met, 1e-4)),
        "rung_chance_log": np.log(np.maximum(chance, 1e-4)),
    }


def _edge_features(
    snapshot: ClimbSnapshot, pairs: EdgePairs, ladder: Ladder, peer_shares: FloatArray, horizon_days: int
) -> dict[str, FloatArray]:
    price = product_prices(snapshot.history)
    lower, upper = snapshot.edges.lower, snapshot.edges.upper
    packs = ladder.edges[c.PACK_RATIO].to_numpy(dtype=np.float64)
    usual = usual_log_quantity(snapshot, pairs)
    buyers, edge = recent_buyers(snapshot), pairs.edge
    each, together = np.arange(len(lower), dtype=np.int32), ladder_of_edge(snapshot)
    return {
        "price_step_log": (np.log(price[upper]) - np.log(price[lower]))[edge],
        "lower_price_log": np.log(price[lower])[edge],
        "pack_distance": np.log(np.maximum(packs, 1e-9))[edge] - usual,
        "quantity_over_peers": np.clip(usual - peer_quantities(snapshot, each)[edge], -1.5, 1.5),
        "quantity_over_ladder": np.clip(usual - peer_quantities(snapshot, together)[edge], -1.5, 1.5),
        "peer_climb_rate_log": np.log(peer_rates(snapshot, len(ladder), horizon_days))[edge],
        "peer_share_of_orders_log": np.log(peer_shares)[edge],
        "peer_climbs_a_purchase_log": np.log(climbs_a_purchase(snapshot, len(ladder)))[edge],
        "upper_recent_buyers_log": np.log1p(buyers[upper])[edge],
        "lower_recent_buyers_log": np.log1p(buyers[lower])[edge],
    }


def product_prices(history: History) -> FloatArray:
    """Return the median unit price of each product, NaN where it has no line, `(n_products,)`."""
    paid = pd.Series(history.unit_price).groupby(history.product).median()
    return np.asarray(paid.reindex(np.arange(history.n_products)), dtype=np.float64)
