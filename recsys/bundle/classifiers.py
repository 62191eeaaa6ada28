"""Classifiers as skops files: only types that this code names are ever built, whatever a file asks for."""

from __future__ import annotations

from pathlib import Path

import skops.io
from sklearn.base import BaseEstimator

from recsys.bundle.load import checked_file
from recsys.bundle.manifest import read_manifest
from recsys.errors import BundleCorruptError, BundleError

TRUSTED = (
    "functools.partial",
    "numpy.dtype",
    "recsys.models.propensity.blending.Blend",
    "recsys.models.propensity.classifier.PropensityClassifier",
    "recsys.models.propensity.encoding.TableEncoder",
    "recsys.models.propensity.learners.BoostingLearner",
    "recsys.models.propensity.learners.BoostingSetting",
    "recsys.models.propensity.learners.LinearDesign",
    "recsys.models.propensity.learners.LogisticLearner",
    "recsys.models.propensity.learners.LogisticSetting",
    "recsys.models.upgrade.classifier.ClimbClassifier",
    "recsys.models.upgrade.classifier.HazardModel",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.utils.validation.check_array",
)
"""Types and functions beyond those that skops itself trusts; each was read, and touches no file, network or process."""


def write_classifier(classifier: BaseEstimator, path: Path) -> None:
    """Write a fitted classifier as skops.

    Raises:
        BundleError: it holds a type that could never be read again.
    """
    skops.io.dump(classifier, path)
    strangers = _strangers(path)
    if strangers:
        raise BundleError(
            f"classifier {path.stem!r}: holds {', '.join(strangers)}, must hold trusted types only; "
            "add them to recsys.bundle.classifiers.TRUSTED after reading what they do"
        )


def load_classifier(folder: Path, name: str) -> BaseEstimator:
    """Return the classifier `name` of the bundle in `folder`, after its digest was compared.

    Raises:
        BundleCorruptError: the bundle has none of that name, it was altered, or it asks for a type that is not trusted.
    """
    return read_classifier(checked_file(folder, read_manifest(folder), f"classifiers/{name}.skops"))


def read_classifier(path: Path) -> BaseEstimator:
    """Return the classifier of a skops file whose digest was checked.

    Raises:
        BundleCorruptError: it asks for a type that is not on the list in this code.
    """
    strangers = _strangers(path)
    if strangers:
        raise BundleCorruptError(f"{path}: asks for {', '.join(strangers)}, which is not trusted; do not use this file")
    return skops.io.load(path, trusted=list(TRUSTED))


def _strangers(path: Path) -> list[str]:
    return sorted(set(skops.io.get_untrusted_types(file=path)) - set(TRUSTED))
