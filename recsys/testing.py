"""Tests that every retriever, ranker, feature maker and baseline passes; derive from the class of yours and run pytest.

For example, a retriever of one's own is tested by::

    from recsys.testing import RetrieverChecks

    class TestSameBrand(RetrieverChecks):
        def make(self):
            return SameBrand()

They run in seconds, on a small history that `practice_history` draws.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
import skops.io
from scipy.special import expit
from sklearn.base import clone

from recsys.arrays import AnyFloatArray, IntArray, RowArray
from recsys.backtesting.baselines import BacktestModel
from recsys.contracts import columns as c
from recsys.contracts.plugins import check_plugin
from recsys.data.history import History
from recsys.models.next_product.pair_features import FeatureMaker
from recsys.models.next_product.ranker import PairRanker, candidate_log_odds, check_ranker, unfitted_ranker
from recsys.models.retrieval.retriever import Retriever
from recsys.models.snapshot import Snapshot, take_snapshot

START: Final = datetime(2024, 1, 1, tzinfo=UTC)
PRACTICE_CUTOFF: Final = START + timedelta(days=150)
_N_ACCOUNTS, _N_PRODUCTS, _N_DAYS = 40, 30, 200


@cache
def practice_history(seed: int = 0) -> History:
    """Return the order lines of accounts with a taste for one of two groups of products, over 200 days.

    Some lines have no account, and the last accounts and products come after `PRACTICE_CUTOFF`.
    """
    rng = np.random.default_rng(seed)
    n_orders = 6 * _N_ACCOUNTS
    account = np.repeat(np.arange(n_orders) % _N_ACCOUNTS, 4)
    day = np.repeat(rng.uniform(0, _N_DAYS, n_orders), 4)
    group = np.where(rng.random(len(account)) < 0.85, account % 2, 1 - account % 2)
    product = 2 * rng.integers(0, _N_PRODUCTS // 2, len(account)) + group
    late = (account >= _N_ACCOUNTS - 3) | (product >= _N_PRODUCTS - 2)
    day = np.where(late, _N_DAYS - day / 5, day)
    lines = pd.DataFrame(
        {
            c.ORDER_ID: [f"o{number // 4:04d}" for number in range(len(account))],
            c.ACCOUNT_ID: [None if number % 97 == 0 else f"a{row:02d}" for number, row in enumerate(account)],
            c.PRODUCT_ID: [f"p{row:02d}" for row in product],
            c.ORDERED_AT: [START + timedelta(days=float(each)) for each in day],
            c.QUANTITY: 1.0,
            c.UNIT_PRICE: 1.0 + product,
        }
    )
    return History.from_frame(lines.drop_duplicates([c.ORDER_ID, c.PRODUCT_ID]))


def practice_snapshot(seed: int = 0, as_of: datetime = PRACTICE_CUTOFF) -> Snapshot:
    """Return what was known of a practice history at a moment; products have names, and categories by group."""
    history = practice_history(seed)
    kinds = ["red" if int(product[1:]) % 2 else "blue" for product in history.product_ids]
    names = [f"{kind} cup {product}" for kind, product in zip(kinds, history.product_ids, strict=True)]
    products = pd.DataFrame({c.PRODUCT_ID: history.product_ids, c.NAME: names, c.CATEGORY: kinds})
    return take_snapshot(history, as_of, products)


class RetrieverChecks(ABC):
    """What training relies on of a `Retriever`."""

    @abstractmethod
    def make(self) -> Retriever:
        """Return a new retriever, not fitted."""

    def test_it_has_channels_of_different_names(self) -> None:
        retriever = self.make()
        check_plugin("retrievers", retriever, "make()")
        assert len(retriever.channels) > 0, "channels is empty"
        assert all(isinstance(name, str) and name for name in retriever.channels), "a channel has no name"
        assert len(set(retriever.channels)) == len(retriever.channels), "two channels have one name"

    def test_fit_returns_the_retriever_and_changes_nothing_of_the_snapshot(self) -> None:
        snapshot, retriever = practice_snapshot(), self.make()
        before = [array.copy() for array in _arrays(snapshot)]
        assert retriever.fit(snapshot) is retriever, "fit must return self"
        retriever.score(_everyone(snapshot))
        _assert_unchanged(before, _arrays(snapshot))

    def test_scores_are_finite_floats_one_for_each_channel_account_and_product(self) -> None:
        snapshot, accounts = practice_snapshot(), np.array([0, 3, 7], dtype=np.int32)
        retriever = self.make().fit(snapshot)
        scores = retriever.score(accounts)
        assert scores.shape == (len(retriever.channels), 3, snapshot.shape[1])
        assert scores.dtype.kind == "f", f"scores are {scores.dtype}, must be floats"
        assert np.isfinite(scores).all(), "a score is NaN or infinite; 0 is no evidence"

    def test_the_scores_are_the_callers_to_change(self) -> None:
        snapshot = practice_snapshot()
        retriever = self.make().fit(snapshot)
        first = retriever.score(_everyone(snapshot))
        kept = first.copy()
        if first.flags.writeable:
            first[:] = 0.0
        np.testing.assert_array_equal(retriever.score(_everyone(snapshot)), kept)

    def test_an_account_scores_the_same_alone_and_in_a_block(self) -> None:
        snapshot = practice_snapshot()
        retriever = self.make().fit(snapshot)
        alone = [retriever.score(np.array([row], dtype=np.int32)) for row in range(snapshot.shape[0])]
        block = retriever.score(_everyone(snapshot))
        np.testing.assert_allclose(np.concatenate(alone, axis=1), block, rtol=1e-4, atol=1e-6)

    def test_a_past_without_lines_is_no_evidence(self) -> None:
        snapshot = practice_snapshot(as_of=START - timedelta(days=1))
        assert not self.make().fit(snapshot).score(_everyone(snapshot)).any()

    def test_a_copy_learns_the_same(self) -> None:
        snapshot, original = practice_snapshot(), self.make()
        copied = clone(original, safe=False).fit(snapshot)
        scores = original.fit(snapshot).score(_everyone(snapshot))
        np.testing.assert_array_equal(copied.score(_everyone(snapshot)), scores)

    def test_a_later_fit_forgets_the_earlier_one(self) -> None:
        snapshot = practice_snapshot()
        again = self.make().fit(practice_snapshot(seed=1)).fit(snapshot).score(_everyone(snapshot))
        np.testing.assert_array_equal(again, self.make().fit(snapshot).score(_everyone(snapshot)))


class FeatureChecks(ABC):
    """What training relies on of a `FeatureMaker`."""

    @abstractmethod
    def make(self) -> FeatureMaker:
        """Return a new feature maker, not fitted."""

    def test_it_has_features_of_different_names(self) -> None:
        maker = self.make()
        check_plugin("features", maker, "make()")
        assert len(maker.names) > 0, "names is empty"
        assert all(isinstance(name, str) and name for name in maker.names), "a feature has no name"
        assert len(set(maker.names)) == len(maker.names), "two features have one name"

    def test_fit_returns_the_maker_and_changes_nothing_of_the_snapshot(self) -> None:
        snapshot, maker = practice_snapshot(), self.make()
        before = [array.copy() for array in _arrays(snapshot)]
        assert maker.fit(snapshot) is maker, "fit must return self"
        maker.transform(*_pairs(snapshot))
        _assert_unchanged(before, _arrays(snapshot))

    def test_each_pair_has_a_finite_or_missing_value_of_each_feature(self) -> None:
        snapshot = practice_snapshot()
        maker = self.make().fit(snapshot)
        account, product = _pairs(snapshot)
        values = np.asarray(maker.transform(account, product), dtype=np.float32)
        assert values.shape == (len(account), len(maker.names))
        assert not np.isinf(values).any(), "a value is infinite; NaN is missing"
        assert maker.transform(account[:0], product[:0]).shape == (0, len(maker.names))

    def test_a_pair_does_not_depend_on_the_others(self) -> None:
        snapshot = practice_snapshot()
        maker = self.make().fit(snapshot)
        account, product = _pairs(snapshot)
        alone = [maker.transform(account[row : row + 1], product[row : row + 1]) for row in range(30)]
        np.testing.assert_allclose(np.concatenate(alone), maker.transform(account, product)[:30], rtol=1e-5)

    def test_a_copy_learns_the_same_and_a_later_fit_forgets_the_earlier_one(self) -> None:
        snapshot, original = practice_snapshot(), self.make()
        pairs = _pairs(snapshot)
        copied = clone(original, safe=False).fit(snapshot).transform(*pairs)
        again = original.fit(practice_snapshot(seed=1)).fit(snapshot).transform(*pairs)
        np.testing.assert_array_equal(copied, again)


class RankerChecks(ABC):
    """What training relies on of a `PairRanker`."""

    @abstractmethod
    def make(self) -> PairRanker:
        """Return a new classifier, not fitted."""

    def test_it_takes_weights(self) -> None:
        check_ranker(self.make())
        examples = _examples(0)
        bought = np.average(examples.y)
        more = np.where(examples.y == 1, 10.0, 1.0).astype(np.float32)
        plain = self._fitted().predict_proba(examples.X)[:, 1].mean()
        weighted = self._fitted(_Examples(examples.X, examples.y, more)).predict_proba(examples.X)[:, 1].mean()
        assert weighted > plain + 0.1 * (1 - bought), (
            f"tenfold weights moved the mean from {plain:.3f} to {weighted:.3f}"
        )

    def test_fit_changes_nothing_of_what_it_is_given(self) -> None:
        examples, given = _examples(0), _examples(0)
        self._fitted(given)
        pd.testing.assert_frame_equal(given.X, examples.X)
        np.testing.assert_array_equal(given.y, examples.y)
        np.testing.assert_array_equal(given.weight, examples.weight)

    def test_its_probabilities_are_of_both_outcomes(self) -> None:
        both = self._fitted().predict_proba(_examples(1).X)
        assert both.shape == (len(_examples(1).X), 2)
        assert ((both >= 0) & (both <= 1)).all()
        np.testing.assert_allclose(both.sum(axis=1), 1.0, rtol=1e-5)

    def test_it_finds_an_order_with_values_missing(self) -> None:
        fresh = _examples(1)
        odds = candidate_log_odds(self._fitted(), fresh.X)
        rank = pd.Series(odds).rank().to_numpy()
        n_bought = fresh.y.sum()
        n_pairs = n_bought * (len(fresh.y) - n_bought)
        area = (rank[fresh.y == 1].sum() - n_bought * (n_bought + 1) / 2) / n_pairs
        assert area > 0.7, f"area under the ROC curve {area:.2f} on fresh rows, .5 is chance"

    def test_a_row_does_not_depend_on_the_others(self) -> None:
        fresh, ranker = _examples(1).X, self._fitted()
        alone = [candidate_log_odds(ranker, fresh.iloc[row : row + 1]) for row in range(20)]
        np.testing.assert_allclose(np.concatenate(alone), candidate_log_odds(ranker, fresh)[:20], rtol=1e-4, atol=1e-5)

    def test_with_a_seed_a_copy_learns_the_same_and_a_later_fit_forgets_the_earlier_one(self) -> None:
        fresh, first, second = _examples(1).X, unfitted_ranker(self.make(), 7), unfitted_ranker(self.make(), 7)
        _fit(first, _examples(2))
        for each in (first, second):
            _fit(each, _examples(0))
        np.testing.assert_allclose(candidate_log_odds(first, fresh), candidate_log_odds(second, fresh), rtol=1e-5)

    def test_what_it_learned_can_be_written_and_read_again(self) -> None:
        ranker, fresh = self._fitted(), _examples(1).X
        content = skops.io.dumps(ranker)
        again = skops.io.loads(content, trusted=skops.io.get_untrusted_types(data=content))
        np.testing.assert_allclose(candidate_log_odds(again, fresh), candidate_log_odds(ranker, fresh), rtol=1e-5)

    def _fitted(self, examples: _Examples | None = None) -> PairRanker:
        ranker = unfitted_ranker(self.make(), 0)
        _fit(ranker, _examples(0) if examples is None else examples)
        return ranker


class BacktestModelChecks(ABC):
    """What the backtest relies on of a `BacktestModel`."""

    @abstractmethod
    def make(self) -> BacktestModel:
        """Return a new baseline, not fitted."""

    def test_it_has_a_name_and_fit_returns_it(self) -> None:
        model = self.make()
        check_plugin("baselines", model, "make()")
        assert isinstance(model.name, str), "name must be text"
        assert model.name, "name is empty"
        assert self._fitted(model) is model, "fit must return self"

    def test_it_never_recommends_what_is_owned_or_anything_twice(self) -> None:
        lists = self._fitted().recommend(_ROWS, 5)
        owned = practice_history().before(PRACTICE_CUTOFF).owned().toarray()
        assert lists.shape == (len(_ROWS), 5)
        assert (lists >= 0).any(), "every list is empty"
        for account, products in enumerate(lists):
            real = products[products >= 0]
            assert len(set(real.tolist())) == len(real), f"account {account} is recommended a product twice"
            assert not owned[account, real].any(), f"account {account} is recommended what it owns"
            assert (products[len(real) :] == -1).all(), "-1 must stand at the end of a list"

    def test_a_shorter_list_is_a_prefix_of_a_longer_one(self) -> None:
        model = self._fitted()
        np.testing.assert_array_equal(model.recommend(_ROWS, 3), model.recommend(_ROWS, 8)[:, :3])

    def test_an_account_is_ranked_the_same_alone_and_in_a_block(self) -> None:
        model = self._fitted()
        alone = np.concatenate([model.recommend(_ROWS[row : row + 1], 4) for row in range(len(_ROWS))])
        np.testing.assert_array_equal(alone, model.recommend(_ROWS, 4))
        assert model.recommend(_ROWS[:0], 4).shape == (0, 4)

    def test_lines_at_or_after_the_cutoff_change_no_list(self) -> None:
        whole, past = practice_history(), practice_history().before(PRACTICE_CUTOFF)
        told, blind = (self.make().fit(each, PRACTICE_CUTOFF).recommend(_ROWS, 5) for each in (whole, past))
        np.testing.assert_array_equal(told, blind)

    def test_a_copy_learns_the_same_and_a_later_fit_forgets_the_earlier_one(self) -> None:
        original = self.make()
        copied = self._fitted(clone(original, safe=False)).recommend(_ROWS, 5)
        again = self._fitted(original.fit(practice_history(seed=1), PRACTICE_CUTOFF)).recommend(_ROWS, 5)
        np.testing.assert_array_equal(copied, again)

    def _fitted(self, model: BacktestModel | None = None) -> BacktestModel:
        return (self.make() if model is None else model).fit(practice_history(), PRACTICE_CUTOFF)


_ROWS: Final = np.arange(_N_ACCOUNTS, dtype=np.int32)


class _Examples(NamedTuple):
    X: pd.DataFrame
    y: IntArray
    weight: AnyFloatArray


def _examples(seed: int, n: int = 1_500) -> _Examples:
    """Candidates of which `liked` says most, `age` something where it is known, and `noise` nothing."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, 3)).astype(np.float32)
    values[rng.random(n) < 0.2, 1] = np.nan
    odds = 2 * values[:, 0] - 1.5 + np.where(np.isnan(values[:, 1]), 0.5, 0.0)
    bought = (rng.random(n) < expit(odds)).astype(np.int64)
    return _Examples(pd.DataFrame(values, columns=["liked", "age", "noise"]), bought, np.ones(n, dtype=np.float32))


def _fit(ranker: PairRanker, examples: _Examples) -> None:
    ranker.fit(examples.X, examples.y, sample_weight=examples.weight)


def _everyone(snapshot: Snapshot) -> RowArray:
    return np.arange(snapshot.shape[0], dtype=np.int32)


def _pairs(snapshot: Snapshot) -> tuple[RowArray, RowArray]:
    """Every account and product, those that were never seen before the snapshot too."""
    n_accounts, n_products = snapshot.shape
    order = np.random.default_rng(0).permutation(n_accounts * n_products).astype(np.int32)
    return order // np.int32(n_products), order % np.int32(n_products)


def _arrays(part: object) -> list[np.ndarray]:
    """Every array of a dataclass and of those in it."""
    found: list[np.ndarray] = []
    for field in fields(part) if is_dataclass(part) else ():
        value = getattr(part, field.name)
        found += [value] if isinstance(value, np.ndarray) else _arrays(value)
    return found


def _assert_unchanged(before: list[np.ndarray], after: list[np.ndarray]) -> None:
    for was, now in zip(before, after, strict=True):
        np.testing.assert_array_equal(was, now, err_msg="an array of the snapshot was changed")
