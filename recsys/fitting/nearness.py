"""How alike products are, so that a reason can start from the nearest thing that an account owns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
import scipy.sparse as sp

from recsys.arrays import sparse_lookup
from recsys.contracts import columns as c
from recsys.fitting.products import Codes, Vocabulary
from recsys.offer_model.tables import Bool, Float64, Int32
from recsys.products.name_words import WordMatrix, alike_in_groups
from recsys.products.names import parse_name

SAME_SHELF: Final = 0.1
"""Nearness of two products that have no more than their category in common."""

_LEAST_LIKENESS: Final = 0.4
"""Of names that are called close, a weighted Jaccard index: more than a colour or a pattern in common."""


@dataclass(frozen=True)
class Nearness:
    """How alike the products of a catalogue are.

    Attributes:
        likeness: of names, where it is `_LEAST_LIKENESS` or more, `(n_products, n_products)`.
        family: code of each product, -1 for none.
        category: likewise.
    """

    likeness: sp.csr_array
    family: Int32
    category: Int32

    @classmethod
    def of(cls, products: Vocabulary, frame: pd.DataFrame) -> Nearness:
        """Return the nearness of the products of a table; names are compared within a category."""
        category = Codes.of(products.column(frame, c.CATEGORY, None)).codes
        names = [parse_name(name).core for name in products.column(frame, c.NAME, None)]
        alike = alike_in_groups(WordMatrix.of(names).weights, category.astype(np.int64), _LEAST_LIKENESS)
        shape = (len(products), len(products))
        likeness = sp.csr_array((alike.likeness, (alike.first, alike.second)), shape=shape)
        return cls(likeness, Codes.of(products.column(frame, c.FAMILY, None)).codes, category)

    def between(self, one: Int32, other: Int32) -> Float64:
        """Return the nearness of pairs: 1 within a family, else the likeness of names, else `SAME_SHELF`, else 0."""
        shelf = np.where(_same(self.category, one, other), SAME_SHELF, 0.0)
        near = np.maximum(sparse_lookup(self.likeness, one, other), shelf)
        return np.where(_same(self.family, one, other), 1.0, near)


def _same(codes: Int32, one: Int32, other: Int32) -> Bool:
    same: Bool = (codes[one] == codes[other]) & (codes[one] >= 0)
    return same
