"""How well names alone tell relations that people judged, of products that were not learned from."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.metrics import roc_auc_score

from recsys.arrays import FloatArray
from recsys.contracts import columns as c
from recsys.mining.name_relations import Fold, NameRelations, folds_of_products
from recsys.products.name_likeness import NameLikeness
from tests.mining.function_labels import judged_names

PROOF = Path(__file__).resolve().parents[2] / "docs" / "proof" / "relations.json"
N_FOLDS = 20
N_DRAWS = 1_000
ALIKE = 0.8
"""Cosine of letters from which two names count as one product in the harder of the two readings."""
TASKS = {
    "substitute against complement": ("substitute", "complement"),
    "complement against none": ("complement", "none"),
}


@pytest.mark.proof
@pytest.mark.data
def test_names_tell_what_people_judged(function_labels_path: Path) -> None:
    pairs = judged_names(function_labels_path)
    names = NameLikeness.of([*pairs[c.NAME], *pairs["other_name"]])
    first, second = pairs[c.PRODUCT_ID].to_list(), pairs["other_id"].to_list()
    by_product = measured(pairs, names, folds_of_products(first, second, N_FOLDS, np.random.default_rng(0)))
    found = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "judged": pairs[c.RELATION].value_counts().sort_index().to_dict(),
        "method": f"{N_FOLDS} folds, nothing learned from pairs with a product of a tested pair; interval by {N_DRAWS} "
        "draws of products (Owen 2007)",
        "by_product": by_product,
        f"by_product, names with a cosine of {ALIKE} as one": measured(
            pairs, names, folds_of_products(*merged(pairs, names), N_FOLDS, np.random.default_rng(0))
        ),
    }
    PROOF.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))
    assert by_product["substitute against complement"]["auc"] >= 0.85
    assert by_product["complement against none"]["auc"] >= 0.90


def measured(pairs: pd.DataFrame, names: NameLikeness, folds: Iterable[Fold]) -> dict[str, Any]:
    """Return how well pairs are told by what is learned from pairs without their products."""
    chance = pd.DataFrame(index=pairs.index, columns=["complement", "none", "substitute"], dtype=float)
    learned_from = []
    fold_of = np.zeros(len(pairs), dtype=int)
    for fold, (learn, test) in enumerate(folds):
        fold_of[test] = fold
        known, asked = pairs.iloc[learn], pairs.iloc[test]
        model = NameRelations().fit(
            known[c.NAME].to_list(), known["other_name"].to_list(), known[c.RELATION].to_list(), names
        )
        chance.iloc[test] = model.predict_proba(asked[c.NAME].to_list(), asked["other_name"].to_list())
        learned_from.append(len(learn))
    cosine = names.between(pairs[c.NAME].to_list(), pairs["other_name"].to_list())[:, 1]
    figures: dict[str, Any] = {"learned_from": round(float(np.mean(learned_from)))}
    for task, (yes, no) in TASKS.items():
        of_task = pairs[c.RELATION].isin([yes, no]).to_numpy()
        score = (chance[yes] / (chance[yes] + chance[no])).to_numpy()[of_task]
        is_yes = (pairs[c.RELATION] == yes).to_numpy()[of_task]
        low, high = interval(is_yes, score, pairs[of_task])
        figures[task] = {
            "auc": round(roc_auc_score(is_yes, score), 4),
            "interval": [round(low, 3), round(high, 3)],
            "within_folds": round(within(is_yes, score, fold_of[of_task]), 4),
            "cosine_of_two_letters": round(roc_auc_score(is_yes, cosine[of_task]), 4),
        }
    right = chance.columns[chance.to_numpy().argmax(axis=1)] == pairs[c.RELATION]
    figures["right_of_three"] = round(float(right.mean()), 4)
    return figures


def within(is_yes: np.ndarray, score: FloatArray, fold: np.ndarray) -> float:
    """Return the share of right orders among pairs of one fold, over all folds."""
    aucs, weights = [], []
    for each in np.unique(fold):
        yes = is_yes[fold == each]
        if 0 < yes.sum() < len(yes):
            aucs.append(roc_auc_score(yes, score[fold == each]))
            weights.append(yes.sum() * (~yes).sum())
    return float(np.average(aucs, weights=weights))


def interval(is_yes: np.ndarray, score: FloatArray, pairs: pd.DataFrame) -> tuple[float, float]:
    """Return the 95 % interval of an AUC where products are drawn again, each pair as often as both its products."""
    codes = np.unique([*pairs[c.PRODUCT_ID], *pairs["other_id"]], return_inverse=True)[1].reshape(2, -1)
    rng, n_products = np.random.default_rng(0), int(codes.max()) + 1
    drawn = []
    for _ in range(N_DRAWS):
        times = np.bincount(rng.integers(n_products, size=n_products), minlength=n_products)
        weight = times[codes[0]] * times[codes[1]]
        drawn.append(roc_auc_score(is_yes[weight > 0], score[weight > 0], sample_weight=weight[weight > 0]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def merged(pairs: pd.DataFrame, names: NameLikeness) -> tuple[list[str], list[str]]:
    """Return the number of each product's group of products with nearly the same names."""
    texts, code = np.unique([*pairs[c.NAME], *pairs["other_name"]], return_inverse=True)
    weights = names.weights(texts.tolist())
    alike = coo_array(weights @ weights.T)
    near = alike.data >= ALIKE
    graph = coo_array((np.ones(near.sum()), (alike.row[near], alike.col[near])), shape=alike.shape)
    group = connected_components(graph, directed=False)[1][code].astype(str)
    return group[: len(pairs)].tolist(), group[len(pairs) :].tolist()
