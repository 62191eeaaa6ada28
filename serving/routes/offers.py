"""Offers: for a storefront with a cart, and for a person who looks at one account."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import Response

from recsys.contracts.offers import OfferRequest
from serving.decisions import CallerContext, decide
from serving.http.json_body import JsonBody
from serving.http.problems import BODY_PROBLEMS, QUERY_PROBLEMS
from serving.schemas.fields import Id
from serving.schemas.offers import AccountOffersQuery, OffersAnswer, OffersBody
from serving.services import AdmissionDep, Services, ServicesDep

router = APIRouter(tags=["offers"])


@router.post("/v1/offers", response_model=OffersAnswer, responses=BODY_PROBLEMS, summary="Offers for a storefront")
async def post_offers(
    services: ServicesDep, admission: AdmissionDep, body: Annotated[OffersBody, Depends(JsonBody(OffersBody))]
) -> Response:
    """Ranked offers for an account, a cart, both or neither. Account and cart both matter to the answer."""
    content = await decide(services, *shop_question(services, body, admission.request_id))
    return Response(content, media_type="application/json")


@router.get(
    "/v1/accounts/{account_id:path}/offers",
    response_model=OffersAnswer,
    responses=QUERY_PROBLEMS,
    summary="Offers for a person",
)
async def get_account_offers(
    services: ServicesDep,
    admission: AdmissionDep,
    account_id: Annotated[
        Id,
        Path(description="The account; an unknown one gets a fallback and the answer says so.", examples=["17850"]),
    ],
    query: Annotated[AccountOffersQuery, Query()],
) -> Response:
    """What to say to this account, with the evidence. Opening this page presents nothing: report `pitched`."""
    content = await decide(services, *person_question(services, account_id, query, admission.request_id))
    return Response(content, media_type="application/json")


def shop_question(services: Services, body: OffersBody, request_id: str) -> tuple[OfferRequest, CallerContext]:
    """Return what `POST /v1/offers` asks, and who."""
    asker = CallerContext(
        body.visitor_id, body.channel, body.surface, request_id, "POST /v1/offers", body.experiment_id
    )
    return body.to_request(services.settings.objective), asker


def person_question(
    services: Services, account_id: str, query: AccountOffersQuery, request_id: str
) -> tuple[OfferRequest, CallerContext]:
    """Return what `GET /v1/accounts/{account_id}/offers` asks, and who."""
    question = OfferRequest(
        account_id=account_id,
        kinds=tuple(query.kinds),
        limit=query.limit,
        new_only=query.new_only,
        objective=query.objective or services.settings.objective,
        explain=query.explain,
        channel=query.channel,
    )
    return question, CallerContext(
        None, query.channel, query.surface, request_id, "GET /v1/accounts/{account_id}/offers"
    )
