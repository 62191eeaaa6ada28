"""The columns of the accounts table as features: segment, region and whatever else a business knows."""

from __future__ import annotations

from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.arrays import AnyFloatArray, Table
from recsys.contracts import columns as c

NOT_FEATURES = frozenset({c.ACCOUNT_ID, c.OWNER, c.CREATED_AT, c.DO_NOT_OFFER})
MAX_LEVELS = 200


class AccountColumns:
    """The columns of the accounts table as numbers: numbers and booleans as they are, texts by level.

    A text's level is its place in the order of frequency in the table it was fitted on (0 is the most frequent);
    unseen, rare (beyond 200 levels) and missing values are NaN. Ids, owners, dates and vetoes are left out.
    """

    def fit(self, accounts: pd.DataFrame) -> Self:
        """Learn which columns there are and the levels of the texts."""
        self.levels_: dict[str, pd.Index[str] | None] = {}
        for column in accounts.columns:
            values = accounts[column]
            if column in NOT_FEATURES or pd.api.types.is_datetime64_any_dtype(values) or values.notna().sum() == 0:
                continue
            numeric = pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values)
            self.levels_[column] = None if numeric else _levels(values)
        return self

    def transform(self, accounts: pd.DataFrame, account_ids: NDArray[np.object_]) -> Table:
        """Return the columns for a vocabulary, `(n_accounts, n_columns)`; NaN for accounts not in the table."""
        if not self.levels_:
            return Table.of({}, len(account_ids))
        rows = pd.Index(accounts[c.ACCOUNT_ID].astype(str)).get_indexer(pd.Index(account_ids.astype(str)))
        columns: dict[str, AnyFloatArray] = {}
        for column, levels in self.levels_.items():
            numbers = _numbers(accounts[column], levels)
            columns[f"account_{column}"] = np.where(rows >= 0, numbers[rows], np.nan) if len(numbers) else np.nan * rows
        return Table.of(columns, len(account_ids))


def _levels(values: pd.Series) -> pd.Index[str]:
    counts = values.dropna().astype(str).value_counts().rename_axis("level").reset_index(name="n")
    ordered = counts.sort_values(["n", "level"], ascending=[False, True], kind="stable")
    return pd.Index(ordered["level"].head(MAX_LEVELS).astype(str).tolist())


def _numbers(values: pd.Series, levels: pd.Index[str] | None) -> AnyFloatArray:
    if levels is None:
        return values.astype("Float64").to_numpy(dtype=np.float32, na_value=np.nan)
    codes = levels.get_indexer(pd.Index(values.astype(object).where(values.notna(), None).astype(str)))
    return np.where(codes >= 0, codes, np.nan).astype(np.float32)
