"""One request from question to durable answer."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from recsys.contracts.events import Context, DecisionRow, Event
from recsys.contracts.offers import EMPTY_STATE, AccountState, OfferRequest
from recsys.errors import ConfigError, StoreError
from recsys.events.rows import context_json, request_json, time_text
from recsys.ranking.exploration import draw, widened
from serving.encoding import EncodedSlate, encode, json_text
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

    __slots__ = ("_begun", "_decision", "_entry", "_now", "_ranked", "_route", "_services", "events")

    def __init__(self, services: Services, request: OfferRequest, asker: CallerContext) -> None:
        self._begun = time.perf_counter()
        self._services = services
        self._route = asker.route
        self._now = services.clock()
        self._ranked = _rank(services, request, asker, self._now)
        self._decision = _decision(services, self._now, self._ranked, asker)
        self._entry = self._ranked.entry
        self.events = _events(self._decision, self._entry, self._now)

    def body(self, *, logged: bool = True) -> bytes:
        """Return the JSON of the answer."""
        return _body(self._decision, self._ranked, logged=logged)

    def durable(self) -> None:
        """Take note that the events are durable; the answer may go out."""
        if self._entry is not None:
            self._services.state.experiments.remember(self._entry)
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
    entry = state.experiments.enter(wanted_id, request.account_id, visitor_id)
    unknown = None if wanted_id is None or state.experiments.is_running(wanted_id) else wanted_id
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
    if share > 0:
        drawn = draw(model.engine.recommend(widened(request), state), request.limit, share, services.rng)
        if drawn is not None:
            return encode(drawn)
    return model.engine.answer(request, state)


def _decision(services: Services, now: datetime, ranked: _Ranked, asker: CallerContext) -> DecisionRow:
    slate, entry, request = ranked.slate, ranked.entry, ranked.request
    shown = not ranked.is_held_back
    return DecisionRow(
        services.next_decision_id(),
        time_text(now),
        request.account_id,
        asker.visitor_id,
        asker.channel,
        asker.surface,
        asker.request_id,
        ranked.model.version,
        None if entry is None else entry.experiment_id,
        None if entry is None else entry.arm.name,
        None if entry is None else entry.probability,
        slate.objective,
        slate.tier,
        slate.horizon_days,
        request.limit,
        slate.returned,
        slate.n_considered,
        slate.shortfall,
        shown,
        shown and asker.surface in services.settings.returned_is_presented,
        json_text(slate.unknown_products) if slate.unknown_products else "[]",
        json_text(request_json(request)),
        slate.kept,
        _context(services, ranked),
    )


def _context(services: Services, ranked: _Ranked) -> str | None:
    rules_version, refused = services.state.rules_version, ranked.slate.refused
    unknown = ranked.unknown_experiment
    if ranked.state is EMPTY_STATE and not refused and rules_version is None and unknown is None:
        return None
    return json_text(context_json(Context(ranked.state, refused, rules_version, unknown)))


def _events(decision: DecisionRow, entry: Entry | None, now: datetime) -> tuple[Event, ...]:
    if entry is None or entry.is_recorded:
        return (decision,)
    return (entry.assignment(now), decision)


def _body(decision: DecisionRow, ranked: _Ranked, *, logged: bool) -> bytes:
    """The fields of `schemas.offers.OffersAnswer`, written without building it: this is the hot path."""
    slate, model, shown = ranked.slate, ranked.model, decision.shown
    shortfall = slate.shortfall if shown else HELD_BACK
    where = "null" if decision.experiment_id is None else json_text(decision.experiment_id)
    arm = "null" if decision.arm is None else json_text(decision.arm)
    unknown = "null" if ranked.unknown_experiment is None else json_text(ranked.unknown_experiment)
    text = (
        f'{{"decision_id":"{decision.decision_id}","logged":{"true" if logged else "false"},'
        f'{model.named},"horizon_days":{slate.horizon_days},"objective":"{slate.objective}",'
        f'"experiment":{where},"arm":{arm},"tier":"{slate.tier}",'
        f'"offers":{slate.offers if shown else "[]"},"requested":{slate.requested},'
        f'"returned":{slate.returned if shown else 0},'
        f'"shortfall":{"null" if shortfall is None else json_text(shortfall)},'
        f'"unknown_products":{decision.unknown_products},'
        f'"unknown_categories":{json_text(slate.unknown_categories) if slate.unknown_categories else "[]"},'
        f'"unknown_experiment":{unknown}}}'
    )
    return text.encode()


def _count(services: Services, ranked: _Ranked, route: str, seconds: float, *, logged: bool) -> None:
    slate, entry = ranked.slate, ranked.entry
    if ranked.unknown_experiment is not None:
        services.metrics.unknown_experiment()
    if entry is None:
        services.metrics.answered(route, slate, seconds, logged=logged)
        return
    seen = slate._replace(returned=0) if ranked.is_held_back else slate
    services.metrics.answered(route, seen, seconds, logged=logged, experiment=entry.experiment_id, arm=entry.arm.name)
