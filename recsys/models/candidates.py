"""Scored candidates: what the propensity models hand to ranking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NO_PRODUCT = -1


@dataclass(frozen=True)
class Candidates:
    """Candidate offers as parallel arrays of shape `(n_candidates,)`, sorted by account, then score descending.

    Rows of accounts and products point into the vocabularies of the `History` that was scored.

    Attributes:
        account: row of the account.
        product: row of the offered product.
        from_product: row of the product that an upgrade starts from; -1 for a cross-sell.
        score: the ranker's own order, higher is better; comparable within one account.
        probability: calibrated probability of a purchase within the model's horizon, in [0, 1].
        expected_quantity: units, if it is bought.
    """

    account: NDArray[np.int32]
    product: NDArray[np.int32]
    from_product: NDArray[np.int32]
    score: NDArray[np.float32]
    probability: NDArray[np.float32]
    expected_quantity: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.account)

    def offsets(self, n_accounts: int) -> NDArray[np.int64]:
        """Return where the candidates of each account start, `(n_accounts + 1,)`; row a ends where row a + 1 starts."""
        counts = np.bincount(self.account, minlength=n_accounts)
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def join_candidates(parts: Sequence[Candidates]) -> Candidates:
    """Return the candidates of several parts as one, in their order."""
    whole, real = np.zeros(0, np.int32), np.zeros(0, np.float32)
    every = [Candidates(whole, whole, whole, real, real, real), *parts]
    columns = zip(*(vars(part).values() for part in every), strict=True)
    return Candidates(*(np.concatenate(column) for column in columns))
