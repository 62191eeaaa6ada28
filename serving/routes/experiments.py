"""What is being tested."""

from __future__ import annotations

from fastapi import APIRouter

from recsys.contracts.events import ExperimentRecord
from recsys.errors import PlanError
from recsys.events.store import EventStore
from recsys.experiments.lifecycle import is_unchanged, list_experiments, units_by_arm
from recsys.experiments.plan import parse_plan
from serving.http.problems import QUERY_PROBLEMS
from serving.schemas.evaluation import ArmAnswer, ExperimentAnswer, ExperimentsAnswer
from serving.services import ServicesDep

router = APIRouter(tags=["experiments"])


@router.get("/v1/experiments", responses=QUERY_PROBLEMS, summary="What is being tested")
async def get_experiments(services: ServicesDep) -> ExperimentsAnswer:
    """The experiments of the event store, running and stopped, with the units that each arm has."""
    return ExperimentsAnswer(experiments=await services.read(_experiments, services.store))


def _experiments(store: EventStore) -> list[ExperimentAnswer]:
    units = units_by_arm(store)
    found = [
        _experiment(record, units.get((record.experiment_id, record.version), {})) for record in list_experiments(store)
    ]
    return [experiment for experiment in found if experiment is not None]


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
