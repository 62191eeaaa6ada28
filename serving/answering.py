"""One request from question to durable answer."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import datetime

from pydantic_core import to_json

from recsys.contracts.events import Decision, DecisionOffer
from recsys.contracts.offers import Offer, OfferRequest, Slate
from recsys.errors import StoreError
from serving.models import LoadedModel
from serving.services import Services

_log = logging.getLogger("serving")


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks from where; kept with the decision, no part of the ranking.

    Attributes:
        visitor_id: someone without an account, or not logged in yet.
        channel: web, app, e-mail, phone.
        surface: the place of the offers.
        request_id: of the HTTP request.
        route: that was asked, for the metrics.
    """

    visitor_id: str | None
    channel: str | None
    surface: str | None
    request_id: str | None
    route: str


async def answer(services: Services, request: OfferRequest, asker: Asker) -> bytes:
    """Return the JSON answer to one request, after its decision is durable.

    Raises:
        StoreError: the decision could not be kept, and the settings want no answer without it.
    """
    begun = time.perf_counter()
    model = services.models.current()
    now = services.clock()
    slate = model.engine.recommend(request, services.state.of(request.account_id, now))
    decision = _decision(services, now, model, request, slate, asker)
    logged = True
    try:
        durable = services.writer.submit((decision,))
        body = _body(decision, model, slate, logged=True)  # while the commit is under way
        await durable
    except StoreError as error:
        if not services.settings.answer_unlogged:
            raise
        _log.warning("answered without a kept decision: %s", error)
        logged, body = False, _body(decision, model, slate, logged=False)
    services.metrics.answered(asker.route, slate, time.perf_counter() - begun, logged=logged)
    return body


def _decision(
    services: Services, now: datetime, model: LoadedModel, request: OfferRequest, slate: Slate, asker: Asker
) -> Decision:
    return Decision(
        decision_id=services.next_decision_id(),
        decided_at=now,
        request=request,
        model_version=model.version,
        objective=slate.objective,
        tier=slate.tier,
        horizon_days=slate.horizon_days,
        n_considered=slate.n_considered,
        offers=tuple([_kept(offer) for offer in slate.offers]),
        shortfall=slate.shortfall,
        unknown_products=slate.unknown_products,
        visitor_id=asker.visitor_id,
        channel=asker.channel,
        surface=asker.surface,
        request_id=asker.request_id,
        presented=asker.surface in services.settings.returned_is_presented,
    )


def _kept(offer: Offer) -> DecisionOffer:
    # Without exploration the policy returns each offer at its rank for certain.
    return DecisionOffer(
        offer.rank,
        offer.product_id,
        offer.kind,
        offer.price,
        offer.currency,
        offer.probability,
        offer.probability_of,
        offer.expected_quantity,
        offer.expected_value,
        offer.score,
        offer.tier,
        1.0,
        offer.from_product_id,
    )


def _body(decision: Decision, model: LoadedModel, slate: Slate, *, logged: bool) -> bytes:
    """The fields of `schemas.offers.OffersAnswer`, written without building it: this is the hot path."""
    return to_json(
        {
            "decision_id": decision.decision_id,
            "logged": logged,
            "model_version": model.version,
            "as_of": model.as_of,
            "horizon_days": slate.horizon_days,
            "objective": slate.objective,
            "experiment": decision.experiment_id,
            "arm": decision.arm,
            "tier": slate.tier,
            "offers": slate.offers,
            "requested": slate.requested,
            "returned": len(slate.offers),
            "shortfall": slate.shortfall,
            "unknown_products": slate.unknown_products,
        },
        inf_nan_mode="null",
    )
