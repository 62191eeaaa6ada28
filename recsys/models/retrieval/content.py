"""Content likeness: products whose names read like those the account buys; a name can be scored before any sale."""

from __future__ import annotations

from typing import Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import Field
from sklearn.base import BaseEstimator
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.utils.validation import check_is_fitted

from recsys.arrays import AnyFloatArray, BoolArray, RowArray
from recsys.contracts.config import Config
from recsys.models.retrieval.retriever import scaled_rows
from recsys.models.snapshot import Snapshot


class ContentConfig(Config):
    """How names are compared.

    Attributes:
        half_life_days: a purchase counts half after so many days in the account's profile.
        max_terms: the most frequent character n-grams that are kept; bounds memory.
        n_alike: the most alike products of each product that can be its nearest; bounds memory.
    """

    half_life_days: float = Field(default=90.0, gt=0)
    max_terms: int = Field(default=20_000, ge=1)
    n_alike: int = Field(default=100, ge=1)


class ContentRetriever(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    r"""Cosine of TF-IDF vectors (character 3- to 5-grams within words) of names.

    taste: mean cosine to the account's decayed purchases; nearest: the highest cosine to a product it owns; recent:
    the same, each cosine times the decay of that purchase.
    """

    def __init__(self, config: ContentConfig | None = None) -> None:
        self.config = config

    @property
    def channels(self) -> tuple[str, ...]:
        """Likeness to all that is owned, to the nearest owned product, and to the nearest bought lately."""
        return ("name_taste", "name_nearest", "name_recent")

    def fit(self, snapshot: Snapshot) -> Self:
        """Learn the vectors of the names and the profile of every account."""
        config = self.config or ContentConfig()
        sold = np.bincount(snapshot.lines.product, minlength=snapshot.shape[1]) > 0
        vectors = name_vectors(snapshot.names, sold, config.max_terms)
        decayed = snapshot.decayed(config.half_life_days)
        self.profile_ = scaled_rows(decayed, np.asarray(decayed.sum(axis=1)).ravel())
        self.vectors_, self.transposed_ = vectors, vectors.T.tocsr()
        self.alike_ = _alike(vectors, sold, config.n_alike)
        self.decayed_ = decayed
        return self

    def score(self, accounts: RowArray) -> AnyFloatArray:
        """Return the likeness of every name to each account's purchases; 0 without names."""
        check_is_fitted(self)
        decayed = self.decayed_[accounts]
        scores = np.zeros((len(self.channels), len(accounts), self.vectors_.shape[0]), dtype=np.float32)
        scores[0] = ((self.profile_[accounts] @ self.vectors_) @ self.transposed_).toarray()
        _raise_to_highest(decayed, self.alike_, scores[1], scores[2])
        return scores


def name_vectors(names: NDArray[np.object_], sold: BoolArray, max_terms: int) -> sp.csr_array:
    """Return a vector for every name, in the terms and weights of what was sold: later names change none of them."""
    texts = [str(name).lower() for name in names]
    known = [text for text, was_sold in zip(texts, sold, strict=True) if was_sold and text.strip()]
    if not known:
        return sp.csr_array(np.zeros((len(texts), 1), dtype=np.float32))
    vectorizer = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, max_features=max_terms, dtype=np.float32
    )
    return sp.csr_array(vectorizer.fit(known).transform(texts))


def _alike(vectors: sp.csr_array, sold: BoolArray, n_alike: int, block: int = 1024) -> sp.csr_array:
    """Return the cosine of each product to its most alike ones, 0 elsewhere, `(n_products, n_products)`.

    The most alike of those that were sold and of those that were not are kept apart: the new crowd out nothing known.
    """
    groups = [np.flatnonzero(group) for group in (sold, ~sold) if group.any()]
    transposed = vectors.T.tocsr()
    parts = []
    for start in range(0, vectors.shape[0], block):
        cosine = (vectors[start : start + block] @ transposed).toarray()
        rows = np.arange(len(cosine))
        cosine[rows, start + rows] = 0.0  # a product is not its own kin
        if len(groups) == 1:
            cosine = _highest_of_row(cosine, n_alike)
        else:
            for group in groups:
                cosine[:, group] = _highest_of_row(cosine[:, group], n_alike)
        parts.append(sp.csr_array(cosine))
    return sp.csr_array(sp.vstack(parts))


def _highest_of_row(values: AnyFloatArray, k: int) -> AnyFloatArray:
    """Return the k highest of each row, ties at the edge too, 0 elsewhere."""
    place = values.shape[1] - k
    if place <= 0:
        return values
    edge = np.partition(values, place, axis=1)[:, place]
    return np.where(values < edge[:, None], 0.0, values)


def _raise_to_highest(
    decayed: sp.csr_array, alike: sp.csr_array, nearest: AnyFloatArray, recent: AnyFloatArray
) -> None:
    """Put the highest likeness to what an account owns into `nearest`, and times its decay into `recent`.

    Both are `(n_accounts, n_products)`, zero before, and changed in place.
    """
    row = np.repeat(np.arange(decayed.shape[0], dtype=np.int64), np.diff(decayed.indptr))
    kin = alike[decayed.indices]
    n_kin = np.diff(kin.indptr)
    place = np.repeat(row, n_kin) * alike.shape[1] + kin.indices
    np.maximum.at(nearest.reshape(-1), place, kin.data)
    np.maximum.at(recent.reshape(-1), place, kin.data * np.repeat(decayed.data, n_kin))
