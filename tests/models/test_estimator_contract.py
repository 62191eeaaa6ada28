"""What has `fit` keeps the contract of scikit-learn: constructors only store, copies are equal, errors are told."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from recsys.backtesting.baselines import default_baselines
from recsys.models.cart import CartConfig, CartModel
from recsys.models.next_product.calibration import Calibrator, CalibratorConfig
from recsys.models.next_product.cold_start import ColdStartConfig, ColdStartModel
from recsys.models.next_product.model import NextProductConfig, NextProductModel
from recsys.models.next_product.ranker import ActivityConfig, IncidenceModel, Ranker, RankerConfig
from recsys.models.propensity.classifier import PropensityClassifier
from recsys.models.retrieval.retrievers import default_retrievers
from recsys.models.upgrade.model import UpgradeConfig, UpgradeModel
from recsys.testing import practice_history

NOW = datetime(2024, 6, 1, tzinfo=UTC)
ROW = np.zeros((1, 2), dtype=np.float32)
MODELS: dict[str, tuple[Any, Callable[[Any], object]]] = {
    "next product": (
        NextProductModel(NextProductConfig(n_offers=7)),
        lambda model: model.score(practice_history(), NOW),
    ),
    "cold start": (
        ColdStartModel(30, ColdStartConfig(per_account=2)),
        lambda model: model.score(practice_history(), NOW, np.zeros(1, np.int32)),
    ),
    "upgrades": (UpgradeModel(UpgradeConfig(n_cutoffs=3)), lambda model: model.score(practice_history(), NOW)),
    "cart": (CartModel(CartConfig(penalty=1.0)), lambda model: model.score(sp.csr_array((1, 2)))),
    "ranker": (Ranker(RankerConfig(n_trees=5), 3), lambda model: model.predict_proba(ROW)),
    "incidence": (IncidenceModel(ActivityConfig(n_trees=5), 3), lambda model: model.log_odds(ROW)),
    "calibrator": (Calibrator(CalibratorConfig(n_bins=5)), lambda model: model.probability([ROW], 0.0)),
    "classifier": (PropensityClassifier(folds=2), lambda model: model.predict_proba(pd.DataFrame({"a": [1]}))),
    **{each.channels[0]: (each, lambda model: model.score(np.zeros(1, np.int32))) for each in default_retrievers()},
    **{each.name: (each, lambda model: model.recommend(np.zeros(1, np.int32), 3)) for each in default_baselines()},
}


@pytest.fixture(params=list(MODELS.values()), ids=list(MODELS))
def case(request: pytest.FixtureRequest) -> tuple[Any, Callable[[Any], object]]:
    return request.param


def test_the_constructor_only_stores(case) -> None:
    model, _ = case
    given = {name: object() for name in inspect.signature(type(model)).parameters}
    stored = vars(type(model)(**given))
    assert stored.keys() == given.keys()
    assert all(stored[name] is value for name, value in given.items())


def test_a_copy_has_the_same_parameters_and_can_be_given_others(case) -> None:
    model, _ = case
    copied = clone(model)
    assert copied is not model
    assert copied.get_params(deep=False) == model.get_params(deep=False)
    for name, value in copied.get_params(deep=False).items():
        assert getattr(copied.set_params(**{name: value}), name) is value


def test_before_it_is_fitted_it_says_so(case) -> None:
    model, answer = case
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        answer(clone(model))
