"""Features of an account at a moment: recency, frequency, breadth, tastes, and the accounts table's columns."""

from __future__ import annotations

from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.arrays import AnyFloatArray, FeatureMatrix
from recsys.contracts import columns as c
from recsys.models.snapshot import Snapshot


def account_feature_matrix(snapshot: Snapshot) -> FeatureMatrix:
    """Return the features of every account, `(n_accounts, n_features)`; NaN for accounts without a purchase."""
    columns = {**_rhythm(snapshot), **_tastes(snapshot)}
    values = FeatureMatrix.of({f"account_{name}": column for name, column in columns.items()}, snapshot.shape[0])
    values.values[columns["n_owned"] == 0] = np.nan
    return values


def _sum(snapshot: Snapshot, accounts: NDArray[np.int32], weights: NDArray[np.floating] | None = None) -> AnyFloatArray:
    return np.bincount(accounts, weights=weights, minlength=snapshot.shape[0]).astype(np.float32)


def _rhythm(snapshot: Snapshot) -> dict[str, AnyFloatArray]:
    known, pairs, n_accounts = snapshot.known, snapshot.pairs, snapshot.shape[0]
    recency = np.full(n_accounts, np.inf, dtype=np.float32)
    np.minimum.at(recency, known.account, snapshot.known_age)
    tenure = np.zeros(n_accounts, dtype=np.float32)
    np.maximum.at(tenure, known.account, snapshot.known_age)
    order_account, order_age = _orders(snapshot)
    n_orders = np.maximum(_sum(snapshot, order_account), 1)
    found = {
        "n_owned": _sum(snapshot, pairs.account),
        "recency_days": recency,
        "tenure_days": tenure,
        "n_orders": n_orders,
        "days_per_order": tenure / n_orders,
        "lines_per_order": _sum(snapshot, known.account) / n_orders,
        "revenue_per_order": _sum(snapshot, known.account, known.revenue) / n_orders,
    }
    for days in (30, 90, 180):
        window = days * snapshot.time_scale
        found[f"n_new_{days}d"] = _sum(snapshot, pairs.account[pairs.first_age <= window])
        found[f"n_orders_{days}d"] = _sum(snapshot, order_account[order_age <= window])
    return found


def _orders(snapshot: Snapshot) -> tuple[NDArray[np.int32], AnyFloatArray]:
    """Return account and age of every order that has an account, one entry an order."""
    _, first = np.unique(snapshot.known.order, return_index=True)
    return snapshot.known.account[first], snapshot.known_age[first]


def _tastes(snapshot: Snapshot) -> dict[str, AnyFloatArray]:
    known, pairs = snapshot.known, snapshot.pairs
    n_lines = np.maximum(_sum(snapshot, known.account), 1)
    n_owned = np.maximum(_sum(snapshot, pairs.account), 1)
    launched = np.zeros(snapshot.shape[1], dtype=np.float32)
    np.maximum.at(launched, snapshot.lines.product, snapshot.age)
    age_when_bought = np.log1p(np.maximum(launched[pairs.product] - pairs.first_age, 0))
    owners = np.bincount(pairs.product, minlength=snapshot.shape[1])
    price = np.log(np.maximum(known.unit_price, 1e-3))
    return {
        "log_price": _sum(snapshot, known.account, price) / n_lines,
        "log_quantity": _sum(snapshot, known.account, np.log(np.maximum(known.quantity, 1e-3))) / n_lines,
        "age_taste": _sum(snapshot, pairs.account, age_when_bought) / n_owned,
        "popularity_taste": _sum(snapshot, pairs.account, np.log(owners[pairs.product])) / n_owned,
    }


NOT_FEATURES = frozenset({c.ACCOUNT_ID, c.NAME, c.LANGUAGE, c.OWNER, c.CREATED_AT, c.DO_NOT_OFFER})
MAX_LEVELS = 200


class AccountColumns:
    """The columns of the accounts table as numbers: numbers and booleans as they are, texts by level.

    A text's level is its place in the order of frequency in the table it was fitted on (0 is the most frequent);
    unseen, rare (beyond 200 levels) and missing values are NaN. Ids, owners, dates and vetoes are left out.
    """

    def fit(self, accounts: pd.DataFrame) -> Self:
        """Learn which columns there are and the levels of the texts."""
        self.levels_: dict[str, list[str] | None] = {}
        for column in accounts.columns:
            values = accounts[column]
            if column in NOT_FEATURES or pd.api.types.is_datetime64_any_dtype(values) or values.notna().sum() == 0:
                continue
            numeric = pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values)
            self.levels_[column] = None if numeric else _levels(values)
        return self

    def transform(self, accounts: pd.DataFrame, account_ids: NDArray[np.object_]) -> FeatureMatrix:
        """Return the columns for a vocabulary, `(n_accounts, n_columns)`; NaN for accounts not in the table."""
        if not self.levels_:
            return FeatureMatrix.of({}, len(account_ids))
        rows = pd.Index(accounts[c.ACCOUNT_ID].astype(str)).get_indexer(pd.Index(account_ids.astype(str)))
        columns: dict[str, AnyFloatArray] = {}
        for column, levels in self.levels_.items():
            numbers = _numbers(accounts[column], levels)
            columns[f"account_{column}"] = np.where(rows >= 0, numbers[rows], np.nan) if len(numbers) else np.nan * rows
        return FeatureMatrix.of(columns, len(account_ids))


def _levels(values: pd.Series) -> list[str]:
    counts = values.dropna().astype(str).value_counts().rename_axis("level").reset_index(name="n")
    ordered = counts.sort_values(["n", "level"], ascending=[False, True], kind="stable")
    return [str(level) for level in ordered["level"].head(MAX_LEVELS)]


def _numbers(values: pd.Series, levels: list[str] | None) -> AnyFloatArray:
    if levels is None:
        return values.astype("Float64").to_numpy(dtype=np.float32, na_value=np.nan)
    codes = pd.Index(levels).get_indexer(pd.Index(values.astype(object).where(values.notna(), None).astype(str)))
    return np.where(codes >= 0, codes, np.nan).astype(np.float32)
