"""Other experiments of an event store that had the same units at the same time, and the effect beside each arm."""

from __future__ import annotations

from datetime import datetime

import pandas as pd

from recsys.contracts.events import EventQuery, ExperimentRecord
from recsys.errors import PlanError
from recsys.evaluation.readout.concurrent.interactions import ConcurrentExperiment, Interaction, interactions_of
from recsys.evaluation.readout.design import ReadoutConfig
from recsys.evaluation.readout.from_orders import ExperimentData, standard_metrics
from recsys.evaluation.readout.from_table import TableSpec
from recsys.evaluation.readout.purchases import window_values
from recsys.events.store import EventStore
from recsys.experiments.lifecycle import list_experiments
from recsys.experiments.plan import LockedPlan, parse_plan


def concurrent_experiments(store: EventStore, locked: LockedPlan, until: datetime) -> tuple[ConcurrentExperiment, ...]:
    """Return the other experiments of a store that assigned units of the same kind while this one ran."""
    found = []
    for record in list_experiments(store):
        if record.experiment_id == locked.plan.id or not _overlaps(record, locked, until):
            continue
        try:
            plan = parse_plan(record.plan)
        except PlanError:
            continue  # no server can read it either: it assigns nobody
        if plan.unit != locked.plan.unit:
            continue
        columns = ("unit_id", "arm", "version")
        asked = EventQuery("assignments", until=until, experiment_id=record.experiment_id, columns=columns)
        rows: pd.DataFrame = store.read(asked).to_pandas()
        own = rows[rows["version"] == record.version].drop_duplicates("unit_id", keep=False)
        arms = dict(zip(own["unit_id"], own["arm"], strict=True))
        found.append(ConcurrentExperiment(f"{record.experiment_id} version {record.version}", plan.control.name, arms))
    return tuple(found)


def _overlaps(record: ExperimentRecord, locked: LockedPlan, until: datetime) -> bool:
    ended = min(until, locked.stopped_at) if locked.stopped_at else until
    return record.started_at < ended and (record.stopped_at is None or record.stopped_at > locked.started_at)


def interactions_with(
    gathered: ExperimentData,
    table: TableSpec,
    window_days: int,
    config: ReadoutConfig,
    others: tuple[ConcurrentExperiment, ...],
) -> tuple[Interaction, ...]:
    """Return how the effect on the primary differs between the arms of other experiments on the same units."""
    if not others:
        return ()
    values = window_values(gathered.assigned, gathered.purchases, window_days, gathered.now) | dict(gathered.extra)
    primary = next((metric for metric in standard_metrics(values, table) if metric.role == "primary"), None)
    if primary is None:
        return ()
    return interactions_of(gathered.assigned, values, primary, table.control, others, config.alpha)
