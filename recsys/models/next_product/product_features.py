"""Features of a product at a moment: sales, trend, age and price."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.arrays import AnyFloatArray, FeatureMatrix
from recsys.data.history import UNKNOWN_ACCOUNT
from recsys.models.retrieval.popularity import DAYS_A_YEAR
from recsys.models.snapshot import Snapshot

NEW_WINDOWS = (3, 7, 14, 30, 60, 90, 180)
ALL_WINDOWS = (7, 30, 90)
MONTH_DAYS = 30.0
RESTOCK_GAP_DAYS = 14.0


def product_feature_matrix(snapshot: Snapshot) -> FeatureMatrix:
    """Return the features of every product, `(n_products, n_features)`; NaN where the past is too short to say."""
    counts = _window_counts(snapshot)
    columns = {**counts, **_trends(counts), **_ages(snapshot), **_seasons(snapshot), **_prices(snapshot)}
    columns["hazard_30d"] = _hazard(snapshot)
    columns["buyers_breadth"] = _buyers_breadth(snapshot)
    columns["share_without_account"] = _share_without_account(snapshot)
    return FeatureMatrix.of({f"product_{name}": values for name, values in columns.items()}, snapshot.shape[1])


def _count(snapshot: Snapshot, products: NDArray[np.int32], weights: AnyFloatArray | None = None) -> AnyFloatArray:
    return np.bincount(products, weights=weights, minlength=snapshot.shape[1]).astype(np.float32)


def _window_counts(snapshot: Snapshot) -> dict[str, AnyFloatArray]:
    pairs = snapshot.pairs
    scale = snapshot.time_scale
    found = {f"new_{days}d": _count(snapshot, pairs.product[pairs.first_age <= days * scale]) for days in NEW_WINDOWS}
    for days in ALL_WINDOWS:
        found[f"lines_{days}d"] = _count(snapshot, snapshot.lines.product[snapshot.age <= days * scale])
        found[f"known_lines_{days}d"] = _count(snapshot, snapshot.known.product[snapshot.known_age <= days * scale])
    found["owners"] = _count(snapshot, pairs.product)
    return found


def _trends(counts: dict[str, AnyFloatArray]) -> dict[str, AnyFloatArray]:
    def ratio(part: str, whole: str, prior: float) -> AnyFloatArray:
        return (counts[part] + 0.5) / (counts[whole] + prior)

    return {
        "trend_3_14": ratio("new_3d", "new_14d", 2.0),
        "trend_7_30": ratio("new_7d", "new_30d", 2.0),
        "trend_30_90": ratio("new_30d", "new_90d", 4.0),
        "new_share_of_owners": ratio("new_90d", "owners", 4.0),
        "new_share_of_lines": ratio("new_30d", "known_lines_30d", 2.0),
        "lines_trend_7_30": ratio("lines_7d", "lines_30d", 4.0),
    }


def _ages(snapshot: Snapshot) -> dict[str, AnyFloatArray]:
    n_products = snapshot.shape[1]
    youngest = np.full(n_products, np.inf, dtype=np.float32)
    np.minimum.at(youngest, snapshot.lines.product, snapshot.age)
    oldest = np.full(n_products, -np.inf, dtype=np.float32)
    np.maximum.at(oldest, snapshot.lines.product, snapshot.age)
    newest_owner = np.full(n_products, np.inf, dtype=np.float32)
    np.minimum.at(newest_owner, snapshot.pairs.product, snapshot.pairs.first_age)
    found = {"days_since_sale": youngest, "age_days": oldest, "days_since_new_owner": newest_owner}
    clean = {name: np.where(np.isfinite(values), values, np.nan) for name, values in found.items()}
    clean["days_since_restock"] = _days_since_restock(snapshot)
    return clean


def _days_since_restock(snapshot: Snapshot) -> AnyFloatArray:
    """Return days since the product last came back after two weeks without a sale, or first came; NaN if never sold."""
    order = np.lexsort((-snapshot.age, snapshot.lines.product))
    product, age = snapshot.lines.product[order], snapshot.age[order]
    gap = np.full(len(age), np.inf, dtype=np.float32)  # the very first sale comes after an endless gap
    same = product[1:] == product[:-1]
    gap[1:][same] = (age[:-1] - age[1:])[same]
    back = gap > RESTOCK_GAP_DAYS * snapshot.time_scale
    found = np.full(snapshot.shape[1], np.inf, dtype=np.float32)
    np.minimum.at(found, product[back], age[back])
    return np.where(np.isfinite(found), found, np.nan)


def _seasons(snapshot: Snapshot) -> dict[str, AnyFloatArray]:
    def window(oldest: float, youngest: float) -> AnyFloatArray:
        if snapshot.span_days < oldest:
            return np.full(snapshot.shape[1], np.nan, dtype=np.float32)
        within = (snapshot.age <= oldest) & (snapshot.age > youngest)
        return _count(snapshot, snapshot.lines.product[within])

    ahead = window(DAYS_A_YEAR, DAYS_A_YEAR - MONTH_DAYS)
    behind = window(DAYS_A_YEAR + MONTH_DAYS, DAYS_A_YEAR)
    return {"last_year_ahead": ahead, "last_year_behind": behind, "last_year_turn": (ahead + 1) / (behind + 1)}


def _prices(snapshot: Snapshot) -> dict[str, AnyFloatArray]:
    recent = snapshot.age <= RESTOCK_GAP_DAYS * snapshot.time_scale
    price = median_by(snapshot.lines.product, snapshot.lines.unit_price, snapshot.shape[1])
    now = median_by(snapshot.lines.product[recent], snapshot.lines.unit_price[recent], snapshot.shape[1])
    quantity = median_by(snapshot.known.product, snapshot.known.quantity, snapshot.shape[1])
    safe = np.where(price > 0, price, np.nan)
    return {"price": price, "price_now": now / safe, "quantity": quantity}


def median_by(groups: NDArray[np.int32], values: NDArray[np.float64], n_groups: int) -> AnyFloatArray:
    """Return the median of the values of each group, NaN where a group is empty, `(n_groups,)`."""
    medians = pd.Series(values).groupby(groups).median()
    found = np.full(n_groups, np.nan, dtype=np.float32)
    found[medians.index.to_numpy()] = medians.to_numpy()
    return found


def _hazard(snapshot: Snapshot) -> AnyFloatArray:
    """Return the share of accounts that added the product, of those that ordered in 30 days and did not have it."""
    pairs = snapshot.pairs
    ordered = np.zeros(snapshot.shape[0], dtype=bool)
    month = MONTH_DAYS * snapshot.time_scale
    ordered[snapshot.known.account[snapshot.known_age <= month]] = True
    had = ordered[pairs.account] & (pairs.first_age > month)
    added = _count(snapshot, pairs.product[pairs.first_age <= month])
    open_to_it = np.maximum(ordered.sum() - _count(snapshot, pairs.product[had]), 1).astype(np.float32)
    hazard: AnyFloatArray = added / open_to_it
    return hazard


def _buyers_breadth(snapshot: Snapshot) -> AnyFloatArray:
    """Return the mean log number of products owned by the accounts that bought the product first in 60 days."""
    pairs = snapshot.pairs
    breadth = np.log(np.maximum(np.bincount(pairs.account, minlength=snapshot.shape[0]), 1)).astype(np.float32)
    fresh = pairs.first_age <= 2 * MONTH_DAYS * snapshot.time_scale
    total = _count(snapshot, pairs.product[fresh], breadth[pairs.account[fresh]])
    n_fresh = _count(snapshot, pairs.product[fresh])
    return np.divide(total, n_fresh, out=np.full_like(total, np.nan), where=n_fresh > 0)


def _share_without_account(snapshot: Snapshot) -> AnyFloatArray:
    recent = snapshot.age <= 3 * MONTH_DAYS * snapshot.time_scale
    product, account = snapshot.lines.product[recent], snapshot.lines.account[recent]
    return (_count(snapshot, product[account == UNKNOWN_ACCOUNT]) + 1) / (_count(snapshot, product) + 4)
