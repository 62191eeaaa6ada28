"""From a folder or a registry entry to a model that is ready to answer."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

from recsys.bundle.load import Bundle, load_bundle
from recsys.bundle.manifest import MANIFEST
from recsys.contracts.offers import CartLine, OfferRequest
from serving.models import LoadedModel


def load_model(folder: Path, *, source: str, now: datetime, verify: bool = True) -> LoadedModel:
    """Return the model of the bundle in `folder`.

    Its version is the beginning of its manifest's SHA-256, which covers the digest of every file: the same content has
    the same version wherever it is served from, and a decision names the very bytes that made it.

    Args:
        folder: of the bundle.
        source: what the model was asked for by, for people to read.
        now: becomes `loaded_at`.
        verify: compare every file with its digest; left out by workers whose parent has done it.

    Raises:
        BundleCorruptError: a file is missing or altered.
        BundleVersionError: another schema version wrote it.
    """
    bundle = load_bundle(folder, verify=verify)
    return LoadedModel(
        version=_version(bundle),
        source=source,
        engine=bundle.engine(),
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
    )


def _version(bundle: Bundle) -> str:
    return hashlib.sha256((bundle.path / MANIFEST).read_bytes()).hexdigest()[:12]


def _utc(text: str) -> datetime:
    when = datetime.fromisoformat(text)
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
