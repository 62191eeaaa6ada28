"""Who is in an experiment when its planned end comes: read from the store, as an assignment itself has no state.

Any server may have let a unit in, and one that starts after the planned end knows of none. So every worker reads the
units from shortly before the planned end, and for a while after it what others recorded in the last minutes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np

from recsys.arrays import FloatArray
from recsys.contracts.events import EventQuery
from recsys.errors import PlanError
from recsys.events.store import EventStore
from recsys.experiments.assignment import hash_points
from recsys.experiments.plan import ExperimentPlan
from serving.online.running_experiments import ExperimentKey, locked_plan

APART: Final = timedelta(minutes=10)
"""More than clocks are apart and commits take: so long before the planned end all units are read, and until so long
after it those that were let in within this time of it."""


def read_entered(
    store: EventStore, rows: Iterable[Mapping[str, Any]], now: datetime, known: Mapping[ExperimentKey, FloatArray]
) -> dict[ExperimentKey, FloatArray]:
    """Return the points of the units that are in, sorted, of each experiment that is about to end or has ended.

    Args:
        store: that every server writes to.
        rows: every experiment of the store.
        now: UTC.
        known: what was read before; empty reads all anew.
    """
    found: dict[ExperimentKey, FloatArray] = {}
    for row in rows:
        key = (row["experiment_id"], row["version"])
        plan = _ending_plan(row, now)
        if plan is None:
            continue
        before = known.get(key)
        if before is None:
            found[key] = np.unique(_points(store, plan, None))
        elif now < plan.planned_end + APART:
            found[key] = np.union1d(before, _points(store, plan, plan.planned_end - 2 * APART))
    return found


def _ending_plan(row: Mapping[str, Any], now: datetime) -> ExperimentPlan | None:
    if row["stopped_at"] is not None:
        return None
    try:
        plan = locked_plan(row["plan"], row["plan_hash"])
    except PlanError:  # which does not run
        return None
    return plan if plan.planned_end - APART <= now < plan.windows_end else None


def _points(store: EventStore, plan: ExperimentPlan, since: datetime | None) -> FloatArray:
    """Where the units fall that were assigned from then on; whoever was assigned at the planned end or later is out."""
    columns = ("unit_id", "version")
    query = EventQuery("assignments", since=since, until=plan.planned_end, experiment_id=plan.id, columns=columns)
    rows = store.read(query)
    units = [unit for unit, version in zip(*rows.to_pydict().values(), strict=True) if version == plan.version]
    return hash_points(plan.salt, units)
