"""The running experiments, as requests look them up: which one a unit takes part in, and in which arm."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import Any, Final

from recsys.contracts.decisions import AssignedArm
from recsys.contracts.events import RecordedAssignment
from recsys.errors import PlanError
from recsys.experiments.assignment import hash_point
from recsys.experiments.plan import Arm, ExperimentPlan, parse_plan, plan_hash

_MOST_RECORDED: Final = 200_000
"""Units that a worker remembers as recorded; recording one again changes nothing."""

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


class _Active:
    """One running plan, with what an assignment needs worked out once; agrees with `recsys.experiments.assign`."""

    def __init__(self, plan: ExperimentPlan) -> None:
        self.plan = plan
        self.shares = plan.shares
        self.edges = list(accumulate(self.shares))[:-1]
        self.salt = plan.salt
        self.recorded: set[str] = set()

    def entry(self, account_id: str | None, visitor_id: str | None) -> Entry | None:
        unit_id = visitor_id if self.plan.unit == "visitor" else account_id
        if unit_id is None:
            return None
        position = bisect_right(self.edges, hash_point(self.salt, unit_id))
        plan, known = self.plan, unit_id in self.recorded
        return Entry(plan.id, plan.version, unit_id, plan.unit, plan.arms[position], self.shares[position], known)


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

    def enter(self, wanted: str | None, account_id: str | None, visitor_id: str | None) -> Entry | None:
        """Return how a request takes part.

        Args:
            wanted: the experiment that the request names; without one it is in the oldest that has a unit for it.
            account_id: the unit of most experiments.
            visitor_id: the unit of the others.
        """
        if not self._active:
            return None
        if wanted is not None:
            named = self._active.get(wanted)
            return None if named is None else named.entry(account_id, visitor_id)
        for running in self._active.values():
            entry = running.entry(account_id, visitor_id)
            if entry is not None:
                return entry
        return None

    def is_running(self, experiment_id: str) -> bool:
        """Return whether an experiment of that id runs."""
        return experiment_id in self._active

    def remember(self, entry: Entry) -> None:
        """Take note that an assignment is in the store."""
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
            return _locked(row)
        except PlanError as error:
            if key not in self._refused:
                _log.error("experiment does not run: %s", error)
                self._refused.add(key)
            return None


def _locked(row: Mapping[str, Any]) -> ExperimentPlan:
    plan = parse_plan(row["plan"])
    if plan_hash(plan) != row["plan_hash"]:
        raise PlanError(f"{plan.id}: the hash of its plan is not the one that was locked; stop it and start anew")
    return plan
