"""Cart completion on real orders: the learned weights against confidence, cosine and lift."""

from __future__ import annotations

import json
import os
import platform
import warnings
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from recsys.arrays import RowArray
from recsys.backtesting.cart_completion import CartCompletion, complete_carts
from recsys.backtesting.cart_task import (
    CartMethod,
    CartSplit,
    CartTask,
    cart_lineup,
    hide_one_line,
    in_blocks,
    sample_orders,
    split_carts,
)
from recsys.backtesting.trainer import CART_AND_ACCOUNT, engine_methods, freeze_ladder, pipeline_trainer
from recsys.data.dataset import ReadSpec, read_dataset
from recsys.data.history import History, binary
from recsys.evaluation.statistics.bootstrap import paired_difference
from recsys.models.cart import CartConfig, CartModel
from tests.backtesting.cart_comparison import CartWeightsMethod, best_of, hit_rate_gain
from training.gate import TrainConfig

OURS = "cart weights"
K = 10
LEARNED_FROM = (1_000, 2_000, 4_000, 7_868)
"""Baskets of the learning curve; the last is four fifths of all."""
JUNE = datetime(2011, 6, 1, tzinfo=UTC)
CUTOFFS = tuple(datetime(2011, month, 1, tzinfo=UTC) for month in (6, 7, 8))
PROOF = Path(__file__).resolve().parents[2] / "docs" / "proof"


@pytest.fixture(scope="module")
def groceries(groceries_path: Path) -> sp.csr_array:
    lines = pd.read_csv(groceries_path)
    basket, _ = pd.factorize(lines["basket_id"])
    item, names = pd.factorize(lines["item"], sort=True)
    return binary(basket.astype(np.int32), item.astype(np.int32), (int(basket.max()) + 1, len(names)))


def completed(split: CartSplit, config: CartConfig, *others: CartMethod) -> CartCompletion:
    ours = CartWeightsMethod(CartModel(config).fit(split.orders, split.age_days))
    methods = [*cart_lineup(split.orders), ours, *others]
    return complete_carts(split.task, methods, K, np.random.default_rng(0))


def fold_of(baskets: sp.csr_array, fold: int, n_folds: int = 5) -> CartSplit:
    """The baskets have no time: every fifth is later."""
    later = np.arange(baskets.shape[0]) % n_folds == fold
    held, earlier = baskets[later], baskets[~later]
    rng = np.random.default_rng(fold)
    chosen = held[sample_orders(held, held.shape[0], rng)]
    nobody = np.full(chosen.shape[0], -1, dtype=np.int32)
    task = hide_one_line(chosen, nobody, sp.csr_array((1, baskets.shape[1])), rng)
    return CartSplit(earlier, np.zeros(earlier.shape[0]), task)


def best_baseline(found: CartCompletion) -> str:
    return best_of(found, [one.name for one in found.methods if "," in one.name]).name


def ratio(found: CartCompletion, name: str = OURS) -> float:
    best = found.method(best_baseline(found)).hit_rate.estimate
    return found.method(name).hit_rate.estimate / best


@pytest.mark.proof
def test_online_retail_carts_are_completed_a_sixth_more_often(online_retail_history: History) -> None:
    split = split_carts(online_retail_history, JUNE, 60, 2_000, np.random.default_rng(0))
    found = completed(split, CartConfig())
    assert ratio(found) >= 1.15
    assert hit_rate_gain(found, OURS, best_baseline(found), np.random.default_rng(1)).low > 0
    assert set(found.n_by_kind) == {"new", "repeat", "unknown"}


def test_grocery_baskets_are_completed_more_often_than_by_any_pair_measure(groceries: sp.csr_array) -> None:
    """169 items and no accounts: popularity alone reaches 96 % of the best pair measure, so there is little to win.

    The best pair measure is the plain one, the strongest confidence over the cart; summed forms and cosine are at most
    level with it, lift is far below. What else was tried, and how the hit rate grows with the number of baskets,
    stands in the proof."""
    pooled = over_folds([completed(fold_of(groceries, fold), CartConfig()) for fold in range(5)])
    best = max((name for name in pooled if "," in name), key=lambda name: pooled[name].mean())
    assert best == "confidence, best"
    assert pooled[OURS].mean() / pooled[best].mean() >= 1.03
    assert paired_difference(pooled[OURS], pooled[best], np.random.default_rng(0)).low > 0


