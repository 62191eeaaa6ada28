"""The composition root of serving: nothing else constructs stores' writers or wires models to routes."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from functools import cache
from importlib.metadata import version
from typing import Any, Final, get_type_hints

from fastapi import FastAPI
from fastapi.encoders import jsonable_encoder
from fastapi.openapi.models import OpenAPI
from fastapi.openapi.utils import get_openapi
from fastapi.params import Depends
from fastapi.routing import APIRoute
from fastapi.telemetry import TelemetryConfig
from pydantic.json_schema import models_json_schema
from starlette.middleware.cors import CORSMiddleware

from recsys.errors import StoreError
from recsys.events.store import EventStore
from recsys.events.writer import GroupCommitWriter
from serving.fast_path import FastPath
from serving.http import docs, problems
from serving.http.access import SCOPES
from serving.http.admission import AdmissionControl, JsonBody, QueryParameters
from serving.http.keyring import Keyring
from serving.http.middleware import RequestMiddleware
from serving.ids import DecisionIds
from serving.metrics import Metrics
from serving.models.by_alias import Models
from serving.models.kept_models import KeptModels
from serving.models.loading import EarlierModels
from serving.online.model_reloader import ModelReloader
from serving.online.state import OnlineState
from serving.routes import evaluation, offers, operations
from serving.routes import events as reports
from serving.routes import insights as pages
from serving.services import Services
from serving.settings import Clock, Settings

_log = logging.getLogger("serving")

_DESCRIPTION = (
    "Ranked upsell and cross-sell offers. Every answer is in the event store before it is sent; report what came of it "
    "against its `decision_id`. Errors are problem+json (RFC 9457)."
)


_CORS: Final[dict[str, Any]] = {
    "allow_methods": ("GET", "POST"),
    "allow_headers": ("Authorization", "Content-Type", "X-API-Key", "X-Request-ID"),
    "expose_headers": ("Retry-After", "X-Request-ID"),
}

_NO_TELEMETRY: Final[TelemetryConfig] = {"tracing": False, "metrics": False, "logs": False}
"""FastAPI's own would carry paths, which hold account ids, to whatever MLflow or the environment set up."""

_ROUTERS: Final = (
    offers.router,
    pages.router,
    reports.router,
    evaluation.router,
    operations.router,
)


def create_app(
    settings: Settings, *, bundles: Models, store: EventStore, clock: Clock, fast_path: bool = True
) -> FastAPI:
    """Return the server's ASGI application; it closes the writer it makes, not the store it was given.

    Args:
        settings: how it answers.
        bundles: the models.
        store: keeps every decision.
        clock: UTC.
        fast_path: answer the two usual questions in front of the application; without it the answers are the same.
    """
    keyring = None
    if settings.keys_file is not None:
        keyring = Keyring(settings.keys_file, settings.keys_refresh_seconds, settings.keys_max_age_seconds)
    admission = AdmissionControl(keyring, clock, time.monotonic, settings.max_body_bytes, _query_parameters())
    app = FastAPI(
        title="Offer engine",
        version=version("offer-engine"),
        description=_DESCRIPTION,
        lifespan=_lifespan(settings, bundles, store, clock, admission, keyring),
        docs_url=None,
        redoc_url=None,
        telemetry=_NO_TELEMETRY,
        generate_unique_id_function=_operation_id,
    )
    if fast_path:
        app.add_middleware(FastPath)
    app.add_middleware(RequestMiddleware, admission=admission, settings=settings)
    if settings.cors_origins:
        app.add_middleware(CORSMiddleware, allow_origins=settings.cors_origins, **_CORS)
    problems.add_problem_handlers(app, settings.retry_after_seconds)
    for router in _ROUTERS:
        app.include_router(router)
    docs.add_docs_page(app)
    _complete_document(app, keys=keyring is not None)
    return app


