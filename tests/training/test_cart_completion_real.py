"""Cart completion on real orders: the learned weights against confidence, cosine and lift."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression

from recsys.data import ReadSpec, read_data
from recsys.data.history import History, binary
from recsys.evaluation.bootstrap import paired_difference
from recsys.mining.cart import CartConfig, CartModel
from training.backtest_carts import CART_AND_ACCOUNT, engine_methods
from training.backtest_trainer import freeze_ladder, pipeline_trainer
from training.baselines.protocol import RowArray
from training.cart_baselines import CartMethod, CartWeightsMethod, cart_lineup, in_blocks
from training.cart_completion import CartCompletion, complete_carts, hit_rate_gain
from training.cart_task import CartSplit, CartTask, draw_orders, hide_one_line, split_carts
from training.config import TrainConfig

OURS = "cart weights"
K = 10
JUNE = datetime(2011, 6, 1, tzinfo=UTC)
CUTOFFS = tuple(datetime(2011, month, 1, tzinfo=UTC) for month in (6, 7, 8))
PROOF = Path(__file__).resolve().parents[2] / "docs" / "proof"


@pytest.fixture(scope="module")
def online_retail(online_retail_path: Path) -> History:
    return read_data(ReadSpec(orders=str(online_retail_path), preset="online-retail-ii")).history()


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
    chosen = held[draw_orders(held, held.shape[0], rng)]
    nobody = np.full(chosen.shape[0], -1, dtype=np.int32)
    task = hide_one_line(chosen, nobody, sp.csr_array((1, baskets.shape[1])), rng)
    return CartSplit(earlier, np.zeros(earlier.shape[0]), task)


def best_baseline(found: CartCompletion) -> str:
    return found.best_of([one.name for one in found.methods if "," in one.name]).name


def ratio(found: CartCompletion, name: str = OURS) -> float:
    best = found.method(best_baseline(found)).hit_rate.estimate
    return found.method(name).hit_rate.estimate / best


def test_online_retail_carts_are_completed_a_sixth_more_often(online_retail: History) -> None:
    split = split_carts(online_retail, JUNE, 60, 2_000, np.random.default_rng(0))
    found = completed(split, CartConfig())
    assert ratio(found) >= 1.15
    assert hit_rate_gain(found, OURS, best_baseline(found), np.random.default_rng(1)).low > 0
    assert set(found.n_by_kind) == {"new", "repeat", "unknown"}


def test_grocery_baskets_are_completed_more_often_than_by_any_pair_measure(groceries: sp.csr_array) -> None:
    """169 items and no accounts: popularity alone reaches nine tenths of the best pair measure, so there is little
    to win; a logistic regression that has seen the hidden lines themselves wins 13 %.

    The best pair measure is the plain one, the strongest confidence over the cart; summed forms and cosine are at most
    level with it, lift is far below. Multinomial logistic regressions, a ridge on the hidden line, with and without
    categories, naive Bayes over pairs and blends of them reach 1.00 to 1.07 times; these weights reach 1.07."""
    found = [completed(fold_of(groceries, fold), CartConfig()) for fold in range(5)]
    rivals = [one.name for one in found[0].methods if "," in one.name]
    hits = {name: np.concatenate([one.method(name).hits for one in found]).astype(float) for name in [OURS, *rivals]}
    best = max(rivals, key=lambda name: hits[name].mean())
    assert hits[OURS].mean() / hits[best].mean() >= 1.03
    assert paired_difference(hits[OURS], hits[best], np.random.default_rng(0)).low > 0


@pytest.mark.proof
def test_proof_of_cart_weights(online_retail: History, groceries: sp.csr_array) -> None:
    proof = {"machine": machine(), "online_retail_ii": [], "groceries": []}
    for cutoff in CUTOFFS:
        found = completed(split_carts(online_retail, cutoff, 30, 4_000, np.random.default_rng(0)), CartConfig())
        proof["online_retail_ii"].append({"cutoff": cutoff.isoformat(), **written(found)})
        assert ratio(found) >= 1.15
    for fold in range(5):
        split = fold_of(groceries, fold)
        found = completed(split, CartConfig(), SawTheAnswers(groceries))
        proof["groceries"].append({"fold": fold, **written(found)})
    proof["mean_ratio"] = {
        data: {name: float(np.mean([one["ratios"][name] for one in proof[data]])) for name in proof[data][0]["ratios"]}
        for data in ("online_retail_ii", "groceries")
    }
    # The mark of 1.15 is out of reach there: an additive model that has seen the hidden lines stays below it.
    assert proof["mean_ratio"]["groceries"][SawTheAnswers.name] < 1.15
    write_json("cart_completion.json", proof)


@pytest.mark.proof
def test_proof_of_cart_and_account_evidence(online_retail: History, online_retail_path: Path, tmp_path: Path) -> None:
    def read(as_of: datetime):
        return read_data(ReadSpec(orders=str(online_retail_path), preset="online-retail-ii", as_of=as_of))

    config = TrainConfig()
    ladder = freeze_ladder(read, CUTOFFS[0], config)
    train = pipeline_trainer(read, online_retail, config, ladder, tmp_path)
    results = []
    for cutoff in CUTOFFS:
        engine = train(cutoff).engine
        found = completed(
            split_carts(online_retail, cutoff, 30, 4_000, np.random.default_rng(0)),
            config.cart,
            *engine_methods(engine, online_retail),
        )
        results.append({"cutoff": cutoff.isoformat(), **written(found)})
        assert ratio(found, CART_AND_ACCOUNT) >= 1.15
    write_json("cart_completion_engine.json", {"machine": machine(), "online_retail_ii": results})


class SawTheAnswers:
    """A logistic regression of the hidden item on the rest of the basket, fitted on all baskets, test ones too."""

    name = "ceiling: logistic regression that saw the answers"

    def __init__(self, baskets: sp.csr_array) -> None:
        full = baskets[np.diff(baskets.indptr) >= 2]
        size = np.diff(full.indptr)
        row = np.repeat(np.arange(full.shape[0]), size)
        rest = full[row].tolil()
        rest[np.arange(len(row)), full.indices] = 0
        self.model = LogisticRegression(C=0.1, max_iter=300)
        self.model.fit(rest.tocsr(), full.indices, sample_weight=2.0 / size[row])

    def recommend(self, task: CartTask, k: int) -> RowArray:
        return in_blocks(task.carts, k, self._scores)

    def _scores(self, carts: sp.csr_array) -> np.ndarray:
        scores = np.zeros(carts.shape, dtype=np.float32)
        scores[:, self.model.classes_] = self.model.predict_proba(carts)
        return scores


def write_json(name: str, content: dict[str, object]) -> None:
    PROOF.mkdir(parents=True, exist_ok=True)
    (PROOF / name).write_text(json.dumps(content, indent=1) + "\n", "utf-8")


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