@pytest.mark.proof
def test_proof_of_cart_weights_on_invoices(online_retail_history: History) -> None:
    proof: list[dict[str, Any]] = []
    for cutoff in CUTOFFS:
        found = completed(split_carts(online_retail_history, cutoff, 30, 4_000, np.random.default_rng(0)), CartConfig())
        proof.append({"cutoff": cutoff.isoformat(), **written(found)})
        assert ratio(found) >= 1.15
    mean = float(np.mean([one["ratios"][OURS] for one in proof]))
    renew_json("cart_completion.json", online_retail_ii=proof, mean_ratio_online_retail_ii=mean)


@pytest.mark.proof
def test_proof_of_cart_weights_on_groceries(groceries: sp.csr_array) -> None:
    proof: dict[str, Any] = groceries_proof(groceries)
    renew_json("cart_completion.json", groceries=proof)
    # The mark of 1.15 is out of reach there: the regression that has seen the hidden lines stays below it too.
    ratios = proof["ratio_to_best_pair_measure"]
    assert ratios[OURS] >= 1.03
    assert max(ratios.values()) < 1.15


def groceries_proof(groceries: sp.csr_array) -> dict[str, object]:
    """All methods over the carts of five folds together, and the cart weights on fewer baskets."""
    found, curve = [], []
    for fold in range(5):
        split = fold_of(groceries, fold)
        logistic, network = Logistic(split.orders), Network(split.orders)
        ours = CartWeightsMethod(CartModel(CartConfig()).fit(split.orders))
        blend = Blend(logistic, network, ours.model.score)
        others = (logistic, network, blend, BasketNeighbours(split.orders), SawTheAnswers(groceries))
        found.append(completed(split, CartConfig(), *others))
        curve.append(learning_curve(split, np.random.default_rng(fold)))
    pooled = over_folds(found)
    best = max((name for name in pooled if "," in name), key=lambda name: pooled[name].mean())
    return {
        "n_carts": len(pooled[OURS]),
        "hit_rate": {name: float(hits.mean()) for name, hits in pooled.items()},
        "best_pair_measure": best,
        "ratio_to_best_pair_measure": {
            name: float(hits.mean() / pooled[best].mean()) for name, hits in pooled.items() if "," not in name
        },
        "ratio_of_cart_weights_to": {
            name: float(pooled[OURS].mean() / hits.mean()) for name, hits in pooled.items() if "," in name
        },
        "gain": asdict(paired_difference(pooled[OURS], pooled[best], np.random.default_rng(0))),
        "hit_rate_by_baskets_learned_from": {
            size: {name: float(np.concatenate([one[size][name] for one in curve]).mean()) for name in (OURS, best)}
            for size in LEARNED_FROM
        },
    }


def over_folds(found: list[CartCompletion]) -> dict[str, np.ndarray]:
    """Whether each method hit, over the carts of all folds."""
    names = [one.name for one in found[0].methods]
    return {name: np.concatenate([one.method(name).hits for one in found]).astype(float) for name in names}


def learning_curve(split: CartSplit, rng: np.random.Generator) -> dict[int, dict[str, np.ndarray]]:
    order = rng.permutation(split.orders.shape[0])
    fewer = {size: split.orders[np.sort(order[:size])] for size in LEARNED_FROM}
    return {
        size: over_folds([completed(CartSplit(orders, np.zeros(orders.shape[0]), split.task), CartConfig())])
        for size, orders in fewer.items()
    }


@pytest.mark.proof
def test_proof_of_cart_and_account_evidence(
    online_retail_history: History, online_retail_path: Path, tmp_path: Path
) -> None:
    def read(as_of: datetime):
        return read_dataset(ReadSpec(orders=str(online_retail_path), preset="online-retail-ii", as_of=as_of))

    config = TrainConfig()
    ladder = freeze_ladder(read, CUTOFFS[0], config)
    train = pipeline_trainer(read, online_retail_history, config, ladder, tmp_path)
    results = []
    for cutoff in CUTOFFS:
        trained: Any = train(cutoff)  # of the pipeline, which has its engine too
        engine = trained.engine
        found = completed(
            split_carts(online_retail_history, cutoff, 30, 4_000, np.random.default_rng(0)),
            config.cart,
            *engine_methods(engine, online_retail_history),
        )
        results.append({"cutoff": cutoff.isoformat(), **written(found)})
        assert ratio(found, CART_AND_ACCOUNT) >= 1.15
    write_json("cart_completion_engine.json", {"machine": machine(), "online_retail_ii": results})


def hidden_one_by_one(baskets: sp.csr_array) -> tuple[sp.csr_array, np.ndarray, np.ndarray]:
    """Each line of each basket hidden in turn: the rest, the hidden item, and the size of the basket."""
    full = baskets[np.diff(baskets.indptr) >= 2]
    size = np.diff(full.indptr)
    row = np.repeat(np.arange(full.shape[0]), size)
    rest = full[row].tolil()
    rest[np.arange(len(row)), full.indices] = 0
    return rest.tocsr(), full.indices, size[row]


