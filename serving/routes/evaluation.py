"""What is being tested, and what the offers were worth: the evaluation module over the event log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

import pyarrow.compute as pc
from fastapi import APIRouter, Path, Query
from starlette.exceptions import HTTPException
from starlette.responses import Response

from recsys.contracts import columns as c
from recsys.contracts.events import EventQuery, ExperimentRecord
from recsys.errors import DataError, PlanError, ReadoutError
from recsys.evaluation.kpis.definition import Period
from recsys.events.store import EventStore
from recsys.experiments.lifecycle import is_unchanged, list_experiments, units_by_arm
from recsys.experiments.plan import parse_plan
from serving.http.problems import QUERY_PROBLEMS
from serving.schemas.evaluation import ArmAnswer, ExperimentAnswer, ExperimentsAnswer, KpisAnswer, ReadoutAnswer
from serving.schemas.fields import Currency, Id
from serving.services import ServicesDep

router = APIRouter()

CurrencyQuery = Annotated[
    Currency | None,
    Query(
        description="Of the figures; left out, the model's. Order lines in another one are counted in a note.",
        examples=["GBP"],
    ),
]

LONGEST: Final = timedelta(days=3_653)
"""What a KPI report looks back over: ten years of days take a second or two; `offers kpis` takes any length."""


@router.get("/v1/experiments", tags=["experiments"], responses=QUERY_PROBLEMS, summary="What is being tested")
async def get_experiments(services: ServicesDep) -> ExperimentsAnswer:
    """The experiments of the event store, running and stopped, with the units that each arm has."""
    return ExperimentsAnswer(experiments=await services.read(_experiments, services.store))


@router.get(
    "/v1/experiments/{experiment_id}/readout",
    tags=["evaluation"],
    response_model=ReadoutAnswer,
    responses=QUERY_PROBLEMS,
    summary="Did it work, may we ship?",
)
async def get_readout(
    services: ServicesDep,
    experiment_id: Annotated[Id, Path(description="The experiment.", examples=["engine-q1"])],
    currency: CurrencyQuery = None,
) -> Response:
    """Health, effects and verdict as they stand now; 409 with a sentence where the log can't be read out yet."""
    wanted = currency or services.models.current().currency
    content = await services.read(_readout, services.store, experiment_id, services.clock(), wanted)
    return Response(content, media_type="application/json")


@router.get(
    "/v1/kpis",
    tags=["evaluation"],
    response_model=KpisAnswer,
    responses=QUERY_PROBLEMS,
    summary="Upsell and cross-sell KPIs",
)
async def get_kpis(
    services: ServicesDep,
    period: Annotated[Period, Query(description="Length of a period.", examples=["quarter"])] = "month",
    window_days: Annotated[
        int,
        Query(
            ge=1, le=365, description="Days after a presentation within which a purchase counts for it.", examples=[14]
        ),
    ] = 30,
    currency: CurrencyQuery = None,
) -> Response:
    """Every KPI over the posted orders and the event log; 409 with a sentence where there is nothing to count yet."""
    wanted = currency or services.models.current().currency
    content = await services.read(_kpis, services.store, services.clock(), period, window_days, wanted)
    return Response(content, media_type="application/json")


def _readout(store: EventStore, experiment_id: str, now: datetime, currency: str | None) -> bytes:
    from recsys.evaluation.readout.from_event_store import store_readout

    if experiment_id not in store.read(EventQuery("experiments"))["experiment_id"].to_pylist():
        raise HTTPException(404, "the event store holds no such experiment; GET /v1/experiments lists them")
    try:
        return _json(store_readout(store, experiment_id, now, currency=currency).to_dict())
    except (ReadoutError, PlanError, DataError) as error:
        raise HTTPException(409, str(error)) from None


def _kpis(store: EventStore, now: datetime, period: Period, window_days: int, currency: str | None) -> bytes:
    from recsys.evaluation.kpis.config import KpiConfig
    from recsys.evaluation.kpis.report import kpis_from_tables
    from recsys.evaluation.kpis.tables import read_events

    events = read_events(store)
    if events.order_lines is None or not len(events.order_lines):
        raise HTTPException(409, "no orders were posted yet; `offers kpis` reads an order history from a file")
    try:
        first = pc.min(events.order_lines[c.ORDERED_AT]).as_py()
        since = now - LONGEST if first < now - LONGEST else None  # one order of the year 1 would be 700,000 days
        config = KpiConfig(period=period, window_days=window_days, since=since)
        log = replace(events, order_lines=None)  # the posted orders are all the orders here
        report = kpis_from_tables(events.order_lines, as_of=now, events=log, currency=currency, config=config)
    except DataError as error:
        raise HTTPException(409, str(error)) from None
    return _json(report.to_dict())


def _json(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, allow_nan=False).encode()


def _experiments(store: EventStore) -> list[ExperimentAnswer]:
    units = units_by_arm(store)
    return [
        found
        for record in list_experiments(store)
        if (found := _experiment(record, units.get((record.experiment_id, record.version), {}))) is not None
    ]


def _experiment(record: ExperimentRecord, units: dict[str, int]) -> ExperimentAnswer | None:
    try:
        plan = parse_plan(record.plan)
    except PlanError:  # another version of this software wrote it; `offers experiment status` shows it
        return None
    return ExperimentAnswer(
        experiment_id=record.experiment_id,
        version=record.version,
        state="running" if record.stopped_at is None else "stopped",
        unit=plan.unit,
        started_at=record.started_at,
        stopped_at=record.stopped_at,
        planned_end=plan.planned_end,
        plan_hash=record.plan_hash,
        is_unchanged=is_unchanged(record),
        arms=[
            ArmAnswer(
                name=arm.name,
                share=share,
                is_control=arm.is_control,
                policy=arm.policy.kind,
                alias=arm.policy.alias,
                n_units=units.get(arm.name, 0),
            )
            for arm, share in zip(plan.arms, plan.shares, strict=True)
        ],
    )
