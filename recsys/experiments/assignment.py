"""Deterministic assignment of units to arms by a salted hash: no state, the same answer in every process.

FNV-style hashes make experiments with similar names dependent; blake2b does not (a test shows it).
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.errors import PlanError
from recsys.experiments.plan import ExperimentPlan

_SPACE = 2**64
_BYTES = 8


@dataclass(frozen=True, slots=True)
class Assignment:
    """Where a unit belongs.

    Attributes:
        unit_id: the account or visitor.
        arm: the name of its arm.
        probability: with which a unit falls into this arm.
    """

    unit_id: str
    arm: str
    probability: float


def hash_point(salt: str, unit_id: str) -> float:
    """Return the point in [0, 1] on which a unit falls.

    Formula: the first 64 bits of `blake2b(f"{salt}:{unit_id}")`, big-endian, over 2^64.

    Example:
        >>> round(hash_point("coupon-test:1", "17850"), 6)
        0.113051
    """
    return int.from_bytes(hashlib.blake2b(f"{salt}:{unit_id}".encode()).digest()[:_BYTES]) / _SPACE


def hash_points(salt: str, unit_ids: Iterable[str]) -> NDArray[np.float64]:
    """Return `hash_point` of many units, shape `(n_units,)`; the same numbers to the last bit."""
    salted = hashlib.blake2b(f"{salt}:".encode())

    def head(unit_id: str) -> int:
        digest = salted.copy()
        digest.update(unit_id.encode())
        return int.from_bytes(digest.digest()[:_BYTES])

    return np.fromiter((head(unit_id) for unit_id in unit_ids), dtype=np.uint64) / float(_SPACE)


def takes_part(plan: ExperimentPlan, unit_id: str) -> bool:
    """Return whether a unit lies in the plan's share of its layer; without a layer every unit does."""
    if plan.layer is None:
        return True
    begin, end = plan.layer_share
    point = hash_point(plan.layer_salt, unit_id)
    return begin <= point and (point < end or end == 1.0)  # the last point may be rounded to 1


def assign(plan: ExperimentPlan, unit_id: str) -> Assignment:
    """Return the arm of one unit: the first whose cumulative share lies above the unit's point.

    Raises:
        PlanError: the id is empty, or the unit is not in the plan's share of its layer.
    """
    if not unit_id:
        raise PlanError("unit_id == '', must be an account or visitor id; a request without one is in no experiment")
    if not takes_part(plan, unit_id):
        raise PlanError(f"unit_id == {unit_id!r} is not in {plan.id}'s share of the layer {plan.layer}; ask takes_part")
    shares = plan.shares
    position = bisect_right(_edges(shares), hash_point(plan.salt, unit_id))
    return Assignment(unit_id, plan.arms[position].name, shares[position])


def assign_many(plan: ExperimentPlan, unit_ids: Iterable[str]) -> NDArray[np.intp]:
    """Return the position in `plan.arms` of each unit's arm, shape `(n_units,)`; agrees with `assign`.

    A unit that is not in the plan's share of its layer has -1.
    """
    units = list(unit_ids)
    arms = np.searchsorted(_edges(plan.shares), hash_points(plan.salt, units), side="right")
    if plan.layer is None:
        return arms
    return np.where([takes_part(plan, unit) for unit in units], arms, -1)


def _edges(shares: tuple[float, ...]) -> list[float]:
    """The inner borders: the last arm takes what is above them, so that rounding leaves nobody out."""
    return [float(edge) for edge in np.cumsum(shares)[:-1]]
