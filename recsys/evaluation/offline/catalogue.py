"""What a set of lists does to the catalogue: how much of it is offered, and how far from the obvious."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from recsys.data.history import History


def active_products(history: History, cutoff: datetime, window_days: float = 90.0) -> NDArray[np.bool_]:
    """Return whether each product was sold in the `window_days` before the cutoff, shape `(n_products,)`."""
    recent = history.between(cutoff - timedelta(days=window_days), window_days)
    return np.bincount(recent.product, minlength=history.n_products) > 0


def coverage(recommended: NDArray[np.int32], catalogue: NDArray[np.bool_]) -> float:
    """Return the share of the catalogue that stands on somebody's list: distinct offered / catalogue size, in [0, 1].

    Args:
        recommended: product rows, `(n, k)`, -1 where a list is shorter.
        catalogue: which products count, shape `(n_products,)`.
    """
    offered = np.unique(recommended[recommended >= 0])
    return float(catalogue[offered].sum() / catalogue.sum()) if catalogue.any() else float("nan")


def novelty(recommended: NDArray[np.int32], n_buyers: NDArray[np.integer], n_accounts: int) -> float:
    """Return the mean self-information of the offered products, bits.

    `-log2((n_buyers + 1) / (n_accounts + 1))` averaged over all places: 0 where everybody already buys what is
    offered; one bit more for each halving of the buyers. The added one keeps a product without buyers finite.
    Source: Zhou et al. (2010).

    Args:
        recommended: product rows, `(n, k)`, -1 where a list is shorter.
        n_buyers: accounts that bought each product before the cutoff, shape `(n_products,)`.
        n_accounts: accounts with an order before the cutoff.
    """
    offered = recommended[recommended >= 0]
    if len(offered) == 0:
        return float("nan")
    return float(-np.log2((n_buyers[offered] + 1.0) / (n_accounts + 1.0)).mean())
