"""The log of one experiment as tables, and what only such a log can tell: exposures, outcomes, attributed revenue."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd

from recsys.contracts import columns as c
from recsys.contracts.events import PRESENTING
from recsys.errors import ReadoutError
from recsys.evaluation.readout.from_orders import Gathered
from recsys.evaluation.readout.gathering import epoch_seconds, gather_purchases
from recsys.evaluation.readout.health import LogFacts
from recsys.evaluation.readout.purchases import DAY, REVENUE, Assigned
from recsys.experiments.plan import ExperimentPlan, LockedPlan

UNIT_ID = "unit_id"
ARM = "arm"
ASSIGNED_AT = "assigned_at"
DECIDED_AT = "decided_at"
OCCURRED_AT = "occurred_at"
PRESENTED_AT = "presented_at"
KIND = "kind"

PRESENTED = "presented_offers"
ACCEPTED = "accepted_offers"
ATTRIBUTED = "attributed_revenue"


@dataclass(frozen=True)
class ExperimentLog:
    """What was logged for one version of one experiment; all times UTC.

    Attributes:
        plan: as it was locked.
        assignments: `unit_id arm assigned_at`; a unit in two arms has two rows.
        decisions: `decision_id unit_id arm decided_at`, held-back ones too.
        offers: `decision_id product_id presented_at` (null while it was only returned).
        outcomes: `decision_id product_id kind occurred_at`.
        lines: `order_id account_id product_id ordered_at revenue`, where `account_id` is the unit; returns negative.
        notes: sentences about the data.
    """

    plan: LockedPlan
    assignments: pd.DataFrame
    decisions: pd.DataFrame
    offers: pd.DataFrame
    outcomes: pd.DataFrame
    lines: pd.DataFrame
    notes: tuple[str, ...] = ()


def gather(log: ExperimentLog, now: datetime) -> Gathered:
    """Return the units and their orders, with what the log says about exposures and outcomes.

    Raises:
        ReadoutError: nothing was assigned yet.
    """
    if log.assignments.empty:
        raise ReadoutError(f"0 units are assigned to {log.plan.plan.id}, must be some; has a server seen its plan?")
    rows = log.assignments.sort_values([UNIT_ID, ARM], kind="stable").reset_index(drop=True)
    assigned = Assigned(
        units=rows[UNIT_ID].to_numpy(dtype=object),
        arms=rows[ARM].to_numpy(dtype=object),
        seconds=epoch_seconds(rows[ASSIGNED_AT]),
        segments={},
    )
    purchases, strangers = gather_purchases(log.lines, assigned)
    notes = (f"orders of {strangers:,} accounts that are in no arm are left out",) if strangers else ()
    known = log.decisions[log.decisions[UNIT_ID].isin(rows[UNIT_ID])]
    return Gathered(
        assigned=assigned,
        purchases=purchases,
        now=int(now.timestamp()),
        notes=(*log.notes, *notes),
        exposed=_exposed(log, rows[UNIT_ID]),
        extra=_extra(log, known, rows[UNIT_ID]),
        log=LogFacts(
            n_exposed_unassigned=int(log.decisions.loc[~log.decisions[UNIT_ID].isin(rows[UNIT_ID]), UNIT_ID].nunique()),
            n_exposed_in_other_arm=_in_other_arm(known, rows),
            n_outcomes=len(log.outcomes),
            n_outcomes_before_exposure=_before_exposure(log),
        ),
    )


def _exposed(log: ExperimentLog, units: pd.Series) -> np.ndarray:
    """Which units met the experiment, the same way in every arm.

    A holdout presents nothing, so that with one, and with `returned`, an answered request counts in every arm.
    """
    plan: ExperimentPlan = log.plan.plan
    if plan.exposure == "assigned":
        return np.ones(len(units), dtype=bool)
    decisions = log.decisions
    if plan.exposure == "presented" and not any(arm.is_holdout for arm in plan.arms):
        presented = log.offers.loc[log.offers[PRESENTED_AT].notna(), c.DECISION_ID]
        decisions = decisions[decisions[c.DECISION_ID].isin(presented)]
    return units.isin(decisions[UNIT_ID]).to_numpy()


def _in_other_arm(decisions: pd.DataFrame, assignments: pd.DataFrame) -> int:
    """Units that were answered by an arm to which they were never assigned."""
    pairs = decisions[[UNIT_ID, ARM]].dropna().drop_duplicates()
    joined = pairs.merge(assignments[[UNIT_ID, ARM]], on=[UNIT_ID, ARM], how="left", indicator=True)
    return int(joined.loc[joined["_merge"] == "left_only", UNIT_ID].nunique())


def _before_exposure(log: ExperimentLog) -> int:
    """Outcomes that occurred before their decision was made, or before its first offer was presented."""
    shown = log.offers.groupby(c.DECISION_ID, as_index=False)[PRESENTED_AT].min()
    reactions = log.outcomes[~log.outcomes[KIND].isin(PRESENTING)]
    joined = reactions.merge(log.decisions[[c.DECISION_ID, DECIDED_AT]], on=c.DECISION_ID, validate="many_to_one")
    joined = joined.merge(shown, on=c.DECISION_ID, how="left", validate="many_to_one")
    exposed_at = joined[PRESENTED_AT].fillna(joined[DECIDED_AT])
    return int((joined[OCCURRED_AT] < exposed_at).sum())


def _extra(log: ExperimentLog, decisions: pd.DataFrame, units: pd.Series) -> dict[str, np.ndarray]:
    """Presented and accepted offers and attributed revenue of each unit."""
    offers = log.offers.merge(decisions[[c.DECISION_ID, UNIT_ID]], on=c.DECISION_ID, validate="many_to_one")
    presented = offers[offers[PRESENTED_AT].notna()]
    accepted = log.outcomes.loc[log.outcomes[KIND] == "accepted", [c.DECISION_ID, c.PRODUCT_ID]].drop_duplicates()
    taken = presented.merge(accepted, on=[c.DECISION_ID, c.PRODUCT_ID], validate="many_to_one")
    credited = attributed_lines(log.lines, presented, log.plan.plan.attribution_window_days)
    return {
        PRESENTED: _by_unit(presented.groupby(UNIT_ID).size(), units),
        ACCEPTED: _by_unit(taken.groupby(UNIT_ID).size(), units),
        ATTRIBUTED: _by_unit(credited.groupby(c.ACCOUNT_ID)[REVENUE].sum(), units),
    }


def attributed_lines(lines: pd.DataFrame, presented: pd.DataFrame, window_days: int) -> pd.DataFrame:
    """Return the order lines of a product that was presented to the unit within the window before; each counts once.

    The last presentation wins, so that only the gap to it must lie within the window. Returned lines stand in `lines`
    with negative revenue and are credited like their sale.
    """
    left = lines.dropna(subset=[c.ACCOUNT_ID]).sort_values(c.ORDERED_AT, kind="stable")
    right = presented.rename(columns={UNIT_ID: c.ACCOUNT_ID}).sort_values(PRESENTED_AT, kind="stable")
    joined = pd.merge_asof(
        left,
        right[[c.ACCOUNT_ID, c.PRODUCT_ID, PRESENTED_AT]],
        left_on=c.ORDERED_AT,
        right_on=PRESENTED_AT,
        by=[c.ACCOUNT_ID, c.PRODUCT_ID],
        tolerance=pd.Timedelta(seconds=window_days * DAY),
    )
    return joined[joined[PRESENTED_AT].notna()].reset_index(drop=True)


def _by_unit(found: pd.Series, units: pd.Series) -> np.ndarray:
    return found.reindex(units, fill_value=0).to_numpy(dtype=np.float64)
