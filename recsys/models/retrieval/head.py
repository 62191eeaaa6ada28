"""The head of the catalogue: the products that sell now, to which item-to-item matrices are limited."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from recsys.arrays import AnyFloatArray, RowArray
from recsys.models.snapshot import Snapshot


@dataclass(frozen=True)
class Head:
    """Some products of the catalogue.

    Attributes:
        products: their rows in the vocabulary, ascending, shape `(n_head,)`.
        n_products: size of the whole vocabulary.
    """

    products: RowArray
    n_products: int

    def of(self, matrix: sp.csr_array) -> sp.csr_array:
        """Return the columns of the head, `(n_rows, n_head)`."""
        return matrix if len(self.products) == self.n_products else matrix[:, self.products]

    def spread(self, scores: AnyFloatArray) -> AnyFloatArray:
        """Return scores of the head over the whole vocabulary, 0 elsewhere, `(n_rows, n_products)`."""
        if len(self.products) == self.n_products:
            return np.asarray(scores, dtype=np.float32)
        wide = np.zeros((scores.shape[0], self.n_products), dtype=np.float32)
        wide[:, self.products] = scores
        return wide


def take_head(snapshot: Snapshot, limit: int) -> Head:
    """Return the `limit` products whose owners bought them last and most (each owner decays with 90 days)."""
    weight = np.bincount(
        snapshot.pairs.product, weights=np.exp2(-snapshot.pairs.last_age / 90.0), minlength=snapshot.shape[1]
    )
    best = np.argsort(-weight, kind="stable")[:limit]
    return Head(np.sort(best).astype(np.int32), snapshot.shape[1])
