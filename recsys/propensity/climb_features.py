"""Point-in-time features of an account and a rung: what was known strictly before a moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.contracts import columns as c
from recsys.data.history import SECONDS_A_DAY, History, epoch_seconds
from recsys.mining.empirical_bayes import fit_beta_prior
from recsys.mining.ladder import Ladder
from recsys.mining.outcomes import ClimbConfig, EdgePairs, EdgeRows, RungPurchases, find_rung_purchases, pair_up
from recsys.mining.purchases import NEVER, PurchaseIndex
from recsys.propensity.ordering import count_orders, measure_activity

FloatArray = NDArray[np.float64]
LongArray = NDArray[np.int64]

RECENT_DAYS: Final = 90  # a quarter: long enough for a few orders of a business, short enough to be news
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
    "price_step_log",
    "lower_price_log",
    "pack_distance",
    "quantity_over_peers",
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
_NOT_FEATURES: Final = frozenset({c.ACCOUNT_ID, c.DO_NOT_OFFER, c.OWNER})


@dataclass(frozen=True)
class ClimbSnapshot:
    """All that is known at `now` about accounts, edges and who stands where; nothing at or after `now` is in it.

    Attributes:
        history: the lines strictly before `now`.
        now: the moment, seconds since 1970-01-01 UTC.
        index: who bought what before `now`.
        edges: rows of the ladder's edges.
        standing: the pairs that may climb: bought the lower rung within `standing_days`, never the higher one.
        past: first purchases of a higher rung before `now`, judged on lines before `now`.
        exposed: all pairs that ever bought the lower rung, those that have bought the higher one since too.
    """

    history: History
    now: int
    index: PurchaseIndex
    edges: EdgeRows
    standing: EdgePairs
    past: RungPurchases
    exposed: EdgePairs

    @classmethod
    def at(cls, history: History, ladder: Ladder, config: ClimbConfig, as_of: datetime) -> ClimbSnapshot:
        """Return what is known strictly before `as_of`."""
        before = history.before(as_of)
        now = epoch_seconds(as_of)
        index = PurchaseIndex.of(before)
        edges = ladder.rows(before)
        pairs = pair_up(index, edges)
        fresh = (pairs.upper == NEVER) & (now - index.last[pairs.lower] <= config.standing_days * SECONDS_A_DAY)
        past = find_rung_purchases(before, edges, config)
        return cls(before, now, index, edges, pairs.select(fresh), past, pairs)


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
    columns: dict[str, object] = {}
    columns.update(_rung_features(snapshot, pairs))
    columns.update(_edge_features(snapshot, pairs, ladder, horizon_days))
    columns.update(_account_features(snapshot, pairs))
    frame = pd.DataFrame(columns, columns=list(FEATURES))
    table = account_columns(accounts, snapshot.history.account_ids, snapshot.now)
    return pd.concat([frame, table.iloc[pairs.account].reset_index(drop=True)], axis=1)


def usual_quantity(snapshot: ClimbSnapshot, pairs: EdgePairs) -> FloatArray:
    """Return the units of the lower rung that each account takes in a line on average, `(n_pairs,)`."""
    sums = snapshot.index.sums(pairs.lower, 0, snapshot.now)
    return np.maximum(sums.quantity, 1e-9) / np.maximum(sums.lines, 1.0)


def usual_log_quantity(snapshot: ClimbSnapshot, pairs: EdgePairs) -> FloatArray:
    """Return the mean log of the units of the lower rung in a line, `(n_pairs,)`: one large order moves it little."""
    sums = snapshot.index.sums(pairs.lower, 0, snapshot.now)
    return sums.log_quantity / np.maximum(sums.lines, 1.0)


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


def _rung_features(snapshot: ClimbSnapshot, pairs: EdgePairs) -> dict[str, FloatArray]:
    index, now = snapshot.index, snapshot.now
    recent = now - RECENT_DAYS * SECONDS_A_DAY
    total = index.sums(pairs.lower, 0, now)
    late = index.sums(pairs.lower, recent, now)
    early = index.sums(pairs.lower, 0, recent)
    tenure = (now - index.first[pairs.lower]) / SECONDS_A_DAY
    recency = (now - index.last[pairs.lower]) / SECONDS_A_DAY
    usual = usual_log_quantity(snapshot, pairs)
    before = np.where(early.lines > 0, early.log_quantity / np.maximum(early.lines, 1.0), usual)
    now_usual = np.where(late.lines > 0, late.log_quantity / np.maximum(late.lines, 1.0), usual)
    gap = (tenure - recency + 30.0) / total.lines
    orders = _orders_since(snapshot, pairs)
    return {
        "rung_tenure_years": np.minimum(tenure / 365.0, 1.0),  # who has not moved in a year is settled
        "rung_recency_log_days": np.log1p(recency),
        "rung_lines_log": np.log(total.lines),
        "rung_recent_lines": late.lines,
        "rung_usual_quantity_log": usual,
        "rung_quantity_trend": now_usual - before,
        "rung_overdue": np.log(recency + 1.0) - np.log(gap),
        "rung_rate_log": np.log(total.lines) - np.log(tenure + 60.0),
        "rung_share_of_orders_log": np.log(total.lines + 0.5) - np.log(orders + 1.0),
    }


def _edge_features(
    snapshot: ClimbSnapshot, pairs: EdgePairs, ladder: Ladder, horizon_days: int
) -> dict[str, FloatArray]:
    price = product_prices(snapshot.history)
    lower, upper = snapshot.edges.lower, snapshot.edges.upper
    packs = ladder.edges[c.PACK_RATIO].to_numpy(dtype=np.float64)
    usual = usual_log_quantity(snapshot, pairs)
    buyers, edge = _recent_buyers(snapshot), pairs.edge
    return {
        "price_step_log": (np.log(price[upper]) - np.log(price[lower]))[edge],
        "lower_price_log": np.log(price[lower])[edge],
        "pack_distance": np.log(np.maximum(packs, 1e-9))[edge] - usual,
        "quantity_over_peers": np.clip(usual - peer_quantities(snapshot, len(ladder))[edge], -1.5, 1.5),
        "peer_climb_rate_log": np.log(peer_rates(snapshot, len(ladder), horizon_days))[edge],
        "peer_share_of_orders_log": np.log(peer_order_shares(snapshot, len(ladder)))[edge],
        "peer_climbs_a_purchase_log": np.log(climbs_a_purchase(snapshot, len(ladder)))[edge],
        "upper_recent_buyers_log": np.log1p(buyers[upper])[edge],
        "lower_recent_buyers_log": np.log1p(buyers[lower])[edge],
    }


def _account_features(snapshot: ClimbSnapshot, pairs: EdgePairs) -> dict[str, FloatArray]:
    lines, n = snapshot.history.known(), snapshot.history.n_accounts
    activity = measure_activity(snapshot.history, snapshot.now)
    recent = lines.seconds >= snapshot.now - RECENT_DAYS * SECONDS_A_DAY
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


def peer_rates(snapshot: ClimbSnapshot, n_edges: int, horizon_days: int) -> FloatArray:
    """Return how often accounts that stand on each edge climb it within a horizon, `(n_edges,)`, empirical Bayes.

    A trial is one horizon that one account stood on the edge (rounded up), a success a climb.
    """
    days = (_standing_end(snapshot) - snapshot.index.first[snapshot.exposed.lower]) / SECONDS_A_DAY
    return _shrunk_climbs(snapshot, np.ceil(np.maximum(days, 0.0) / horizon_days), n_edges)


def climbs_a_purchase(snapshot: ClimbSnapshot, n_edges: int) -> FloatArray:
    """Return the share of the purchases on each edge that are climbs, `(n_edges,)`, empirical Bayes.

    A trial is a purchase of the lower rung while the account stood on it, or the climb itself: unlike a rate in time
    it does not mix how willing peers are with how often they order.
    """
    exposed = snapshot.exposed
    lines = snapshot.index.sums(exposed.lower, 0, _standing_end(snapshot)).lines
    return _shrunk_climbs(snapshot, lines, n_edges)


def peer_quantities(snapshot: ClimbSnapshot, n_edges: int) -> FloatArray:
    """Return the log of the usual quantity of all accounts that ever stood on each edge, `(n_edges,)`; 0 where none."""
    exposed = snapshot.exposed
    logs = usual_log_quantity(snapshot, exposed)
    counts = np.bincount(exposed.edge, minlength=n_edges)
    total = np.bincount(exposed.edge, weights=logs, minlength=n_edges)
    return np.asarray(total / np.maximum(counts, 1), dtype=np.float64)


def peer_order_shares(snapshot: ClimbSnapshot, n_edges: int) -> FloatArray:
    """Return the part of the orders of all accounts on each edge that have the lower rung, `(n_edges,)`.

    An account's orders count from its first purchase of the lower rung on; half an order in one is added.
    """
    exposed = snapshot.exposed
    lines = snapshot.index.sums(exposed.lower, 0, snapshot.now).lines
    bought = np.bincount(exposed.edge, weights=lines, minlength=n_edges)
    orders = np.bincount(exposed.edge, weights=_orders_since(snapshot, exposed), minlength=n_edges)
    return np.asarray((bought + 0.5) / (orders + 1.0), dtype=np.float64)


def _standing_end(snapshot: ClimbSnapshot) -> LongArray:
    """Return until when each exposed pair stood on the lower rung only."""
    exposed = snapshot.exposed
    end = np.full(len(exposed), snapshot.now, dtype=np.int64)
    bought = exposed.upper != NEVER
    end[bought] = snapshot.index.first[exposed.upper[bought]]
    return end


def _shrunk_climbs(snapshot: ClimbSnapshot, trials: FloatArray, n_edges: int) -> FloatArray:
    climbed = np.bincount(snapshot.past.edge[snapshot.past.climbed], minlength=n_edges).astype(np.float64)
    stood = np.bincount(snapshot.exposed.edge, weights=trials, minlength=n_edges) + climbed
    return fit_beta_prior(climbed, stood).rate(climbed, stood)


def product_prices(history: History) -> FloatArray:
    """Return the median unit price of each product, NaN where it has no line, `(n_products,)`."""
    paid = pd.Series(history.unit_price).groupby(history.product).median()
    return np.asarray(paid.reindex(np.arange(history.n_products)), dtype=np.float64)


def _premium_share(snapshot: ClimbSnapshot) -> FloatArray:
    """Return the part of each account's spend on products of the ladder that goes to higher rungs, `(n_accounts,)`."""
    index, n = snapshot.index, snapshot.history.n_accounts
    higher, any_rung = (np.zeros(index.n_products, dtype=bool) for _ in range(2))
    higher[snapshot.edges.upper[snapshot.edges.upper >= 0]] = True
    any_rung[snapshot.edges.lower[snapshot.edges.lower >= 0]] = True
    revenue = _pair_revenue(index, snapshot.now)
    spent = np.bincount(index.account, weights=revenue * (higher | any_rung)[index.product], minlength=n)
    premium = np.bincount(index.account, weights=revenue * higher[index.product], minlength=n)
    return np.asarray(np.divide(premium, spent, out=np.full(n, np.nan), where=spent > 0), dtype=np.float64)


def _orders_since(snapshot: ClimbSnapshot, pairs: EdgePairs) -> FloatArray:
    """Return the orders of each pair's account since its first purchase of the lower rung, that one included."""
    lines = snapshot.history.known()
    n_orders = max(lines.n_orders, 1)
    _, first = np.unique(lines.account.astype(np.int64) * n_orders + lines.order, return_index=True)
    span = 2**34  # seconds; beyond any time in the data
    moments = np.sort(lines.account[first].astype(np.int64) * span + lines.seconds[first])
    since = pairs.account.astype(np.int64) * span + snapshot.index.first[pairs.lower]
    until = (pairs.account.astype(np.int64) + 1) * span
    return (np.searchsorted(moments, until) - np.searchsorted(moments, since)).astype(np.float64)


def _pair_revenue(index: PurchaseIndex, now: int) -> FloatArray:
    return index.sums(np.arange(len(index), dtype=np.int64), 0, now).revenue


def _recent_buyers(snapshot: ClimbSnapshot) -> FloatArray:
    recent = snapshot.index.last >= snapshot.now - RECENT_DAYS * SECONDS_A_DAY
    return np.bincount(snapshot.index.product[recent], minlength=snapshot.history.n_products).astype(np.float64)
