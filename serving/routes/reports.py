"""Outcomes and orders: kept first, then in force, then answered."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from starlette.responses import Response

from recsys.contracts.events import EventQuery, Outcome
from serving.problems import BODY_PROBLEMS
from serving.routes.lean import LeanRoute
from serving.schemas.reports import OrdersAnswer, OrdersBody, OutcomesAnswer, OutcomesBody
from serving.services import Services, services_of
from serving.state import Refusal

router = APIRouter(route_class=LeanRoute)


@router.post(
    "/v1/outcomes",
    response_model=OutcomesAnswer,
    responses=BODY_PROBLEMS,
    tags=["outcomes"],
    summary="What came of offers",
)
async def post_outcomes(request: Request, body: OutcomesBody) -> Response:
    """Keep a batch of outcomes, all or none. Idempotent by `outcome_id`. A declined product rests for that account."""
    services = services_of(request)
    now = services.clock()
    events = [outcome.to_event(now) for outcome in body.outcomes]
    await services.writer.submit(events)
    refusals, unknown = await asyncio.to_thread(_follow_up, services, events)
    services.state.refuse(refusals)
    return _json(OutcomesAnswer(received=len(events), unknown_decisions=unknown))


@router.post(
    "/v1/orders", response_model=OrdersAnswer, responses=BODY_PROBLEMS, tags=["orders"], summary="Orders as they come"
)
async def post_orders(request: Request, body: OrdersBody) -> Response:
    """Keep a batch of orders, all or none, idempotent by `order_id` and `line_id`. What they hold is owned at once."""
    services = services_of(request)
    now = services.clock()
    events = [line for order in body.orders for line in order.to_events(now)]
    await services.writer.submit(events)
    services.state.buy(events)
    return _json(OrdersAnswer(received_lines=len(events)))


def _follow_up(services: Services, events: list[Outcome]) -> tuple[list[Refusal], list[str]]:
    """What the outcomes refuse, and decisions that nobody knows; reads the store, so it runs in a thread."""
    wanted = tuple(dict.fromkeys(event.decision_id for event in events))
    query = EventQuery("decisions", decision_ids=wanted, columns=("decision_id",))
    known = set(services.store.read(query)["decision_id"].to_pylist())
    unknown = [decision_id for decision_id in wanted if decision_id not in known]
    return services.state.refusals_of(events), unknown


def _json(answer: OutcomesAnswer | OrdersAnswer) -> Response:
    return Response(answer.model_dump_json(), media_type="application/json")
