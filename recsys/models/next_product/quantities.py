"""How many units an account would take of a product that it has never bought."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from recsys.arrays import AnyFloatArray, RowArray
from recsys.models.next_product.product_features import median_by
from recsys.models.snapshot import Snapshot

PRIOR_LINES = 5.0
SMALLEST = 1e-3


class Quantities(NamedTuple):
    """What is usual for a product, and how far an account departs from the usual.

    Attributes:
        usual: median units of a product's line, NaN where it was never sold, `(n_products,)`.
        factor: `exp(sum of log(units / usual) / (n_lines + 5))` over the account's lines, `(n_accounts,)`.
    """

    usual: AnyFloatArray
    factor: AnyFloatArray

    @classmethod
    def of(cls, snapshot: Snapshot) -> Quantities:
        """Return the quantities of a snapshot."""
        known = snapshot.known
        usual = median_by(snapshot.lines.product, snapshot.lines.quantity, snapshot.shape[1])
        ratio = np.log(np.maximum(known.quantity, SMALLEST) / np.maximum(usual[known.product], SMALLEST))
        total = np.bincount(known.account, weights=ratio, minlength=snapshot.shape[0])
        n_lines = np.bincount(known.account, minlength=snapshot.shape[0])
        return cls(usual, np.exp(total / (n_lines + PRIOR_LINES)).astype(np.float32))

    def expect(self, account: RowArray, product: RowArray) -> AnyFloatArray:
        """Return the expected units of each pair, above zero; the account's factor alone for a product never sold."""
        units = np.nan_to_num(self.usual[product], nan=1.0) * self.factor[account]
        return np.maximum(units, SMALLEST).astype(np.float32)
