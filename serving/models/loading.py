"""From a folder to a model that is ready to answer."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from recsys.bundle.load import Bundle, load_bundle
from recsys.bundle.manifest import model_version
from recsys.contracts.offers import CartLine, OfferRequest
from recsys.errors import BundleCorruptError
from recsys.ranking.explorer import ModelExplorer
from serving.models.by_alias import LoadedModel
from serving.models.trial import BundleTrial, files_seen
from serving.slates import RankingEngine


def load_model(
    folder: Path,
    *,
    source: str,
    now: datetime,
    remembered: int = 0,
    verify: bool = True,
    trial: BundleTrial | None = None,
) -> LoadedModel:
    """Return the model of the bundle in `folder`.

    Args:
        folder: of the bundle.
        source: what the model was asked for by, for people to read.
        now: becomes `loaded_at`.
        remembered: answers that are kept for the same question asked again, of those that are not usual.
        verify: compare every file with its digest; left out by workers whose parent has done it.
        trial: tries the bundle in another process first, which compares the digests instead of this one.

    Raises:
        BundleCorruptError: a file is missing or altered, or the trial failed.
        BundleVersionError: another schema version wrote it.
    """
    version = model_version(folder)
    bundle = load_bundle(folder, verify=verify) if trial is None else _tried(folder, version, trial)
    engine = bundle.engine()
    return LoadedModel(
        version=version,
        source=source,
        engine=RankingEngine(engine, remembered),
        as_of=_utc(bundle.manifest.as_of),
        horizon_days=bundle.manifest.horizon_days,
        currency=bundle.manifest.currency,
        n_accounts=len(bundle.model.accounts.ids),
        n_products=len(bundle.model.products.ids),
        loaded_at=now,
        warm_up=tuple(
            OfferRequest(account_id=item.account_id, cart=tuple(CartLine(product) for product in item.cart))
            for item in bundle.manifest.warm_up
        ),
        insight=ModelExplorer(engine),
    )


def _tried(folder: Path, version: str, trial: BundleTrial) -> Bundle:
    """Return the bundle in `folder` after its trial: the very files that the trial has read."""
    before = files_seen(folder)
    trial.run(folder, version)
    bundle = load_bundle(folder, verify=False)
    if files_seen(folder) != before:
        raise BundleCorruptError(f"{folder}: its files changed while it was tried; it is tried again later")
    return bundle


def _utc(text: str) -> datetime:
    when = datetime.fromisoformat(text)
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
