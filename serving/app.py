"""The composition root of serving: nothing else constructs stores' writers or wires models to routes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI

from recsys.errors import StoreError
from recsys.events import EventStore, GroupCommitWriter
from serving import problems
from serving.edge import Edge
from serving.ids import DecisionIds
from serving.metrics import Metrics
from serving.models import Models
from serving.routes import offers, operations, reports
from serving.services import Clock, Services
from serving.settings import Settings
from serving.state import FreshState

_log = logging.getLogger("serving")

_DESCRIPTION = (
    "Ranked upsell and cross-sell offers. Every answer is in the event store before it is sent; report what came of it "
    "against its `decision_id`. Errors are problem+json (RFC 9457)."
)


def create_app(settings: Settings, *, bundles: Models, store: EventStore, clock: Clock) -> FastAPI:
    """Return the server's ASGI application; it closes the writer it makes, not the store it was given."""
    app = FastAPI(
        title="Offer engine",
        version=version("offer-engine"),
        description=_DESCRIPTION,
        lifespan=_lifespan(settings, bundles, store, clock),
        redoc_url=None,
    )
    app.add_middleware(Edge, max_body_bytes=settings.max_body_bytes, retry_after_seconds=settings.retry_after_seconds)
    problems.install(app, settings.retry_after_seconds)
    for router in (offers.lean_router, offers.router, reports.router, operations.router):
        app.include_router(router)
    _declare_problems(app)
    return app


def _lifespan(
    settings: Settings, bundles: Models, store: EventStore, clock: Clock
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        model = bundles.current()
        for request in model.warm_up:
            model.engine.recommend(request)
        cooldown = timedelta(days=settings.declined_cooldown_days)
        state = FreshState(store, since=model.as_of, cooldown=cooldown)
        state.apply(await asyncio.to_thread(state.read_news))
        with GroupCommitWriter(store, settings.writer) as writer:
            app.state.services = Services(
                settings, bundles, store, writer, clock, state, Metrics(bundles, writer), DecisionIds()
            )
            refreshing = asyncio.create_task(_keep_fresh(state, settings.refresh_seconds))
            yield
            refreshing.cancel()

    return lifespan


async def _keep_fresh(state: FreshState, seconds: float) -> None:
    """Look for what other workers took; a store that fails is asked again the next time."""
    while True:
        await asyncio.sleep(seconds)
        try:
            state.apply(await asyncio.to_thread(state.read_news))
        except StoreError as error:
            _log.warning("fresh state is late: %s", error)


def _declare_problems(app: FastAPI) -> None:
    """FastAPI would declare its own validation error on each route; ours stands once, by name."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        schemas = document["components"]["schemas"]
        if "Problem" not in schemas:
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            problem = problems.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(problem.pop("$defs"))
            schemas["Problem"] = problem
        return document

    app.openapi = openapi  # type: ignore[method-assign]
