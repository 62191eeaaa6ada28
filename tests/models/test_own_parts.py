"""The model takes retrievers, a ranker and features of others, and says what is wrong with them before it learns."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from recsys.data.history import History
from recsys.errors import PluginError
from recsys.models.candidates import Candidates
from recsys.models.next_product.examples import SamplingConfig
from recsys.models.next_product.model import NextProductConfig, NextProductModel
from recsys.models.next_product.ranker import RankerConfig, unfitted_ranker
from recsys.models.retrieval.retrievers import default_retrievers
from recsys.models.snapshot import CutoffConfig
from tests.support.foreign_parts import NormalBayes, OwnedOfPrice, SameBrand

AS_OF = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=170)
SMALL = NextProductConfig(
    n_offers=10,
    n_classifiers=2,
    cutoffs=CutoffConfig(n_cutoffs=4, step_days=30.0),
    ranker=RankerConfig(n_trees=10, learning_rate=0.2, max_leaf_nodes=6, min_leaf=20),
    sampling=SamplingConfig(negative_share=0.5),
)
FOREST = RandomForestClassifier(10, min_samples_leaf=20)


class Twice(SameBrand):
    channels = ("same_brand", "same_brand")


class NoScore:
    channels = ("nothing",)

    def fit(self, _):
        return self


class OneProduct(SameBrand):
    def score(self, accounts):
        return super().score(accounts)[:, :, :1]


class Wide(OwnedOfPrice):
    def transform(self, account, _):
        return np.zeros((len(account), 2))


@pytest.fixture
def learn(drawn: History, drawn_products: pd.DataFrame, drawn_accounts: pd.DataFrame):
    def found(**parts: Any) -> tuple[NextProductModel, Candidates]:
        model = NextProductModel(SMALL, **parts)
        model.fit(drawn, drawn_products, drawn_accounts, AS_OF, np.random.default_rng(0))
        return model, model.score(drawn, AS_OF)

    return found


def test_parts_of_others_are_learned_from_and_left_unfitted(learn, drawn: History) -> None:
    parts: dict[str, Any] = {
        "retrievers": [*default_retrievers(), SameBrand()],
        "ranker": NormalBayes(),
        "features": [OwnedOfPrice()],
    }
    model, candidates = learn(**parts)
    names = model.builder(drawn, AS_OF).names
    assert {"same_brand", "same_brand_rank", "owned_of_price"} <= set(names)
    assert all(isinstance(each.ranker, NormalBayes) for each in model.ensemble_)
    given = parts["retrievers"][-1], parts["ranker"], parts["features"][0]
    assert not [name for part in given for name in vars(part) if name.endswith("_")]
    top = np.concatenate([[True], candidates.account[1:] != candidates.account[:-1]])
    groups = [np.array([int(name[1:]) % 2 for name in ids]) for ids in (drawn.account_ids, drawn.product_ids)]
    hits = groups[0][candidates.account[top]] == groups[1][candidates.product[top]]
    assert hits.mean() > 0.8  # accounts have a taste for one of two groups: .5 by chance
    assert ((candidates.probability >= 0) & (candidates.probability <= 1)).all()


@pytest.mark.parametrize(
    "ranker", [FOREST, HistGradientBoostingClassifier(max_iter=5, max_bins=16)], ids=["forest", "boosting"]
)
def test_a_classifier_is_cloned_and_seeded_for_each_fold(learn, ranker: Any) -> None:
    (model, once), (_, twice) = learn(ranker=ranker), learn(ranker=ranker)
    assert not hasattr(ranker, "classes_")
    assert ranker.random_state is None
    states = [each.ranker.random_state for each in model.ensemble_]
    assert len(set(states)) == len(states) == 2
    assert all(np.array_equal(a, b) for a, b in zip(vars(once).values(), vars(twice).values(), strict=True))


def test_a_seed_that_is_set_stays() -> None:
    copy: Any = unfitted_ranker(RandomForestClassifier(random_state=5), 9)
    assert copy.random_state == 5


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        (
            {"retrievers": [SameBrand]},
            r"retrievers\[0\] == <class .*SameBrand'>, must be an object.*call it: SameBrand\(\)",
        ),
        ({"retrievers": []}, "0 retrievers, must be 1 or more"),
        (
            {"retrievers": [NoScore()]},
            r"retrievers\[0\] == NoScore, lacks score; retrievers must have channels, fit, score",
        ),
        ({"retrievers": [Twice()]}, "channel 'same_brand' stands twice, must be unique; rename it"),
        ({"features": [OwnedOfPrice(), OwnedOfPrice()]}, "feature 'owned_of_price' stands twice"),
        ({"features": [SameBrand()]}, r"features\[0\] == SameBrand, lacks names, transform"),
        ({"ranker": make_pipeline(StandardScaler(), LogisticRegression())}, "Pipeline: its fit takes no sample_weight"),
        ({"ranker": SameBrand()}, "ranker == SameBrand, lacks predict_proba"),
        ({"retrievers": [OneProduct()]}, r"OneProduct.score returned float32 of shape .* must be floats of shape"),
        ({"features": [Wide()]}, r"Wide.transform returned shape \(\d+, 2\), must be \(\d+, 1\)"),
    ],
)
def test_what_a_part_must_be_is_said(learn, parts: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PluginError, match=sentence):
        learn(**parts)


def test_the_model_obeys_the_estimator_contract(learn, drawn: History) -> None:
    model, candidates = learn(ranker=NormalBayes(share=0.2))
    with pytest.raises(NotFittedError):
        NextProductModel().score(drawn, AS_OF)
    assert NextProductModel().config is None
    copied = clone(NextProductModel(SMALL, ranker=HistGradientBoostingClassifier(max_iter=7)))
    assert copied.get_params()["ranker__max_iter"] == 7
    assert copied.set_params(ranker__max_iter=9).ranker.max_iter == 9
    assert copied.config == SMALL
    table = pd.DataFrame({"product_id": drawn.product_ids}), pd.DataFrame({"account_id": drawn.account_ids})
    model.fit(drawn, *table, AS_OF - timedelta(days=60), np.random.default_rng(1))  # of which nothing stays
    other = NextProductModel(SMALL, ranker=NormalBayes(share=0.2))
    other.fit(drawn, *table, AS_OF, np.random.default_rng(0))
    again = model.fit(drawn, *table, AS_OF, np.random.default_rng(0)).score(drawn, AS_OF)
    assert again.product.tolist() == other.score(drawn, AS_OF).product.tolist()
    assert len(again) == len(candidates)
