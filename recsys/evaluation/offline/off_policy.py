"""What another policy would have earned, from decisions that were drawn with known probabilities.

The decisions come from the event log, where the last slot was drawn, or from a table. Each took one action with a
logged propensity and brought a reward; the target policy would have taken the same action with another probability.
The estimators weigh what was seen by the ratio of the two, `w = target / propensity`:

    IPS    mean of w r                       unbiased, wide where weights are large (Horvitz and Thompson 1952)
    SNIPS  sum of w r / sum of w             a little biased, far steadier (Swaminathan and Joachims 2015)
    DR     mean of v + w (r - q)             unbiased if the propensities or the model of the reward are right
                                             (Dudik, Langford and Li 2011), v and q as in `LoggedActions`

Decisions of one account are not independent: standard errors are clustered by account.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student

from recsys.arrays import FloatArray
from recsys.contracts.events import EventQuery
from recsys.data.sources import connect, open_source
from recsys.errors import DataError, EmptyDataError
from recsys.events.reading import read_frame
from recsys.events.store import EventStore

Estimator = Literal["IPS", "SNIPS", "DR"]


@dataclass(frozen=True)
class LoggedActions:
    """Decisions as parallel arrays of shape `(n,)`.

    Attributes:
        reward: what the action brought.
        propensity: with which the logging policy took it, in (0, 1].
        target: with which the target policy takes it, in [0, 1].
        unit: the account of each decision; None: every decision is a unit of its own.
        expected: reward that a model expects of the logged action; None: no model, no DR.
        expected_of_target: reward that the model expects of the target policy in the decision, over all its actions.
    """

    reward: FloatArray
    propensity: FloatArray
    target: FloatArray
    unit: NDArray[np.object_] | None = None
    expected: FloatArray | None = None
    expected_of_target: FloatArray | None = None


@dataclass(frozen=True, slots=True)
class PolicyValue:
    """The reward a decision of the target policy.

    Attributes:
        estimator: how it was estimated.
        estimate: mean reward a decision.
        standard_error: clustered by unit.
        low: lower limit of the interval, Student's t with one degree of freedom less than units.
        high: upper limit.
    """

    estimator: Estimator
    estimate: float
    standard_error: float
    low: float
    high: float


@dataclass(frozen=True)
class OffPolicy:
    """All estimates, and whether they can be believed.

    Attributes:
        values: one an estimator; DR where a model of the reward is given.
        logged: mean reward of the logging policy itself, with its interval as an IPS of weights 1.
        n_decisions: decisions.
        n_units: accounts behind them.
        effective_decisions: `(sum w)^2 / sum w^2`: how many unweighted decisions say as much (Kish 1965).
        mean_weight: 1 in expectation where every action that the target takes was possible.
        mean_weight_error: its standard error, clustered.
        largest_weight: of a decision.
    """

    values: tuple[PolicyValue, ...]
    logged: PolicyValue
    n_decisions: int
    n_units: int
    effective_decisions: float
    mean_weight: float
    mean_weight_error: float
    largest_weight: float

    @property
    def overlaps(self) -> bool:
        """Whether the mean weight is 1 within three standard errors: else propensities or overlap are not as told."""
        return abs(self.mean_weight - 1.0) <= max(3.0 * self.mean_weight_error, 1e-9)

    def value(self, estimator: Estimator) -> PolicyValue:
        """Return the value by one estimator."""
        return next(one for one in self.values if one.estimator == estimator)


def evaluate_policy(log: LoggedActions, *, level: float = 0.95, largest_weight: float | None = None) -> OffPolicy:
    """Return what the target policy would have earned a decision.

    Args:
        log: decisions of the logging policy.
        level: of the intervals.
        largest_weight: weights are cut there, which takes variance for bias; None: not cut.

    Raises:
        EmptyDataError: there are fewer than two units.
        DataError: lengths differ, a value is missing or out of range, or no weight is above zero.

    Example:
        >>> log = LoggedActions(np.array([1.0, 0, 1, 0]), np.full(4, 0.5), np.array([1.0, 1, 0, 0]))
        >>> evaluate_policy(log).value("SNIPS").estimate
        0.5
    """
    units = _checked(log, level, largest_weight)
    weight = log.target / log.propensity
    if largest_weight is not None:
        weight = np.minimum(weight, largest_weight)
    if not weight.any():
        raise DataError("the target policy takes none of the logged actions; evaluate one that overlaps with the log")
    weighing = _Mean(weight, np.ones_like(weight), units, level)
    values = [
        _Mean(weight * log.reward, np.ones_like(weight), units, level).value("IPS"),
        _Mean(weight * log.reward, weight, units, level).value("SNIPS"),
    ]
    if log.expected is not None and log.expected_of_target is not None:
        corrected = log.expected_of_target + weight * (log.reward - log.expected)
        values.append(_Mean(corrected, np.ones_like(weight), units, level).value("DR"))
    return OffPolicy(
        values=tuple(values),
        logged=_Mean(log.reward, np.ones_like(weight), units, level).value("IPS"),
        n_decisions=len(weight),
        n_units=int(units.max()) + 1,
        effective_decisions=float(weight.sum() ** 2 / (weight**2).sum()),
        mean_weight=weighing.estimate,
        mean_weight_error=weighing.standard_error,
        largest_weight=float(weight.max()),
    )


class _Mean:
    """`sum of numerator / sum of denominator` over decisions, its error by the delta method over units."""

    def __init__(self, numerator: FloatArray, denominator: FloatArray, units: NDArray[np.intp], level: float) -> None:
        self.estimate = float(numerator.sum() / denominator.sum())
        residual = np.bincount(units, weights=numerator - self.estimate * denominator)
        n = len(residual)
        self.standard_error = float(np.sqrt((residual**2).sum() * n / (n - 1)) / abs(denominator.sum()))
        self._reach = float(student.ppf(0.5 + level / 2, n - 1)) * self.standard_error

    def value(self, estimator: Estimator) -> PolicyValue:
        low, high = self.estimate - self._reach, self.estimate + self._reach
        return PolicyValue(estimator, self.estimate, self.standard_error, low, high)


def _checked(log: LoggedActions, level: float, largest_weight: float | None) -> NDArray[np.intp]:
    """Return the number of each decision's unit."""
    if not 0 < level < 1:
        raise DataError(f"level == {level}, must lie between 0 and 1; 0.95 is usual")
    if largest_weight is not None and not largest_weight > 0:
        raise DataError(f"largest_weight == {largest_weight}, must be above 0; leave it out to cut nothing")
    if (log.expected is None) != (log.expected_of_target is None):
        raise DataError("one of expected and expected_of_target is missing, must be both or none; DR needs both")
    columns = {name: column for name, column in vars(log).items() if column is not None}
    n = len(log.reward)
    for name, column in columns.items():
        if len(column) != n:
            raise DataError(f"{len(column)} values of {name} for {n} rewards, must be one a decision")
        if name != "unit" and not np.isfinite(column).all():
            raise DataError(f"{int((~np.isfinite(column)).sum())} values of {name} are missing, must be numbers")
    for name, column, low in (("propensity", log.propensity, "above 0"), ("target", log.target, "0 or more")):
        wrong = (column > 1) | (column < 0) | ((column == 0) & (name == "propensity"))
        if wrong.any():
            raise DataError(f"{name} == {column[wrong][0]}, must be {low} and at most 1: a probability")
    units = np.arange(n) if log.unit is None else np.unique(log.unit.astype(str), return_inverse=True)[1]
    if n == 0 or units.max() < 1:
        raise EmptyDataError(f"{n} decisions of fewer than two units, must be two units or more; is the log empty?")
    return units