@cache
def _query_parameters() -> QueryParameters:
    """What the document says of each route's query: nothing else is taken."""
    document = get_openapi(title="", version="", routes=[*_routes()])
    return {
        (path, method.upper()): {
            parameter["name"]: parameter["schema"].get("type") == "array"
            for parameter in operation.get("parameters", ())
            if parameter["in"] == "query"
        }
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def _operation_id(route: APIRoute) -> str:
    """A short name for generated clients: the handler's without its verb, `offers` of `post_offers`."""
    return route.name.partition("_")[2]


def _routes() -> Iterator[APIRoute]:
    return (route for router in _ROUTERS for route in router.routes if isinstance(route, APIRoute))


def _lifespan(
    settings: Settings,
    bundles: Models,
    store: EventStore,
    clock: Clock,
    admission: AdmissionControl,
    keyring: Keyring | None,
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        state = OnlineState(store, settings, since=bundles.current().as_of, clock=clock)
        for running in bundles.running():
            if running.model is not None:
                running.model.replay()
                state.adopt(running.model)
        state.apply(await asyncio.to_thread(state.read_news))
        metrics = Metrics(bundles, clock)
        with closing(GroupCommitWriter(store, settings.writer, metrics.committed)) as writer:
            follower = ModelReloader(bundles, state, metrics.swapped)
            await follower.look()  # the challengers, and what became champion while this process started
            earlier = EarlierModels(KeptModels(settings.kept_models, clock), clock)
            services = app.state.services = Services(
                *(settings, bundles, store, writer, clock, state, metrics, DecisionIds(), follower, earlier, admission),
                keyring=keyring,
            )
            tasks = [
                asyncio.create_task(_keep_fresh(services)),
                asyncio.create_task(follower.follow(settings.model_look_seconds)),
            ]
            if keyring is not None:
                tasks.append(asyncio.create_task(_keep_known(keyring, settings.keys_refresh_seconds)))
            yield
            for task in tasks:
                task.cancel()
            follower.close()
            services.stop_reading()

    return lifespan


async def _keep_fresh(services: Services) -> None:
    """Look for what other workers took; whatever goes wrong, the store is asked again the next time."""
    state, models = services.state, services.models
    while True:
        await asyncio.sleep(services.settings.refresh_seconds)
        try:
            state.apply(await services.read(state.read_news))
            state.tidy(min(running.model.as_of for running in models.running() if running.model is not None))
        except StoreError as error:
            _log.warning("fresh state is late: %s", error)
        except Exception as error:  # noqa: BLE001 - a worker that stopped looking would serve stale state for ever
            _log.error("fresh state is late", exc_info=error)


async def _keep_known(keyring: Keyring, seconds: float) -> None:
    """Look at the file of keys while nobody asks, so that what is known is young when it is just being written."""
    while True:
        keyring.holds(time.monotonic())
        await asyncio.sleep(max(seconds, 0.1))


def _complete_document(app: FastAPI, *, keys: bool) -> None:
    """Declare what is the same on every route once: the form of errors, what admission refuses, JSON bodies.

    FastAPI would declare its own validation error on each route; ours stands once, by name.
    """
    generate = app.openapi

    @cache
    def openapi() -> dict[str, Any]:
        document = _with_bodies(generate())
        schemas = document["components"]["schemas"]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        problem = problems.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(problem.pop("$defs"))
        schemas["Problem"] = problem
        _declare_admission(document, keys=keys)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _with_bodies(document: dict[str, Any]) -> dict[str, Any]:
    """Add the bodies that routes read by `JsonBody`: FastAPI does not see those."""
    bodies = [(route, body) for route in _routes() if (body := _json_body(route)) is not None]
    _, schemas = models_json_schema(
        [(body.kind, "validation") for _, body in bodies], ref_template="#/components/schemas/{model}"
    )
    told = {name: _with_defaults_told(schema) for name, schema in schemas["$defs"].items()}
    document["components"]["schemas"] |= told
    for route, body in bodies:
        for method in route.methods or ():
            document["paths"][route.path_format][method.lower()]["requestBody"] = body.described()
    complete: dict[str, Any] = jsonable_encoder(OpenAPI(**document), by_alias=True, exclude_none=True)
    return complete


def _with_defaults_told(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema of what is sent, its defaults in the descriptions.

    Generators of clients take a field with a `default` for one that is always there, and ask their callers for it.
    """
    return schema | {"properties": {name: _default_told(field) for name, field in schema.get("properties", {}).items()}}


def _default_told(field: dict[str, Any]) -> dict[str, Any]:
    if field.get("default") is None:
        return field
    told = f"{field['description']} Left out: `{json.dumps(field['default'])}`."
    return {name: value for name, value in field.items() if name != "default"} | {"description": told}


def _json_body(route: APIRoute) -> JsonBody[Any] | None:
    annotations = get_type_hints(route.endpoint, include_extras=True).values()
    needs = (item for each in annotations for item in getattr(each, "__metadata__", ()) if isinstance(item, Depends))
    return next((need.dependency for need in needs if isinstance(need.dependency, JsonBody)), None)


def _declare_admission(document: dict[str, Any], *, keys: bool) -> None:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            scope = SCOPES.get(path, {}).get(method.upper())
            refusals = (400, 422) if scope is None else (400, 401, 403, 422, 429)
            answers = problems.problem_responses(*refusals)
            operation["responses"] |= {str(status): answer for status, answer in answers.items()}
            if scope is None:
                continue
            operation["description"] += f"\n\nKeys need the scope `{scope}`."
            if keys:
                operation["security"] = [{"key": []}]
    if keys:
        scheme = {"type": "http", "scheme": "bearer", "description": "An API key; `X-API-Key` takes it too."}
        document["components"]["securitySchemes"] = {"key": scheme}
