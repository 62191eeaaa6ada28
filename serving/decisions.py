"""One request from question to durable answer."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from recsys.contracts.decisions import NO_CONTEXT, Context, Decision, record_decision
from recsys.contracts.events import Event
from recsys.contracts.offers import EMPTY_STATE, AccountState, OfferRequest, json_text
from recsys.errors import ConfigError, StoreError
from recsys.ranking.ranked import Exploration
from serving.encoding import EncodedSlate
from serving.models.by_alias import LoadedModel
from serving.online.change_feed import Subject
from serving.online.running_experiments import Entry
from serving.services import Services

_log = logging.getLogger("serving")

HELD_BACK = "this arm of the experiment gets no offers"
"""What the answer of a holdout gives as its shortfall."""


class CallerContext(NamedTuple):
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
        entry: into an experiment.
        unknown_experiment: that the request names and that does not run: a page must not fail because a test has ended.
    """

    model: LoadedModel
    request: OfferRequest
    state: AccountState
    slate: EncodedSlate
    entry: Entry | None
    unknown_experiment: str | None

    @property
    def is_held_back(self) -> bool:
        return self.entry is not None and self.entry.arm.is_holdout


class PendingDecision:
    """A ranked answer whose decision is not durable yet.

    Attributes:
        events: what has to be durable before the answer goes out.
    """

    __slots__ = ("_begun", "_decision", "_now", "_ranked", "_route", "_services", "events")

    def __init__(self, services: Services, request: OfferRequest, asker: CallerContext) -> None:
        self._begun = time.perf_counter()
        self._services = services
        self._route = asker.route
        self._now = services.clock()
        self._ranked = _rank(services, request, asker, self._now)
        self._decision = _decision(services, self._now, self._ranked, asker)
        self.events = _events(self._decision, self._ranked, self._now)

    def body(self, *, logged: bool = True) -> bytes:
        """Return the JSON of the answer."""
        return answer_json(self._decision, self._ranked.slate, self._ranked.model, logged=logged)

    def durable(self) -> None:
        """Take note that the events are durable; the answer may go out."""
        if self._ranked.entry is not None:
            self._services.state.experiments.remember(self._ranked.entry)
        self._done(logged=True)

    def unlogged(self, error: StoreError) -> bytes:
        """Return the answer without a kept decision.

        Raises:
            StoreError: the settings want no such answer.
        """
        if not self._services.settings.answer_unlogged:
            raise error
        _log.warning("answered without a kept decision: %s", error)
        self._done(logged=False)
        return self.body(logged=False)

    def _done(self, *, logged: bool) -> None:
        services, decision = self._services, self._decision
        if decision.presented:
            subject = Subject(decision.account_id, decision.visitor_id)
            services.state.present(subject, decision.decision_id, self._ranked.slate.product_ids, self._now)
        _count(services, self._ranked, self._route, time.perf_counter() - self._begun, logged=logged)


async def decide(services: Services, request: OfferRequest, asker: CallerContext) -> bytes:
    """Return the JSON answer to one request, after its decision is durable.

    Raises:
        StoreError: the decision could not be kept, and the settings want no answer without it.
    """
    begun = PendingDecision(services, request, asker)
    try:
        durable = services.writer.submit(begun.events)
        body = begun.body()  # while the commit is under way
        await durable
    except StoreError as error:
        return begun.unlogged(error)
    begun.durable()
    return body


def _rank(services: Services, request: OfferRequest, asker: CallerContext, now: datetime) -> _Ranked:
    state = services.state
    visitor_id = asker.visitor_id
    if request.account_id is None and visitor_id is not None and (account_id := state.account_of(visitor_id)):
        request = replace(request, account_id=account_id)
    wanted_id = asker.experiment_id
    entry = state.experiments.enter(wanted_id, request.account_id, visitor_id, now)
    unknown = None if wanted_id is None or state.experiments.is_running(wanted_id, now) else wanted_id
    model = services.models.current()
    known = state.of(request.account_id, visitor_id, now)
    if entry is None:
        return _Ranked(model, request, known, _slate(services, model, request, known), None, unknown)
    model, wanted = _under(services, entry, model, request)
    try:
        slate = _slate(services, model, wanted, known)
    except ConfigError as error:
        if wanted.objective == request.objective:
            raise
        _log.error("arm %s of %s: %s", entry.arm.name, entry.experiment_id, error)
        wanted = request  # a page must not fail because a plan asks for what the model has not
        slate = _slate(services, model, wanted, known)
    return _Ranked(model, wanted, known, slate, entry, unknown)


