"""What is posted: outcomes and orders, products, accounts and visitors: kept first, then in force, then answered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Path
from starlette.exceptions import HTTPException

from recsys.contracts.events import PRESENTING, EventQuery, Outcome, VisitorLink
from serving.http.admission import JsonBody
from serving.http.problems import BODY_PROBLEMS
from serving.metrics import Metrics
from serving.models.by_alias import unknown_names
from serving.online.change_feed import DecisionRef, reactions_of
from serving.online.idempotency import WriteResult, kept_lines, kept_outcomes
from serving.schemas.events import (
    AccountsAnswer,
    AccountsBody,
    LineId,
    LinkAnswer,
    LinkBody,
    OrdersAnswer,
    OrdersBody,
    OutcomesAnswer,
    OutcomesBody,
    ProductsAnswer,
    ProductsBody,
)
from serving.schemas.fields import Id
from serving.schemas.plausibility import ReportTimes, check_orders, check_outcomes
from serving.services import Services, ServicesDep

router = APIRouter()


@router.post(
    "/v1/outcomes",
    responses=BODY_PROBLEMS,
    tags=["outcomes"],
    summary="What came of offers",
)
async def post_outcomes(
    services: ServicesDep, body: Annotated[OutcomesBody, Depends(JsonBody(OutcomesBody))]
) -> OutcomesAnswer:
    """Keep a batch of outcomes, all or none. Idempotent by `outcome_id`. A declined product rests for that account.

    An id that is kept with other content stays as it is, and the answer names it under `conflicts`. A time that can't
    be right, later than now or before 1990, refuses the batch.
    """
    now = services.clock()
    check_outcomes(body, ReportTimes(now, services.settings.future_tolerance_seconds))
    events = [outcome.to_event(now) for outcome in body.outcomes]
    await services.writer.submit(events)
    kept, told = await services.read(_look_up, services, events)
    services.state.react(reactions_of(kept.events.values(), told))
    _count(services.metrics, [kept.events[outcome_id] for outcome_id in kept.new], told)
    unknown = [one for one in dict.fromkeys(event.decision_id for event in events) if one not in told]
    return OutcomesAnswer(
        received=len(events),
        unknown_decisions=unknown,
        not_offered=_not_offered(kept.events.values(), told),
        before_decision=_before_decision(events, told, services.settings.future_tolerance_seconds),
        conflicts=list(kept.conflicts),
    )


@router.post("/v1/orders", responses=BODY_PROBLEMS, tags=["orders"], summary="Orders as they come")
async def post_orders(
    services: ServicesDep, body: Annotated[OrdersBody, Depends(JsonBody(OrdersBody))]
) -> OrdersAnswer:
    """Keep a batch of orders, all or none, idempotent by `order_id` and `line_id`. What they hold is owned at once.

    A line that is kept with other content stays as it is, and the answer names it under `conflicts`. What can't be
    right refuses the batch: a time later than now or before 1990, a currency other than the model's, a discount of more
    than the line.
    """
    now = services.clock()
    model = services.models.current()
    check_orders(body, ReportTimes(now, services.settings.future_tolerance_seconds), model.currency)
    events = [line for order in body.orders for line in order.to_events(now, model.currency)]
    await services.writer.submit(events)
    kept = await services.read(kept_lines, services.store, events)
    services.state.buy(kept.events.values())
    conflicts = [LineId(order_id=order_id, line_id=line_id) for order_id, line_id in kept.conflicts]
    return OrdersAnswer(
        received_lines=len(events),
        conflicts=conflicts,
        unknown_products=unknown_names(services.models, "product", [event.product_id for event in events]),
        anonymous_orders=sum(order.account_id is None and order.visitor_id is None for order in body.orders),
        before_as_of=sum(event.ordered_at < model.as_of for event in events),
    )


@router.post(
    "/v1/products",
    responses=BODY_PROBLEMS,
    tags=["live values"],
    summary="Prices, stock and flags of products",
)
async def post_products(
    services: ServicesDep, body: Annotated[ProductsBody, Depends(JsonBody(ProductsBody))]
) -> ProductsAnswer:
    """Keep new values of products, all or none, over those of the models; they survive a restart and a new model."""
    now = services.clock()
    events = [product.to_event(now) for product in body.products]
    await services.writer.submit(events)
    products = services.state.products
    products.update(events)
    unknown = [product.product_id for product in body.products if products.is_unknown(product.product_id)]
    return ProductsAnswer(received=len(events), unknown_products=list(dict.fromkeys(unknown)))


@router.post(
    "/v1/accounts",
    responses=BODY_PROBLEMS,
    tags=["live values"],
    summary="Segment, region and flags of accounts",
)
async def post_accounts(
    services: ServicesDep, body: Annotated[AccountsBody, Depends(JsonBody(AccountsBody))]
) -> AccountsAnswer:
    """Keep new values of accounts, all or none, over those of the models; they survive a restart and a new model."""
    now = services.clock()
    events = [account.to_event(now) for account in body.accounts]
    await services.writer.submit(events)
    services.state.accounts.update(events)
    segments = [event.segment for event in events if event.segment is not None]
    unknown = unknown_names(services.models, "segment", segments)
    return AccountsAnswer(received=len(events), unknown_segments=unknown)


@router.post(
    "/v1/visitors/{visitor_id:path}:link",
    responses=BODY_PROBLEMS,
    tags=["visitors"],
    summary="A visitor logs in",
)
async def post_visitor_link(
    services: ServicesDep,
    body: Annotated[LinkBody, Depends(JsonBody(LinkBody))],
    visitor_id: Annotated[
        Id,
        Path(description="The visitor; give each person at a shared device an id of its own.", examples=["v-77"]),
    ],
) -> LinkAnswer:
    """Let a visitor become an account, with its purchases and refusals. The first account stays: another one is 409."""
    await services.writer.submit([VisitorLink(visitor_id, body.account_id, services.clock())])
    if not await services.read(_is_linked, services, visitor_id, body.account_id):
        raise HTTPException(409, "the visitor is another account already; give the new person another visitor id")
    services.state.link(visitor_id, body.account_id)
    return LinkAnswer(visitor_id=visitor_id, account_id=body.account_id)


def _look_up(services: Services, events: Sequence[Outcome]) -> tuple[WriteResult[str, Outcome], dict[str, DecisionRef]]:
    """What the store keeps of outcomes, and what it knows of their decisions, of the kept and the sent ones."""
    kept = kept_outcomes(services.store, events)
    return kept, services.state.told([*kept.events.values(), *events])


def _not_offered(outcomes: Iterable[Outcome], told: Mapping[str, DecisionRef]) -> list[str]:
    """The outcomes about a product that their decision did not offer: most often a mix-up of two decisions."""
    return [
        outcome.outcome_id
        for outcome in outcomes
        if outcome.product_id is not None
        and (decision := told.get(outcome.decision_id)) is not None
        and outcome.product_id not in decision.product_ids
    ]


def _before_decision(
    outcomes: Iterable[Outcome], told: Mapping[str, DecisionRef], tolerance_seconds: float
) -> list[str]:
    """The outcomes dated before their decision by more than clocks differ: a day without its time, or a mix-up."""
    return [
        outcome.outcome_id
        for outcome in outcomes
        if (decision := told.get(outcome.decision_id)) is not None
        and (decision.decided_at - outcome.occurred_at).total_seconds() > tolerance_seconds
    ]


def _count(metrics: Metrics, events: Sequence[Outcome], told: Mapping[str, DecisionRef]) -> None:
    """Count what came of offers, under each arm of their decision."""
    for event in events:
        decision = told.get(event.decision_id)
        metrics.outcome(event.kind, () if decision is None else decision.assignments)
        if event.kind in PRESENTING and decision is not None:
            metrics.presented(len(decision.product_ids) if event.product_id is None else 1)


def _is_linked(services: Services, visitor_id: str, account_id: str) -> bool:
    query = EventQuery("visitor_links", account_id=account_id, columns=("visitor_id",))
    return visitor_id in services.store.read(query)["visitor_id"].to_pylist()
