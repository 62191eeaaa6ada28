"""The model that answers, behind a seam: one that stays here, one that follows the registry where it is needed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from recsys.contracts.offers import OfferRequest, Slate
from recsys.ranking.state import NOTHING_NEW, AccountState


class Recommender(Protocol):
    """What ranks: `recsys.ranking.OfferEngine`, or a fake in tests."""

    def recommend(self, request: OfferRequest, state: AccountState = NOTHING_NEW) -> Slate:
        """Return the ranked answer to one request."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """One model in memory, ready to answer.

    Attributes:
        version: what every decision names as its model.
        source: the URI or folder that it was asked for by.
        as_of: no order line at or after it was used.
        loaded_at: when this process loaded it, UTC.
        warm_up: requests that are answered once before the server is ready.
    """

    version: str
    source: str
    engine: Recommender
    as_of: datetime
    horizon_days: int
    currency: str | None
    n_accounts: int
    n_products: int
    loaded_at: datetime
    warm_up: tuple[OfferRequest, ...] = ()


class Models(Protocol):
    """Who says which model answers now."""

    def current(self) -> LoadedModel:
        """Return the model for the next request; one request uses one model throughout."""


class FixedModel:
    """The model that the server was started with."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model

    def current(self) -> LoadedModel:
        """Return that model."""
        return self._model