def _under(
    services: Services, entry: Entry, model: LoadedModel, request: OfferRequest
) -> tuple[LoadedModel, OfferRequest]:
    """Return the model and the request as an arm's policy wants them; without its model the champion answers."""
    policy = entry.arm.policy
    if policy.kind == "popular":
        return model, replace(request, sources="popular")
    objective = policy.objective or request.objective
    return services.models.get(policy.alias) or model, replace(request, objective=objective)


def _slate(services: Services, model: LoadedModel, request: OfferRequest, state: AccountState) -> EncodedSlate:
    share = services.settings.exploration
    exploration = Exploration(share, services.rng) if share > 0 else None
    return model.engine.answer(request, state, exploration)


def _decision(services: Services, now: datetime, ranked: _Ranked, asker: CallerContext) -> Decision:
    slate, entry, shown = ranked.slate, ranked.entry, not ranked.is_held_back
    return Decision(
        decision_id=services.next_decision_id(),
        decided_at=now,
        request=ranked.request,
        model_version=ranked.model.version,
        objective=slate.objective,
        tier=slate.tier,
        horizon_days=slate.horizon_days,
        n_considered=slate.n_considered,
        shortfall=slate.shortfall,
        unknown_products=slate.unknown_products,
        visitor_id=asker.visitor_id,
        channel=asker.channel,
        surface=asker.surface,
        request_id=asker.request_id,
        assignments=() if entry is None else (entry.assigned,),
        shown=shown,
        presented=shown and asker.surface in services.settings.returned_is_presented,
        context=_context(services, ranked),
    )


def _context(services: Services, ranked: _Ranked) -> Context:
    rules_version, refused = services.state.rules_version, ranked.slate.refused
    unknown = ranked.unknown_experiment
    if ranked.state is EMPTY_STATE and not refused and rules_version is None and unknown is None:
        return NO_CONTEXT
    return Context(ranked.state, refused, rules_version, unknown)


def _events(decision: Decision, ranked: _Ranked, now: datetime) -> tuple[Event, ...]:
    row, entry = record_decision(decision, ranked.slate.kept, ranked.slate.returned), ranked.entry
    return (row,) if entry is None or entry.is_recorded else (entry.assignment(now), row)


def answer_json(decision: Decision, slate: EncodedSlate, model: LoadedModel, *, logged: bool) -> bytes:
    """Return the fields of `schemas.offers.OffersAnswer`, written without building it: this is the hot path."""
    shown, unknown = decision.shown, decision.context.unknown_experiment
    shortfall = slate.shortfall if shown else HELD_BACK
    text = (
        f'{{"decision_id":"{decision.decision_id}","logged":{"true" if logged else "false"},'
        f'{model.named},"horizon_days":{slate.horizon_days},"objective":"{slate.objective}",'
        f'{_assignments(decision)},"tier":"{slate.tier}","language":"{slate.language}",'
        f'"mix":"{slate.mix}","variants":"{slate.variants}",'
        f'"offers":{slate.offers if shown else "[]"},"requested":{slate.requested},'
        f'"returned":{slate.returned if shown else 0},'
        f'"shortfall":{"null" if shortfall is None else json_text(shortfall)},'
        f'"unknown_products":{json_text(slate.unknown_products) if slate.unknown_products else "[]"},'
        f'"unknown_categories":{json_text(slate.unknown_categories) if slate.unknown_categories else "[]"},'
        f'"unknown_experiment":{"null" if unknown is None else json_text(unknown)}}}'
    )
    return text.encode()


def _assignments(decision: Decision) -> str:
    """The fields `experiment` and `arm`, which are the first assignment's, and `assignments`."""
    if not decision.assignments:
        return '"experiment":null,"arm":null,"assignments":[]'
    first = decision.assignments[0]
    listed = [{"experiment_id": assigned.experiment_id, "arm": assigned.arm} for assigned in decision.assignments]
    return (
        f'"experiment":{json_text(first.experiment_id)},"arm":{json_text(first.arm)},"assignments":{json_text(listed)}'
    )


def _count(services: Services, ranked: _Ranked, route: str, seconds: float, *, logged: bool) -> None:
    slate, entry = ranked.slate, ranked.entry
    if ranked.unknown_experiment is not None:
        services.metrics.unknown_experiment()
    if entry is None:
        services.metrics.answered(route, slate, seconds, logged=logged)
        return
    seen = slate._replace(returned=0) if ranked.is_held_back else slate
    services.metrics.answered(route, seen, seconds, logged=logged, experiment=entry.experiment_id, arm=entry.arm.name)
