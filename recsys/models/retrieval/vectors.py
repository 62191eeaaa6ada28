"""Accounts as vectors over products."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from recsys.arrays import RowArray, distinct
from recsys.models.snapshot import Snapshot


def account_vectors(snapshot: Snapshot, purchases: sp.csr_array, idf_power: float) -> sp.csr_array:
    """Return `purchases` `(n_accounts, n_products)` times `log(n_accounts / n_owners)^idf_power`, rows of length 1."""
    owners = np.bincount(snapshot.pairs.product, minlength=snapshot.shape[1])
    standing = max(len(distinct(snapshot.pairs.account)), 2)
    idf = (np.log(standing / np.maximum(owners, 1)) ** idf_power).astype(np.float32)
    return unit_rows(sp.csr_array(purchases @ sp.diags_array(idf)))


def unit_rows(matrix: sp.csr_array) -> sp.csr_array:
    """Return the matrix with rows of length 1; empty rows stay empty."""
    norm = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return scaled_rows(matrix, norm)


def scaled_rows(matrix: sp.csr_array, divisor: np.ndarray) -> sp.csr_array:
    """Return each row divided by its divisor, `(n_rows,)`; rows with a divisor of 0 become 0."""
    inverse = np.divide(1.0, divisor, out=np.zeros(len(divisor)), where=divisor > 0)
    return sp.csr_array(sp.diags_array(inverse.astype(np.float32)) @ matrix)


def latest_accounts(snapshot: Snapshot, limit: int) -> RowArray:
    """Return the rows of the `limit` accounts that bought last, ascending."""
    last_age = np.full(snapshot.shape[0], np.inf, dtype=np.float32)
    np.minimum.at(last_age, snapshot.pairs.account, snapshot.pairs.last_age)
    latest = np.argsort(last_age, kind="stable")[: min(limit, int(np.isfinite(last_age).sum()))]
    return np.sort(latest).astype(np.int32)
