"""Every retriever, feature maker, ranker and baseline, foreign ones too, passes the tests that ship for them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

from recsys.backtesting.baselines import BacktestModel, RuleConfidenceBaseline, default_baselines
from recsys.models.next_product.account_features import account_feature_matrix
from recsys.models.next_product.pair_features import FeatureMaker, PairFeatures
from recsys.models.next_product.product_features import product_feature_matrix
from recsys.models.next_product.ranker import PairRanker, Ranker, RankerConfig
from recsys.models.propensity.classifier import PropensityClassifier
from recsys.models.retrieval.associations import AssociationRetriever, AssociationsConfig
from recsys.models.retrieval.ease import EaseConfig, EaseRetriever
from recsys.models.retrieval.neighbours import NeighbourRetriever, NeighboursConfig
from recsys.models.retrieval.retriever import Retriever
from recsys.models.retrieval.retrievers import default_retrievers
from recsys.models.snapshot import Snapshot
from recsys.testing import BacktestModelChecks, FeatureChecks, RankerChecks, RetrieverChecks
from tests.support.foreign_parts import NormalBayes, OwnedOfPrice, Rising, SameBrand

RETRIEVERS: dict[str, Callable[[], Retriever]] = {
    **{"/".join(each.channels): partial(clone, each) for each in default_retrievers()},
    "few references": lambda: NeighbourRetriever(NeighboursConfig(max_reference_accounts=7)),
    "ease on a head": lambda: EaseRetriever(EaseConfig(penalty=5.0, max_products=9)),
    "associations on a head": lambda: AssociationRetriever(AssociationsConfig(max_products=11)),
    "foreign": SameBrand,
}
SMALL = {"n_trees": 30, "learning_rate": 0.2, "max_leaf_nodes": 8, "min_leaf": 20}
RANKERS: dict[str, Callable[[], PairRanker]] = {
    "boosting": lambda: Ranker(RankerConfig(kind="boosting", **SMALL)),
    "logistic": lambda: Ranker(RankerConfig(kind="logistic")),
    "blend": lambda: Ranker(RankerConfig(kind="blend", **SMALL)),
    "general classifier": lambda: PropensityClassifier(folds=2, selection_folds=2),
    "scikit-learn's boosting": lambda: HistGradientBoostingClassifier(max_iter=20),
    "scikit-learn's forest": lambda: RandomForestClassifier(20, min_samples_leaf=5),
    "foreign": NormalBayes,
}


class OursAlone:
    """The features that come with the engine, which read two tables of the same snapshot."""

    names = PairFeatures.names

    def fit(self, snapshot: Snapshot) -> Self:
        self.made_ = PairFeatures(product_feature_matrix(snapshot), account_feature_matrix(snapshot)).fit(snapshot)
        return self

    def transform(self, account: np.ndarray, product: np.ndarray) -> np.ndarray:
        return self.made_.transform(account, product)


@pytest.fixture
def part(request: pytest.FixtureRequest) -> None:
    request.instance.made = request.param


def each_of(parts: Mapping[str, Callable[[], Any]]) -> Callable[[type], type]:
    """Run a class of tests once for each part; its `make` returns a new one."""

    def mark(tests: type) -> type:
        named = pytest.mark.parametrize("part", list(parts.values()), ids=list(parts), indirect=True)
        return pytest.mark.usefixtures("part")(named(tests))

    return mark


@each_of(RETRIEVERS)
class TestRetrievers(RetrieverChecks):
    made: Callable[[], Retriever]

    def make(self) -> Retriever:
        return self.made()


@each_of({"ours": OursAlone, "foreign": OwnedOfPrice})
class TestFeatures(FeatureChecks):
    made: Callable[[], FeatureMaker]

    def make(self) -> FeatureMaker:
        return self.made()


@each_of(RANKERS)
class TestRankers(RankerChecks):
    made: Callable[[], PairRanker]

    def make(self) -> PairRanker:
        return self.made()


@each_of({each.name: partial(clone, each, safe=False) for each in (*default_baselines(), Rising())})
class TestBaselines(BacktestModelChecks):
    made: Callable[[], BacktestModel]

    def make(self) -> BacktestModel:
        model = self.made()
        return model.set_params(min_orders=1) if isinstance(model, RuleConfidenceBaseline) else model


class Leaks(SameBrand):
    """Remembers the last fit, writes into the snapshot, and returns what it keeps."""

    def fit(self, snapshot):
        snapshot.pairs.last_age[:] += 1
        self.taste_ = getattr(self, "taste_", 0) + super().fit(snapshot).taste_
        self.kept_ = super().score(np.arange(snapshot.shape[0]))
        return self

    def score(self, accounts):
        return self.kept_ if len(accounts) == self.kept_.shape[1] else super().score(accounts) * 2


class TestTheChecksHaveTeeth:
    class OfLeaks(RetrieverChecks):
        def make(self) -> Retriever:
            return Leaks()

    @pytest.mark.parametrize(
        "check",
        [
            "test_fit_returns_the_retriever_and_changes_nothing_of_the_snapshot",
            "test_the_scores_are_the_callers_to_change",
            "test_an_account_scores_the_same_alone_and_in_a_block",
            "test_a_later_fit_forgets_the_earlier_one",
        ],
    )
    def test_a_wrong_retriever_fails(self, check: str) -> None:
        with pytest.raises(AssertionError):
            getattr(self.OfLeaks(), check)()


def test_the_example_of_the_guide_passes_too() -> None:
    guide = Path(__file__).parents[2] / "docs" / "guides" / "own_parts.md"
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", guide.read_text("utf-8"), re.DOTALL):
        exec(block, names)
    checks = [name for name in dir(names["TestSameBrand"]) if name.startswith("test_")]
    assert len(checks) > 5
    for check in checks:
        getattr(names["TestSameBrand"](), check)()
