"""Classifiers travel as skops: equal probabilities come back, strange types do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KDTree
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from recsys.bundle.classifiers import TRUSTED, load_classifier, read_classifier, write_classifier
from recsys.bundle.manifest import read_manifest
from recsys.bundle.save import save_bundle
from recsys.errors import BundleCorruptError, BundleError
from recsys.models.propensity.classifier import PropensityClassifier
from recsys.ranking.synthetic import SyntheticModelConfig, synthetic_model

RNG = np.random.default_rng(3)
TABLE = pd.DataFrame({"visits": RNG.poisson(3, 600).astype(float), "region": RNG.choice(["n", "s"], 600)})
BOUGHT = (TABLE["visits"] + RNG.normal(0, 1, 600) > 3).astype(int).to_numpy()
ENCODE = make_column_transformer((StandardScaler(), ["visits"]), (OneHotEncoder(), ["region"]))

CLASSIFIERS = [
    make_pipeline(ENCODE, LogisticRegression()),
    make_pipeline(ENCODE, HistGradientBoostingClassifier(max_iter=4)),
    make_pipeline(ENCODE, CalibratedClassifierCV(HistGradientBoostingClassifier(max_iter=3), cv=2)),
    make_pipeline(ENCODE, CalibratedClassifierCV(LogisticRegression(), method="isotonic", cv=2)),
    PropensityClassifier(folds=2, selection_folds=2),
]


@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=lambda c: str(c)[:60].replace("\n", ""))
def test_a_classifier_comes_back_with_equal_probabilities(classifier: PropensityClassifier, tmp_path: Path) -> None:
    classifier.fit(TABLE, BOUGHT)
    write_classifier(classifier, tmp_path / "c.skops")
    again = read_classifier(tmp_path / "c.skops")
    assert np.array_equal(again.predict_proba(TABLE), classifier.predict_proba(TABLE))


def test_a_type_that_is_not_listed_is_refused_when_written_and_when_read(tmp_path: Path) -> None:
    strange = FunctionTransformer(func=np.linalg.norm).fit(np.zeros((2, 2)))
    strange.tree_ = KDTree  # a type, which could be any
    with pytest.raises(BundleError, match="must hold trusted types only"):
        write_classifier(strange, tmp_path / "s.skops")
    skops.io.dump(strange, tmp_path / "s.skops")
    with pytest.raises(BundleCorruptError, match="which is not trusted; do not use this file"):
        read_classifier(tmp_path / "s.skops")


def test_the_list_names_no_type_twice_and_stands_in_order() -> None:
    assert list(TRUSTED) == sorted(set(TRUSTED))


def test_a_bundle_s_classifier_is_read_only_after_its_digest(tmp_path: Path) -> None:
    model = synthetic_model(SyntheticModelConfig(n_accounts=5, n_products=20), np.random.default_rng(0))
    classifier = make_pipeline(ENCODE, LogisticRegression()).fit(TABLE, BOUGHT)
    save_bundle(tmp_path / "b", model, classifiers={"next_product": classifier})
    manifest = read_manifest(tmp_path / "b")
    assert "classifiers/next_product.skops" not in manifest.data_digests()
    again = load_classifier(tmp_path / "b", "next_product")
    assert np.array_equal(again.predict_proba(TABLE), classifier.predict_proba(TABLE))
    path = tmp_path / "b" / "classifiers" / "next_product.skops"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleCorruptError, match="SHA-256"):
        load_classifier(tmp_path / "b", "next_product")
    with pytest.raises(BundleCorruptError, match="lists no"):
        load_classifier(tmp_path / "b", "other")
