"""The running experiments, as requests look them up: which one a unit takes part in, and in which arm."""

from __future__ import annotations

import logging
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import accumulate
from typing import Any, Final, TypeAlias

import numpy as np

from recsys.arrays import FloatArray
from recsys.contracts.decisions import AssignedArm
from recsys.contracts.events import RecordedAssignment
from recsys.errors import PlanError
from recsys.experiments.assignment import hash_point, takes_part
from recsys.experiments.plan import Arm, ExperimentPlan, parse_plan, plan_hash

_MOST_RECORDED: Final = 200_000
"""Units that a worker remembers as recorded; recording one again changes nothing."""

ExperimentKey: TypeAlias = tuple[str, int]
"""Id and version of an experiment."""

_log = logging.getLogger("serving")


@dataclass(frozen=True, slots=True)
class Entry:
    """How a request takes part in an experiment.

    Attributes:
        probability: with which its unit falls into the arm.
        is_recorded: whether this worker has recorded the unit's assignment.
    """

    experiment_id: str
    version: int
    unit_id: str
    unit: str
    arm: Arm
    probability: float
    is_recorded: bool

    @property
    def assigned(self) -> AssignedArm:
        """The arm that the decision is made under."""
        return AssignedArm(self.experiment_id, self.arm.name, self.probability)

    def assignment(self, now: datetime) -> RecordedAssignment:
        """Return the assignment to be recorded."""
        return RecordedAssignment(
            experiment_id=self.experiment_id,
            version=self.version,
            unit_id=self.unit_id,
            unit="visitor" if self.unit == "visitor" else "account",
            arm=self.arm.name,
            probability=self.probability,
            assigned_at=now,
        )


NOBODY: Final[FloatArray] = np.empty(0)


class _Active:
    """One running plan, with what an assignment needs worked out once; agrees with `recsys.experiments.assign`.

    Attributes:
        entered: the points of the units that entered before the planned end, sorted; read when that is near.
    """

    def __init__(self, plan: ExperimentPlan) -> None:
        self.plan = plan
        self.shares = plan.shares
        self.edges = list(accumulate(self.shares))[:-1]
        self.salt = plan.salt
        self.recorded: set[str] = set()
        self.entered = NOBODY

    def entry(self, account_id: str | None, visitor_id: str | None, now: datetime) -> Entry | None:
        unit_id = visitor_id if self.plan.unit == "visitor" else account_id
        if unit_id is None or not takes_part(self.plan, unit_id):
            return None
        point, plan, known = hash_point(self.salt, unit_id), self.plan, unit_id in self.recorded
        if now >= plan.planned_end:  # whoever is in keeps its arm until the windows are over, nobody else enters
            known = known or self._has_entered(point)
            if not known:
                return None
        position = bisect_right(self.edges, point)
        return Entry(plan.id, plan.version, unit_id, plan.unit, plan.arms[position], self.shares[position], known)

    def _has_entered(self, point: float) -> bool:
        """Whether a unit of this point is in: of a million, another one has it once in ten thousand million times."""
        position = bisect_left(self.entered, point)
        return position < len(self.entered) and bool(self.entered[position] == point)


class Experiments:
    """The experiments that run now, the oldest first; its methods belong to the event loop."""

    def __init__(self) -> None:
        self._active: dict[str, _Active] = {}
        self._refused: set[tuple[str, int]] = set()

    def apply(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Let those run that the store's rows say are running, and no other."""
        active: dict[str, _Active] = {}
        for row in sorted(rows, key=lambda row: (row["started_at"], row["experiment_id"], row["version"])):
            if row["stopped_at"] is not None:
                continue
            running = self._active.get(row["experiment_id"])
            if running is not None and running.plan.version == row["version"]:
                active[row["experiment_id"]] = running
            elif (plan := self._plan(row)) is not None:
                active[row["experiment_id"]] = _Active(plan)
        self._active = active

    def enter(self, wanted: str | None, account_id: str | None, visitor_id: str | None, now: datetime) -> Entry | None:
        """Return how a request takes part.

        Args:
            wanted: the experiment that the request names; without one it is in the oldest that has a unit for it:
                experiments of one layer have different units, and so run side by side.
            account_id: the unit of most experiments.
            visitor_id: the unit of the others.
            now: from the planned end on only units that are in take part, and none once their windows are over.
        """
        if not self._active:
            return None
        if wanted is not None:
            return self._active[wanted].entry(account_id, visitor_id, now) if self.is_running(wanted, now) else None
        for running in self._active.values():
            if now < running.plan.windows_end:
                entry = running.entry(account_id, visitor_id, now)
                if entry is not None:
                    return entry
        return None

    def is_running(self, experiment_id: str, now: datetime) -> bool:
        """Return whether an experiment of that id runs and its windows are not over."""
        running = self._active.get(experiment_id)
        return running is not None and now < running.plan.windows_end

    def let_in(self, entered: Mapping[ExperimentKey, FloatArray]) -> None:
        """Put in force who is in experiments whose planned end is near or past, by their points, sorted."""
        for running in self._active.values():
            found = entered.get((running.plan.id, running.plan.version))
            if found is not None:
                running.entered = found

    def entered(self) -> dict[ExperimentKey, FloatArray]:
        """Return who is known to be in, by experiment; those where nobody was looked for are left out."""
        return {
            (running.plan.id, running.plan.version): running.entered
            for running in list(self._active.values())
            if running.entered is not NOBODY
        }

    def remember(self, entry: Entry) -> None:
        """Take note that an assignment is in the store; what was known may have been forgotten since."""
        if entry.is_recorded:
            return
        running = self._active.get(entry.experiment_id)
        if running is not None and running.plan.version == entry.version:
            if len(running.recorded) >= _MOST_RECORDED:
                running.recorded.clear()
            running.recorded.add(entry.unit_id)

    def forget(self) -> None:
        """Record every unit anew: some assignments were erased, and recording one again changes nothing."""
        for running in self._active.values():
            running.recorded.clear()

    def _plan(self, row: Mapping[str, Any]) -> ExperimentPlan | None:
        """Return the plan of a row; one that can't be read, or is not what was locked, does not run."""
        key = (row["experiment_id"], row["version"])
        try:
            return locked_plan(row["plan"], row["plan_hash"])
        except PlanError as error:
            if key not in self._refused:
                _log.error("experiment does not run: %s", error)
                self._refused.add(key)
            return None


@lru_cache(maxsize=256)
def locked_plan(text: str, locked_hash: str) -> ExperimentPlan:
    """Return the plan that a store holds; the same object for the same text.

    Raises:
        PlanError: it can't be read, or is not what was locked.
    """
    plan = parse_plan(text)
    if plan_hash(plan) != locked_hash:
        raise PlanError(f"{plan.id}: the hash of its plan is not the one that was locked; stop it and start anew")
    return plan
