"""Is it alive, is it ready, what runs."""

from __future__ import annotations

import logging
import time
from typing import Final

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response

from recsys.errors import StoreError
from serving.http.problems import problem_responses
from serving.metrics import CONTENT_TYPE
from serving.schemas.operations import Liveness, ModelAnswer, ModelsAnswer, Readiness, RefusedAnswer
from serving.services import Services, ServicesDep

router = APIRouter(tags=["operation"])

_log = logging.getLogger("serving")

_FAILING_SECONDS: Final = 5.0
"""How long events that could not be kept count although the probe was kept: it is smaller than they may be."""


@router.get("/livez", summary="Liveness")
async def get_livez() -> Liveness:
    """The process runs."""
    return Liveness()


@router.get("/readyz", responses=problem_responses(503), summary="Readiness")
async def get_readyz(services: ServicesDep) -> Readiness:
    """A model is loaded and warm, and the event store keeps what it is given. Refused models or rules are warnings."""
    await _check_store(services)
    if services.keyring is not None and not services.keyring.holds(time.monotonic()):
        raise HTTPException(503, "the file of keys can't be read, so that no key holds; the log says why")
    refused = [item for item in services.models.running() if item.refused is not None]
    warnings = [f"a newer model of alias {item.alias} was refused; /v1/models says why" for item in refused]
    away = services.models.away()
    if away is not None:
        since = f"{away.since:%Y-%m-%dT%H:%M:%SZ}"
        warnings.append(f"the model registry is away since {since}, the models that run go on: {away.reason}")
    if services.state.rules_are_old:
        warnings.append("the file of business rules is broken, the last good rules are in force; the log says why")
    return Readiness(model_version=services.models.current().version, warnings=warnings)


@router.get("/metrics", response_class=PlainTextResponse, summary="Metrics")
async def get_metrics(services: ServicesDep) -> Response:
    """Prometheus' text format, of the worker that answers."""
    return Response(services.metrics.render(services.writer.state), media_type=CONTENT_TYPE)


@router.get("/v1/models", responses=problem_responses(400, 404, 422, 503), summary="What runs")
async def get_models(services: ServicesDep) -> ModelsAnswer:
    """The models in this worker's memory, and newer ones that were refused."""
    return _models(services)


@router.post("/v1/models:reload", responses=problem_responses(400, 404, 422, 503), summary="Look for new models now")
async def post_models_reload(services: ServicesDep) -> ModelsAnswer:
    """Look where every alias leads, load what is new, and answer what runs then. No request is dropped meanwhile.

    The worker that takes the call looks at once; the others look by themselves every few seconds. 503: the registry
    did not answer, or loading takes longer than a request may; what runs goes on, and `GET /v1/models` tells it.
    """
    seconds = services.settings.reload_seconds
    try:
        await services.follower.look_within(seconds)
    except TimeoutError:
        sentence = f"the look takes longer than {seconds:g} s and goes on; GET /v1/models says what runs"
        raise HTTPException(503, sentence) from None
    away = services.models.away()
    if away is not None:
        raise HTTPException(503, f"the models that run go on: {away.reason}")
    return _models(services)


def _models(services: Services) -> ModelsAnswer:
    running = services.models.running()
    names = [name for name in ModelAnswer.model_fields if name != "alias"]
    models = [
        ModelAnswer.model_validate({"alias": item.alias} | {name: getattr(item.model, name) for name in names})
        for item in running
        if item.model
    ]
    refused = [RefusedAnswer(alias=item.alias, **item.refused._asdict()) for item in running if item.refused]
    return ModelsAnswer(models=models, refused=refused)


async def _check_store(services: Services) -> None:
    try:
        await services.writer.probe()
    except StoreError as error:
        _log.warning("not ready: %s", error)
    else:
        failing = services.writer.state.failing_seconds
        if failing is None or failing > _FAILING_SECONDS:
            return
    raise HTTPException(503, "the event store can't keep decisions; its log has the reason")
