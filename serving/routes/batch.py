"""Many accounts in one call, each answered as it is ready."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from typing import Annotated, Final

from fastapi import APIRouter, Depends
from starlette.responses import Response, StreamingResponse

from serving.decisions import CallerContext, decide
from serving.http.json_body import JsonBody
from serving.http.problems import BODY_PROBLEMS, problem_of
from serving.schemas.offers import BatchLine, OffersBatchBody, OffersBody
from serving.services import AdmissionDep, Services, ServicesDep

router = APIRouter(tags=["offers"])

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
    under_way = {asyncio.create_task(_line(services, *item, request_id)) for item in _some(waiting, AT_ONCE)}
    try:
        while under_way:
            done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield task.result()
            more = _some(waiting, AT_ONCE - len(under_way))
            under_way |= {asyncio.create_task(_line(services, *item, request_id)) for item in more}
    finally:
        for task in under_way:  # the caller has gone
            task.cancel()


def _some(items: Iterator[tuple[int, OffersBody]], most: int) -> list[tuple[int, OffersBody]]:
    return list(islice(items, most))


async def _line(services: Services, index: int, body: OffersBody, request_id: str) -> bytes:
    route = "POST /v1/offers:batch"
    asker = CallerContext(body.visitor_id, body.channel, body.surface, request_id, route, body.experiment_id)
    try:
        content = await decide(services, body.to_request(services.settings.objective), asker)
    except Exception as error:  # noqa: BLE001 - one question that fails must not end the others
        failed = problem_of(error, request_id, services.settings.retry_after_seconds)
        return b'{"index":%d,"status":%d,"answer":null,"problem":%b}\n' % (
            index,
            failed.status_code,
            bytes(failed.body),
        )
    return b'{"index":%d,"status":200,"answer":%b,"problem":null}\n' % (index, content)
