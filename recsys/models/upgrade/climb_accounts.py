"""What an account is like, whatever rung is asked about: how alive, how large, how fond of higher rungs."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.arrays import FloatArray
from recsys.contracts import columns as c
from recsys.data.history import SECONDS_A_DAY
from recsys.ladder.upgrade_events import EdgePairs, PurchaseIndex
from recsys.models.order_process import count_orders
from recsys.models.upgrade.snapshot import RECENT_DAYS, ClimbSnapshot

_NOT_FEATURES: Final = frozenset({c.ACCOUNT_ID, c.DO_NOT_OFFER, c.OWNER})


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


def _pair_revenue(index: PurchaseIndex, now: int) -> FloatArray:
    return index.sums(np.arange(len(index), dtype=np.int64), 0, now).revenue
