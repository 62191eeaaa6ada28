"""The upsell side of the backtest: who climbed which rung, and did the propensities say so."""

from __future__ import annotations

from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from recsys.arrays import sparse_lookup
from recsys.backtesting.results import UpsellScores
from recsys.contracts import columns as c
from recsys.data.history import History
from recsys.evaluation.offline.calibration import CalibrationCheckConfig, ScoredPairs, judge_calibration
from recsys.evaluation.offline.ground_truth import GroundTruth, rung_climbs
from recsys.evaluation.offline.ranking_metrics import score_ranking
from recsys.ladder.edges import Ladder
from recsys.ladder.upgrade_events import UpgradeEventConfig
from recsys.models.candidates import Candidates

PLACES = 10


def score_upsell(
    history: History,
    cutoff: datetime,
    horizon_days: int,
    ladder: Ladder,
    upgrades: Candidates,
    *,
    climbs: UpgradeEventConfig,
    calibration: CalibrationCheckConfig,
) -> UpsellScores | None:
    """Return how well the propensities told who climbs, or None where there is no pair to tell about.

    Args:
        history: the whole history.
        cutoff: where the past ends.
        horizon_days: days after it.
        ladder: frozen before the first cutoff.
        upgrades: every pair of an account and a higher rung that it may climb to.
        climbs: what counts as a climb.
        calibration: how probabilities are judged.
    """
    if len(upgrades) == 0:
        return None
    truth = rung_climbs(history, cutoff, horizon_days, ladder.rows(history), climbs)
    positive = _came_true(truth, upgrades, history.n_accounts)
    pairs = ScoredPairs(upgrades.probability.astype(np.float64), positive, 0, 0, 0.0, account=upgrades.account)
    lists = first_of_each(upgrades, truth.accounts, history.n_accounts, PLACES)
    return UpsellScores(
        n_edges=len(ladder),
        n_pairs=len(upgrades),
        n_climbs=int(positive.sum()),
        n_climbers=len(np.unique(upgrades.account[positive])),
        base_rate=float(positive.mean()),
        average_precision=_average_precision(positive, upgrades.probability),
        climb_rate_precision=_average_precision(positive, _climb_rates(history, ladder, upgrades)),
        ndcg=score_ranking(lists, truth.relevant, PLACES).means()["ndcg"],
        calibration=judge_calibration(pairs, calibration),
    )


def first_of_each(candidates: Candidates, accounts: NDArray[np.int32], n_accounts: int, k: int) -> NDArray[np.int32]:
    """Return each account's first k candidates as product rows, `(n, k)`, -1 where there are fewer."""
    offsets = candidates.offsets(n_accounts)
    places = offsets[accounts][:, None] + np.arange(k)[None, :]
    there = places < offsets[accounts + 1][:, None]
    lists = np.full((len(accounts), k), -1, dtype=np.int32)
    lists[there] = candidates.product[places[there]]
    return lists


def _came_true(truth: GroundTruth, upgrades: Candidates, n_accounts: int) -> NDArray[np.bool_]:
    row = np.full(n_accounts, -1)
    row[truth.accounts] = np.arange(len(truth))
    at = row[upgrades.account]
    positive = np.zeros(len(upgrades), dtype=bool)
    scored = at >= 0
    positive[scored] = sparse_lookup(truth.relevant, at[scored], upgrades.product[scored]) > 0
    return positive


def _climb_rates(history: History, ladder: Ladder, upgrades: Candidates) -> NDArray[np.float64]:
    """The frozen climb rate of each pair's edge; 0 where the frozen ladder has no such edge."""
    edges = ladder.rows(history)
    key = edges.lower.astype(np.int64) * history.n_products + edges.upper
    wanted = upgrades.from_product.astype(np.int64) * history.n_products + upgrades.product
    order = np.argsort(key, kind="stable")
    place = np.minimum(np.searchsorted(key[order], wanted), max(len(key) - 1, 0))
    found = order[place]
    rate = np.nan_to_num(ladder.edges[c.CLIMB_RATE].to_numpy(dtype=np.float64))
    return np.where(key[found] == wanted, rate[found], 0.0)


def _average_precision(positive: NDArray[np.bool_], score: NDArray[np.floating]) -> float:
    return float(average_precision_score(positive, score)) if positive.any() else float("nan")
