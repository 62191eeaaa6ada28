"""The fitted models that score accounts, and the folder that keeps them beside a bundle.

A bundle answers requests and holds no model. Whoever scores accounts again, at a later moment or in blocks on many
machines, needs the whole ensemble: it is kept as skops files, of which only types that this module names are ever
built. Kept is what was learned; the tables of products and accounts are data of the moment that is scored, so that no
account stands in these files.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal
from zipfile import BadZipFile

import pandas as pd
import skops.io
from pydantic import ValidationError

from recsys.arrays import RowArray, unique_sorted
from recsys.bundle.load import check_file
from recsys.bundle.manifest import FileEntry
from recsys.bundle.save import file_entries, replaced_folder
from recsys.contracts.config import Config, validation_sentences
from recsys.data.history import History
from recsys.errors import BundleCorruptError, BundleError, BundleVersionError, MissingColumnError
from recsys.ladder.edges import TEXT_COLUMNS, Ladder
from recsys.models.candidates import Candidates
from recsys.models.next_product.cold_start import ColdStartModel, with_cold_starts
from recsys.models.next_product.model import NextProductModel
from recsys.models.upgrade.model import UpgradeModel
from recsys.threads import single_threaded

MODELS_MANIFEST: Final = "models.json"
TRUSTED_TYPES: Final = (
    "functools.partial",
    "recsys.ladder.upgrade_events.UpgradeEventConfig",
    "recsys.models.next_product.account_features.AccountColumns",
    "recsys.models.next_product.calibration.Calibrator",
    "recsys.models.next_product.calibration.CalibratorConfig",
    "recsys.models.next_product.calibration.MonotoneCurve",
    "recsys.models.next_product.cold_start.ColdStartConfig",
    "recsys.models.next_product.cold_start.ColdStartModel",
    "recsys.models.next_product.examples.SamplingConfig",
    "recsys.models.next_product.features.FeatureConfig",
    "recsys.models.next_product.list_order.ListTrees",
    "recsys.models.next_product.list_order.OrderChoice",
    "recsys.models.next_product.model.FittedFold",
    "recsys.models.next_product.model.NextProductConfig",
    "recsys.models.next_product.model.NextProductModel",
    "recsys.models.next_product.ranker.ActivityConfig",
    "recsys.models.next_product.ranker.IncidenceModel",
    "recsys.models.next_product.ranker.Ranker",
    "recsys.models.next_product.ranker.RankerConfig",
    "recsys.models.next_product.ranker.ScaledLogistic",
    "recsys.models.propensity.blending.Blend",
    "recsys.models.propensity.classifier.PropensityClassifier",
    "recsys.models.propensity.encoding.TableEncoder",
    "recsys.models.propensity.learners.BoostingLearner",
    "recsys.models.propensity.learners.BoostingSetting",
    "recsys.models.propensity.learners.LinearDesign",
    "recsys.models.propensity.learners.LogisticLearner",
    "recsys.models.propensity.learners.LogisticSetting",
    "recsys.models.retrieval.associations.AssociationRetriever",
    "recsys.models.retrieval.associations.AssociationsConfig",
    "recsys.models.retrieval.baskets.BasketRetriever",
    "recsys.models.retrieval.baskets.BasketsConfig",
    "recsys.models.retrieval.content.ContentConfig",
    "recsys.models.retrieval.content.ContentRetriever",
    "recsys.models.retrieval.ease.EaseConfig",
    "recsys.models.retrieval.ease.EaseRetriever",
    "recsys.models.retrieval.neighbours.NeighbourRetriever",
    "recsys.models.retrieval.neighbours.NeighboursConfig",
    "recsys.models.retrieval.popularity.PopularityConfig",
    "recsys.models.retrieval.popularity.PopularityRetriever",
    "recsys.models.retrieval.popularity.SeasonConfig",
    "recsys.models.retrieval.popularity.SeasonRetriever",
    "recsys.models.retrieval.retrievers.RetrieversConfig",
    "recsys.models.retrieval.ridge.RidgeConfig",
    "recsys.models.retrieval.ridge.RidgeRetriever",
    "recsys.models.snapshot.CutoffConfig",
    "recsys.models.upgrade.classifier.ClimbClassifier",
    "recsys.models.upgrade.classifier.HazardModel",
    "recsys.models.upgrade.model.UpgradeConfig",
    "recsys.models.upgrade.model.UpgradeModel",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.utils.validation.check_array",
)
"""Types and functions beyond those that skops itself trusts; each was read, and touches no file, network or process."""

_LADDER: Final = "ladder.parquet"
_TABLES: Final = {"products_", "accounts_", "ladder_"}
"""Attributes of the models that are data."""


@dataclass(frozen=True)
class ScoringModels:
    """The whole fitted ensemble.

    Attributes:
        next_product: who buys which new product next.
        cold_start: who buys what nobody has bought yet.
        upgrades: who climbs which rung next.
    """

    next_product: NextProductModel
    cold_start: ColdStartModel
    upgrades: UpgradeModel

    @single_threaded()
    def cross_sell(self, history: History, as_of: datetime, accounts: RowArray | None = None) -> Candidates:
        """Return the best new products of each account, those that wait for their first sale included.

        Args:
            history: order lines; what stands at or after `as_of` changes nothing.
            as_of: the moment up to which everything is known.
            accounts: rows of the accounts in the history's vocabulary; default: those that bought last.
        """
        cross = self.next_product.score(history, as_of, accounts)
        return with_cold_starts(cross, self.cold_start.score(history, as_of, unique_sorted(cross.account)))

    @single_threaded()
    def upsell(self, history: History, as_of: datetime) -> Candidates:
        """Return the best upgrade to each product of each account that stands on a rung."""
        return self.upgrades.score(history, as_of)


class ModelsManifest(Config):
    """What the folder of the models says of itself: `models.json`.

    Attributes:
        schema_version: of the models' attributes; another one is refused.
        scikit_learn: the version that fitted them; another one may read its trees in another way, and is refused.
        files: every other file, sorted by name.
    """

    schema_version: Literal[1] = 1
    scikit_learn: str
    files: tuple[FileEntry, ...]


def models_folder(bundle: Path) -> Path:
    """Return where the models of a bundle that is written for a person stand: beside it, `-models` to its name."""
    return bundle.with_name(f"{bundle.name}-models")


def save_models(folder: Path, models: ScoringModels) -> None:
    """Write the models to a folder; older ones there are replaced.

    Raises:
        BundleError: the folder is something else, a model holds a type that could never be read again, or skops can't
            write a part of others.
    """
    parts_of_others = models.next_product.has_own_parts
    with replaced_folder(folder, MODELS_MANIFEST, "folder of models") as beside:
        for name, model in vars(models).items():
            (beside / f"{name}.skops").write_bytes(dump_learned(name, model, any_type=parts_of_others))
        models.upgrades.ladder_.edges.to_parquet(beside / _LADDER, index=False)
        manifest = ModelsManifest(scikit_learn=version("scikit-learn"), files=file_entries(beside))
        (beside / MODELS_MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")


def load_models(
    folder: Path, products: pd.DataFrame, accounts: pd.DataFrame, *, trusted: Sequence[str] = ()
) -> ScoringModels:
    """Return the models of a folder, each file's digest compared before it is opened.

    Args:
        folder: what `save_models` wrote.
        products: columns of the products table, as it is at the moment that is scored.
        accounts: columns of the accounts table, likewise.
        trusted: types of a ranker or retriever of others that may be built too, by their full names; read what they do.

    Raises:
        BundleCorruptError: a file is missing or altered, or asks for a type that is neither listed here nor trusted.
        BundleVersionError: another version wrote it.
        MissingColumnError: the accounts lack a column that the models learned from.
    """
    manifest = _read_manifest(folder)
    models = ScoringModels(
        **{
            field.name: load_learned(_checked(folder, manifest, f"{field.name}.skops"), trusted)
            for field in fields(ScoringModels)
        }
    )
    missing = sorted(set(models.next_product.columns_.levels_) - set(accounts.columns))
    if missing:
        raise MissingColumnError(f"accounts: columns {missing} are missing; the models of {folder} learned from them")
    edges = pd.read_parquet(_checked(folder, manifest, _LADDER))
    models.next_product.products_ = models.cold_start.products_ = products
    models.next_product.accounts_ = models.upgrades.accounts_ = accounts
    models.upgrades.ladder_ = Ladder(edges.astype(dict.fromkeys(TEXT_COLUMNS, object)))
    return models


def dump_learned(name: str, model: object, also: Sequence[str] = (), *, any_type: bool = False) -> bytes:
    """Return what a model learned as a skops file, without the tables that are data of the moment.

    Args:
        name: of the model, for the error.
        model: the model; or a result that holds no frame.
        also: types that may stand in it beyond `TRUSTED_TYPES`.
        any_type: whether others may too, because it holds a part of others.

    Raises:
        BundleError: it holds a type that could never be read again, or that skops can't write.
    """
    learned = copy.copy(model)
    for table in _TABLES & getattr(learned, "__dict__", {}).keys():
        delattr(learned, table)
    try:
        content: bytes = skops.io.dumps(learned)
    except (TypeError, ValueError) as error:
        raise BundleError(f"model {name!r}: skops can't write it ({error}); see recsys.testing.RankerChecks") from None
    unlisted = [] if any_type else _unlisted_types(content, also)
    if unlisted:
        raise BundleError(
            f"model {name!r}: holds {', '.join(unlisted)}, must hold listed types only; add them to "
            f"{__name__}.TRUSTED_TYPES after reading what they do"
        )
    return content


def load_learned(path: Path, also: Sequence[str] = ()) -> Any:  # noqa: ANN401 - what it is, the file says
    """Return what `dump_learned` wrote; its tables are for the caller to set.

    Raises:
        BundleCorruptError: the file is no skops file, or asks for a type that is not on the list.
    """
    content = path.read_bytes()
    try:
        unlisted = _unlisted_types(content, also)
    except (BadZipFile, KeyError, TypeError, ValueError) as error:
        raise BundleCorruptError(f"{path}: not readable as skops ({error}); train again") from None
    if unlisted:
        raise BundleCorruptError(
            f"{path}: asks for {', '.join(unlisted)}, which is neither listed nor trusted; do not use this file, "
            "unless they are of a part of yours: then name them as trusted"
        )
    return skops.io.loads(content, trusted=[*TRUSTED_TYPES, *also])


def _unlisted_types(content: bytes, also: Sequence[str]) -> list[str]:
    return sorted(set(skops.io.get_untrusted_types(data=content)) - {*TRUSTED_TYPES, *also})


def _read_manifest(folder: Path) -> ModelsManifest:
    path = folder / MODELS_MANIFEST
    try:
        manifest = ModelsManifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BundleCorruptError(f"{path}: not readable ({error.strerror}); name a folder of models") from None
    except ValidationError as error:
        raise BundleCorruptError(f"{path}: {validation_sentences(error)}; train again") from None
    here = version("scikit-learn")
    if manifest.scikit_learn != here:
        raise BundleVersionError(
            f"{path}: scikit_learn == {manifest.scikit_learn!r}, must be {here!r}; train again with this version, "
            "or install the version that wrote it"
        )
    return manifest


def _checked(folder: Path, manifest: ModelsManifest, name: str) -> Path:
    entry = next((file for file in manifest.files if file.name == name), None)
    if entry is None:
        raise BundleCorruptError(f"{folder}: {MODELS_MANIFEST} lists no {name!r}; restore it or train again")
    check_file(folder, entry, verify=True)
    return folder / name
