"""The general classifier: any table goes in, calibrated probabilities come out; it keeps up with the best."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted

from recsys.errors import DataError, MissingColumnError
from recsys.fitting.scoring_models import TRUSTED_TYPES
from recsys.models.propensity.blending import calibrate, choose_blend
from recsys.models.propensity.classifier import PropensityClassifier
from recsys.models.propensity.encoding import MISSING, TableEncoder
from recsys.models.propensity.learners import BoostingLearner, LogisticLearner, LogisticSetting, boosting_settings


def any_table(n: int, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """A table of every kind of column, labels, and the probabilities that made them."""
    rng = np.random.default_rng(seed)
    segment = rng.choice(["shop", "office", "hotel", "rare"], n, p=[0.5, 0.3, 0.19, 0.01])
    region = rng.integers(0, 12, n)
    spend = rng.lognormal(3, 1, n)
    effect = np.random.default_rng(99).permutation(np.linspace(-1.5, 1.5, 12))
    odds = -2.5 + 0.8 * (segment == "hotel") + effect[region] + 0.6 * (np.log(spend) - 3)
    table = pd.DataFrame(
        {
            "segment": segment,
            "region_code": region.astype(float),
            "spend": np.where(rng.random(n) < 0.1, np.nan, spend),
            "key": rng.random(n) < 0.1,
            "since": pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(rng.integers(0, 700, n), unit="D"),
            "grade": pd.Categorical(rng.choice(["a", "b"], n)),
            "constant": 1,
            "empty": np.nan,
            "id": [f"A{i}" for i in range(n)],
            "maybe": pd.array(rng.choice(np.array([True, False, None]), n), dtype="boolean"),
        }
    )
    table["segment"] = table["segment"].astype(object).where(rng.random(n) > 0.05, None)
    probability = expit(odds)
    return table, (rng.random(n) < probability).astype(int), probability


@pytest.fixture(scope="module")
def fitted() -> PropensityClassifier:
    table, y, _ = any_table(3_000)
    return PropensityClassifier(folds=3).fit(table, y)


def test_it_comes_close_to_the_truth_on_rows_not_seen(fitted: PropensityClassifier) -> None:
    fresh, y, truth = any_table(4_000, seed=1)
    probability = fitted.predict_proba(fresh)[:, 1]
    assert roc_auc_score(y, probability) > roc_auc_score(y, truth) - 0.04
    assert truth.sum() / probability.sum() == pytest.approx(1, abs=0.12)
    assert np.corrcoef(probability, truth)[0, 1] > 0.85


def test_probabilities_are_probabilities_and_labels_follow(fitted: PropensityClassifier) -> None:
    table, _, _ = any_table(200, seed=5)
    both = fitted.predict_proba(table)
    assert both.shape == (200, 2)
    np.testing.assert_allclose(both.sum(axis=1), 1.0)
    np.testing.assert_array_equal(fitted.predict(table), (both[:, 1] > 0.5).astype(int))


def test_levels_never_seen_and_missing_values_are_tolerated(fitted: PropensityClassifier) -> None:
    table, _, _ = any_table(50, seed=6)
    table["segment"], table["region_code"], table["spend"] = "new", 99.0, np.inf
    table["since"] = pd.NaT
    assert np.isfinite(fitted.predict_proba(table)).all()


def test_columns_are_found_by_name_and_others_are_ignored(fitted: PropensityClassifier) -> None:
    table, _, _ = any_table(100, seed=7)
    shuffled = table[table.columns[::-1]].assign(more=1.0)
    np.testing.assert_array_equal(fitted.predict_proba(table), fitted.predict_proba(shuffled))
    with pytest.raises(MissingColumnError, match=r"columns \['spend'\] are missing"):
        fitted.predict_proba(table.drop(columns="spend"))


def test_rows_do_not_depend_on_each_other(fitted: PropensityClassifier) -> None:
    table, _, _ = any_table(100, seed=8)
    alone = np.concatenate([fitted.predict_proba(table.iloc[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(fitted.predict_proba(table)[:5], alone)


def test_the_same_seed_gives_the_same_model(fitted: PropensityClassifier) -> None:
    table, y, _ = any_table(3_000)
    again = clone(fitted).fit(table, y)
    np.testing.assert_array_equal(again.predict_proba(table), fitted.predict_proba(table))


def test_it_obeys_the_estimator_contract(fitted: PropensityClassifier) -> None:
    check_is_fitted(fitted)
    assert clone(fitted).get_params() == fitted.get_params()
    assert fitted.n_features_in_ == 10
    assert fitted.classes_.tolist() == [0, 1]
    assert fitted.set_params(folds=3).folds == 3


EXPECTED_FAILURES = {
    "check_sample_weight_equivalence_on_dense_data": "a row of weight 2 stands in one fold, two copies of it in two",
}


@pytest.mark.filterwarnings("ignore")  # the checks provoke warnings on purpose
@parametrize_with_checks(
    [PropensityClassifier(folds=2, selection_folds=2)],
    expected_failed_checks=lambda _: EXPECTED_FAILURES,
    xfail_strict=True,
)
def test_it_passes_scikit_learns_own_checks(
    estimator: PropensityClassifier, check: Callable[[PropensityClassifier], None]
) -> None:
    check(estimator)


def test_text_labels_and_plain_arrays_go_in() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(400, 2))
    y = np.where(rows[:, 0] + rng.normal(0, 0.5, 400) > 0, "yes", "no")
    model = PropensityClassifier(folds=2, selection_folds=2).fit(rows, y)
    assert model.classes_.tolist() == ["no", "yes"]
    assert (model.predict(rows) == y).mean() > 0.8


def test_numeric_codes_are_told_from_numbers() -> None:
    table, y, _ = any_table(2_000)
    encoder = TableEncoder().fit(table)
    kinds = dict(zip(encoder.columns_, encoder.kinds_, strict=True))
    assert kinds == {
        "segment": "category",
        "region_code": "code",
        "spend": "number",
        "key": "number",
        "since": "number",
        "grade": "category",
        "constant": "dropped",
        "empty": "dropped",
        "id": "dropped",
        "maybe": "number",
    }
    told = TableEncoder(numbers=("region_code",)).fit(table)
    assert dict(zip(told.columns_, told.kinds_, strict=True))["region_code"] == "number"
    model = PropensityClassifier(folds=2, selection_folds=2).fit(table[["region_code"]], y)
    plain = PropensityClassifier(folds=2, selection_folds=2, numbers=("region_code",)).fit(table[["region_code"]], y)
    assert model.choice_.losses["logistic"] < plain.choice_.losses["logistic"]


def test_rare_and_unknown_labels_share_a_level_and_missing_has_none() -> None:
    column = pd.Series(["a"] * 100 + ["b"] * 100 + ["c"] + [None], dtype=object)
    encoder = TableEncoder().fit(pd.DataFrame({"x": column}))
    levels = encoder.transform(pd.DataFrame({"x": ["a", "b", "c", "z", None]})).levels[:, 0]
    assert levels.tolist() == [0, 1, 2, 2, MISSING]


def test_a_rare_outcome_keeps_its_calibration() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(8_000, 3))
    truth = expit(-4.2 + x[:, 0])
    y = (rng.random(8_000) < truth).astype(int)
    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    model = PropensityClassifier(folds=3).fit(frame[:6_000], y[:6_000])
    expected = model.predict_proba(frame[6_000:])[:, 1]
    assert y[:6_000].mean() < 0.05
    assert expected.sum() == pytest.approx(truth[6_000:].sum(), rel=0.2)


def test_a_weight_counts_like_copies() -> None:
    table, y, _ = any_table(1_200)
    table = table[["spend", "segment"]]
    kept = (y == 1) | (np.arange(len(y)) % 2 == 0)
    weight = np.where(y == 1, 1.0, 2.0)[kept]
    model = PropensityClassifier(folds=2, selection_folds=2).fit(table[kept], y[kept], weight)
    assert model.predict_proba(table)[:, 1].mean() == pytest.approx(y.mean(), rel=0.12)


@pytest.mark.parametrize("n_positive", [1, 5])
def test_few_of_a_class_fall_back_to_a_plain_regression(n_positive: int) -> None:
    table, _, _ = any_table(60)
    y = np.zeros(60, dtype=int)
    y[:n_positive] = 1
    model = PropensityClassifier().fit(table, y)
    assert model.choice_.name == "logistic"
    assert model.predict_proba(table)[:, 1].mean() == pytest.approx(n_positive / 60, rel=0.1)


def test_a_table_that_says_nothing_gives_the_base_rate() -> None:
    y = np.array([0] * 300 + [1] * 100)
    model = PropensityClassifier(folds=2).fit(pd.DataFrame({"constant": np.ones(400)}), y)
    np.testing.assert_allclose(model.predict_proba(pd.DataFrame({"constant": [1.0, 2.0]}))[:, 1], 0.25, atol=0.02)


def test_a_learner_that_remembers_accounts_does_not_look_better() -> None:
    """Twenty rows of each account, whose label is pure chance but the same in all of them."""
    rng = np.random.default_rng(5)
    account = np.repeat(np.arange(60), 20)
    table = pd.DataFrame({"a": rng.normal(size=60)[account], "b": rng.normal(size=60)[account]})
    y = (rng.random(60) < 0.4).astype(int)[account]
    loose = PropensityClassifier(folds=3).fit(table, y)
    grouped = PropensityClassifier(folds=3).fit(table, y, groups=account)
    chance = -(y.mean() * np.log(y.mean()) + (1 - y.mean()) * np.log(1 - y.mean()))
    assert min(loose.choice_.losses.values()) < 0.5 * chance
    assert min(grouped.choice_.losses.values()) > 0.9 * chance
    assert grouped.predict_proba(table)[:, 1].std() < 0.15


def test_wrong_labels_and_weights_are_refused() -> None:
    table = pd.DataFrame({"x": range(20)})
    with pytest.raises(DataError, match="y holds 1 classes, must hold 2"):
        PropensityClassifier().fit(table, np.zeros(20))
    with pytest.raises(DataError, match=r"y has shape \(3,\), must be \(20,\)"):
        PropensityClassifier().fit(table, [0, 1, 0])
    with pytest.raises(DataError, match="sample_weight"):
        PropensityClassifier().fit(table, [0, 1] * 10, -np.ones(20))


def test_calibration_finds_intercept_and_slope_again() -> None:
    rng = np.random.default_rng(1)
    odds = rng.normal(-1, 2, 40_000)
    y = (rng.random(40_000) < expit(0.5 + 0.7 * odds)).astype(int)
    intercept, slope = calibrate(odds, y, np.ones(40_000))
    assert (intercept, slope) == (pytest.approx(0.5, abs=0.06), pytest.approx(0.7, abs=0.04))
    assert calibrate(odds, y, np.ones(40_000), shift=0.5)[0] == pytest.approx(0.0, abs=0.06)


def test_a_level_of_rare_positives_is_not_mended_by_the_slope() -> None:
    rng = np.random.default_rng(3)
    odds = rng.normal(-6, 1, 20_000)
    truth = odds - 0.7
    y, weight = np.tile([1, 0], 20_000), np.column_stack([expit(truth), expit(-truth)]).ravel()
    intercept, slope = calibrate(np.repeat(odds, 2), y, weight, prior=(25.0, 5.0))
    # about 40 positives say -0.7, a prior of 25 says 0; the slope has no part in it
    centre = -6 + 1  # rare positives of normal odds lie one variance higher
    assert slope == pytest.approx(1.0, abs=0.06)
    assert intercept + (slope - 1) * centre == pytest.approx(-0.5, abs=0.06)


def test_the_blend_is_kept_unless_one_is_clearly_better() -> None:
    rng = np.random.default_rng(2)
    truth = rng.normal(0, 1.5, 4_000)
    y = (rng.random(4_000) < expit(truth)).astype(int)
    weight = np.ones(4_000)
    alike = {"logistic": truth + rng.normal(0, 1, 4_000), "boosting": truth + rng.normal(0, 1, 4_000)}
    assert choose_blend(alike, y, weight).name == "blend"
    useless = {"logistic": truth, "boosting": rng.normal(0, 3, 4_000)}
    assert choose_blend(useless, y, weight).name == "logistic"


def test_it_survives_skops() -> None:
    import skops.io

    table, y, _ = any_table(500)
    model = PropensityClassifier(folds=2, selection_folds=2).fit(table, y)
    data = skops.io.dumps(model)
    assert set(skops.io.get_untrusted_types(data=data)) <= set(TRUSTED_TYPES)
    np.testing.assert_array_equal(
        skops.io.loads(data, trusted=list(TRUSTED_TYPES)).predict_proba(table), model.predict_proba(table)
    )


@pytest.mark.data
def test_it_keeps_up_with_the_best_learner_on_bank_marketing(bank_marketing_path: Path) -> None:
    """A smaller form of the proof: one seed, 12,000 rows to learn from."""
    frame = pd.read_parquet(bank_marketing_path).drop(columns="duration")
    y = (frame.pop("y") == "yes").astype(int).to_numpy()
    seen, unseen, y_seen, y_unseen = train_test_split(frame, y, train_size=12_000, random_state=0)
    text = [name for name in frame if not pd.api.types.is_numeric_dtype(frame[name])]
    encode = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), text), remainder=StandardScaler())
    peers = {
        "logistic": make_pipeline(encode, LogisticRegression(max_iter=1_000)),
        "boosting": HistGradientBoostingClassifier(categorical_features="from_dtype", random_state=0),
    }
    seen_typed, unseen_typed = seen.astype(dict.fromkeys(text, "category")), unseen.copy()
    for name in text:
        unseen_typed[name] = pd.Categorical(unseen[name], categories=seen_typed[name].cat.categories)
    ours = PropensityClassifier(folds=3).fit(seen, y_seen).predict_proba(unseen)[:, 1]
    for name, peer in peers.items():
        fitted_peer = peer.fit(seen_typed, y_seen)
        theirs = fitted_peer.predict_proba(unseen_typed)[:, 1]
        assert roc_auc_score(y_unseen, ours) >= roc_auc_score(y_unseen, theirs), name
        assert log_loss(y_unseen, ours) <= log_loss(y_unseen, theirs), name


def test_rare_positives_are_learned_to_the_end() -> None:
    """With 1 % of positives the mean loss has small gradients: a coarse tolerance would stop at once."""
    rng = np.random.default_rng(11)
    values = rng.normal(size=(20_000, 4))
    y = (rng.random(20_000) < expit(values @ np.array([0.6, -0.4, 0.3, 0.0]) - 4.9)).astype(int)
    table = TableEncoder().fit(pd.DataFrame(values)).transform(pd.DataFrame(values))
    setting = LogisticSetting(1.0, 0, codes=False, logs=False)
    ours = LogisticLearner([], np.empty(0, dtype=bool), setting).fit(table, y, np.ones(len(y))).log_odds(table)
    exact = LogisticRegression(C=1.0, tol=1e-9).fit(StandardScaler().fit_transform(values), y)
    theirs = exact.decision_function(StandardScaler().fit_transform(values))
    np.testing.assert_allclose(ours, theirs, atol=0.05)


def test_trees_learn_the_same_with_weights_as_with_copies() -> None:
    table, y, _ = any_table(1_500, seed=12)
    encoder = TableEncoder().fit(table)
    encoded, twice = encoder.transform(table), encoder.transform(pd.concat([table, table]))
    setting = boosting_settings(has_codes=True, n_rarer=100)[0]
    learners = [BoostingLearner(encoder.code_numbers, encoder.code_levels, setting) for _ in range(2)]
    weighted = learners[0].fit(encoded, y, np.full(1_500, 2.0)).log_odds(encoded)
    copied = learners[1].fit(twice, np.tile(y, 2), np.ones(3_000)).log_odds(encoded)
    assert np.corrcoef(weighted, copied)[0, 1] > 0.95  # leaves hold 40 rows at least: copies may split finer
