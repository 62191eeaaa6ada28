"""Products, accounts and visitors as they change: kept first, then in force, then answered."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response

from recsys.contracts.events import EventQuery, VisitorLink
from serving.http.admission import JsonBody
from serving.http.problems import BODY_PROBLEMS
from serving.models.by_alias import unknown_names
from serving.schemas.fields import Id
from serving.schemas.overrides import AccountsAnswer, AccountsBody, LinkAnswer, LinkBody, ProductsAnswer, ProductsBody
from serving.services import Services, ServicesDep

router = APIRouter()


@router.post(
    "/v1/products",
    response_model=ProductsAnswer,
    responses=BODY_PROBLEMS,
    tags=["live values"],
    summary="Prices, stock and flags of products",
)
async def post_products(
    services: ServicesDep, body: Annotated[ProductsBody, Depends(JsonBody(ProductsBody))]
) -> Response:
    """Keep new values of products, all or none, over those of the models; they survive a restart and a new model."""
    now = services.clock()
    events = [product.to_event(now) for product in body.products]
    await services.writer.submit(events)
    products = services.state.products
    products.update(events)
    unknown = [product.product_id for product in body.products if products.is_unknown(product.product_id)]
    return _json(ProductsAnswer(received=len(events), unknown_products=list(dict.fromkeys(unknown))))


@router.post(
    "/v1/accounts",
    response_model=AccountsAnswer,
    responses=BODY_PROBLEMS,
    tags=["live values"],
    summary="Segment, region and flags of accounts",
)
async def post_accounts(
    services: ServicesDep, body: Annotated[AccountsBody, Depends(JsonBody(AccountsBody))]
) -> Response:
    """Keep new values of accounts, all or none, over those of the models; they survive a restart and a new model."""
    now = services.clock()
    events = [account.to_event(now) for account in body.accounts]
    await services.writer.submit(events)
    services.state.accounts.update(events)
    segments = [event.segment for event in events if event.segment is not None]
    unknown = unknown_names(services.models, "segment", segments)
    return _json(AccountsAnswer(received=len(events), unknown_segments=unknown))


@router.post(
    "/v1/visitors/{visitor_id:path}:link",
    response_model=LinkAnswer,
    responses=BODY_PROBLEMS,
    tags=["visitors"],
    summary="A visitor logs in",
)
async def post_link(
    services: ServicesDep,
    body: Annotated[LinkBody, Depends(JsonBody(LinkBody))],
    visitor_id: Annotated[
        Id,
        Path(description="The visitor; give each person at a shared device an id of its own.", examples=["v-77"]),
    ],
) -> Response:
    """Let a visitor become an account, with its purchases and refusals. The first account stays: another one is 409."""
    await services.writer.submit([VisitorLink(visitor_id, body.account_id, services.clock())])
    if not await services.read(_is_linked, services, visitor_id, body.account_id):
        raise HTTPException(409, "the visitor is another account already; give the new person another visitor id")
    services.state.link(visitor_id, body.account_id)
    return _json(LinkAnswer(visitor_id=visitor_id, account_id=body.account_id))


def _is_linked(services: Services, visitor_id: str, account_id: str) -> bool:
    query = EventQuery("visitor_links", account_id=account_id, columns=("visitor_id",))
    return visitor_id in services.store.read(query)["visitor_id"].to_pylist()


def _json(answer: BaseModel) -> Response:
    return Response(answer.model_dump_json(), media_type="application/json")
