"""The next-new-product model on real invoices; the whole backtest of it stands in tests/training."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from recsys.backtesting.upgrade_scores import first_of_each
from recsys.data.dataset import ReadSpec, read_dataset
from recsys.evaluation.offline.ground_truth import ground_truth
from recsys.evaluation.offline.ranking_metrics import score_ranking
from recsys.models.next_product.examples import SamplingConfig
from recsys.models.next_product.model import NextProductConfig, NextProductModel
from recsys.models.next_product.ranker import RankerConfig
from recsys.models.snapshot import CutoffConfig

CUTOFF = datetime(2011, 6, 1, tzinfo=UTC)
SINGLE_METHOD = 0.098  # the best single method of an independent run at this cutoff
SMALL = NextProductConfig(
    cutoffs=CutoffConfig(n_cutoffs=4, step_days=15.0),
    ranker=RankerConfig(n_trees=40, learning_rate=0.15),
    sampling=SamplingConfig(train_accounts=250, calibration_accounts=400),
)


@pytest.mark.proof  # a minute; the backtests of a simulated market and the gate guard every change
def test_a_small_model_beats_every_single_method(online_retail_path: Path) -> None:
    spec = ReadSpec(orders=str(online_retail_path), preset="online-retail-ii")
    history, known = read_dataset(spec).history(), read_dataset(spec.model_copy(update={"as_of": CUTOFF}))
    truth = ground_truth(history, CUTOFF, 30)
    model = NextProductModel(SMALL).fit(history, known.products, known.accounts, CUTOFF, np.random.default_rng(0))
    found = model.score(history, CUTOFF, truth.accounts)
    scores = score_ranking(first_of_each(found, truth.accounts, history.n_accounts, 10), truth.relevant, 10)
    assert scores.ndcg.mean() > 1.45 * SINGLE_METHOD
    assert history.before(CUTOFF).owned()[found.account, found.product].sum() == 0
