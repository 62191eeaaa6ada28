"""One request from question to durable answer."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

from pydantic_core import to_json

from recsys.contracts.events import NO_CONTEXT, Context, Decision, DecisionOffer, Event
from recsys.contracts.offers import NOTHING_NEW, AccountState, Offer, OfferRequest, Slate
from recsys.errors import ConfigError, StoreError
from serving.experiments import Entry
from serving.exploration import draw, widened
from serving.models import LoadedModel
from serving.services import Services

_log = logging.getLogger("serving")

HELD_BACK = "this arm of the experiment gets no offers"
"""What the answer of a holdout gives as its shortfall."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks from where; kept with the decision, no part of the ranking.

    Attributes:
        visitor_id: someone without an account, or not logged in yet.
        channel: web, app, e-mail, phone.
        surface: the place of the offers.
        request_id: of the HTTP request.
        route: that was asked, for the metrics.
        experiment_id: that the request names; None leaves it to the server.
    """

    visitor_id: str | None
    channel: str | None
    surface: str | None
    request_id: str | None
    route: str
    experiment_id: str | None = None


class _Ranked(NamedTuple):
    """What one request came to.

    Attributes:
        model: that answered.
        state: of the account or visitor.
        slate: what is offered, or would have been.
        propensity: with which the last offer stands at its rank; the others stand there for certain.
        entry: into an experiment.
    """

    model: LoadedModel
    request: OfferRequest
    state: AccountState
    slate: Slate
    propensity: float
    entry: Entry | None

    @property
    def is_held_back(self) -> bool:
        return self.entry is not None and self.entry.arm.is_holdout


async def answer(services: Services, request: OfferRequest, asker: Asker) -> bytes:
    """Return the JSON answer to one request, after its decision is durable.

    Raises:
        StoreError: the decision could not be kept, and the settings want no answer without it.
    """
    begun = time.perf_counter()
    now = services.clock()
    ranked = _rank(services, request, asker, now)
    decision, entry = _decision(services, now, ranked, asker), ranked.entry
    logged = True
    try:
        durable = services.writer.submit(_events(decision, entry, now))
        body = _body(services, decision, ranked, logged=True)  # while the commit is under way
        await durable
    except StoreError as error:
        if not services.settings.answer_unlogged:
            raise
        _log.warning("answered without a kept decision: %s", error)
        logged, body = False, _body(services, decision, ranked, logged=False)
    if entry is not None and logged:
        services.state.experiments.remember(entry)
    if decision.presented:
        services.state.present(decision)
    _count(services, ranked, asker.route, time.perf_counter() - begun, logged=logged)
    return body


def _rank(services: Services, request: OfferRequest, asker: Asker, now: datetime) -> _Ranked:
    state = services.state
    visitor_id = asker.visitor_id
    if request.account_id is None and visitor_id is not None and (account_id := state.account_of(visitor_id)):
        request = replace(request, account_id=account_id)
    entry = state.experiments.enter(asker.experiment_id, request.account_id, visitor_id)
    model = services.models.current()
    known = state.of(request.account_id, visitor_id, now)
    if entry is None:
        return _Ranked(model, request, known, *_slate(services, model, request, known), None)
    model, wanted = _under(services, entry, model, request)
    try:
        slate, propensity = _slate(services, model, wanted, known)
    except ConfigError as error:
        if wanted.objective == request.objective:
            raise
        _log.error("arm %s of %s: %s", entry.arm.name, entry.experiment_id, error)
        wanted = request  # a page must not fail because a plan asks for what the model has not
        slate, propensity = _slate(services, model, wanted, known)
    return _Ranked(model, wanted, known, slate, propensity, entry)


def _under(
    services: Services, entry: Entry, model: LoadedModel, request: OfferRequest
) -> tuple[LoadedModel, OfferRequest]:
    """Return the model and the request as an arm's policy wants them; without its model the champion answers."""
    policy = entry.arm.policy
    if policy.kind == "popular":
        return model, replace(request, sources="popular")
    objective = policy.objective or request.objective
    return services.models.get(policy.alias) or model, replace(request, objective=objective)


def _slate(services: Services, model: LoadedModel, request: OfferRequest, state: AccountState) -> tuple[Slate, float]:
    share = services.settings.exploration
    if share > 0:
        drawn = draw(model.engine.recommend(widened(request), state), request.limit, share, services.rng)
        if drawn is not None:
            return drawn
    return model.engine.recommend(request, state), 1.0


