"""The composition root of serving: nothing else constructs stores' writers or wires models to routes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache
from importlib.metadata import version
from typing import Any, Final

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from recsys.errors import StoreError
from recsys.events import EventStore, GroupCommitWriter
from serving import docs, problems
from serving.access import SCOPES, Gate
from serving.edge import Edge, LeanHandler
from serving.following import Follower
from serving.ids import DecisionIds
from serving.keyring import Keyring
from serving.lane import Lane
from serving.metrics import Metrics
from serving.models import Models
from serving.protocol import LANE
from serving.routes import batch, evaluation, experiments, live, offers, operations, pages, reports
from serving.routes.lean import LeanRoute
from serving.services import Clock, Services
from serving.settings import Settings
from serving.state import FreshState

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

_ROUTERS: Final = (
    offers.lean_router,
    offers.router,
    batch.router,
    pages.router,
    pages.lean_router,
    reports.router,
    live.router,
    experiments.router,
    evaluation.router,
    operations.router,
)


class _Application(FastAPI):
    """FastAPI behind the edge: its own middleware would take longer than the engine."""

    front: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self
        await (self.front or super().__call__)(scope, receive, send)

    async def inside(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what the edge passes on."""
        await super().__call__(scope, receive, send)


def create_app(settings: Settings, *, bundles: Models, store: EventStore, clock: Clock) -> FastAPI:
    """Return the server's ASGI application; it closes the writer it makes, not the store it was given."""
    gate = None
    if settings.keys_file is not None:
        gate = Gate(Keyring(settings.keys_file, settings.keys_refresh_seconds), clock, time.monotonic)
    app = _Application(
        title="Offer engine",
        version=version("offer-engine"),
        description=_DESCRIPTION,
        lifespan=_lifespan(settings, bundles, store, clock, gate),
        docs_url=None,
        redoc_url=None,
    )
    app.front = Edge(
        app.inside,
        max_body_bytes=settings.max_body_bytes,
        retry_after_seconds=settings.retry_after_seconds,
        gate=gate,
        lean=_lean_handlers(),
    )
    if settings.cors_origins:
        app.front = CORSMiddleware(app.front, allow_origins=settings.cors_origins, **_CORS)
    problems.install(app, settings.retry_after_seconds)
    for router in _ROUTERS:
        app.include_router(router)
    docs.install(app)
    _complete_document(app, keys=gate is not None)
    return app


def _lean_handlers() -> dict[tuple[str, str], LeanHandler]:
    """The routes that the edge answers itself: those with a body and without a parameter in the path."""
    return {
        (method, route.path): route.lean_handler()
        for route in _routes()
        if isinstance(route, LeanRoute) and "{" not in route.path
        for method in route.methods or ()
    }


def _routes() -> Iterator[BaseRoute]:
    return (route for router in _ROUTERS for route in router.routes)


def _lifespan(
    settings: Settings, bundles: Models, store: EventStore, clock: Clock, gate: Gate | None
) -> Callable[[FastAPI], AbstractAsyncContextManager[dict[str, Any]]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        state = FreshState(store, settings, since=bundles.current().as_of, clock=clock)
        for running in bundles.running():
            if running.model is not None:
                running.model.replay()
                state.adopt(running.model)
        state.apply(await asyncio.to_thread(state.read_news))
        metrics = Metrics(bundles, clock)
        with GroupCommitWriter(store, settings.writer, metrics.committed) as writer:
            follower = Follower(bundles, state, metrics.swapped)
            await follower.look()  # the challengers, and what became champion while this process started
            services = Services(
                *(settings, bundles, store, writer, clock, state, metrics, DecisionIds(), follower),
                gate,
            )
            app.state.services = services
            tasks = [
                asyncio.create_task(_keep_fresh(services)),
                asyncio.create_task(follower.follow(settings.model_look_seconds)),
            ]
            yield {} if settings.cors_origins else {LANE: Lane(services, gate)}  # the lane writes no CORS headers
            for task in tasks:
                task.cancel()
            services.readers.shutdown(wait=False, cancel_futures=True)

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


def _complete_document(app: FastAPI, *, keys: bool) -> None:
    """Declare what is the same on every route once: the form of errors, and what a key opens.

    FastAPI would declare its own validation error on each route; ours stands once, by name.
    """
    generate = app.openapi

    @cache
    def openapi() -> dict[str, Any]:
        document = generate()
        schemas = document["components"]["schemas"]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        problem = problems.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(problem.pop("$defs"))
        schemas["Problem"] = problem
        _declare_access(document, keys=keys)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _declare_access(document: dict[str, Any], *, keys: bool) -> None:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            scope = SCOPES.get(path, {}).get(method.upper())
            if scope is None:
                continue
            answers = problems.problem_responses(401, 403, 429)
            operation["responses"] |= {str(status): answer for status, answer in answers.items()}
            operation["description"] += f"\n\nKeys need the scope `{scope}`."
            if keys:
                operation["security"] = [{"key": []}]
    if keys:
        scheme = {"type": "http", "scheme": "bearer", "description": "An API key; `X-API-Key` takes it too."}
        document["components"]["securitySchemes"] = {"key": scheme}