SlotPolicy = Literal["first", "drawn"]
SLOT_POLICIES: tuple[SlotPolicy, ...] = get_args(SlotPolicy)

_OFFERS = ("decision_id", "account_id", "visitor_id", "shown", "product_id", "propensity", "presented_at")


def drawn_slots(store: EventStore, policy: SlotPolicy) -> LoggedActions:
    """Return the presented last slots that exploration might have filled otherwise; the reward is 1 if accepted.

    The logging policy put the offer of rank k into its last slot with probability `1 - share`, else one of those below
    it, evenly. The target policy `first` never draws; `drawn` always does. Exploration is at most a half, so that a
    propensity of a half or more is the offer of rank k. The share is read off those.

    Raises:
        EmptyDataError: nothing was drawn; exploration is off.
    """
    offers = read_frame(store, EventQuery("decision_offers"))[list(_OFFERS)]
    slots = offers[(offers["propensity"] < 1) & offers["shown"] & offers["presented_at"].notna()]
    if slots.empty:
        raise EmptyDataError("0 presented offers with a propensity below 1; serve with `exploration` above 0 first")
    propensity = slots["propensity"].to_numpy(dtype=np.float64)
    first = propensity >= 0.5
    if not first.any():
        raise EmptyDataError("0 presented last slots with the offer of rank k itself; wait for more decisions")
    share = 1.0 - propensity[first].max()
    target = first.astype(np.float64) if policy == "first" else np.where(first, 0.0, propensity / share)
    return LoggedActions(
        reward=_accepted(store, slots).astype(np.float64),
        propensity=propensity,
        target=np.minimum(target, 1.0),
        unit=slots["account_id"].fillna(slots["visitor_id"]).fillna(slots["decision_id"]).to_numpy(dtype=object),
    )


def actions_of(location: str, columns: dict[str, str]) -> LoggedActions:
    """Return the logged actions of a table, one row a decision.

    Args:
        location: a file, a folder of files, or a database table `URL#table`.
        columns: which column of the table holds which field of `LoggedActions`; `reward`, `propensity` and `target`
            must be there.

    Raises:
        DataError: a column is missing or holds no numbers.
    """
    table = open_source(connect(), location, name="decisions").table.to_pandas()
    missing = [column for column in columns.values() if column not in table]
    if missing:
        raise DataError(f"{location}: no column {', '.join(missing)}; it has {', '.join(map(str, table.columns))}")
    found = {field: _numbers(table[column], column) for field, column in columns.items() if field != "unit"}
    unit = table[columns["unit"]].to_numpy(dtype=object) if "unit" in columns else None
    return LoggedActions(**found, unit=unit)


def _accepted(store: EventStore, slots: pd.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    outcomes = read_frame(store, EventQuery("outcomes"))
    said_yes = outcomes.loc[outcomes["kind"] == "accepted", ["decision_id", "product_id"]]
    keys = pd.MultiIndex.from_frame(slots[["decision_id", "product_id"]])
    of_offer = keys.isin(pd.MultiIndex.from_frame(said_yes))
    of_all = slots["decision_id"].isin(said_yes.loc[said_yes["product_id"].isna(), "decision_id"]).to_numpy()
    return np.asarray(of_offer | of_all, dtype=np.bool_)


def _numbers(column: pd.Series, name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    numbers = pd.to_numeric(column, errors="coerce")
    wrong = column[numbers.isna() & column.notna()]
    if len(wrong):
        raise DataError(f"{name} == {wrong.iloc[0]!r}, must be a number; {len(wrong)} rows hold something else")
    return np.asarray(numbers, dtype=np.float64)