def _decision(services: Services, now: datetime, ranked: _Ranked, asker: Asker) -> Decision:
    slate, entry = ranked.slate, ranked.entry
    shown = not ranked.is_held_back
    return Decision(
        decision_id=services.next_decision_id(),
        decided_at=now,
        request=ranked.request,
        model_version=ranked.model.version,
        objective=slate.objective,
        tier=slate.tier,
        horizon_days=slate.horizon_days,
        n_considered=slate.n_considered,
        offers=_all_kept(services, slate, ranked.propensity),
        shortfall=slate.shortfall,
        unknown_products=slate.unknown_products,
        visitor_id=asker.visitor_id,
        channel=asker.channel,
        surface=asker.surface,
        request_id=asker.request_id,
        experiment_id=None if entry is None else entry.experiment_id,
        arm=None if entry is None else entry.arm.name,
        assignment_probability=None if entry is None else entry.probability,
        shown=shown,
        presented=shown and asker.surface in services.settings.returned_is_presented,
        context=_context(services, ranked),
    )


def _context(services: Services, ranked: _Ranked) -> Context:
    rules_version = services.state.rules_version
    if ranked.state is NOTHING_NEW and not ranked.slate.refused and rules_version is None:
        return NO_CONTEXT
    return Context(ranked.state, ranked.slate.refused, rules_version)


def _events(decision: Decision, entry: Entry | None, now: datetime) -> tuple[Event, ...]:
    if entry is None or entry.is_recorded:
        return (decision,)
    return (entry.assignment(now), decision)


def _all_kept(services: Services, slate: Slate, propensity: float) -> tuple[DecisionOffer, ...]:
    """The offers as they are kept; only the last one may stand at its rank by chance."""
    if propensity != 1.0:
        last = len(slate.offers)
        return tuple([_kept(offer, propensity if offer.rank == last else 1.0) for offer in slate.offers])
    kept: tuple[DecisionOffer, ...] | None = services.kept.get(slate)
    if kept is None:
        kept = tuple([_kept(offer, 1.0) for offer in slate.offers])
        services.kept.put(slate, None, kept)
    return kept


def _kept(offer: Offer, propensity: float) -> DecisionOffer:
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
        propensity,
        offer.from_product_id,
        offer.rule,
        offer.discount,
    )


def _body(services: Services, decision: Decision, ranked: _Ranked, *, logged: bool) -> bytes:
    """The fields of `schemas.offers.OffersAnswer`, written without building it: this is the hot path."""
    plain = ranked.entry is None  # then all but the first two fields is the same whenever this slate is the answer
    rest = services.written.get(ranked.slate, ranked.model) if plain else None
    if rest is None:
        rest = _rest(decision, ranked)
        if plain:
            services.written.put(ranked.slate, ranked.model, rest)
    return b'{"decision_id":"%b","logged":%b,%b' % (
        decision.decision_id.encode(),
        b"true" if logged else b"false",
        rest,
    )


def _rest(decision: Decision, ranked: _Ranked) -> bytes:
    slate = ranked.slate
    fields = to_json(
        {
            "model_version": ranked.model.version,
            "as_of": ranked.model.as_of,
            "horizon_days": slate.horizon_days,
            "objective": slate.objective,
            "experiment": decision.experiment_id,
            "arm": decision.arm,
            "tier": slate.tier,
            "offers": slate.offers if decision.shown else (),
            "requested": slate.requested,
            "returned": len(slate.offers) if decision.shown else 0,
            "shortfall": slate.shortfall if decision.shown else HELD_BACK,
            "unknown_products": slate.unknown_products,
        },
        inf_nan_mode="null",
    )
    return fields[1:]


def _count(services: Services, ranked: _Ranked, route: str, seconds: float, *, logged: bool) -> None:
    slate, entry = ranked.slate, ranked.entry
    if entry is None:
        services.metrics.answered(route, slate, seconds, logged=logged)
        return
    seen = replace(slate, offers=()) if ranked.is_held_back else slate
    services.metrics.answered(route, seen, seconds, logged=logged, experiment=entry.experiment_id, arm=entry.arm.name)
