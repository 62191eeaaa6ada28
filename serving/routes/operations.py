"""Is it alive, is it ready, what runs."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response

from recsys.contracts.events import EventQuery
from recsys.errors import StoreError
from serving.metrics import CONTENT_TYPE
from serving.problems import problem_responses
from serving.schemas.operations import Liveness, ModelAnswer, ModelsAnswer, Readiness
from serving.services import Services, ServicesDep

router = APIRouter(tags=["operation"])

_NOTHING = EventQuery("decisions", decision_ids=("",))


@router.get("/livez", summary="Liveness")
async def get_livez() -> Liveness:
    """The process runs."""
    return Liveness()


@router.get("/readyz", responses=problem_responses(503), summary="Readiness")
async def get_readyz(services: ServicesDep) -> Readiness:
    """A model is loaded and warm, and the event store answers."""
    await _probe(services)
    return Readiness(model_version=services.models.current().version)


@router.get("/metrics", response_class=PlainTextResponse, summary="Metrics")
async def get_metrics(services: ServicesDep) -> Response:
    """Prometheus' text format, of the worker that answers."""
    return Response(services.metrics.render(), media_type=CONTENT_TYPE)


@router.get("/v1/models", summary="What runs")
async def get_models(services: ServicesDep) -> ModelsAnswer:
    """The models in this server's memory."""
    model = services.models.current()
    return ModelsAnswer(models=[ModelAnswer.model_validate(model, from_attributes=True)])


async def _probe(services: Services) -> None:
    seconds = services.settings.store_probe_seconds
    try:
        await asyncio.wait_for(asyncio.to_thread(services.store.read, _NOTHING), seconds)
    except (StoreError, TimeoutError):
        raise HTTPException(503, "the event store does not answer; decisions can't be kept") from None
