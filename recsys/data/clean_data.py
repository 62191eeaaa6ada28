"""Cleaned purchase history: what every other room takes from this one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import ibis
import pandas as pd

from recsys.contracts import columns as c
from recsys.data.history import History
from recsys.data.report import DataReport


@dataclass(frozen=True)
class CleanData:
    """Everything before `as_of`, cleaned.

    Attributes:
        orders: the contract's columns of completed sale lines, on its own DuckDB; quantities are above zero and
            without what was taken back; `account_id` may be null; `ordered_at` is UTC without a zone mark.
        products: one row a product id of the orders or of the products table, all columns of the contract.
        accounts: one row an account, all columns of the contract and any further ones of the accounts table.
        upgrades: curated upgrades, None without such a table.
        report: what became of every row.
        currency: of all money; None if the source does not say.
        as_of: UTC; nothing at or after it was used.
        fingerprint: SHA-256 of the data, whatever the order of rows.
    """

    orders: ibis.Table
    products: pd.DataFrame
    accounts: pd.DataFrame
    upgrades: pd.DataFrame | None
    report: DataReport
    currency: str | None
    as_of: datetime
    fingerprint: str

    def lines(self) -> pd.DataFrame:
        """Return the order lines as a frame in the order of time, order and line; `ordered_at` is marked as UTC."""
        frame: pd.DataFrame = self.orders.to_pandas()
        frame[c.ORDERED_AT] = frame[c.ORDERED_AT].dt.tz_localize("UTC")
        return frame

    def history(self) -> History:
        """Return the order lines as arrays over the vocabularies of accounts and products."""
        needed = [c.ORDER_ID, c.ACCOUNT_ID, c.PRODUCT_ID, c.ORDERED_AT, c.QUANTITY, c.UNIT_PRICE, c.DISCOUNT]
        return History.from_frame(
            self.orders.select(*needed).to_pandas(),
            account_ids=self.accounts[c.ACCOUNT_ID].to_numpy(dtype=object),
            product_ids=self.products[c.PRODUCT_ID].to_numpy(dtype=object),
        )