class Scored:
    """Ranks by a classifier of the hidden item given the rest of the basket."""

    name: str
    model: LogisticRegression | MLPClassifier

    def recommend(self, task: CartTask, k: int) -> RowArray:
        return in_blocks(task.carts, k, self.scores)

    def scores(self, carts: sp.csr_array) -> np.ndarray:
        scores = np.zeros(carts.shape, dtype=np.float32)
        scores[:, self.model.classes_] = self.model.predict_proba(carts)
        return scores


class Logistic(Scored):
    """A multinomial logistic regression: additive, as the cart weights are, but fitted to the very question."""

    name = "logistic regression"

    def __init__(self, baskets: sp.csr_array) -> None:
        rest, hidden, size = hidden_one_by_one(baskets)
        self.model = LogisticRegression(C=0.1, max_iter=300).fit(rest, hidden, sample_weight=2.0 / size)


class SawTheAnswers(Logistic):
    """The same fitted on all baskets, test ones too: what an additive model could reach if it knew the answers."""

    name = "ceiling: logistic regression that saw the answers"


class Network(Scored):
    """One hidden layer on the masked basket: a denoising autoencoder of one missing item."""

    name = "network of 128 units"

    def __init__(self, baskets: sp.csr_array) -> None:
        rest, hidden, _ = hidden_one_by_one(baskets)
        self.model = MLPClassifier((128,), alpha=1e-2, max_iter=8, batch_size=256, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # stopped early on purpose
            self.model.fit(rest, hidden)


class BasketNeighbours:
    """What the 500 baskets that are most alike hold, by Jaccard likeness with IDF, each weighed by its likeness."""

    name = "nearest 500 baskets"

    def __init__(self, baskets: sp.csr_array) -> None:
        self.baskets = baskets[np.diff(baskets.indptr) >= 2].astype(np.float64)
        owners = np.bincount(self.baskets.indices, minlength=baskets.shape[1])
        self.weight = np.log(self.baskets.shape[0] / np.maximum(owners, 1))
        self.size = self.baskets @ self.weight

    def recommend(self, task: CartTask, k: int) -> RowArray:
        return in_blocks(task.carts, k, self.scores)

    def scores(self, carts: sp.csr_array) -> np.ndarray:
        shared = (carts.astype(np.float64) @ sp.diags_array(self.weight) @ self.baskets.T).toarray()
        either = (carts @ self.weight)[:, None] + self.size[None, :] - shared
        alike = shared / np.maximum(either, 1e-9)
        edge = np.partition(alike, -500, axis=1)[:, -500]
        votes = np.where(alike >= edge[:, None], alike, 0.0) @ self.baskets
        return (votes / np.maximum(votes.max(axis=1, keepdims=True), 1e-9) + 1e-6).astype(np.float32)


class Blend:
    """The product of the shares that three models give each item."""

    name = "blend of cart weights, logistic regression and network"

    def __init__(self, logistic: Logistic, network: Network, weights: Callable[[sp.csr_array], np.ndarray]) -> None:
        self.parts = (logistic.scores, network.scores, weights)

    def recommend(self, task: CartTask, k: int) -> RowArray:
        return in_blocks(task.carts, k, self.scores)

    def scores(self, carts: sp.csr_array) -> np.ndarray:
        shares = [np.maximum(part(carts), 1e-5) for part in self.parts]
        logs = [np.log(share / share.sum(axis=1, keepdims=True)) for share in shares]
        return np.exp(np.mean(logs, axis=0)).astype(np.float32)


def write_json(name: str, content: dict[str, object]) -> None:
    PROOF.mkdir(parents=True, exist_ok=True)
    (PROOF / name).write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def renew_json(name: str, **sections: object) -> None:
    """Replace some sections of a proof and keep the others; each says when it was made."""
    file = PROOF / name
    kept = json.loads(file.read_text("utf-8")) if file.exists() else {}
    made = {f"{section}_machine": machine() for section in sections if not section.startswith("mean")}
    write_json(name, {**kept, **sections, **made})


def written(found: CartCompletion) -> dict[str, object]:
    best = best_baseline(found)
    ours = [one.name for one in found.methods if one.name == OURS or ":" in one.name]
    gains = {name: asdict(hit_rate_gain(found, name, best, np.random.default_rng(1))) for name in ours}
    return {
        **found.to_dict(),
        "best_pair_measure": best,
        "ratios": {name: ratio(found, name) for name in ours},
        "gains": gains,
    }


def machine() -> dict[str, object]:
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
    }
