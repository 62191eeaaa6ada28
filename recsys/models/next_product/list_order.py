"""Trees that learn the order of an account's whole list, and whether they order better than one candidate at a time.

A classifier learns of each candidate whether it is bought. LightGBM's ranking objectives learn of a list which of its
candidates stand above which; how likely its account buys anything they never see, so they join the classifier instead
of taking its place: the calibration needs both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

import numpy as np
from sklearn.base import BaseEstimator

from recsys.arrays import AnyFloatArray, BoolArray, FloatArray, IntArray, RowArray
from recsys.data.history import stands_in
from recsys.extras import missing_extra
from recsys.models.next_product.examples import blocks, sample
from recsys.models.next_product.folds import KeptWindow

if TYPE_CHECKING:
    from lightgbm import Booster

LearningObjective = Literal["pointwise", "listwise", "auto"]


class ListTrees(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Log-odds that a candidate is the next of its account's list to be bought, but for a constant of the account.

    A softmax over each list, whose cross entropy bounds its NDCG (Bruch 2021, XE-NDCG, as LightGBM's `rank_xendcg`).

    Args:
        n_trees: boosting rounds; more and smaller ones than a classifier's, which overfit a list less.
        learning_rate: shrinkage of each tree.
        max_leaf_nodes: leaves a tree.
        min_leaf: candidates a leaf must hold.
        l2: penalty on leaf values.
        max_features: share of the features that each split may look at.
        random_state: seed of the trees.

    Attributes:
        text_: the trees in LightGBM's own text format; no pickle.
    """

    def __init__(
        self,
        n_trees: int = 120,
        learning_rate: float = 0.07,
        max_leaf_nodes: int = 15,
        min_leaf: int = 100,
        l2: float = 10.0,
        max_features: float = 0.3,
        random_state: int | None = None,
    ) -> None:
        self.n_trees = n_trees
        self.learning_rate = learning_rate
        self.max_leaf_nodes = max_leaf_nodes
        self.min_leaf = min_leaf
        self.l2 = l2
        self.max_features = max_features
        self.random_state = random_state

    def fit(self, values: AnyFloatArray, bought: BoolArray, lists: IntArray) -> Self:
        """Learn from lists of candidates, one after the other.

        Args:
            values: features, `(n, n_features)`.
            bought: whether each was bought, `(n,)`.
            lists: length of each list; their sum is `n`.

        Raises:
            MissingExtraError: LightGBM is not installed.
        """
        check_lightgbm()
        from lightgbm import Dataset, train

        asked = {
            "objective": "rank_xendcg",
            "learning_rate": self.learning_rate,
            "num_leaves": self.max_leaf_nodes,
            "min_data_in_leaf": self.min_leaf,
            "lambda_l2": self.l2,
            "feature_fraction_bynode": self.max_features,
            "seed": self.random_state or 0,
            "deterministic": True,
            "force_col_wise": True,  # else the faster way is found out by the clock, and they differ in the last bits
            "num_threads": 1,
            "verbose": -1,
        }
        data = Dataset(values, bought.astype(np.int32), group=lists)
        self.text_: str = train(asked, data, self.n_trees).model_to_string()
        return self

    def decision_function(self, values: AnyFloatArray) -> FloatArray:
        """Return the score of each candidate, `(n,)`; a row's does not depend on the others.

        Raises:
            MissingExtraError: LightGBM is not installed.
        """
        found: FloatArray = np.asarray(_booster(self.text_).predict(values, num_threads=1), dtype=np.float64)
        return found


@lru_cache(maxsize=16)
def _booster(text: str) -> Booster:
    check_lightgbm()
    from lightgbm import Booster

    return Booster(model_str=text)


def check_lightgbm() -> None:
    """Check that LightGBM is there.

    Raises:
        MissingExtraError: it is not.
    """
    if not has_lightgbm():
        raise missing_extra("lightgbm", ["lightgbm"], what='next_product.ranker.objective == "listwise"')


def has_lightgbm() -> bool:
    """Whether LightGBM is installed."""
    return find_spec("lightgbm") is not None


def list_lengths(account: RowArray) -> IntArray:
    """Return the length of each run of one account, in order.

    Example:
        >>> list_lengths(np.array([4, 4, 2, 7, 7, 7])).tolist()
        [2, 1, 3]
    """
    if not len(account):
        return np.zeros(0, dtype=np.int64)
    begins = np.flatnonzero(np.concatenate([[True], account[1:] != account[:-1]]))
    return np.diff(np.append(begins, len(account)))


_PLACES = 10
_MOST_JUDGED = 2_000  # accounts a window, which take some five seconds; ten thousand would tell half as small a gain
_TOGETHER = 64


