"""Pages for people and for products: complements, upgrades, call lists, white space, why not."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.responses import Response

from recsys.contracts.answers import WhyNotResult
from recsys.contracts.decisions import Decision
from recsys.contracts.events import EventQuery
from recsys.contracts.offers import OfferKind, OfferRequest
from recsys.errors import BundleError
from recsys.events.reading import read_decisions
from recsys.ranking.explorer import ModelExplorer
from recsys.ranking.why_not import WhyNot
from recsys.ranking.why_not import reason_for as told
from serving.decisions import CallerContext, decide
from serving.http.admission import JsonBody
from serving.http.problems import BODY_PROBLEMS, QUERY_PROBLEMS, problem_responses
from serving.models.by_alias import LoadedModel
from serving.schemas.fields import Id, LanguageTag
from serving.schemas.insights import BoardAnswer, CallListAnswer, WhyNotAnswer, WhyNotBody
from serving.schemas.offers import LANGUAGE_WANTED, OffersAnswer, ProductOffersQuery
from serving.services import AdmissionDep, Services, ServicesDep

router = APIRouter(tags=["pages"])

ProductPath = Annotated[
    Id, Path(description="The product; one that the model does not know is 404.", examples=["22423"])
]
LanguageQuery = Annotated[LanguageTag | None, Query(description=LANGUAGE_WANTED, examples=["de"])]


@router.get(
    "/v1/products/{product_id:path}/complements",
    response_model=OffersAnswer,
    responses=QUERY_PROBLEMS,
    summary="What goes with a product",
)
async def get_complements(
    services: ServicesDep,
    admission: AdmissionDep,
    product_id: ProductPath,
    query: Annotated[ProductOffersQuery, Query()],
) -> Response:
    """Cross-sells beside a product, for a page without an account. A decision: report outcomes against it."""
    route = "GET /v1/products/{product_id}/complements"
    asker = CallerContext(None, query.channel, query.surface, admission.request_id, route)
    return await _beside(services, asker, product_id, "cross_sell", query)


@router.get(
    "/v1/products/{product_id:path}/upgrades",
    response_model=OffersAnswer,
    responses=QUERY_PROBLEMS,
    summary="Higher-value versions of a product",
)
async def get_upgrades(
    services: ServicesDep,
    admission: AdmissionDep,
    product_id: ProductPath,
    query: Annotated[ProductOffersQuery, Query()],
) -> Response:
    """Upsells from a product, for a page without an account. A decision: report outcomes against it."""
    route = "GET /v1/products/{product_id}/upgrades"
    asker = CallerContext(None, query.channel, query.surface, admission.request_id, route)
    return await _beside(services, asker, product_id, "upsell", query)


@router.get("/v1/products/{product_id:path}/accounts", responses=QUERY_PROBLEMS, summary="Whom to call about a product")
async def get_call_list(
    services: ServicesDep,
    product_id: ProductPath,
    capacity: Annotated[int, Query(ge=1, le=1_000, description="How many calls can be made.", examples=[20])] = 50,
    language: LanguageQuery = None,
) -> CallListAnswer:
    """The accounts most likely to take it; without those that own it by now, declined it lately or want no offers."""
    model = services.models.current()
    insight = _insight(model)
    _known(model, product_id)
    now = services.clock()
    takers = await asyncio.to_thread(insight.takers_of, product_id)
    calls = insight.call_list(
        takers,
        capacity,
        lambda account_id: services.state.of(account_id, None, now),
        language,
        services.settings.language,
    )
    return CallListAnswer(
        product_id=product_id,
        model_version=model.version,
        as_of=model.as_of,
        horizon_days=model.horizon_days,
        capacity=capacity,
        returned=len(calls),
        calls=[asdict(call) for call in calls],
        shortfall=calls.shortfall,
    )


@router.get(
    "/v1/accounts/{account_id:path}/whitespace", responses=QUERY_PROBLEMS, summary="What is left to sell to an account"
)
async def get_white_space(
    services: ServicesDep,
    account_id: Annotated[
        Id, Path(description="The account; an unknown one owns what was posted for it.", examples=["17850"])
    ],
    products_per_category: Annotated[
        int,
        Query(ge=1, le=200, description="Gaps of each category: those that most peers have bought.", examples=[5]),
    ] = 20,
) -> BoardAnswer:
    """Category by product: owned, offered, gap, not eligible. Opening this page presents nothing."""
    model = services.models.current()
    state = services.state.of(account_id, None, services.clock())
    board = await asyncio.to_thread(
        _insight(model).board, account_id, state, products_per_category, services.settings.objective
    )
    return BoardAnswer(
        account_id=account_id,
        model_version=model.version,
        as_of=model.as_of,
        horizon_days=model.horizon_days,
        currency=model.currency,
        **asdict(board),
    )


@router.post(
    "/v1/decisions/{decision_id}/why-not",
    response_model=WhyNotAnswer,
    responses=BODY_PROBLEMS | problem_responses(410),
    summary="Why a product was not offered",
)
async def post_why_not(
    services: ServicesDep,
    body: Annotated[WhyNotBody, Depends(JsonBody(WhyNotBody))],
    decision_id: Annotated[Id, Path(description="From the answer.", examples=["0199f2c4-7d1e-7c3a-9a53-0b0d8f5f3a11"])],
) -> Response:
    """The first rule that removed it, with its values, by the model that made the decision, also after a retrain.

    404: no such decision. 410: the model that made it is not kept any more.
    """
    decision = await services.read(_decision, services, decision_id)
    model = await _model_of(services, decision)
    found = _why_not(model, decision, body.product_id)
    changed = services.state.products.recorded_at(body.product_id)
    content = WhyNotResult(
        decision_id=decision_id,
        product_id=body.product_id,
        model_version=model.version,
        code=found.code,
        sentence=found.sentence,
        rule=found.rule,
        values=found.values,
        rules_changed=services.state.rules_version != decision.context.rules_version,
        product_changed=changed is not None and changed > decision.decided_at,
    )
    return Response(to_json(content), media_type="application/json")


async def _beside(
    services: Services,
    asker: CallerContext,
    product_id: str,
    kind: OfferKind,
    query: ProductOffersQuery,
) -> Response:
    _known(services.models.current(), product_id)
    question = OfferRequest(
        viewed_product_id=product_id,
        kinds=(kind,),
        limit=query.limit,
        objective=services.settings.objective,
        explain=query.explain,
        channel=query.channel,
        surface=query.surface,
        sources="evidence",
        language=query.language,
        mix=query.mix,
        variants=query.variants,
        default_language=services.settings.language,
    )
    return Response(await decide(services, question, asker), media_type="application/json")


def _decision(services: Services, decision_id: str) -> Decision:
    query = EventQuery("decisions", decision_ids=(decision_id,))
    decision = next(read_decisions(services.store, query), None)
    if decision is None:
        raise HTTPException(404, "the event store holds no such decision; take the id from the answer")
    return decision


async def _model_of(services: Services, decision: Decision) -> LoadedModel:
    version = decision.model_version
    for running in services.models.running():
        if running.model is not None and running.model.version == version:
            return running.model
    try:
        earlier = await asyncio.to_thread(services.earlier.get, version)
    except BundleError:
        raise HTTPException(410, f"model {version} made the decision, and its kept bundle was altered") from None
    if earlier is None:
        days = f"{services.settings.kept_models.days:g}"
        raise HTTPException(
            410, f"model {version} made the decision and is not kept any more (at most {days} days); ask for a new one"
        )
    services.state.adopt(earlier)
    return earlier


def _why_not(model: LoadedModel, decision: Decision, product_id: str) -> WhyNot:
    for offer in decision.offers:
        if offer.product_id == product_id:
            return told("offered", {"rank": offer.rank, "shown": decision.shown})
    context = decision.context
    found = _insight(model).why_not(decision.request, context.state, product_id, context.refused)
    was_drawn = bool(decision.offers) and decision.offers[-1].propensity < 1
    return told("displaced") if was_drawn and found.code == "offered_now" else found


def _insight(model: LoadedModel) -> ModelExplorer:
    if model.insight is None:
        raise HTTPException(409, "the model that runs can't explain itself; serve a bundle")
    return model.insight


def _known(model: LoadedModel, product_id: str) -> None:
    if model.insight is not None and not model.insight.knows(product_id):
        raise HTTPException(404, "the model does not know the product")
