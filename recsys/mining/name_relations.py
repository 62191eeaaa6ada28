"""Relations between products told by their names alone, learned from pairs whose relation is known.

A support vector machine on a kernel of pairs, the sum of three that are each 1 between a pair and itself. With k the
cosine of two names' letters::

    tensor    k(a, c) k(b, d) + k(a, d) k(b, c)              the two names are like those of a known pair
    metric    (k(a, c) - k(a, d) - k(b, c) + k(b, d))^2      the two names differ by what a known pair differs by
    likeness  exp(-|x - y|^2 / (2 n))                        they are as alike as a known pair, x of n features

Sources: Basilico, Hofmann 2004 (tensor); Vert, Qiu, Noble 2007, equation 5 (metric).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from recsys.arrays import FloatArray
from recsys.errors import DataError
from recsys.products.name_likeness import NameLikeness

_BLOCK: Final = 1_000
"""Pairs that are compared with all known ones at a time; bounds the memory."""
_LEAST: Final = 1e-9
Fold = tuple[NDArray[np.intp], NDArray[np.intp]]


def folds_of_products(
    first: Sequence[str], second: Sequence[str], n_folds: int, rng: np.random.Generator
) -> Iterator[Fold]:
    """Yield rows to learn from and rows to test on; what is learned from has no product of what is tested.

    Every pair is tested once. Pairs that share a product with a tested one are left out of that fold.

    Args:
        first: one product of each pair, by id or name.
        second: the other.
        n_folds: how many, 2 or more.
        rng: deals the pairs out.
    """
    one, other = np.unique([*first, *second], return_inverse=True)[1].reshape(2, -1)
    for test in np.array_split(rng.permutation(len(one)), n_folds):
        tested = np.union1d(one[test], other[test])
        yield np.flatnonzero(~(np.isin(one, tested) | np.isin(other, tested))), test


class NameRelations(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Classifier of pairs of names.

    Attributes:
        classes_: the relations, sorted.

    Args:
        penalty: C of the support vector machine; .5 does nearly as well on an office supplier's judged pairs.
        n_folds: in which probabilities are calibrated, with no product in both parts where pairs allow it.
    """

    def __init__(self, penalty: float = 2.0, n_folds: int = 5) -> None:
        self.penalty = penalty
        self.n_folds = n_folds

    def fit(
        self,
        first: Sequence[str],
        second: Sequence[str],
        relation: Sequence[str],
        names: NameLikeness | None = None,
    ) -> Self:
        """Learn from pairs of names.

        Args:
            first: one name of each pair.
            second: the other; which of them stands first counts nothing.
            relation: of each pair; two relations at least, each of more pairs than there are folds.
            names: how rare letters are, of these names and those that will be asked for; default: of these.

        Raises:
            DataError: there are too few pairs of a relation.
        """
        known, counts = np.unique(relation, return_counts=True)
        if len(known) < 2 or counts.min() <= self.n_folds:
            told = ", ".join(f"{name} {count}" for name, count in zip(known.tolist(), counts.tolist(), strict=True))
            raise DataError(
                f"pairs of each relation == {told or 'none'}, must be two relations with more than {self.n_folds} "
                "pairs each; give more pairs or fewer folds"
            )
        pairs = sorted((*sorted(pair), told) for *pair, told in zip(first, second, relation, strict=True))
        self.first_, self.second_, relations = (list(part) for part in zip(*pairs, strict=True))
        target = np.array(relations)
        self.names_ = names or NameLikeness.of([*first, *second])
        alike = self.names_.between(self.first_, self.second_)
        self.scaler_ = StandardScaler().fit(alike)
        self.alike_ = self.scaler_.transform(alike)
        kernel = self._kernel(self.first_, self.second_)
        decided = self._held_out(kernel, target)
        is_tested = ~np.isnan(decided).any(axis=1)
        self.calibration_ = LogisticRegression().fit(decided[is_tested], target[is_tested])
        self.machine_ = self._machine().fit(kernel, target)
        self.classes_ = self.calibration_.classes_
        return self

    def predict_proba(self, first: Sequence[str], second: Sequence[str]) -> FloatArray:
        """Return the probability of each of `classes_` for pairs of names, `(n_pairs, n_classes)`."""
        found = np.empty((len(first), len(self.classes_)))
        for start in range(0, len(first), _BLOCK):
            block = slice(start, start + _BLOCK)
            decided = self.machine_.decision_function(self._kernel(first[block], second[block]))
            found[block] = self.calibration_.predict_proba(decided.reshape(len(first[block]), -1))
        return found

    def predict(self, first: Sequence[str], second: Sequence[str]) -> NDArray[np.str_]:
        """Return the likeliest relation of each pair."""
        return np.asarray(self.classes_[self.predict_proba(first, second).argmax(axis=1)])

    def _machine(self) -> SVC:
        return SVC(kernel="precomputed", C=self.penalty, decision_function_shape="ovo")

    def _held_out(self, kernel: FloatArray, target: NDArray[np.str_]) -> FloatArray:
        """Return what is decided of each pair by the rest, NaN where the rest lacks a relation, `(n_pairs, n_twos)`."""
        n_relations = len(np.unique(target))
        decided = np.full((len(target), n_relations * (n_relations - 1) // 2), np.nan)
        for learn, test in folds_of_products(self.first_, self.second_, self.n_folds, np.random.default_rng(0)):
            if len(np.unique(target[learn])) < n_relations:  # the pairs hang together: better theirs than none
                learn = np.setdiff1d(np.arange(len(target)), test)
            if len(np.unique(target[learn])) == n_relations:
                machine = self._machine().fit(kernel[np.ix_(learn, learn)], target[learn])
                decided[test] = machine.decision_function(kernel[np.ix_(test, learn)]).reshape(len(test), -1)
        return decided

    def _kernel(self, first: Sequence[str], second: Sequence[str]) -> FloatArray:
        """Return how alike pairs and the known pairs are, `(n_pairs, n_known)`."""
        a, b = self.names_.weights(first), self.names_.weights(second)
        c, d = self.names_.weights(self.first_), self.names_.weights(self.second_)
        ac, ad, bc, bd = ((one @ other.T).toarray() for one, other in ((a, c), (a, d), (b, c), (b, d)))
        ab, cd = (np.asarray(one.multiply(other).sum(axis=1)).ravel() for one, other in ((a, b), (c, d)))
        tensor = (ac * bd + ad * bc) / np.sqrt(np.outer(1 + ab**2, 1 + cd**2))
        metric = (ac - ad - bc + bd) ** 2 / np.maximum(np.outer(2 - 2 * ab, 2 - 2 * cd), _LEAST)
        alike = self.scaler_.transform(self.names_.between(first, second))
        likeness = rbf_kernel(alike, self.alike_, gamma=0.5 / alike.shape[1])
        return np.asarray(tensor + metric + likeness)
