"""What is being tested, and what the offers were worth: the evaluation module over the event log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

import pyarrow.compute as pc
from fastapi import APIRouter, Depends, Path, Query
from starlette.exceptions import HTTPException
from starlette.responses import Response

from recsys.contracts import columns as c
from recsys.contracts.events import EventQuery, ExperimentDecision, ExperimentRecord
from recsys.errors import DataError, PlanError, ReadoutError
from recsys.evaluation.kpis.definition import Period
from recsys.events.store import EventStore
from recsys.experiments.lifecycle import decisions_of, is_unchanged, list_experiments, state_of, units_by_arm
from recsys.experiments.plan import LockedPlan, parse_plan
from serving.http.admission import JsonBody
from serving.http.problems import BODY_PROBLEMS, QUERY_PROBLEMS
from serving.schemas.evaluation import (
    ArmAnswer,
    DecisionAnswer,
    DecisionBody,
    ExperimentAnswer,
    ExperimentsAnswer,
    KpisAnswer,
    ReadoutAnswer,
)
from serving.schemas.fields import Currency, Id
from serving.services import AdmissionDep, ServicesDep

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
    return ExperimentsAnswer(experiments=await services.read(_experiments, services.store, services.clock()))


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


@router.post(
    "/v1/experiments/{experiment_id}/decision",
    tags=["evaluation"],
    responses=BODY_PROBLEMS,
    summary="Decide it, once",
)
async def post_decision(
    services: ServicesDep,
    admission: AdmissionDep,
    experiment_id: Annotated[Id, Path(description="The experiment.", examples=["engine-q1"])],
    body: Annotated[DecisionBody, Depends(JsonBody(DecisionBody))],
    currency: CurrencyQuery = None,
) -> DecisionAnswer:
    """Work the decision out and store it, signed; 409 with the moment where it is too early. A second time shows it."""
    signed_by = _signature(body.by, None if admission.key is None else admission.key.name)
    wanted = currency or services.models.current().currency
    return await services.read(_decide, services.store, experiment_id, services.clock(), body, signed_by, wanted)


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


def _signature(by: str | None, key_name: str | None) -> str:
    """Who signs: the person, with the key that vouches for it."""
    if by is None or key_name is None:
        return by or key_name or ""
    return f"{by} (key {key_name})"


def _decide(
    store: EventStore, experiment_id: str, now: datetime, body: DecisionBody, signed_by: str, currency: str | None
) -> DecisionAnswer:
    from recsys.evaluation.journal.deciding import decide_experiment
    from recsys.evaluation.readout.verdict import VerdictOverride

    _refuse_unknown(store, experiment_id)
    override = None if body.override is None else VerdictOverride(body.override, body.reason, body.arm)
    try:
        found = decide_experiment(store, experiment_id, now, signed_by=signed_by, override=override, currency=currency)
    except (ReadoutError, PlanError, DataError) as error:
        raise HTTPException(409, str(error)) from None
    return DecisionAnswer(is_new=found.is_new, decision=asdict(found.decision))


def _refuse_unknown(store: EventStore, experiment_id: str) -> None:
    if experiment_id not in store.read(EventQuery("experiments"))["experiment_id"].to_pylist():
        raise HTTPException(404, "the event store holds no such experiment; GET /v1/experiments lists them")


def _readout(store: EventStore, experiment_id: str, now: datetime, currency: str | None) -> bytes:
    from recsys.evaluation.readout.from_event_store import store_readout

    _refuse_unknown(store, experiment_id)
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


def _experiments(store: EventStore, now: datetime) -> list[ExperimentAnswer]:
    units, decisions = units_by_arm(store), decisions_of(store)
    return [
        found
        for record in list_experiments(store)
        for key in [(record.experiment_id, record.version)]
        if (found := _experiment(record, units.get(key, {}), decisions.get(key), now)) is not None
    ]


def _experiment(
    record: ExperimentRecord, units: dict[str, int], decision: ExperimentDecision | None, now: datetime
) -> ExperimentAnswer | None:
    try:
        plan = parse_plan(record.plan)
    except PlanError:  # another version of this software wrote it; `offers experiment status` shows it
        return None
    locked = LockedPlan(plan, record.plan_hash, record.started_at, record.stopped_at)
    return ExperimentAnswer(
        experiment_id=record.experiment_id,
        version=record.version,
        state=state_of(record, now),
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
        decision_due=locked.decision_due,
        decided=None if decision is None else decision.decided,
        signed_by=None if decision is None else decision.signed_by,
    )