def ndcg_of_lists(lists: IntArray, bought: BoolArray, n_bought: IntArray, score: AnyFloatArray) -> FloatArray:
    """Return the NDCG at 10 of each list in the order of its scores, `(n_lists,)`.

    Args:
        lists: length of each.
        bought: whether each candidate was bought, list after list.
        n_bought: what each list's account bought, whether it stands among the candidates or not; 1 at least.
        score: the highest stands first; ties in the given order.

    Example:
        >>> bought, score = np.array([True, False, True]), np.array([1.0, 2.0, 0.0])
        >>> ndcg_of_lists(np.array([2, 1]), bought, np.array([1, 1]), score).round(3)
        array([0.631, 1.   ])
    """
    row = np.repeat(np.arange(len(lists)), lists)
    order = np.lexsort((-score, row))
    place = np.arange(len(row)) - np.repeat(np.cumsum(lists) - lists, lists)
    discount = np.where(place < _PLACES, 1.0 / np.log2(place + 2.0), 0.0)
    ideal = np.cumsum(1.0 / np.log2(np.arange(_PLACES) + 2.0))
    gain = np.bincount(row, weights=discount * bought[order], minlength=len(lists))
    found: FloatArray = gain / ideal[np.minimum(n_bought, _PLACES) - 1]
    return found


def judged_orders(kept: KeptWindow, orders: Sequence[Callable[..., AnyFloatArray]]) -> FloatArray:
    """Return the NDCG at 10 of several orders for the later buyers of a window, `(n_accounts, n_orders)`.

    Args:
        kept: a window that none of the orders was learned from.
        orders: each returns what candidates are ordered by in its first column, as `FittedFold.inputs`.
    """
    n_bought = np.diff(kept.novel.indptr)
    buyers = sample(kept.accounts[n_bought[kept.accounts] > 0], _MOST_JUDGED, np.random.default_rng(0))
    found = [np.zeros((0, len(orders)))]
    for block in blocks(buyers, _TOGETHER):
        listed = kept.builder.block(block)
        lists, bought = list_lengths(listed.account), stands_in(kept.novel, listed.account, listed.product)
        wanted = n_bought[listed.account[np.cumsum(lists) - 1]]
        scores = [order(kept.builder, listed.account, listed.values)[:, 0] for order in orders]
        found.append(np.column_stack([ndcg_of_lists(lists, bought, wanted, score) for score in scores]))
    return np.concatenate(found)


class OrderChoice(NamedTuple):
    """How candidates are ordered, and why.

    Attributes:
        taken: what was learned.
        reason: in words, as of `because`.
    """

    taken: Literal["pointwise", "listwise"]
    reason: str

    @property
    def sentence(self) -> str:
        """What a person reads."""
        how = {"pointwise": "single candidates", "listwise": "single candidates and whole lists together"}
        return f"Order of offers: learned from {how[self.taken]}, because {self.reason}."


def asked_order(objective: LearningObjective, *, engines_own: bool) -> OrderChoice:
    """Return the order that is learned for a start; where the objective is `auto`, the past may say otherwise."""
    if not engines_own:
        return OrderChoice("pointwise", "the ranker is not the engine's own")
    if objective == "auto" and not has_lightgbm():
        missing = 'LightGBM, which learns from lists, is not installed: pip install "offer-engine[lightgbm]"'
        return OrderChoice("pointwise", missing)
    taken: Literal["pointwise", "listwise"] = "pointwise" if objective == "pointwise" else "listwise"
    return OrderChoice(taken, f"next_product.ranker.objective is {objective}")


_FEWEST = 30  # below, a standard error says little
_MORE_THAN_CHANCE = 2.0  # standard errors; one in forty comparisons of equals is ahead by more


def better_order(windows: Sequence[FloatArray]) -> OrderChoice:
    """Return the order to take: `listwise` where its NDCG is higher by more than two standard errors.

    Args:
        windows: NDCG at 10 of `pointwise` and of `listwise`, `(n_accounts, 2)`, of each window that was kept from both.
    """
    ndcg = np.concatenate([np.zeros((0, 2)), *windows])
    if len(ndcg) < _FEWEST:
        return OrderChoice("pointwise", f"{len(ndcg)} buyers in the held-out windows are too few to compare by")
    before, after = ndcg.mean(axis=0)
    error = float((ndcg[:, 1] - ndcg[:, 0]).std(ddof=1) / np.sqrt(len(ndcg)))
    wins = after - before > _MORE_THAN_CHANCE * error
    figures = f"NDCG@10 {before:.4f} without, {after:.4f} with them, standard error {error:.4f}"
    gain = "gain" if wins else "do not gain"
    held_out = f"{len(windows)} held-out window{'' if len(windows) == 1 else 's'}"
    said = f"whole lists {gain} more than chance in {held_out} with {len(ndcg):,} buyers"
    return OrderChoice("listwise" if wins else "pointwise", f"{said} ({figures})")
