"""The wish model: its law found again where a logit cannot follow, gaps and levels taken as they come."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from recsys.models.upgrade.classifier import HazardModel


def wishes(n: int, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Features of n pairs and the probability that each climbs: a hazard of segment and size, and a long silence."""
    rng = np.random.default_rng(seed)
    size, segment = rng.normal(size=n), rng.choice(["calm", "keen"], n)
    waiting = rng.uniform(10, 300, n)
    met = np.clip(np.exp(-waiting / 60) + 0.02 * rng.random(n), 0.0, 0.9)
    hazard = np.exp(-5.0 + 1.5 * size + 1.0 * (segment == "keen"))
    features = pd.DataFrame(
        {
            "rung_exposure_log_days": np.log(waiting),
            "rung_met_log": np.log(met),
            "quantity_over_peers": size,
            "segment": segment,
            "noise": rng.normal(size=n),
        }
    )
    return features, met * -np.expm1(-hazard * waiting)


def test_the_law_is_found_again() -> None:
    features, truth = wishes(20_000, 0)
    climbed = (np.random.default_rng(1).random(len(truth)) < truth).astype(int)
    model = HazardModel().fit(features, climbed, np.ones(len(truth)))
    unseen, probability = wishes(5_000, 2)
    found = expit(model.log_odds(unseen))
    assert np.abs(found - probability).mean() < 0.1 * probability.mean()
    assert found.sum() == pytest.approx(probability.sum(), rel=0.05)
    assert np.corrcoef(logit(found), logit(probability))[0, 1] > 0.99


def test_weights_count_as_rows() -> None:
    features, truth = wishes(800, 3)
    climbed = (np.random.default_rng(4).random(800) < truth).astype(int)
    twice = pd.concat([features, features], ignore_index=True)
    weighted = HazardModel().fit(features, climbed, np.full(800, 2.0)).log_odds(features)
    doubled = HazardModel().fit(twice, np.tile(climbed, 2), np.ones(1_600)).log_odds(features)
    np.testing.assert_allclose(weighted, doubled, atol=0.02)


def test_missing_values_and_new_levels_are_taken() -> None:
    features, truth = wishes(800, 5)
    features.loc[::7, "quantity_over_peers"] = np.nan
    climbed = (np.random.default_rng(6).random(800) < truth).astype(int)
    model = HazardModel().fit(features, climbed, np.ones(800))
    assert np.isfinite(model.log_odds(features.assign(segment="strange"))).all()
