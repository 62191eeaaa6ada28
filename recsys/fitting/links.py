"""What hangs on one product: mined rules, cart weights and the rungs above it, sorted by that product."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TypeVar

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.contracts import columns as c
from recsys.fitting.products import Ranges, Vocabulary, distinct_pairs, ranges, rank_within
from recsys.offer_model.tables import (
    STRONGEST_CONFIDENCE,
    CartCurve,
    CartTable,
    Float32,
    Int32,
    LadderTable,
    SubstituteTable,
    noisy_or_curve,
)

_T = TypeVar("_T", CartTable, LadderTable)


@dataclass(frozen=True)
class CartWeights:
    """Learned weights that rank what goes with a cart.

    The score of a product is its prior and the sum of its weights over the cart's products, with a share of its lifts
    (see `CartTable`); `curve` turns it into the probability that the product is in the same order.

    Attributes:
        weights: shape `(n_products, n_products)` over the history's products, antecedent by row; sparse.
        lifts: of the same entries.
        prior: score of each product for an empty cart, shape `(n_products,)`.
        curve: knots of score and probability, both increasing.
    """

    weights: sp.csr_array
    lifts: sp.csr_array
    prior: Float32
    curve: CartCurve


def strongest_rules(rules: pd.DataFrame, per_antecedent: int) -> pd.DataFrame:
    """Return the `per_antecedent` rules of each product: related pairs first, then those that the most orders back."""
    unrelated = (rules[c.RELATION] == "none").to_numpy(dtype=bool)
    ranked = rules.assign(unrelated=unrelated).sort_values(
        [c.ANTECEDENT_ID, "unrelated", c.N_BOTH, c.CONSEQUENT_ID], ascending=[True, True, False, True], kind="stable"
    )
    return (
        ranked.groupby(c.ANTECEDENT_ID, sort=False)
        .head(per_antecedent)
        .drop(columns="unrelated")
        .reset_index(drop=True)
    )


def substitute_table(rules: pd.DataFrame, products: Vocabulary) -> tuple[SubstituteTable, Ranges]:
    """Return each product's substitutes; a pair mined in one direction counts in both."""
    pairs = rules[(rules[c.RELATION] == "substitute").to_numpy(dtype=bool)]
    one, other = products.rows_of(pairs[c.ANTECEDENT_ID]), products.rows_of(pairs[c.CONSEQUENT_ID])
    known = (one >= 0) & (other >= 0)
    both = np.concatenate([one[known], other[known]]), np.concatenate([other[known], one[known]])
    product, substitute = distinct_pairs(*both)
    return SubstituteTable(substitute), ranges(product, len(products))


def cart_table(cart: CartWeights, products: Vocabulary, per_antecedent: int) -> tuple[CartTable, Ranges]:
    """Return the `per_antecedent` weights of each product that are largest in size, with or without their lift."""
    matrix = sp.coo_array(cart.weights)
    antecedent = products.history_rows[matrix.row]
    consequent = products.history_rows[matrix.col]
    weight, lift = matrix.data.astype(np.float32), sp.coo_array(cart.lifts).data.astype(np.float32)
    size = np.maximum(np.abs(weight), np.abs(weight + lift))
    strongest = np.lexsort((consequent, -size, antecedent))
    strongest = strongest[rank_within(antecedent[strongest]) < per_antecedent]
    keep = strongest[(size[strongest] != 0) & (antecedent[strongest] != consequent[strongest])]
    order = keep[np.lexsort((consequent[keep], antecedent[keep]))]
    return _sorted(CartTable(consequent, weight, lift), antecedent, order, len(products))


def ladder_table(edges: pd.DataFrame, products: Vocabulary) -> tuple[LadderTable, Ranges]:
    """Return the upgrade edges by lower rung, the most climbed first, without evidence yet."""
    lower = products.rows_of(edges[c.FROM_PRODUCT_ID])
    upper = products.rows_of(edges[c.TO_PRODUCT_ID])
    rate = edges[c.CLIMB_RATE].fillna(0).to_numpy(dtype=np.float32)
    table = LadderTable(
        to_product=upper,
        climb_rate=rate,
        n_standing=edges[c.N_STANDING].fillna(0).to_numpy(dtype=np.int32),
        n_climbed=edges[c.N_CLIMBED].fillna(0).to_numpy(dtype=np.int32),
        evidence=np.full(len(edges), -1, dtype=np.int32),
    )
    order = np.lexsort((upper, -rate, lower))
    order = order[(lower[order] >= 0) & (upper[order] >= 0)]
    return _sorted(table, lower, order, len(products))


def weights_of_rules(rules: pd.DataFrame, products: NDArray[np.object_]) -> CartWeights:
    """Return the weights that make a cart's score the noisy-or of its complements' confidences.

    `weight = -log(1 - confidence)`, so that `1 - exp(-sum)` is `1 - prod(1 - confidence)` (Pearl 1988, section
    4.3.2): each product of the cart is one more cause. Used where no learned weights are given.
    """
    complements = rules[(rules[c.RELATION] == "complement").to_numpy(dtype=bool)]
    index = pd.Index(products)
    antecedent = index.get_indexer(pd.Index(complements[c.ANTECEDENT_ID].astype(object)))
    consequent = index.get_indexer(pd.Index(complements[c.CONSEQUENT_ID].astype(object)))
    confidence = complements[c.CONFIDENCE].to_numpy(dtype=np.float64).clip(0.0, STRONGEST_CONFIDENCE)
    known = (antecedent >= 0) & (consequent >= 0)
    shape = (len(products), len(products))
    weights = sp.coo_array((-np.log1p(-confidence[known]), (antecedent[known], consequent[known])), shape=shape)
    rows = sp.csr_array(weights)
    return CartWeights(rows, 0 * rows, np.zeros(len(products), dtype=np.float32), noisy_or_curve())


def _sorted(table: _T, owner: Int32, order: NDArray[np.intp], n_products: int) -> tuple[_T, Ranges]:
    rows = {field.name: getattr(table, field.name)[order] for field in fields(table)}
    return replace(table, **rows), ranges(owner[order], n_products)
