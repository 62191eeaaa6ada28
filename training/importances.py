"""Which features carry the models: what is lost on the replayed window when one of them is shuffled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from recsys.arrays import values_at
from recsys.contracts import columns as c
from recsys.models.upgrade.features import climb_features
from recsys.models.upgrade.model import climbs_within
from recsys.models.upgrade.snapshot import ClimbSnapshot
from training.config import TrainConfig
from training.validation import CrossReplay, Replay, UpReplay

Score = Callable[[pd.DataFrame], NDArray[np.floating]]

CANDIDATES_AN_ACCOUNT = 100
"""About so many products are proposed to one account: how many accounts give the rows that are asked for."""


def feature_importances(replay: Replay, config: TrainConfig, rng: np.random.Generator) -> pd.DataFrame:
    """Return columns `model feature importance`, the most important of each model first.

    Importance is measured on the replayed window, which the models have not seen, as `permutation_importances` does.
    A model that had too little to learn from, or a window without both outcomes, has no rows.
    """
    empty = pd.DataFrame({c.MODEL: [], c.FEATURE: [], c.IMPORTANCE: []}).astype(
        {c.MODEL: str, c.FEATURE: str, c.IMPORTANCE: float}
    )
    return pd.concat([empty, *_each_model(replay, config, rng)], ignore_index=True)


def permutation_importances(
    score: Score, table: pd.DataFrame, came_true: NDArray[np.bool_], rng: np.random.Generator
) -> pd.DataFrame:
    """Return columns `feature importance`: the drop in the area under the ROC curve when the column is shuffled.

    Negative where chance alone makes the shuffled column better. Columns that tell the same share what they carry.
    Source: Breiman (2001), Random Forests, section 10, on unseen rows.

    Args:
        score: a number a row, higher where it is likelier to come true.
        table: the features, one row a candidate.
        came_true: shape `(n_rows,)`, both outcomes.
        rng: shuffles.
    """
    whole = roc_auc_score(came_true, score(table))
    order = rng.permutation(len(table))
    lost = []
    for name in table.columns:
        shuffled = table.assign(**{name: table[name].array[order]})
        lost.append(whole - roc_auc_score(came_true, score(shuffled)))
    found = pd.DataFrame({c.FEATURE: table.columns.astype(str), c.IMPORTANCE: lost})
    return found.sort_values([c.IMPORTANCE, c.FEATURE], ascending=[False, True], ignore_index=True)


def _each_model(replay: Replay, config: TrainConfig, rng: np.random.Generator) -> Iterator[pd.DataFrame]:
    first, second = rng.spawn(2)
    with ThreadPoolExecutor(2, initializer=_one_openmp_thread) as pool:
        parts = {
            "next_product": pool.submit(_of_ranker, replay.cross, config.evaluation.importance_rows, first),
            "upgrades": pool.submit(_of_upgrades, replay.up, config, second),
        }
        for name, part in parts.items():
            found = part.result()
            if found is not None:
                yield found.assign(**{c.MODEL: name})[[c.MODEL, c.FEATURE, c.IMPORTANCE]]


def _one_openmp_thread() -> None:
    threadpool_limits(limits=1, user_api="openmp")  # counts for the thread that calls it


def _of_ranker(replay: CrossReplay | None, rows: int, rng: np.random.Generator) -> pd.DataFrame | None:
    """Of the order of candidates, over those of accounts that bought something new."""
    if replay is None or replay.model.ranker_ is None:
        return None
    truth, ranker = replay.split.truth, replay.model.ranker_
    n_accounts = min(len(truth), max(1, rows // CANDIDATES_AN_ACCOUNT))
    chosen = np.sort(rng.choice(len(truth), n_accounts, replace=False))
    builder = replay.model.builder(replay.split.history, replay.split.cutoff)
    found = builder.block(truth.accounts[chosen])
    place = np.searchsorted(truth.accounts, found.account)
    bought = values_at(truth.relevant, place, found.product) > 0
    if not bought.any() or bought.all():
        return None
    table = pd.DataFrame(found.values, columns=list(builder.names))
    return permutation_importances(lambda frame: ranker.score(frame.to_numpy(dtype=np.float32)), table, bought, rng)


def _of_upgrades(replay: UpReplay | None, config: TrainConfig, rng: np.random.Generator) -> pd.DataFrame | None:
    """Of the propensity to climb, over pairs of an account and an edge: all climbs and as many others as are asked."""
    if replay is None or replay.model.classifier_ is None:
        return None
    history, ladder, classifier = replay.history, replay.ladder, replay.model.classifier_
    snapshot = ClimbSnapshot.at(history, ladder, config.upgrades.climbs, replay.past.as_of)
    climbed = climbs_within(history, snapshot, snapshot.standing, config.upgrades).astype(bool)
    if not climbed.any() or climbed.all():
        return None
    others = np.flatnonzero(~climbed)
    drawn = rng.choice(others, min(len(others), config.evaluation.importance_rows), replace=False)
    keep = climbed.copy()
    keep[drawn] = True
    pairs = snapshot.standing.select(keep)
    table = climb_features(snapshot, pairs, ladder, replay.past.accounts, config.horizon_days)
    return permutation_importances(classifier.decision_function, table, climbed[keep], rng)
