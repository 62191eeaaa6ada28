"""Offers: for a storefront with a cart, and for a person who looks at one account."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request

from recsys.contracts.offers import KINDS, Explain, Objective, OfferKind, OfferRequest
from serving.answering import Asker, answer
from serving.problems import BODY_PROBLEMS, QUERY_PROBLEMS
from serving.routes.lean import LeanQueryRoute, LeanRoute
from serving.schemas.fields import Id, Label
from serving.schemas.offers import Kinds, Limit, OffersAnswer, OffersBody
from serving.services import Services, ServicesDep, services_of

KindsQuery = Annotated[Kinds, Query(description="The kinds of offer that are wanted.", examples=[["upsell"]])]

router = APIRouter(tags=["offers"], route_class=LeanQueryRoute)
lean_router = APIRouter(tags=["offers"], route_class=LeanRoute)


@lean_router.post("/v1/offers", response_model=OffersAnswer, responses=BODY_PROBLEMS, summary="Offers for a storefront")
async def post_offers(request: Request, body: OffersBody) -> bytes:
    """Ranked offers for an account, a cart, both or neither. Account and cart both matter to the answer."""
    services = services_of(request)
    return await answer(services, *asked_by_shop(services, body, request.scope["request_id"]))


@router.get(
    "/v1/accounts/{account_id:path}/offers",
    response_model=OffersAnswer,
    responses=QUERY_PROBLEMS,
    summary="Offers for a person",
)
async def get_account_offers(
    request: Request,
    services: ServicesDep,
    account_id: Annotated[
        Id,
        Path(description="The account; an unknown one gets a fallback and the answer says so.", examples=["17850"]),
    ],
    limit: Annotated[Limit, Query(description="How many offers are wanted.", examples=[4])] = 10,
    kinds: KindsQuery = list(KINDS),  # noqa: B006 - never changed
    objective: Annotated[
        Objective | None, Query(description="What the ranking maximises.", examples=["revenue"])
    ] = None,
    explain: Annotated[
        Explain, Query(description="How much evidence comes with each offer.", examples=["brief"])
    ] = "full",
    new_only: Annotated[
        bool, Query(description="Leave out everything that the account has ever bought.", examples=[True])
    ] = False,
    channel: Annotated[Label | None, Query(description="Where the request comes from.", examples=["phone"])] = None,
    surface: Annotated[Label | None, Query(description="The place of the offers.", examples=["crm"])] = None,
) -> bytes:
    """What to say to this account, with the evidence. Opening this page presents nothing: report `pitched`."""
    question = asked_by_person(
        services,
        request.scope["request_id"],
        account_id=account_id,
        limit=limit,
        kinds=kinds,
        objective=objective,
        explain=explain,
        new_only=new_only,
        channel=channel,
        surface=surface,
    )
    return await answer(services, *question)


def asked_by_shop(services: Services, body: OffersBody, request_id: str) -> tuple[OfferRequest, Asker]:
    """Return what `POST /v1/offers` asks, and who."""
    asker = Asker(body.visitor_id, body.channel, body.surface, request_id, "POST /v1/offers", body.experiment_id)
    return body.to_request(services.settings.objective), asker


def asked_by_person(
    services: Services,
    request_id: str,
    *,
    account_id: str,
    limit: int,
    kinds: Sequence[OfferKind],
    objective: Objective | None,
    explain: Explain,
    new_only: bool,
    channel: str | None,
    surface: str | None,
) -> tuple[OfferRequest, Asker]:
    """Return what `GET /v1/accounts/{account_id}/offers` asks, and who."""
    question = OfferRequest(
        account_id=account_id,
        kinds=tuple(kinds),
        limit=limit,
        new_only=new_only,
        objective=objective or services.settings.objective,
        explain=explain,
        channel=channel,
    )
    return question, Asker(None, channel, surface, request_id, "GET /v1/accounts/{account_id}/offers")
