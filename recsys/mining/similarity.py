"""Which pairs are alternatives to each other: alike in name, category or company."""

from __future__ import annotations

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import Field
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from recsys.arrays import IntArray, unique_sorted
from recsys.contracts import columns as c
from recsys.contracts.config import Config

WORD = r"[^\W_]+"
BLOCK_ROWS = 2_000


class LikenessConfig(Config):
    """When two products are alike enough to be alternatives. Any one kind of likeness is enough.

    Attributes:
        use_category: products of one category are alike; off where categories are broad.
        min_name_cosine: cosine of the TF-IDF weights of two names' words, in (0, 1]; 0.6 is about three rare words of
            five shared.
        min_companion_cosine: cosine of how strongly two products go with the same others, in (0, 1].
    """

    use_category: bool = True
    min_name_cosine: float = Field(0.6, gt=0, le=1)
    min_companion_cosine: float = Field(0.5, gt=0, le=1)


def alike_pairs(
    products: pd.DataFrame | None,
    product_ids: NDArray[np.object_],
    companions: sp.csr_array,
    config: LikenessConfig,
) -> tuple[IntArray, IntArray]:
    """Return the pairs of products that are alike, as numbers (left, right) with left < right, sorted.

    Args:
        products: contract columns `product_id` and, where known, `name` and `category`; None leaves both out.
        product_ids: sorted, shape `(n_products,)`.
        companions: how strongly two products go together, symmetric, 0 where they do not, `(n_products, n_products)`.
        config: the thresholds.
    """
    keys = [_alike_rows(companions, config.min_companion_cosine)]
    if products is not None:
        known = products.drop_duplicates(c.PRODUCT_ID).set_index(c.PRODUCT_ID).reindex(product_ids)
        if config.use_category and c.CATEGORY in known:
            keys.append(_same_category(known[c.CATEGORY]))
        if c.NAME in known:
            keys.append(_alike_names(known[c.NAME], config.min_name_cosine))
    key = unique_sorted(np.concatenate(keys))
    return key // len(product_ids), key % len(product_ids)


def _same_category(category: pd.Series) -> IntArray:
    code, _ = pd.factorize(category)
    rows = np.flatnonzero(code >= 0)
    member = sp.csr_array((np.ones(len(rows)), (rows, code[rows])), shape=(len(code), int(code.max(initial=0)) + 1))
    return _keys(sp.triu(member @ member.T, k=1))


def _alike_names(name: pd.Series, min_cosine: float) -> IntArray:
    text = name.fillna("").astype(str)
    if not text.str.contains(WORD).any():
        return np.empty(0, dtype=np.int64)
    return _alike_rows(sp.csr_array(TfidfVectorizer(token_pattern=WORD).fit_transform(text)), min_cosine)


def _alike_rows(weights: sp.csr_array, min_cosine: float) -> IntArray:
    rows = sp.csr_array(normalize(weights))
    found = []
    for start in range(0, rows.shape[0], BLOCK_ROWS):
        cosine = sp.triu(rows[start : start + BLOCK_ROWS] @ rows.T, k=start + 1).tocoo()
        keep = cosine.data >= min_cosine - 1e-9
        found.append((cosine.row[keep].astype(np.int64) + start) * rows.shape[0] + cosine.col[keep])
    return np.concatenate(found)


def _keys(pairs: sp.coo_array) -> IntArray:
    found = pairs.tocoo()
    return np.asarray(found.row.astype(np.int64) * pairs.shape[1] + found.col)
