"""Offers: for a storefront with a cart, for a person who looks at one account, for many accounts in one call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import islice
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import Response, StreamingResponse

from recsys.contracts.offers import OfferRequest
from serving.decisions import CallerContext, decide
from serving.http.admission import JsonBody
from serving.http.problems import BODY_PROBLEMS, QUERY_PROBLEMS, problem_of
from serving.schemas.fields import Id
from serving.schemas.offers import AccountOffersQuery, BatchLine, OffersAnswer, OffersBatchBody, OffersBody
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
    return body.to_request(services.settings), asker


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
        surface=query.surface,
        language=query.language,
        mix=query.mix,
        variants=query.variants,
        default_language=services.settings.language,
    )
    return question, CallerContext(
        None, query.channel, query.surface, request_id, "GET /v1/accounts/{account_id}/offers"
    )


AT_ONCE: Final = 16
"""Questions of one batch under way: they share commits, and other requests still come in between."""


class NdJsonResponse(StreamingResponse):
    """One JSON document a line."""

    media_type = "application/x-ndjson"


@router.post(
    "/v1/offers:batch",
    response_model=BatchLine,
    response_class=NdJsonResponse,
    responses=BODY_PROBLEMS,
    summary="Offers for many accounts",
)
async def post_offers_batch(
    services: ServicesDep, admission: AdmissionDep, body: Annotated[OffersBatchBody, Depends(JsonBody(OffersBatchBody))]
) -> Response:
    """One line of JSON for each question (NDJSON), in the order in which they are ready; one may fail alone.

    A key's rate counts every question of the batch.
    """
    services.admission.charge(admission, len(body.requests) - 1)
    return NdJsonResponse(_lines(services, body.requests, admission.request_id))


async def _lines(services: Services, questions: list[OffersBody], request_id: str) -> AsyncIterator[bytes]:
    waiting = iter(enumerate(questions))
    under_way = {asyncio.create_task(_line(services, *item, request_id)) for item in islice(waiting, AT_ONCE)}
    try:
        while under_way:
            done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield task.result()
            more = islice(waiting, AT_ONCE - len(under_way))
            under_way |= {asyncio.create_task(_line(services, *item, request_id)) for item in more}
    finally:
        for task in under_way:  # the caller has gone
            task.cancel()


async def _line(services: Services, index: int, body: OffersBody, request_id: str) -> bytes:
    route = "POST /v1/offers:batch"
    asker = CallerContext(body.visitor_id, body.channel, body.surface, request_id, route, body.experiment_id)
    try:
        content = await decide(services, body.to_request(services.settings), asker)
    except Exception as error:  # noqa: BLE001 - one question that fails must not end the others
        failed = problem_of(error, request_id, services.settings.retry_after_seconds)
        return b'{"index":%d,"status":%d,"answer":null,"problem":%b}\n' % (
            index,
            failed.status_code,
            bytes(failed.body),
        )
    return b'{"index":%d,"status":200,"answer":%b,"problem":null}\n' % (index, content)
