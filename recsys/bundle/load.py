"""Reads a bundle: checks every digest, maps the tables, runs nothing that the bundle brings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_type_hints

from pydantic import ValidationError

from recsys.bundle.arrow import read_arrow_table
from recsys.bundle.manifest import FACTS, FileEntry, Manifest, digest, read_manifest
from recsys.contracts import columns as c
from recsys.contracts.config import validation_sentences
from recsys.contracts.offers import OfferRequest
from recsys.errors import BundleCorruptError, MissingColumnError
from recsys.offer_model.facts import ModelFacts
from recsys.offer_model.tables import OfferModel
from recsys.ranking.batch import offers_table
from recsys.ranking.engine import OfferEngine

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_LIMIT: Final = 10
"""Offers an account, where a frame of accounts asks for no other number."""


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle.

    Attributes:
        path: its folder.
        manifest: what it says of itself.
        model: the tables, memory-mapped.
    """

    path: Path
    manifest: Manifest
    model: OfferModel

    def frame(self, name: str) -> pd.DataFrame:
        """Return a table for people that was saved with the model, its digest compared: `rules` or `ladder`.

        Raises:
            BundleCorruptError: the bundle has none of that name, or it does not match.
        """
        import pandas as pd

        entry = _listed(self.path, self.manifest, f"frames/{name}.parquet")
        check_file(self.path, entry, verify=True)
        return pd.read_parquet(self.path / entry.name)

    def engine(self) -> OfferEngine:
        """Return an engine that ranks as the bundle says."""
        return OfferEngine(self.model, self.manifest.ranking)


class AccountOffers:
    """What `mlflow.pyfunc.load_model` gives: a model that answers a frame of accounts with a frame of offers.

    Args:
        engine: ranks the offers.
    """

    def __init__(self, engine: OfferEngine) -> None:
        self._engine = engine

    def predict(self, accounts: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Return one row an offer, rank 1 best, the accounts in their order; the columns of `offers recommend`.

        Args:
            accounts: column `account_id`; an account that is unknown, or null, gets what everybody gets.
            params: `limit`, offers an account.

        Raises:
            MissingColumnError: there is no column `account_id`.
        """
        if c.ACCOUNT_ID not in accounts:
            raise MissingColumnError(
                f"the frame has the columns {list(accounts.columns)}, must have {c.ACCOUNT_ID!r}; rename the one that "
                "holds the ids of accounts"
            )
        limit = int((params or {}).get("limit", DEFAULT_LIMIT))
        requests = [
            OfferRequest(account_id=account if isinstance(account, str) else None, limit=limit)
            for account in accounts[c.ACCOUNT_ID].tolist()
        ]
        table = offers_table([(request, self._engine.recommend(request)) for request in requests])
        frame: pd.DataFrame = table.to_pandas()
        return frame


def _load_pyfunc(path: str) -> AccountOffers:  # the name that MLflow calls
    return AccountOffers(load_bundle(Path(path)).engine())


def load_bundle(path: Path, *, verify: bool = True) -> Bundle:
    """Return the bundle in the folder `path`.

    Args:
        path: the folder.
        verify: compare every file with its digest first; without it a bundle of gigabytes opens in milliseconds, for
            workers whose parent has verified it.

    Raises:
        BundleCorruptError: a file is missing, altered, of another size, or not what its name says.
        BundleVersionError: another schema version wrote it.
    """
    manifest = read_manifest(path)
    for file in manifest.files:
        check_file(path, file, verify=verify)
    model = _read_model(path, manifest)
    if verify:
        model.check()
    return Bundle(path, manifest, model)


def check_file(folder: Path, file: FileEntry, *, verify: bool) -> None:
    """Refuse a file of a bundle that is missing, no file of it, or of another size; with `verify`, of another digest.

    Raises:
        BundleCorruptError: it is.
    """
    path = folder / file.name
    try:
        fault = _fault_of(path, folder, file, verify=verify)
    except OSError as error:  # a name longer than the system takes, a file that may not be read
        fault = f"not readable ({error.strerror}); restore it or train again"
    if fault is not None:
        raise BundleCorruptError(f"{path}: {fault}")


def _fault_of(path: Path, folder: Path, file: FileEntry, *, verify: bool) -> str | None:
    if not path.is_file():
        return "missing, the manifest lists it; restore it or train again"
    if not path.resolve().is_relative_to(folder.resolve()):
        return "a link that leaves its folder; do not use it"
    size = path.stat().st_size
    if size != file.size:
        return f"{size} bytes, must be {file.size}; restore it or train again"
    if verify and digest(path) != file.sha256:
        return "its SHA-256 is not that of the manifest; restore it or train again"
    return None


def _read_model(folder: Path, manifest: Manifest) -> OfferModel:
    hints = get_type_hints(OfferModel)
    tables = {}
    for field in fields(OfferModel):
        is_older = field.name == "prices" and all(file.name != "tables/prices.arrow" for file in manifest.files)
        if field.name != "facts" and not is_older:  # a bundle of an earlier release has one price a product
            entry = _listed(folder, manifest, f"tables/{field.name}.arrow")
            tables[field.name] = read_arrow_table(hints[field.name], folder / entry.name)
    facts = folder / _listed(folder, manifest, FACTS).name
    try:
        return OfferModel(facts=ModelFacts.model_validate_json(facts.read_bytes()), **tables)
    except OSError as error:
        raise BundleCorruptError(f"{facts}: not readable ({error.strerror}); restore the bundle") from None
    except ValidationError as error:
        raise BundleCorruptError(f"{facts}: {validation_sentences(error)}; train again") from None


def _listed(folder: Path, manifest: Manifest, name: str) -> FileEntry:
    for file in manifest.files:
        if file.name == name:
            return file
    raise BundleCorruptError(f"{folder}: the manifest lists no {name!r}; restore it or train again")
