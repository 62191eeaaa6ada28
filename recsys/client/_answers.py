"""What the server answers, as typed values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from recsys.contracts.offers import Objective, Offer, OfferRequest, Tier

_OFFER_FIELDS = frozenset(item.name for item in fields(Offer))


@dataclass(frozen=True, slots=True)
class Answer:
    """The ranked answer to one request.

    Attributes:
        decision_id: to report outcomes against; None where the server was not reached.
        logged: whether the server keeps the decision.
        model_version: None where the server was not reached.
        as_of: no purchase at or after it was used in training.
        horizon_days: the window of every probability.
        tier: the best source of evidence that answered.
        offers: in order of rank.
        requested: how many were asked for.
        shortfall: why fewer came than were asked for; None when all came.
        unknown_products: products of the cart, and the viewed one, that the model does not know.
        unknown_categories: categories of the request that the model does not know.
        unknown_experiment: that the request named and that does not run; None without one.
    """

    decision_id: str | None
    logged: bool
    model_version: str | None
    as_of: datetime | None
    horizon_days: int | None
    objective: Objective
    tier: Tier | None
    offers: tuple[Offer, ...]
    requested: int
    shortfall: str | None
    unknown_products: tuple[str, ...] = ()
    experiment: str | None = None
    arm: str | None = None
    unknown_categories: tuple[str, ...] = ()
    unknown_experiment: str | None = None

    @property
    def returned(self) -> int:
        """How many offers came."""
        return len(self.offers)


@dataclass(frozen=True, slots=True)
class RunningModel:
    """A model that runs in the server.

    Attributes:
        version: what decisions name as their model.
        source: the URI or folder that it was loaded by.
        as_of: no purchase at or after it was used in training.
        loaded_at: when the server loaded it.
    """

    version: str
    source: str
    as_of: datetime
    horizon_days: int
    currency: str | None
    n_accounts: int
    n_products: int
    loaded_at: datetime


def parse_answer(body: Mapping[str, Any]) -> Answer:
    """Return the answer that stands in the server's JSON; fields that a newer server adds are left out."""
    return Answer(
        decision_id=body["decision_id"],
        logged=body["logged"],
        model_version=body["model_version"],
        as_of=datetime.fromisoformat(body["as_of"]),
        horizon_days=body["horizon_days"],
        objective=body["objective"],
        tier=body["tier"],
        offers=tuple(_offer(item) for item in body["offers"]),
        requested=body["requested"],
        shortfall=body["shortfall"],
        unknown_products=tuple(body["unknown_products"]),
        experiment=body["experiment"],
        arm=body["arm"],
        unknown_categories=tuple(body.get("unknown_categories", ())),  # which an older server does not name
        unknown_experiment=body.get("unknown_experiment"),
    )


def parse_models(body: Mapping[str, Any]) -> tuple[RunningModel, ...]:
    """Return the models that stand in the server's JSON."""
    return tuple(_model(item) for item in body["models"])


def empty_answer(request: OfferRequest, reason: str) -> Answer:
    """Return the answer without offers that stands for a server that could not be asked in time."""
    return Answer(None, False, None, None, None, request.objective, None, (), request.limit, reason)


def _offer(item: Mapping[str, Any]) -> Offer:
    return Offer(**{name: value for name, value in item.items() if name in _OFFER_FIELDS})


def _model(item: Mapping[str, Any]) -> RunningModel:
    return RunningModel(
        version=item["version"],
        source=item["source"],
        as_of=datetime.fromisoformat(item["as_of"]),
        horizon_days=item["horizon_days"],
        currency=item["currency"],
        n_accounts=item["n_accounts"],
        n_products=item["n_products"],
        loaded_at=datetime.fromisoformat(item["loaded_at"]),
    )
